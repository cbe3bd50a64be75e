"""Sums in block order: the same bits whatever the ranks that hold the blocks."""

import numpy as np
import pytest
from mpi4py import MPI

from hpcembed.runtime.ordered_sums import BlockOrderedSum

pytestmark = pytest.mark.mpi

N = 37
#: Of very different sizes, so that the order of the sum shows in its last bits.
BLOCKS = (
    np.random.default_rng(0).standard_normal((N, 5, 4)) * 10.0 ** (np.arange(N) % 9)[:, None, None]
)


def tree(values):
    """The same sum written down as a recursion."""
    if len(values) == 1:
        return values[0].copy()
    half = 1 << (len(values) - 1).bit_length() - 1
    return tree(values[:half]) + tree(values[half:])


@pytest.mark.parametrize("n", [1, 2, 3, 8, N])
@pytest.mark.parametrize("order", ["C", "F"])
def test_sum_of_blocks_of_all_ranks(comm, n, order):
    rng = np.random.default_rng(n)
    expected = tree(BLOCKS[:n])
    for _ in range(5):  # any limits between the ranks, some of which may have no block
        limits = np.sort(rng.integers(0, n + 1, comm.size - 1))
        first, last = [0, *limits, n][comm.rank : comm.rank + 2]
        total = BlockOrderedSum()
        for index in range(first, last):
            total.add(index, np.array(BLOCKS[index], order=order))
        found = total.on_root(comm)
        assert (found is None) == (comm.rank > 0)
        if found is not None:
            assert found.tobytes() == expected.tobytes()
            assert found.flags.f_contiguous == (order == "F")


def test_the_order_matters_here():
    assert np.any(tree(BLOCKS) != sum(BLOCKS[1:], start=BLOCKS[0]))


def test_other_ways_to_combine(comm):
    total = BlockOrderedSum(np.maximum)
    for index in range(comm.rank * 3, comm.rank * 3 + 3):
        total.add(index, np.array([float(index)]))
    found = total.on_root(comm)
    assert found is None or found.tolist() == [3.0 * comm.size - 1]


def test_no_blocks():
    with pytest.raises(ValueError, match="no blocks"):
        BlockOrderedSum().on_root(MPI.COMM_SELF)
