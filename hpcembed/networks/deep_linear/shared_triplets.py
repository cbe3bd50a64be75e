"""Triplets on all ranks: rank 0 reads them, test entries are last, the others in random order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.deep_linear.triplets import (
    Separator,
    Triplets,
    read_triplets,
    triplets_from_arrays,
)
from hpcembed.runtime.agreement import idle_while_root
from hpcembed.runtime.counter_random import permuted
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import allgather_rows

__all__ = ["Source", "shared_triplets"]

Source = str | Path | tuple[Sequence[Any], Sequence[Any], Sequence[float]]


def shared_triplets(
    comm: MPI.Intracomm,
    source: Source,
    test: Source | None,
    *,
    test_share: float,
    separator: Separator = "auto",
    header: bool | None = None,
    seed: int = 0,
) -> tuple[Triplets, int]:
    """Read triplets on rank 0, and divide them.

    Collective.

    Returns
    -------
    entries : Triplets
        Test entries last; the order of the others is a random one.
    n_test : int

    Raises
    ------
    InputError
        The entries cannot be used; raised on all ranks.

    Examples
    --------
    >>> source = (["u", "u", "v"], ["a", "b", "a"], [1.0, 2.0, 3.0])
    >>> shared_triplets(MPI.COMM_SELF, source, None, test_share=0.4)[1]
    1
    """

    def read() -> tuple[Triplets, int]:
        known = _triplets(source, separator, header)
        n = len(known.values)
        known = _ordered(known, permuted(seed, n, np.arange(n)))
        if test is None:
            return known, round(test_share * n)
        return _joined(known, _triplets(test, separator, header))

    found = idle_while_root(comm, read)
    if comm.size == 1 and found is not None:
        return found
    sent = (
        None if found is None else (found[0].users, found[0].items, found[0].duplicates, found[1])
    )
    users, items, duplicates, n_test = comm.bcast(sent)
    empty = np.zeros(0, dtype=np.int64)
    rows = allgather_rows(comm, empty if found is None else found[0].rows)
    columns = allgather_rows(comm, empty if found is None else found[0].columns)
    values = allgather_rows(comm, np.zeros(0) if found is None else found[0].values)
    return Triplets(users, items, rows, columns, values, duplicates), n_test


def _triplets(source: Source, separator: Separator, header: bool | None) -> Triplets:
    if isinstance(source, str | Path):
        return read_triplets(source, separator=separator, header=header)
    if not isinstance(source, tuple) or len(source) != 3:
        raise InputError("source must be a path, or a tuple of three arrays: users, items, values")
    return triplets_from_arrays(*source)


def _ordered(entries: Triplets, places: NDArray[np.int64]) -> Triplets:
    """Return the entries with entry i at place ``places[i]``."""
    order = np.empty_like(places)
    order[places] = np.arange(len(places))
    return replace(
        entries,
        rows=entries.rows[order],
        columns=entries.columns[order],
        values=entries.values[order],
    )


def _joined(known: Triplets, test: Triplets) -> tuple[Triplets, int]:
    """Return the entries of both; names of new users and items of the test are added at the end."""
    users = {name: number for number, name in enumerate(known.users)}
    items = {name: number for number, name in enumerate(known.items)}
    user_numbers = np.array([users.setdefault(name, len(users)) for name in test.users])
    item_numbers = np.array([items.setdefault(name, len(items)) for name in test.items])
    rows = np.concatenate([known.rows, user_numbers[test.rows]])
    columns = np.concatenate([known.columns, item_numbers[test.columns]])
    values = np.concatenate([known.values, test.values])
    duplicates = known.duplicates + test.duplicates
    joined = Triplets(tuple(users), tuple(items), rows, columns, values, duplicates)
    return joined, len(test.values)
