"""Selection of test rows: the same rows are held out on any number of ranks.

Every row has a uniform 64-bit key, a function of (seed, global index). The rows of each class (or
of all classes) with the smallest keys are the test rows. The largest of their keys is found by
bisection for all classes at once: 64 reductions of one number per class and no gather. The counts
are exact, because keys are distinct.

``sklearn`` selects the rows of scikit-learn's ``train_test_split(np.arange(n), test_size=...,
random_state=seed)``, for results that were published with it. It takes memory proportional to the
number of all rows on every rank.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.counter_random import row_keys
from hpcembed.runtime.errors import InputError

__all__ = ["held_out_rows"]

_KEY_BITS = 64


def held_out_rows(
    kind: str,
    fraction: float,
    seed: int,
    codes: NDArray[np.int64],
    n_classes: int,
    start: int,
    n_rows: int,
    comm: MPI.Comm,
) -> NDArray[np.bool_]:
    """Return a mask of the local rows that are held out for testing. Collective.

    Parameters
    ----------
    kind : {"stratified", "random", "sklearn"}
        stratified: ``round(fraction * n)`` rows of each class with n rows, at most n - 1.
        random: ``round(fraction * n_rows)`` of all rows. sklearn: see above.
    fraction : float
        Between 0 and 1.
    seed : int
    codes : ndarray of int64, shape (n_local,)
        Class codes of the local rows.
    start, n_rows : int
        Global index of the first local row, and rows on all ranks.

    Returns
    -------
    ndarray of bool, shape (n_local,)

    Raises
    ------
    InputError
        No row would be held out, or scikit-learn refuses the split.

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> codes = np.array([0, 0, 0, 0, 1, 1])
    >>> is_test = held_out_rows("stratified", 0.5, 0, codes, 2, 0, 6, MPI.COMM_SELF)
    >>> np.bincount(codes[is_test]).tolist()
    [2, 1]
    """
    if kind == "sklearn":
        return _as_sklearn(fraction, seed, codes.size, start, n_rows, comm)
    groups = codes if kind == "stratified" else np.zeros_like(codes)
    n_groups = n_classes if kind == "stratified" else 1
    keys = row_keys(seed, np.arange(start, start + codes.size))
    sorted_keys = [np.sort(keys[groups == group]) for group in range(n_groups)]
    sizes = _sum(comm, [len(group) for group in sorted_keys])
    quotas = np.array([min(round(fraction * int(n)), max(int(n) - 1, 0)) for n in sizes])
    if quotas.sum() == 0:
        raise InputError(
            f"data.test_fraction = {fraction} holds out none of the {n_rows} rows: raise it, or "
            "name test files"
        )
    thresholds = _bisect(sorted_keys, quotas, comm)
    return (keys <= thresholds[groups]) & (quotas[groups] > 0)


def _bisect(
    sorted_keys: list[NDArray[np.uint64]], quotas: NDArray[np.int64], comm: MPI.Comm
) -> NDArray[np.uint64]:
    """Smallest keys such that `quotas` keys of each group, over all ranks, are not above them."""
    thresholds = np.zeros(len(sorted_keys), dtype=np.uint64)
    # Highest bit first: a bit stays zero if enough keys lie below the number with this bit set.
    for bit in reversed(range(_KEY_BITS)):
        trial = thresholds | np.uint64(1 << bit)
        pairs = zip(sorted_keys, trial, strict=True)
        below = _sum(comm, [int(np.searchsorted(keys, bound)) for keys, bound in pairs])
        thresholds = np.where(below < quotas, trial, thresholds)
    return thresholds


def _sum(comm: MPI.Comm, counts: list[int]) -> NDArray[np.int64]:
    total = np.array(counts, dtype=np.int64)
    comm.Allreduce(MPI.IN_PLACE, total)
    return total


def _as_sklearn(
    fraction: float, seed: int, n_local: int, start: int, n_rows: int, comm: MPI.Comm
) -> NDArray[np.bool_]:
    from sklearn.model_selection import train_test_split

    is_test = np.zeros(n_local, dtype=np.bool_)
    with agreement(comm):
        try:
            _, test = train_test_split(np.arange(n_rows), test_size=fraction, random_state=seed)
        except ValueError as error:
            raise InputError(f"data.split = sklearn on {n_rows} rows: {error}") from error
        own = test[(test >= start) & (test < start + n_local)]
        is_test[own - start] = True
    return is_test
