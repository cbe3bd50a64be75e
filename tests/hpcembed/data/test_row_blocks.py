"""Blocks of rows by global index: the same blocks on any number of ranks."""

import numpy as np
import pytest
import scipy.sparse

from hpcembed.data import row_blocks
from hpcembed.data.matrix import DataMatrix
from hpcembed.data.row_blocks import global_block_rows, global_blocks
from hpcembed.runtime.errors import InputError

pytestmark = pytest.mark.mpi

ROWS = np.random.default_rng(1).standard_normal((413, 6))


def limits(comm, n, kind):
    """First and last row of this rank: equal shares, shares of very different sizes, or none."""
    share = {
        "equal": [n * i // comm.size for i in range(comm.size + 1)],
        "growing": [int(n * (i / comm.size) ** 4) for i in range(comm.size + 1)],
        "last alone": [0] * comm.size + [n],
        "first alone": [0] + [n] * comm.size,
    }[kind]
    return share[comm.rank], share[comm.rank + 1]


@pytest.mark.parametrize("kind", ["equal", "growing", "last alone", "first alone"])
@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("n", [1, 64, 130, 413])
def test_blocks_of_all_ranks(comm, kind, is_sparse, n):
    first, last = limits(comm, n, kind)
    rows = scipy.sparse.csr_array(ROWS[first:last]) if is_sparse else ROWS[first:last]
    X = DataMatrix(rows, np.zeros(last - first, int), comm)
    blocks = global_blocks(comm, last - first, 6, lambda: X.blocks(block_bytes=16 * 6 * 8))
    for _ in range(2):  # they can be read again
        mine = {index: (part.toarray() if is_sparse else part.copy()) for index, part in blocks}
        found = {key: part for each in comm.allgather(mine) for key, part in each.items()}
        assert sum(map(len, comm.allgather(mine))) == len(found) == -(-n // 64)
        for index, part in found.items():
            np.testing.assert_array_equal(part, ROWS[:n][index * 64 : index * 64 + 64])
        # a block belongs to the rank of its first row
        assert all(first <= index * 64 < last for index in mine)


def test_rows_of_a_block():
    assert global_block_rows(1, 3) == 64
    assert global_block_rows(10**9, 10) == 4096
    assert global_block_rows(10**9, 10_000) == 2**22 // 10_000
    assert global_block_rows(64 * 100, 10) == 104


def test_an_error_of_one_rank_alone(comm):
    def read():
        if comm.rank == comm.size - 1:
            raise InputError("row 7: not a number")
        yield 0, ROWS[:100]

    if comm.size == 1:  # the first rank reads no head
        assert global_blocks(comm, 100, 6, read).step == row_blocks._LEAST_ROWS
        return
    with pytest.raises(InputError, match="row 7: not a number"):
        global_blocks(comm, 100, 6, read)
