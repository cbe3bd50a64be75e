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
    eps_type = options.getString("eps_type", "") if options.hasName("eps_type") else None
    if eps_type is not None:
        # SLEPc would create its own solver of this type
        options.delValue("eps_type")
    try:
        read_options_of_eps()
    finally:
        if eps_type is not None:
            options.setValue("eps_type", eps_type)
    if eps_type is not None:
        eps.setType(eps_type)
    own = PETSc.Options(prefix + "miramns_")
    _dimensions(eps, own)
    _spectrum(eps, own)
    _method(eps, own)
    for family in (options, own):
        name = "eps_monitor" if family is options else "monitor"
        if family.getBool(f"{name}_cancel", False):
            eps.cancelMonitor()
        if family.hasName(name):
            eps.print_monitor()


def _dimensions(eps: Any, own: PETSc.Options) -> None:
    for name in ("nev", "ncv", "mpd"):
        if own.hasName(name):
            # SLEPc resets the sizes that are not given
            sizes = dict(zip(("nev", "ncv", "mpd"), SLEPc.EPS.getDimensions(eps), strict=True))
            sizes = {key: size for key, size in sizes.items() if size > 0}
            eps.setDimensions(**(sizes | {name: own.getInt(name)}))
    tol, max_it = eps.getTolerances()
    if own.hasName("tol") or own.hasName("max_it"):
        eps.setTolerances(own.getReal("tol", tol), own.getInt("max_it", max_it))


def _spectrum(eps: Any, own: PETSc.Options) -> None:
    if own.hasName("which"):
        eps.setWhichEigenpairs(_choice(own, "which", _ORDERS))
    if own.hasName("target"):
        eps.setTarget(own.getReal("target"))
        if eps.getWhichEigenpairs() not in _TARGETED:
            eps.setWhichEigenpairs(_WHICH.TARGET_MAGNITUDE)
    if own.hasName("conv"):
        eps.setConvergenceTest(_choice(own, "conv", _TESTS))


def _method(eps: Any, own: PETSc.Options) -> None:
    settings: tuple[tuple[str, Callable[[Any], None], tuple[str, ...]], ...] = (
        ("variant", eps.setVariant, get_args(Variant)),
        ("orthogonalization", eps.setOrthogonalization, get_args(Orthogonalization)),
        ("multiplicity_check", eps.setMultiplicityCheck, get_args(MultiplicityCheck)),
    )
    for name, setter, choices in settings:
        if own.hasName(name):
            setter(_choice(own, name, {choice: choice for choice in choices}))
    if own.hasName("seed"):
        eps.setSeed(own.getInt("seed"))
    if own.hasName("block_size"):
        eps.setBlockSize(own.getInt("block_size"))
    if own.hasName("nested_sizes"):
        text = own.getString("nested_sizes")
        try:
            eps.setNestedSizes([int(size) for size in text.split(",")])
        except ValueError as error:
            raise MiramnsError(
                f"-miramns_nested_sizes {text}: integers with commas between are expected"
            ) from error


def _choice(own: PETSc.Options, name: str, choices: Mapping[str, T]) -> T:
    text = own.getString(name)
    if text not in choices:
        raise MiramnsError(f"-miramns_{name} {text} is not one of {', '.join(choices)}")
    return choices[text]
