"""How a kernel's eigenpairs are found is chosen from the shape alone; landmarks by a seed alone."""

import numpy as np
import pytest
import scipy.sparse

from hpcembed.data.matrix import DataMatrix
from hpcembed.operators.cost import Machine, Shape
from hpcembed.operators.kernel.feature_plan import plan_features
from hpcembed.operators.kernel.kernel_plan import KERNEL_BLOCKS, plan_kernel
from hpcembed.operators.kernel.sampled_rows import sampled_rows
from hpcembed.runtime.errors import MemoryLimitError
from hpcembed.runtime.ranks import ownership_range

#: The first of 30 rows by their keys for seed 5: what is said of a seed must not change.
ORDER = [18, 15, 21, 28, 0, 24, 25, 27, 14, 1, 26, 22]

MACHINE = {"ranks": 1, "threads": 1, "available_bytes": 2**33}


def shape(n, d):
    return Shape(n, 0, d, None, 8 * d)


def plan(n, d, k, **keywords):
    resources = MACHINE | {name: keywords.pop(name) for name in MACHINE if name in keywords}
    return plan_kernel(shape(n, d), k, Machine(**resources), **keywords)


def test_the_kernel_is_stored_where_it_fits():
    large = plan(10_000, 784, 50, tol=1e-6)
    assert (large.engine, large.single) == ("assembled", True)
    assert large.bytes > 4 * 10_000**2
    assert large.describe().startswith("kernel assembled (fastest), single precision, certified")
    tenth = plan(10_000, 784, 50, tol=1e-6, available_bytes=80 * 10**6)
    assert tenth.engine == "matrix_free"
    assert tenth.bytes <= 80 * 10**6
    assert tenth.cost.seconds > large.cost.seconds
    assert "fastest engine that fits; assembled needs more memory" in tenth.describe()
    # wide rows make a pass dear: fewer of them, with more vectors
    widths = [plan(10_000, d, 50, engine="matrix_free").width for d in (10, 784, 20_000)]
    assert widths == sorted(set(widths))


def test_small_kernels_go_to_lapack_unless_another_solver_is_wanted():
    assert plan(150, 20, 100).engine == "lapack"
    iterative = plan(150, 20, 100, no_lapack=True)
    assert iterative.engine != "lapack"
    assert not iterative.single  # the default tolerance is for double
    single = plan(500, 20, 5, single_vector=True, no_lapack=True, tol=1e-5)
    assert (single.width, single.single) == (1, False)


def test_more_ranks_take_less_memory_each():
    alone = plan(50_000, 100, 10, engine="assembled", available_bytes=2**40)
    eight = plan(50_000, 100, 10, engine="assembled", ranks=8)
    assert eight.bytes < alone.bytes / 4
    with pytest.raises(MemoryLimitError, match="set engine = matrix_free, which fits"):
        plan(50_000, 100, 10, engine="assembled")


def test_sizes_are_whole_blocks_within_the_rows():
    sizes = KERNEL_BLOCKS.sizes(50, 32, 10_000)
    assert sizes[0] >= 51
    assert all(size % 32 == 0 for size in sizes)
    assert KERNEL_BLOCKS.sizes(5, 8, 20)[-1] == 20


def test_features_take_squares():
    features = plan_features(shape(60_000, 784), 2_000, Machine(**MACHINE))
    assert features.bytes > 5 * 8 * 2_000**2
    assert features.describe().startswith("kernel by 2,000 features of each row")
    with pytest.raises(MemoryLimitError, match="use fewer of them"):
        plan_features(shape(60_000, 784), 2_000, Machine(1, 1, 10**6))


@pytest.mark.mpi
@pytest.mark.parametrize("sparse", [False, True])
def test_samples_are_the_same_on_any_number_of_ranks(comm, sparse):
    rows = np.arange(90.0).reshape(30, 3) % 7 + np.arange(30)[:, None] * 100
    rows = scipy.sparse.csr_array(rows) if sparse else rows
    first, last = ownership_range(30, comm)
    X = DataMatrix(rows[first:last], np.zeros(last - first, int), comm)

    def dense(found):
        return found.toarray() if sparse else found

    chosen = dense(sampled_rows(X, 12, 5))
    # the keys of seed 5 order the rows so
    np.testing.assert_array_equal(chosen[:, 0] // 100, ORDER)
    np.testing.assert_array_equal(dense(sampled_rows(X, 4, 5)), chosen[:4])
    assert not np.array_equal(dense(sampled_rows(X, 12, 6)), chosen)
    everything = dense(sampled_rows(X, 30, 5))
    np.testing.assert_array_equal(np.sort(everything[:, 0] // 100), np.arange(30))
    np.testing.assert_array_equal(everything[:12], chosen)
