"""Recovery on distributed rows compared with that on one rank."""

import numpy as np
import pytest
import scipy.sparse
from mpi4py import MPI

from hpcembed.networks.deep_linear import (
    Completion,
    complete_table,
    fit_compressed_network,
    fit_full_network,
    fit_least_squares,
    fit_scaled_gradient,
    spectral_start,
)
from hpcembed.networks.deep_linear.least_squares import _own_columns
from hpcembed.networks.deep_linear.synthetic import random_table
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import allgather_rows, ownership_range

pytestmark = pytest.mark.mpi
SHAPE, RANK, PER_ROW = (300, 250), 3, 40


@pytest.fixture
def tables(comm):
    return random_table(SHAPE, RANK, PER_ROW, comm)[0], random_table(SHAPE, RANK, PER_ROW)[0]


def mine(comm, rows):
    return rows[slice(*ownership_range(len(rows), comm))]


def test_the_table_does_not_depend_on_the_ranks(comm, tables):
    distributed, whole = tables
    first, last = ownership_range(SHAPE[0], comm)
    assert distributed.row_range == (first, last)
    assert (distributed.rows != whole.rows[first:last]).nnz == 0
    assert distributed.n_measurements == whole.n_measurements
    np.testing.assert_array_equal(distributed.column_counts, whole.column_counts)


def test_each_rank_holds_its_columns(comm, tables):
    distributed, whole = tables
    first, last = ownership_range(SHAPE[1], comm)
    own = _own_columns(distributed)
    assert abs(own - whole.rows[:, first:last].T).max() == 0


def test_losses_and_products(comm, tables):
    distributed, whole = tables
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((SHAPE[0], 2)), rng.standard_normal((SHAPE[1], 2))
    loss, of_rows, of_columns = distributed.loss_and_products(mine(comm, left), right)
    expected = whole.loss_and_products(left, right)
    assert loss == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(of_rows, mine(comm, expected[1]), atol=1e-12)
    np.testing.assert_allclose(of_columns, expected[2], atol=1e-12)
    edge = distributed.noise_edge(distributed.targets)
    assert edge == pytest.approx(whole.noise_edge(whole.targets), rel=1e-10)
    error = distributed.recovery_error(mine(comm, left), right)
    assert error == pytest.approx(whole.recovery_error(left, right), rel=1e-10)


def test_spectral_starts_agree(comm, tables):
    distributed, whole = tables
    one, all_ranks = spectral_start(whole, RANK), spectral_start(distributed, RANK, tol=1e-10)
    assert all_ranks.certified
    assert all_ranks.method == ("miramns" if comm.size > 1 else "lapack")
    np.testing.assert_allclose(all_ranks.values, one.values, rtol=1e-8)
    np.testing.assert_allclose(all_ranks.right, one.right, atol=1e-6)
    np.testing.assert_allclose(all_ranks.left, mine(comm, one.left), atol=1e-6)


@pytest.mark.parametrize("fit", [fit_scaled_gradient, fit_least_squares])
def test_recoveries_agree(comm, tables, fit):
    distributed, whole = tables
    found, expected = fit(distributed, RANK, tol=1e-16), fit(whole, RANK, tol=1e-16)
    assert found.converged
    assert abs(found.iterations - expected.iterations) <= 2
    assert found.recovery_error < 1e-6
    assert found.left.shape == (distributed.rows.shape[0], RANK)
    X = allgather_rows(comm, found.left) @ found.right.T
    expected_X = expected.left @ expected.right.T
    np.testing.assert_allclose(X, expected_X, atol=1e-5)
    assert len({right.tobytes() for right in comm.allgather(found.right)}) == 1


def test_rank_by_the_spectra(comm, tables):
    fit = fit_scaled_gradient(tables[0], tol=1e-16)
    assert fit.rank == RANK
    assert fit.recovery_error < 1e-6


def test_compressed_networks_agree(comm, tables):
    distributed, whole = tables
    arguments = {"learning_rate": 2.0, "scale": 1.0, "max_iterations": 150, "inner": 3}
    start = spectral_start(whole, RANK)
    expected = fit_compressed_network(whole, RANK, start=start, **arguments)
    found = fit_compressed_network(distributed, RANK, **arguments)
    np.testing.assert_allclose(found.loss_history, expected.loss_history, rtol=1e-5)
    assert found.loss < 0.5 * found.loss_history[0]
    assert found.parameters == expected.parameters


def test_the_full_network_is_for_one_rank(comm, tables):
    if comm.size > 1:
        with pytest.raises(ConfigError, match="for one rank"):
            fit_full_network(tables[0])


def test_tables_of_triplets_agree(comm, shared_tmp):
    rng = np.random.default_rng(0)
    i, j = np.divmod(np.flatnonzero(rng.random(4000) < 0.4), 50)
    left, right = rng.standard_normal((80, 2)), rng.standard_normal((50, 2))
    values = 3 + np.einsum("ij,ij->i", left[i], right[j]) + 0.1 * rng.standard_normal(len(i))
    path = shared_tmp / "ratings.tsv"
    if comm.rank == 0:
        path.write_text("".join(f"{a}\t{b}\t{v}\n" for a, b, v in zip(i, j, values, strict=True)))
    comm.Barrier()
    arguments = {"ranks": (1, 2, 4), "ridges": (0.0, 0.05), "max_iterations": 200}
    found = complete_table(path, comm=comm, **arguments)
    expected = complete_table(path, **arguments)
    assert (found.rank, found.ridge) == (expected.rank, expected.ridge)
    assert found.users == expected.users
    assert found.test_rmse == pytest.approx(expected.test_rmse, rel=1e-3)
    assert found.offsets_rmse == pytest.approx(expected.offsets_rmse, rel=1e-10)
    np.testing.assert_allclose(found.user_offsets, expected.user_offsets, atol=1e-12)
    assert found.user_factors.shape == (80, found.rank)
    assert found.test_rmse < 0.4 * found.offsets_rmse


def test_errors_of_one_rank_are_raised_on_all(comm, shared_tmp):
    last = comm.rank == comm.size - 1
    rows = scipy.sparse.csr_array(np.array([[1.0, np.nan if last else 2.0]]))
    with pytest.raises(InputError, match="row 0, column 1: nan is not finite"):
        Completion(rows, comm)
    with pytest.raises(InputError, match=r"bad\.csv: line 2"):
        if comm.rank == 0:
            (shared_tmp / "bad.csv").write_text("1,2,3\n1,x\n")
        comm.Barrier()
        complete_table(shared_tmp / "bad.csv", comm=comm)
    if comm.size > 1:
        with pytest.raises(ConfigError, match="rank differs between ranks"):
            complete_table(shared_tmp / "bad.csv", 2 + comm.rank, comm=comm)
        columns = scipy.sparse.csr_array(np.ones((1, 3 if last else 2)))
        with pytest.raises(InputError, match="different numbers of columns"):
            Completion(columns, comm)
    assert MPI.COMM_WORLD.allreduce(1) == MPI.COMM_WORLD.size
