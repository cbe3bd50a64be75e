"""Whether one more eigenvalue would change an answer.

Asked of values that are known to exist, or that may: those of a part of the space that closed, and
those that a search in the complement of an answer sees.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from miramns.projected import Order, wanted_order

__all__ = ["displaces"]


def displaces(values: NDArray[Any], newcomer: complex, which: Order, certain: float) -> bool:
    """Whether `newcomer` belongs to the wanted `values` more than one of them. Not collective.

    One that merely equals what it displaces, within `certain`, adds nothing.

    Parameters
    ----------
    values : ndarray of shape (k,)
        The answer.
    """
    together = np.append(values, newcomer)
    displaced = int(wanted_order(together, which)[-1])
    if displaced == len(values):
        return False
    return bool(_distance(which, newcomer, values[displaced]) > certain)


def _distance(which: Order, a: complex, b: complex) -> float:
    """By how much two values differ in what they are ordered by."""
    if which in ("LM", "SM"):
        return abs(abs(a) - abs(b))
    if which in ("LR", "SR"):
        return abs(a.real - b.real)
    if which in ("LI", "SI"):
        return abs(abs(a.imag) - abs(b.imag))
    return abs(a - b)
