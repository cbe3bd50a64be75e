"""The written cost model: what it chooses and when it refuses."""

import pytest

from hpcembed.errors import MemoryLimitError
from hpcembed.operators import expected_products, plan_covariance


def plan(n, d, k=10, **keywords):
    settings = {"ranks": 1, "threads": 1, "available_bytes": 2**40} | keywords
    return plan_covariance(n, d, expected_products(k), **settings)


def test_tall_and_narrow_is_assembled():
    chosen = plan(60_000, 784, 50)
    assert chosen.kind == "assembled"
    assert chosen.bytes == chosen.assembled_bytes
    assert chosen.assembled_seconds < chosen.matrix_free_seconds
    assert "assembled (faster)" in chosen.describe()


def test_wide_is_matrix_free():
    chosen = plan(2_000, 100_000)
    assert chosen.kind == "matrix_free"
    assert chosen.bytes == chosen.matrix_free_bytes < chosen.assembled_bytes


def test_sparse_stays_matrix_free():
    assert plan(200_000, 50_000, n_nonzeros=20_000_000).kind == "matrix_free"


def test_square_that_does_not_fit():
    chosen = plan(60_000, 784, 50, available_bytes=9_000_000)
    assert chosen.kind == "matrix_free"
    assert "does not fit" in chosen.reason


def test_what_is_asked_for_is_done_or_refused():
    assert plan(60_000, 784, kind="matrix_free").kind == "matrix_free"
    assert plan(2_000, 10_000, kind="assembled").reason == "as asked"
    with pytest.raises(MemoryLimitError, match="matrix_free"):
        plan(2_000, 10_000, kind="assembled", available_bytes=2**20)
    with pytest.raises(MemoryLimitError, match="more ranks"):
        plan(2_000, 10_000_000, available_bytes=2**20)
