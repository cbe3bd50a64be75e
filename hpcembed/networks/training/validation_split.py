"""The validation rows: a stratified share of the training rows, on any distribution of the rows.

The rows of each class are numbered in their global order, and some of these numbers are drawn. The
draw is a function of the sizes of the classes and the seed, so ranks find their held-out rows from
counts: no label leaves its rank.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import allgather_rows

__all__ = ["held_out_rows", "local_holdout", "stratified_holdout"]


def stratified_holdout(
    labels: NDArray[np.int64] | NDArray[np.float64], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows into training and validation rows, each class in its proportion.

    Rows with targets (float64 `labels`) are one class.

    The size of the second set is `fraction` of the rows, shared among the classes by largest
    remainders. Every class keeps a row in training; the second set is never empty.

    Returns
    -------
    training, validation : ndarray of int64
        Row numbers in ascending order.

    Raises
    ------
    InputError
        If no class has two rows.

    Examples
    --------
    >>> training, validation = stratified_holdout(np.array([0, 0, 1, 1, 1, 1]), 0.5, seed=0)
    >>> training.size, validation.size
    (3, 3)
    """
    labels = _groups(labels)
    classes, counts = np.unique(labels, return_counts=True)
    drawn = _draw(counts, _shares(counts, fraction), seed)
    chosen = [
        np.flatnonzero(labels == one)[numbers] for one, numbers in zip(classes, drawn, strict=True)
    ]
    validation = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(labels.size), validation), validation


def local_holdout(
    comm: MPI.Intracomm,
    labels: NDArray[np.int64] | NDArray[np.float64],
    n_classes: int,
    fraction: float,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split this rank's rows as :func:`stratified_holdout` splits the rows of all ranks.

    Collective. Rank 0 draws for one class at a time, with 8 bytes for each of its rows.

    Parameters
    ----------
    labels : ndarray of shape (n_local,)
        Classes of this rank's rows, or targets, which are one class; rows follow each other in rank
        order.

    Returns
    -------
    training, validation : ndarray of int64
        Numbers of this rank's rows in ascending order.

    Raises
    ------
    InputError
        On all ranks, when no class has two rows.
    """
    labels = _groups(labels)
    counts = np.bincount(labels, minlength=max(n_classes, 1))
    last = np.empty_like(counts)
    comm.Scan(counts, last)
    total = np.empty_like(counts)
    comm.Allreduce(counts, total)
    present = np.flatnonzero(total)
    shares = _shares(total[present], fraction)
    draws = _draw(total[present], shares, seed)
    by_class = np.argsort(labels, kind="stable")
    ends = np.cumsum(counts)
    is_held = np.zeros(labels.size, dtype=np.bool_)
    for one in present:
        mine = next(draws) if comm.rank == 0 else np.empty(0, dtype=np.int64)
        numbers = np.sort(allgather_rows(comm, mine)) - (last[one] - counts[one])
        numbers = numbers[(numbers >= 0) & (numbers < counts[one])]
        is_held[by_class[ends[one] - counts[one] + numbers]] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def held_out_rows(n_rows: int, fraction: float) -> int:
    """Return the number of validation rows, if every class has rows to spare.

    Examples
    --------
    >>> held_out_rows(240, 0.1), held_out_rows(4, 0.1)
    (24, 1)
    """
    return max(1, round(fraction * n_rows))


def _groups(labels: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the class of each row; targets are one class."""
    if labels.dtype.kind == "f":
        return np.zeros(labels.size, dtype=np.int64)
    return labels.astype(np.int64, copy=False)


def _shares(counts: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Return the number of rows of each class that are held out."""
    spare = counts - 1
    if not spare.any():
        raise InputError("training rows: no class has two rows, so none can be held out")
    exact = fraction * counts
    held = np.minimum(exact.astype(np.int64), spare)
    wanted = min(held_out_rows(int(counts.sum()), fraction), int(spare.sum()))
    while held.sum() < wanted:
        remainder = np.where(held < spare, exact - held, -np.inf)
        held[int(np.argmax(remainder))] += 1
    return held


def _draw(
    counts: NDArray[np.int64], held: NDArray[np.int64], seed: int
) -> Iterator[NDArray[np.int64]]:
    """Yield for each class the held-out numbers among its rows."""
    generator = np.random.default_rng(seed)
    for count, share in zip(counts.tolist(), held.tolist(), strict=True):
        yield generator.permutation(count)[:share]
