"""Features of EPS that MIRAMns does not support, and misuse: each is refused with one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from slepc4py import SLEPc

from miramns.errors import MiramnsError

_TYPES = SLEPc.EPS.ProblemType

#: Methods that need no object in SLEPc.
_WITHOUT_OBJECT = ("create", "destroy")

#: The problem types that MIRAMns solves.
PROBLEM_TYPES = (_TYPES.HEP, _TYPES.NHEP, _TYPES.GHEP, _TYPES.GNHEP)

#: Features that a setter or the options database may request.
ALL_EIGENVALUES = "Which.ALL (all eigenvalues in an interval)"
TWO_SIDED = "the two-sided variant"
USER_TEST = "a convergence test of the user"
REGION = "a region of eigenvalues (RG)"


class ExistingEPS(SLEPc.EPS):
    """EPS whose methods raise an error before ``create`` and after ``destroy``, not a crash."""

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; refuse methods of an object that does not exist in SLEPc."""
        value = super().__getattribute__(name)
        if name.startswith("_") or name in _WITHOUT_OBJECT or super().__getattribute__("handle"):
            return value
        if callable(value) and not isinstance(value, type):
            raise MiramnsError(f"{name}: call create() first, also after destroy()")
        return value


def refuse(feature: str) -> NoReturn:
    """Raise an error that names the feature."""
    raise MiramnsError(f"{feature} is not supported by MIRAMns")


def refused(feature: str, *, accepts_off: bool = False) -> Callable[..., None]:
    """Return a method that refuses the feature, or with `accepts_off` accepts None and False."""

    def method(_eps: Any, wanted: Any = True, *_args: Any, **_kargs: Any) -> None:
        if not (accepts_off and (wanted is None or wanted is False)):
            refuse(feature)

    method.__doc__ = f"Not supported: {feature}."
    if accepts_off:
        method.__doc__ += " None and False are accepted."
    return method


def check_supported(eps: SLEPc.EPS) -> None:
    """Refuse unsupported settings from the options database or from setters of EPS."""
    base = SLEPc.EPS
    extraction, kind = base.getExtraction(eps), base.getProblemType(eps)
    unsupported = {
        ALL_EIGENVALUES: base.getWhichEigenpairs(eps) == base.Which.ALL,
        TWO_SIDED: base.getTwoSided(eps),
        "an extraction other than Rayleigh-Ritz": extraction and extraction != base.Extraction.RITZ,
        "balancing": base.getBalance(eps)[0] != base.Balance.NONE,
        USER_TEST: base.getConvergenceTest(eps) == base.Conv.USER,
        # without a type, no region is set
        REGION: base.getRG(eps).getType() and not base.getRG(eps).isTrivial(),
        f"problem type {kind}": kind and kind not in PROBLEM_TYPES,
    }
    for feature, is_set in unsupported.items():
        if is_set:
            refuse(feature)
