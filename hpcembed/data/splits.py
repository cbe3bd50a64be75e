"""Which rows are held out for testing: the same rows for any number of ranks.

Every row has a uniform 64-bit key, a function of (seed, global index) only. Of each class (or of
all rows) the ones with the smallest keys are the test rows. The largest key that still belongs to
them is found by bisection on the key, for all classes at once: 64 reductions of one number per
class, no gather, and exact counts, because no two rows share a key.

``sklearn`` repeats ``train_test_split(np.arange(n), test_size=..., random_state=seed)`` instead,
for results published with it; it takes memory proportional to all rows on every rank.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.counter_random import row_keys
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import agreement

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
    """Mark the local rows that are held out for testing. Collective.

    Parameters
    ----------
    kind : {"stratified", "random", "sklearn"}
        stratified: of each class with n rows, ``round(fraction * n)``, at least one stays.
        random: ``round(fraction * n_rows)`` of all.
    fraction : float
        Between 0 and 1.
    seed : int
    codes : ndarray of int64, shape (n_local,)
        Classes of the local rows.
    start, n_rows : int
        Global index of the first local row, and rows on all ranks.

    Returns
    -------
    ndarray of bool, shape (n_local,)

    Raises
    ------
    InputError
        When no row would be held out, or all would.
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
    """Per group the smallest key such that `quotas` of all ranks' keys are not above it."""
    thresholds = [0] * len(sorted_keys)
    # Highest bit first: a bit stays zero when enough keys lie below the number with that bit set.
    for bit in reversed(range(_KEY_BITS)):
        trial = [threshold | (1 << bit) for threshold in thresholds]
        below = _sum(
            comm,
            [
                int(np.searchsorted(keys, np.uint64(bound), side="left"))
                for keys, bound in zip(sorted_keys, trial, strict=True)
            ],
        )
        thresholds = [
            bound if count < quota else threshold
            for threshold, bound, count, quota in zip(thresholds, trial, below, quotas, strict=True)
        ]
    return np.array(thresholds, dtype=np.uint64)


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
