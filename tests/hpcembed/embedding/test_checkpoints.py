"""Fits that are interrupted continue from their checkpoints, with the same bits."""

import os

import numpy as np
import pytest
import scipy.sparse
from mpi4py import MPI
from sklearn.base import clone

from hpcembed.data.matrix import DataMatrix
from hpcembed.data.row_stream import open_rows
from hpcembed.embedding import PCA, KernelPCA, SolverSettings, SpectralEmbedding, TruncatedSVD
from hpcembed.operators.covariance import covariance, saved_sums
from hpcembed.operators.covariance.covariance_passes import (
    CovariancePasses,
    Moments,
    PassLimitError,
)
from hpcembed.runtime.errors import ConfigError, OutputError
from hpcembed.runtime.ranks import ownership_range
from miramns.checkpointing import CheckpointError, CheckpointStore, StoppedAtCheckpointError

pytestmark = pytest.mark.mpi

N, D = 600, 40
RNG = np.random.default_rng(5)
ROWS = RNG.standard_normal((N, D)) * 0.9 ** np.arange(D)
BYTES = RNG.integers(0, 256, (N, D)).astype(np.uint8)
GRAPH = np.exp(-((ROWS[:300, None, :3] - ROWS[None, :300, :3]) ** 2).sum(axis=2))


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(saved_sums, "_PART_WORK", 1)
    monkeypatch.setattr(saved_sums, "_LEAST_ROWS", 32)
    monkeypatch.setattr("miramns.direct.LARGEST", 0)


class Interrupted:
    """Asks the last rank to stop at offer number `at`."""

    def __init__(self, comm, at):
        self.comm, self.at, self.n = comm, at, 0

    def __call__(self):
        self.n += 1
        return self.n == self.at and self.comm.rank == self.comm.size - 1


def share(comm, rows):
    first, last = ownership_range(rows.shape[0], comm)
    return rows[first:last]


def fit(make, comm, rows, store):
    settings = SolverSettings(checkpoint=store, name="miramns")
    return make(settings).fit(rows, comm=None if hasattr(rows, "comm") else comm)


def same_bits(a, b):
    assert a.eigenvalues_.tobytes() == b.eigenvalues_.tobytes()
    assert a.residual_norms_.tobytes() == b.residual_norms_.tobytes()
    for name in ("components_", "mean_", "feature_variances_", "embedding_"):
        if hasattr(a, name):
            assert np.asarray(getattr(a, name)).tobytes() == np.asarray(getattr(b, name)).tobytes()
    assert a.result_.n_matvec == b.result_.n_matvec


CASES = {
    "assembled": (lambda s: PCA(3, engine="assembled", solver=s), ROWS),
    "single": (lambda s: PCA(3, engine="assembled", solver=s), ROWS.astype(np.float32)),
    "integers": (lambda s: PCA(3, engine="assembled", solver=s), BYTES),
    "sparse": (lambda s: PCA(3, engine="assembled", solver=s), scipy.sparse.csr_array(ROWS)),
    "block": (lambda s: PCA(3, engine="block", solver=s), ROWS),
    "block, single": (lambda s: PCA(3, engine="block", solver=s), ROWS.astype(np.float32)),
    "matrix_free": (lambda s: PCA(3, engine="matrix_free", solver=s), ROWS),
    "gram": (lambda s: PCA(3, engine="gram", solver=s), np.ascontiguousarray(ROWS[:50].T)),
    "svd": (lambda s: TruncatedSVD(3, engine="assembled", solver=s), ROWS),
    "share": (lambda s: PCA(0.6, engine="block", solver=s), ROWS),
    "kernel": (lambda s: KernelPCA(3, kernel="rbf", engine="matrix_free", solver=s), ROWS[:120]),
    "spectral": (lambda s: SpectralEmbedding(2, affinity="precomputed", solver=s), GRAPH),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fit_that_is_interrupted(comm, shared_tmp, small_parts, name):
    make, rows = CASES[name]
    rows = share(comm, rows)
    with CheckpointStore(shared_tmp / "whole", {}, comm, stop=Interrupted(comm, 0)) as store:
        whole = fit(make, comm, rows, store)
    n_offers = store.stop.n
    assert n_offers > 2
    for at in sorted({1, n_offers // 2, n_offers}):
        stop = Interrupted(comm, at)
        store = CheckpointStore(shared_tmp / f"{at}", {}, comm, every=0, stop=stop)
        with store, pytest.raises(StoppedAtCheckpointError):
            fit(make, comm, rows, store)
        with CheckpointStore(shared_tmp / f"{at}", {}, comm, stop=Interrupted(comm, 0)) as store:
            same_bits(fit(make, comm, rows, store), whole)
        # it did not begin anew; with several numbers of components, each repeats its last part
        assert name == "share" or store.stop.n <= n_offers - at + 2


def test_sums_that_are_not_finite_are_not_saved(comm, shared_tmp, small_parts):
    """A fault of one part, here on the last rank, is not in the checkpoint to continue from."""
    mine = share(comm, ROWS)
    rows = DataMatrix(mine, np.zeros(len(mine)), comm)
    sums = {"sum": np.zeros(1)}

    def add(fault):
        def add_part(first, last):
            sums["sum"] += last - first
            if fault and first >= 64 and comm.rank == comm.size - 1:
                sums["sum"][:] = np.nan
            return last

        return add_part

    n_parts = comm.allreduce(-(-rows.n_local // 32), op=MPI.MAX)
    with CheckpointStore(shared_tmp, {}, comm, every=0, stop=Interrupted(comm, n_parts)) as store:
        with pytest.raises(StoppedAtCheckpointError, match="without another checkpoint"):
            saved_sums.add_rows(rows, add(fault=True), sums, store)
        assert (
            store.newest("covariance", identity=saved_sums._identity(rows, {})).state["part"] == 2
        )
        sums["sum"][:] = 0.0
        saved_sums.add_rows(rows, add(fault=False), sums, store)
    assert sums["sum"][0] == rows.n_local
    rows.destroy()


def test_compiled_and_numpy_sums(comm, shared_tmp, small_parts, monkeypatch):
    monkeypatch.setenv("HPCEMBED_NATIVE", "none")
    monkeypatch.setattr(covariance, "_MOST_ROWS", {np.dtype(kind): 20 for kind in "fd"})
    for name in ("assembled", "single", "integers"):
        test_a_fit_that_is_interrupted(comm, shared_tmp / name, None, name)


def test_components_that_are_doubled(comm, shared_tmp, small_parts, monkeypatch):
    """Each number of components has checkpoints of its own."""
    monkeypatch.setattr("hpcembed.embedding.pca._FIRST_GUESS", 2)
    test_a_fit_that_is_interrupted(comm, shared_tmp, None, "share")
    comm.Barrier()
    names = {one.name.partition(".")[0] for one in shared_tmp.glob("*/k-*")}
    assert {"k-2", "k-4"} <= names


def test_the_limit_of_passes_counts_those_before(comm, shared_tmp, small_parts):
    X = DataMatrix(share(comm, ROWS), np.zeros(len(share(comm, ROWS)), int), comm)
    passes = CovariancePasses(X, Moments(X), most=2)
    V = np.ones((D, 1))
    passes.whole_product(V)
    again = CovariancePasses(X, Moments(X), most=2)
    again.set_state(passes.get_state())
    again.whole_product(V)
    with pytest.raises(PassLimitError):
        again.whole_product(V)
    X.destroy()


def test_rows_in_files(comm, shared_tmp, small_parts):
    if comm.rank == 0:
        np.save(shared_tmp / "rows.npy", ROWS)
    comm.Barrier()

    def fitted(store):
        settings = SolverSettings(checkpoint=store)
        return PCA(3, engine="assembled", solver=settings).fit(
            open_rows(shared_tmp / "rows.npy", comm=comm)
        )

    whole = fitted(shared_tmp / "whole")
    store = CheckpointStore(shared_tmp / "parts", {}, comm, stop=Interrupted(comm, 3))
    with store, pytest.raises(StoppedAtCheckpointError):
        fitted(store)
    same_bits(fitted(shared_tmp / "parts"), whole)
    np.testing.assert_allclose(whole.eigenvalues_, np.linalg.eigvalsh(np.cov(ROWS.T))[:-4:-1])


def test_checkpoints_do_not_change_the_answer(comm, shared_tmp, small_parts):
    rows = share(comm, ROWS)
    plain = PCA(3, engine="assembled").fit(rows, comm=comm)
    saved = fit(CASES["assembled"][0], comm, rows, shared_tmp / "store")
    np.testing.assert_allclose(saved.eigenvalues_, plain.eigenvalues_, rtol=1e-12)


def test_other_rows_are_refused(comm, shared_tmp, small_parts):
    def fitted(rows, at=0):
        stop = Interrupted(comm, at)
        with CheckpointStore(shared_tmp / "store", {}, comm, stop=stop) as store:
            return fit(CASES["assembled"][0], comm, share(comm, rows), store)

    with pytest.raises(StoppedAtCheckpointError):
        fitted(ROWS, at=1)
    other = ROWS.copy()
    other[-1] += 1
    with pytest.raises(ConfigError, match=r"rows\.ends was "):
        fitted(other)
    fitted(ROWS)


def test_another_number_of_ranks_begins_the_sums_anew(comm, shared_tmp, small_parts, caplog):
    from mpi4py import MPI

    if comm.rank == 0:
        stop = Interrupted(MPI.COMM_SELF, 2)
        store = CheckpointStore(shared_tmp / "store", {}, MPI.COMM_SELF, stop=stop)
        with store, pytest.raises(StoppedAtCheckpointError):
            fit(CASES["assembled"][0], MPI.COMM_SELF, ROWS, store)
    comm.Barrier()
    found = fit(CASES["assembled"][0], comm, share(comm, ROWS), shared_tmp / "store")
    np.testing.assert_allclose(found.eigenvalues_, np.linalg.eigvalsh(np.cov(ROWS.T))[:-4:-1])
    assert comm.size == 1 or comm.rank or "begin anew" in caplog.text


def test_a_folder_that_cannot_be_used(comm, shared_tmp):
    if comm.rank == 0:
        (shared_tmp / "file").touch()
    comm.Barrier()
    with pytest.raises(OutputError, match="cannot open the checkpoints"):
        fit(CASES["block"][0], comm, share(comm, ROWS), shared_tmp / "file")


def test_parameters_keep_the_contract_of_scikit_learn(comm, shared_tmp):
    with CheckpointStore(shared_tmp, {}, comm) as store:
        estimator = PCA(3, solver=SolverSettings(checkpoint=store))
        assert clone(estimator).solver.checkpoint is store
    estimator = PCA(3, solver=SolverSettings(checkpoint=shared_tmp / "states"))
    assert clone(estimator).solver == estimator.solver
    comm.Barrier()
    assert os.listdir(shared_tmp) == []


def test_a_data_matrix(comm, shared_tmp, small_parts):
    rows = share(comm, ROWS)
    X = DataMatrix(rows, np.zeros(len(rows), int), comm)
    whole = fit(CASES["assembled"][0], comm, X, shared_tmp / "a")
    again = fit(CASES["assembled"][0], comm, X, shared_tmp / "a")
    same_bits(again, whole)
    X.destroy()


@pytest.mark.parametrize("count", [np.nan, np.inf, -1.0, 7.0])
def test_a_count_of_rows_that_is_wrong_on_one_rank(comm, shared_tmp, count):
    """All ranks raise; no rank waits for another."""
    sums = {"total": np.zeros(3)}
    mine = count if comm.rank == comm.size - 1 else 0.0
    with CheckpointStore(shared_tmp / "store", {}, comm) as store:
        saved = {"total": np.ones((1, 3)), "rows_in": np.array([mine])}
        store.save("covariance", saved, state={"part": 0}, identity={})
        with pytest.raises(CheckpointError, match="another form than this program writes"):
            saved_sums._restored(comm, 6, sums, store, {})
