"""Rows of all ranks on every rank, within and between compute nodes."""

import numpy as np
import pytest

from hpcembed.runtime import shared_rows
from hpcembed.runtime.shared_rows import SharedRows

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_all_rows_in_rank_order(comm, dtype, shape):
    n_local = 4 if comm.rank != 1 else 0
    mine = np.full((n_local, *shape), 10 * comm.rank, dtype=dtype)
    for number in range(n_local):
        mine[number] += number
    held = SharedRows(comm, mine)
    assert held.array.dtype == dtype
    expected = np.concatenate(comm.allgather(mine))
    np.testing.assert_array_equal(held.array, expected)
    held.destroy()
    assert not hasattr(held, "array")


def test_pieces_between_compute_nodes(comm, monkeypatch):
    """Each rank is a compute node: leaders exchange rows in pieces of a few bytes."""
    monkeypatch.setattr(shared_rows, "MAX_MESSAGE_BYTES", 24)
    split = type(comm).Split
    monkeypatch.setattr(
        shared_rows, "compute_node", lambda comm: split(comm, comm.rank, 0), raising=True
    )
    mine = np.arange(7 * comm.rank, 7 * comm.rank + 7.0).reshape(7, 1)
    held = SharedRows(comm, mine)
    np.testing.assert_array_equal(held.array[:, 0], np.arange(7.0 * comm.size))
    held.destroy()


def test_no_rows_at_all(comm):
    held = SharedRows(comm, np.empty((0, 5)))
    assert held.array.shape == (0, 5)
    held.destroy()
