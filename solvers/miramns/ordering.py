"""Which eigenpairs are wanted, in the words of SLEPc's EPS.

A choice is a name that :func:`miramns.solve` knows, or a function of the eigenvalues that gives the
wanted ones the smallest keys. Both values of a conjugate pair have the same key, so that a pair is
never torn. Through a spectral transformation the keys are those of the back-transformed values;
where the order of the transformed values is the same, its name is taken, because ends of a spectrum
are found with less looking.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cmp_to_key
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from slepc4py import SLEPc

from miramns.convergence import MiramnsError
from miramns.projected import Order
from miramns.transform import Transformation

__all__ = ["ByComparison", "Comparison", "NearestTo", "through", "wanted_by"]

_WHICH = SLEPc.EPS.Which

#: What SLEPc's words for parts of the spectrum are called here; real scalars: LI and SI are moduli.
_NAMES: dict[int, Order] = {
    _WHICH.LARGEST_MAGNITUDE: "LM",
    _WHICH.SMALLEST_MAGNITUDE: "SM",
    _WHICH.LARGEST_REAL: "LR",
    _WHICH.SMALLEST_REAL: "SR",
    _WHICH.LARGEST_IMAGINARY: "LI",
    _WHICH.SMALLEST_IMAGINARY: "SI",
}
_PARTS: dict[int, Literal["magnitude", "real", "imaginary"]] = {
    _WHICH.TARGET_MAGNITUDE: "magnitude",
    _WHICH.TARGET_REAL: "real",
    _WHICH.TARGET_IMAGINARY: "imaginary",
}

#: Compares two eigenvalues: negative where the first is wanted more, 0 where neither is.
Comparison: TypeAlias = Callable[[complex, complex], int]


@dataclass(frozen=True, slots=True)
class NearestTo:
    """Values whose modulus, real part or imaginary part is nearest to that of a target."""

    target: float
    part: Literal["magnitude", "real", "imaginary"] = "magnitude"

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Keys of the values. Not collective."""
        if self.part == "magnitude":
            return np.asarray(np.abs(values - self.target))
        # of a pair, the member with the positive imaginary part speaks for both
        part = values.real if self.part == "real" else np.abs(values.imag)
        return np.asarray(np.abs(part - self.target))


@dataclass(frozen=True, slots=True)
class ByComparison:
    """Values as a function of two of them ranks them; it is called on one rank alone.

    Values for which it gives 0 tie.
    """

    compare: Comparison

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Ranks of the values, the same for both of a conjugate pair. Not collective."""
        upper = [complex(value.real, abs(value.imag)) for value in values]
        key = cmp_to_key(self.compare)
        order = sorted(range(len(upper)), key=lambda i: key(upper[i]))
        ranks = np.zeros(len(upper))
        rank = 0
        for before, after in pairwise(order):
            differ = upper[before] != upper[after]
            rank += differ and self.compare(upper[before], upper[after]) != 0
            ranks[after] = rank
        return ranks


_KEYS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "LM": lambda values: -np.abs(values),
    "SM": np.abs,
    "LR": lambda values: -values.real,
    "SR": lambda values: values.real,
    "LI": lambda values: -np.abs(values.imag),
    "SI": lambda values: np.abs(values.imag),
}


def wanted_by(
    which: int,
    target: float,
    comparison: tuple[Callable[..., int], Any, dict[str, Any]] | None,
    hermitian: bool,
) -> Order:
    """The order that ``EPS.Which`` means. Not collective.

    Parameters
    ----------
    comparison : tuple of (callable, object, dict) or None
        For ``Which.USER``: called as ``compare(a, b, args, **kargs)``.
    """
    if which == _WHICH.USER:
        if comparison is None:
            raise MiramnsError("Which.USER needs setEigenvalueComparison")
        compare, args, kargs = comparison
        return ByComparison(lambda a, b: compare(a, b, args, **kargs))
    if which in _PARTS:
        if which == _WHICH.TARGET_IMAGINARY and hermitian:
            raise MiramnsError("TARGET_IMAGINARY: eigenvalues of Hermitian problems are real")
        return NearestTo(target, _PARTS[which])
    return _NAMES[which]


def through(order: Order, transformation: Transformation) -> Order:
    """The order of the transformed values that `order` means for the values themselves.

    Not collective. Infinite values, which singular B have, are wanted least.
    """
    if transformation.kind == "shift":
        return order
    if order == NearestTo(transformation.sigma) and transformation.kind == "sinvert":
        return "LM"
    keys = order if callable(order) else _KEYS[order]

    def of_transformed(values: NDArray[Any]) -> NDArray[np.float64]:
        original = transformation.back(values)
        finite = np.isfinite(original)
        found = np.full(len(values), np.inf)
        found[finite] = keys(original[finite])
        return found

    return of_transformed
