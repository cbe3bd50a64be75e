"""Selection of eigenpairs by SLEPc's ``EPS.Which``, as `which` of :func:`miramns.solve`.

A selection (`which`) is a name, or a function from values to keys; the wanted values have the
smallest keys. Both values of a conjugate pair have the same key, so that a pair is never separated.
With a spectral transformation the keys are those of the back-transformed values. If the selection
of the transformed values has a name, it is used, because convergence at the ends of a spectrum can
be predicted.
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

from miramns.errors import MiramnsError
from miramns.selection import Order, selection_keys
from miramns.transform.spectral import Transformation

_WHICH = SLEPc.EPS.Which

#: SLEPc's parts of the spectrum; for real scalars, LI and SI compare moduli of imaginary parts.
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

#: Compares two eigenvalues: negative if the first is wanted more, 0 if they tie.
Comparison: TypeAlias = Callable[[complex, complex], int]


@dataclass(frozen=True, slots=True)
class NearestTo:
    """Order by the distance from a target, of the values, their real or their imaginary parts."""

    target: float
    part: Literal["magnitude", "real", "imaginary"] = "magnitude"

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the keys of the values."""
        if self.part == "magnitude":
            return np.asarray(np.abs(values - self.target))
        # both members of a pair have the key of the one with positive imaginary part
        part = values.real if self.part == "real" else np.abs(values.imag)
        return np.asarray(np.abs(part - self.target))


@dataclass(frozen=True, slots=True)
class ByComparison:
    """Order by a function that compares two values; it is called on one rank."""

    compare: Comparison

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the ranks of the values, equal for the members of a conjugate pair."""
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


def order_of_which(
    which: int,
    target: float,
    comparison: tuple[Callable[..., int], Any, dict[str, Any]] | None,
    hermitian: bool,
) -> Order:
    """Return the selection for an ``EPS.Which``.

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


def transformed_order(order: Order, transformation: Transformation) -> Order:
    """Return the selection of transformed values that corresponds to `order` of the values.

    Infinite values, which singular B have, are wanted least.
    """
    if transformation.kind == "shift":
        return order
    if order == NearestTo(transformation.sigma) and transformation.kind == "sinvert":
        return "LM"

    def of_transformed(values: NDArray[Any]) -> NDArray[np.float64]:
        original = transformation.back(values)
        finite = np.isfinite(original)
        found = np.full(len(values), np.inf)
        found[finite] = selection_keys(original[finite], order)
        return found

    return of_transformed
