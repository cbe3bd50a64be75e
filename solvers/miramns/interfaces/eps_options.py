"""Settings of a MIRAMns object from PETSc's options database.

SLEPc reads ``-eps_...`` and ``-st_...`` as for EPS; ``-eps_type`` other than ``miramns`` gives a
warning. The options of MIRAMns, each with the options prefix before it:

* ``-miramns_nev, _ncv, _mpd, _tol, _max_it``: as the setters of EPS
* ``-miramns_which``: ``largest_magnitude``, ``smallest_real``, ``target_real``, ... (EPS.Which)
* ``-miramns_target``: also sets target_magnitude, unless a target order is set
* ``-miramns_conv``: ``abs``, ``rel``, ``norm``
* ``-miramns_variant, _block_size, _orthogonalization, _multiplicity_check, _seed``, and
  ``_nested_sizes`` with commas between: as for :func:`miramns.solve`
* ``-miramns_monitor``, ``_monitor_cancel``, and after the solve ``_view, _view_values,
  _view_vectors, _converged_reason, _error_absolute, _error_relative, _error_backward`` (with
  ``::ascii_info_detail`` for a table)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from petsc4py import PETSc
from slepc4py import SLEPc

from miramns.errors import MiramnsError
from miramns.problem import MultiplicityCheck, Orthogonalization, Variant

T = TypeVar("T")

_WHICH = SLEPc.EPS.Which
_ORDERS = {name.lower(): value for name, value in vars(_WHICH).items() if name.isupper()}
_TESTS = {"abs": SLEPc.EPS.Conv.ABS, "rel": SLEPc.EPS.Conv.REL, "norm": SLEPc.EPS.Conv.NORM}
_TARGETED = (_WHICH.TARGET_MAGNITUDE, _WHICH.TARGET_REAL, _WHICH.TARGET_IMAGINARY)


def apply_options(eps: Any, read_options_of_eps: Callable[[], None]) -> None:
    """Read the options of EPS, then those of MIRAMns. Collective."""
    prefix = eps.getOptionsPrefix() or ""
    options = PETSc.Options(prefix)
    if options.hasName("eps_type"):
        eps_type = options.getString("eps_type", "")
        # SLEPc would create its own solver of this type
        options.delValue("eps_type")
        try:
            read_options_of_eps()
        finally:
            options.setValue("eps_type", eps_type)
        eps.setType(eps_type)
    else:
        read_options_of_eps()
    own = PETSc.Options(prefix + "miramns_")
    _set_dimensions(eps, own)
    for name, read, setter in (
        ("which", _choice(_ORDERS), eps.setWhichEigenpairs),
        ("conv", _choice(_TESTS), eps.setConvergenceTest),
        ("variant", _choice(_names(Variant)), eps.setVariant),
        ("orthogonalization", _choice(_names(Orthogonalization)), eps.setOrthogonalization),
        ("multiplicity_check", _choice(_names(MultiplicityCheck)), eps.setMultiplicityCheck),
        ("seed", PETSc.Options.getInt, eps.setSeed),
        ("block_size", PETSc.Options.getInt, eps.setBlockSize),
        ("nested_sizes", _sizes, eps.setNestedSizes),
    ):
        if own.hasName(name):
            setter(read(own, name))
    if own.hasName("target"):
        eps.setTarget(own.getReal("target"))
        if eps.getWhichEigenpairs() not in _TARGETED:
            eps.setWhichEigenpairs(_WHICH.TARGET_MAGNITUDE)
    for name in ("eps_monitor", "miramns_monitor"):
        if options.getBool(f"{name}_cancel", False):
            eps.cancelMonitor()
        if options.hasName(name):
            eps.print_monitor()


def _set_dimensions(eps: Any, own: PETSc.Options) -> None:
    for name in ("nev", "ncv", "mpd"):
        if own.hasName(name):
            # SLEPc resets the sizes that are not given
            sizes = dict(zip(("nev", "ncv", "mpd"), SLEPc.EPS.getDimensions(eps), strict=True))
            sizes = {key: size for key, size in sizes.items() if size > 0}
            eps.setDimensions(**(sizes | {name: own.getInt(name)}))
    tol, max_it = eps.getTolerances()
    if own.hasName("tol") or own.hasName("max_it"):
        eps.setTolerances(own.getReal("tol", tol), own.getInt("max_it", max_it))


def _names(literal: Any) -> dict[str, str]:
    return {name: name for name in get_args(literal)}


def _choice(choices: Mapping[str, T]) -> Callable[[PETSc.Options, str], T]:
    """Return a function that reads one of the names, and returns its value."""

    def read(own: PETSc.Options, name: str) -> T:
        text = own.getString(name)
        if text not in choices:
            raise MiramnsError(f"-miramns_{name} {text} is not one of {', '.join(choices)}")
        return choices[text]

    return read


def _sizes(own: PETSc.Options, name: str) -> list[int]:
    text = own.getString(name)
    try:
        return [int(size) for size in text.split(",")]
    except ValueError as error:
        raise MiramnsError(
            f"-miramns_{name} {text}: integers with commas between are expected"
        ) from error
