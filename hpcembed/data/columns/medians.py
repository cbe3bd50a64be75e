"""Exact medians of columns that are distributed over ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

__all__ = ["exact_medians"]

_SIGN = np.uint64(1 << 63)


def exact_medians(
    columns: Sequence[NDArray[np.float64]], counts: NDArray[np.int64], comm: MPI.Comm
) -> NDArray[np.float64]:
    """Return the medians of columns over all ranks, as numpy computes them.

    Collective: 64 reductions of two numbers per column. The two middle values of each column are
    found by bisection of the bits of the numbers, in an order that is theirs.

    Parameters
    ----------
    columns : sequence of ndarray of float64
        This rank's values, without NaN.
    counts : ndarray of int64
        Number of values over all ranks; the median of none is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> exact_medians([np.array([3.0, -1.0, 2.0, 9.0])], np.array([4]), MPI.COMM_SELF)
    array([2.5])
    """
    keys = [np.sort(_ordered_bits(column)) for column in columns]
    quotas = np.concatenate([(counts + 1) // 2, counts // 2 + 1])
    found = np.zeros(2 * len(keys), dtype=np.uint64)
    for bit in reversed(range(64)):
        trial = found | np.uint64(1 << bit)
        below = np.array(
            [np.searchsorted(key, bound) for key, bound in zip(keys * 2, trial, strict=True)],
            dtype=np.int64,
        )
        comm.Allreduce(MPI.IN_PLACE, below)
        found = np.where(below < quotas, trial, found)
    low, high = np.split(_from_ordered_bits(found), 2)
    with np.errstate(over="ignore", invalid="ignore"):
        middle = low + (high - low) / 2
    middle = np.where(np.isfinite(middle), middle, low)
    return np.where(counts > 0, middle, 0.0)


def _ordered_bits(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return integers in the order of the numbers; -0 is 0."""
    bits = (values + 0.0).view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _from_ordered_bits(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float64)
