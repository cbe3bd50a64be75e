"""The reproducible mode of estimators: the bits of one rank on any number of ranks."""

import numpy as np
import pytest
import scipy.sparse
from mpi4py import MPI

from hpcembed.data.matrix import DataMatrix
from hpcembed.data.row_stream import open_rows
from hpcembed.embedding import (
    PCA,
    KernelPCA,
    Machine,
    Shape,
    SolverSettings,
    TruncatedSVD,
)
from hpcembed.embedding._reproducible import reproducible_plan
from hpcembed.operators.covariance.moments import column_moments, ordered_moments
from hpcembed.runtime.errors import ConfigError, InputError, MemoryLimitError
from hpcembed.runtime.ranks import allgather_rows

pytestmark = pytest.mark.mpi

N = 601
_RNG = np.random.default_rng(0)
ROWS = _RNG.standard_normal((N, 40)) * 0.9 ** np.arange(40) + 3.0
TABLES = {
    "double": ROWS,
    "single": ROWS.astype(np.float32),
    "offset": ROWS + 1e5,
    "sparse": scipy.sparse.random_array((N, 40), density=0.2, random_state=1, format="csr"),
    "sparse, single": scipy.sparse.random_array(
        (N, 40), density=0.2, random_state=2, format="csr", dtype=np.float32
    ),
    "bytes": (_RNG.random((N, 40)) * 255).astype(np.uint8),
}
SOLVERS = {
    "blocks": {"name": "miramns"},
    "LAPACK": {},
    "krylovschur": {"name": "krylovschur"},
    "published": {"name": "miramns", "variant": "published"},
    "ncv": {"name": "miramns", "ncv": 25},
}


def share(rows, comm, power=3.0):
    """This rank's rows, in shares of different sizes, as a matrix."""
    first, last = (int(N * (i / comm.size) ** power) for i in (comm.rank, comm.rank + 1))
    return DataMatrix(rows[first:last], np.zeros(last - first, int), comm)


def bits(comm, make, rows, **solver):
    """Everything that a fit and its projections give, as bytes."""
    X = share(rows, comm)
    fitted = make(4, solver=SolverSettings(reproducible=True, **solver)).fit(X)
    found = [getattr(fitted, name) for name in ("eigenvalues_", "components_", "mean_")]
    found += [fitted.feature_means_, fitted.feature_variances_, fitted.explained_variance_ratio_]
    found += [fitted.result_.residual_norms, fitted.result_.error_bounds]
    found += [np.array([fitted.reference_sin_angle_])]
    found += [allgather_rows(comm, fitted.result_.eigenvectors.copy(order="C"))]
    for dtype in (np.float64, np.float32):
        found.append(allgather_rows(comm, fitted.transform(X, dtype)))
    assert fitted.certified_
    first, last = fitted.result_.ownership_range
    assert fitted.result_.eigenvectors.shape == (last - first, 4)
    return [np.ascontiguousarray(one).tobytes() for one in found]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("make", [PCA, TruncatedSVD])
def test_bits_of_one_rank(comm, make, table):
    assert bits(comm, make, TABLES[table]) == bits(MPI.COMM_SELF, make, TABLES[table])


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers(comm, solver):
    settings = SOLVERS[solver]
    assert bits(comm, PCA, ROWS, **settings) == bits(MPI.COMM_SELF, PCA, ROWS, **settings)


def test_without_the_mode_the_bits_differ(comm):
    """The test above can fail: sums in the order of the ranks have other bits here."""
    if comm.size == 1:
        return
    mine, alone = (column_moments(share(ROWS, each))[1].tobytes() for each in (comm, MPI.COMM_SELF))
    assert mine != alone
    mine, alone = (
        ordered_moments(share(ROWS, each))[1].tobytes() for each in (comm, MPI.COMM_SELF)
    )
    assert mine == alone


def test_results_are_right(comm):
    for rows in (ROWS, TABLES["sparse"]):
        dense = rows if rows is ROWS else rows.toarray()
        fitted = PCA(4, solver=SolverSettings(reproducible=True, reference=True)).fit(
            share(rows, comm)
        )
        values, vectors = np.linalg.eigh(np.cov(dense.T))
        np.testing.assert_allclose(fitted.eigenvalues_, values[:-5:-1], rtol=1e-11)
        np.testing.assert_allclose(fitted.mean_, dense.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(fitted.feature_variances_, np.var(dense, axis=0, ddof=1))
        overlap = np.abs(np.sum(fitted.components_.T * vectors[:, :-5:-1], axis=0))
        np.testing.assert_allclose(overlap, 1, rtol=1e-10)
        X = share(rows, comm)
        whole = allgather_rows(comm, fitted.transform(X))
        expected = (dense - fitted.mean_) @ fitted.components_.T
        np.testing.assert_allclose(whole, expected, atol=1e-12 * np.abs(expected).max())
        assert fitted.reference_.converged
        assert fitted.plan_.reason == "reproducible"
        assert min(fitted.seconds_["operator"], fitted.seconds_["solve"]) > 0


def test_rows_in_files(comm, shared_tmp):
    if comm.rank == 0:
        np.save(shared_tmp / "rows.npy", ROWS)
    comm.Barrier()

    def components(comm):
        X = open_rows(shared_tmp / "rows.npy", comm=comm)
        return PCA(3, solver=SolverSettings(reproducible=True)).fit(X).components_.tobytes()

    assert components(comm) == components(MPI.COMM_SELF)


def test_share_of_the_variance(comm):
    found = [
        PCA(0.8, solver=SolverSettings(reproducible=True)).fit(share(ROWS, each))
        for each in (comm, MPI.COMM_SELF)
    ]
    assert found[0].n_components_ > 1
    assert found[0].components_.tobytes() == found[1].components_.tobytes()


@pytest.mark.filterwarnings("ignore:overflow")
def test_values_that_are_not_finite(comm):
    with pytest.raises(InputError, match="not finite"):
        PCA(2, solver=SolverSettings(reproducible=True)).fit(share(ROWS * 1e200, comm))


def test_refusals(comm):
    settings, X = SolverSettings(reproducible=True), share(ROWS, comm)
    with pytest.raises(ConfigError, match="sums of KernelPCA depend on the number of ranks"):
        KernelPCA(2, solver=settings).fit(X)
    with pytest.raises(ConfigError, match="engine block are added in the order of the ranks"):
        PCA(2, engine="block", solver=settings).fit(X)
    with pytest.raises(ConfigError, match="reproducible must be True or False, got 1"):
        PCA(2, solver=SolverSettings(reproducible=1)).fit(X)


def test_plan():
    shape = Shape(1000, 0, 500, None, 4000, 8)
    machine = Machine(2, 1, 2**34)
    assembled = PCA(4, engine="assembled").plan(shape, machine)
    ordered = PCA(4, solver=SolverSettings(reproducible=True)).plan(shape, machine)
    assert (ordered.engine, ordered.single, ordered.reason) == ("assembled", False, "reproducible")
    assert ordered.bytes > assembled.bytes
    with pytest.raises(MemoryLimitError, match="sums in the order of the rows"):
        reproducible_plan(assembled, shape, Machine(2, 1, 0))
    with pytest.raises(ConfigError, match="10001 features: one rank solves"):
        PCA(4, solver=SolverSettings(reproducible=True)).plan(
            Shape(1000, 0, 10_001, None, 80_008, 8), Machine(2, 1, 2**40)
        )
