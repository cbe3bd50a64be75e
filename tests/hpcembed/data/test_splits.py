"""Splits: exact counts, the same rows on any number of ranks, scikit-learn's rows on request."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from sklearn.model_selection import train_test_split

from hpcembed.data.splits import held_out_rows
from hpcembed.runtime.counter_random import row_keys
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range

N = 1000
CODES = np.random.default_rng(0).choice(4, N, p=[0.6, 0.3, 0.097, 0.003]).astype(np.int64)


def whole(kind: str, fraction: float = 0.2, seed: int = 7) -> np.ndarray:
    return held_out_rows(kind, fraction, seed, CODES, 4, 0, N, MPI.COMM_SELF)


def test_stratified_counts_are_exact():
    for fraction in (0.1, 0.2, 0.5, 0.99):
        is_test = whole("stratified", fraction)
        for group in range(4):
            size = np.count_nonzero(group == CODES)
            held = np.count_nonzero(is_test[group == CODES])
            assert held == min(round(fraction * size), size - 1)


def test_held_out_are_the_smallest_keys_of_each_class():
    keys = row_keys(7, np.arange(N))
    is_test = whole("stratified")
    for group in range(4):
        own = group == CODES
        held = np.count_nonzero(is_test & own)
        np.testing.assert_array_equal(is_test[own], keys[own] < np.sort(keys[own])[held])


def test_random_counts_are_exact():
    assert np.count_nonzero(whole("random", 0.25)) == 250
    assert not np.array_equal(whole("random", seed=1), whole("random", seed=2))


def test_the_rows_are_spread_evenly():
    is_test = held_out_rows(
        "random", 0.2, 0, np.zeros(100000, np.int64), 1, 0, 100000, MPI.COMM_SELF
    )
    tenths = is_test.reshape(10, -1).sum(axis=1)
    assert abs(tenths - 2000).max() < 5 * np.sqrt(10000 * 0.2 * 0.8)


def test_sklearn_gives_its_rows():
    _, expected = train_test_split(np.arange(N), test_size=0.2, random_state=42)
    found = np.flatnonzero(whole("sklearn", 0.2, 42))
    np.testing.assert_array_equal(found, np.sort(expected))


def test_nothing_to_hold_out():
    codes = np.arange(4)
    with pytest.raises(InputError, match="holds out none of the 4 rows"):
        held_out_rows("stratified", 0.2, 0, codes, 4, 0, 4, MPI.COMM_SELF)
    with pytest.raises(InputError, match=r"data\.split = sklearn on 1 rows"):
        held_out_rows("sklearn", 0.2, 0, codes[:1], 1, 0, 1, MPI.COMM_SELF)


@pytest.mark.mpi
@pytest.mark.parametrize("kind", ["stratified", "random", "sklearn"])
@pytest.mark.parametrize("shares", ["even", "one rank has all"])
def test_the_same_rows_on_any_number_of_ranks(comm, kind, shares):
    start, stop = ownership_range(N, comm)
    if shares != "even":
        start, stop = (0, N) if comm.rank == 0 else (N, N)
    found = held_out_rows(kind, 0.2, 7, CODES[start:stop], 4, start, N, comm)
    np.testing.assert_array_equal(found, whole(kind)[start:stop])
