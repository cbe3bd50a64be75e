"""Kernel PCA and its approximations on 1, 2 and 3 ranks against dense numpy, and refusals."""

import pickle

import numpy as np
import pytest
import scipy.sparse
from sklearn.decomposition import KernelPCA as SklearnKernelPCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics.pairwise import pairwise_kernels

import hpcembed
from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding import KernelPCA, Nystroem, RandomFourierFeatures, SolverSettings
from hpcembed.operators.block_shell import block_shell
from hpcembed.operators.kernel import kernel_functions, row_panels
from hpcembed.operators.kernel.centred_kernel import KernelPasses, KernelRows
from hpcembed.operators.kernel.inverse_map import inverse_coefficients
from hpcembed.operators.kernel.kernel_functions import Kernel
from hpcembed.operators.kernel.row_panels import RowsOfAll
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError, MemoryLimitError
from hpcembed.runtime.ranks import allgather_rows, ownership_range

pytestmark = pytest.mark.mpi

RNG = np.random.default_rng(5)
ROWS = RNG.standard_normal((120, 6)) * [3, 2, 1, 1, 0.5, 0.2] + 1.0
OTHERS = RNG.standard_normal((17, 6)) + 1.0
KERNELS = [
    Kernel("rbf", 0.1),
    Kernel("poly", 0.2, 3, 1.0),
    Kernel("poly", 0.2, 2, 0.0),
    Kernel("cosine"),
    Kernel("linear"),
]


def share(comm, rows):
    first, last = ownership_range(rows.shape[0], comm)
    return rows[first:last]


def dense_kernel(kernel, X, Y=None):
    numbers = {
        "rbf": {"gamma": kernel.gamma},
        "poly": {"gamma": kernel.gamma, "degree": kernel.degree, "coef0": kernel.coef0},
    }
    return pairwise_kernels(X, Y, metric=kernel.name, **numbers.get(kernel.name, {}))


@pytest.fixture(name="small_tiles")
def tiles_of_a_few_rows(monkeypatch):
    monkeypatch.setattr(kernel_functions, "_MOST_ROWS", 8)
    monkeypatch.setattr(kernel_functions, "_LEAST_ROWS", 8)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.text)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.usefixtures("small_tiles")
def test_products_with_the_centred_kernel(comm, kernel, sparse, dtype):
    rows = ROWS * (np.arange(720).reshape(120, 6) % 3 > 0) if sparse else ROWS
    K = dense_kernel(kernel, rows)
    H = np.eye(120) - 1 / 120
    V = np.random.default_rng(0).standard_normal((120, 3))
    mine = share(comm, rows)
    mine = scipy.sparse.csr_array(mine) if sparse else mine
    X = DataMatrix(mine, np.zeros(mine.shape[0], int), comm)
    origin = rows.mean(axis=0) if kernel.name == "rbf" and not sparse else None
    accuracy = (2e-6 if dtype == np.float32 else 1e-13) * np.linalg.norm(K, 2)
    for form in (KernelPasses, KernelRows):
        products = form(RowsOfAll(X, kernel, origin, dtype))
        mat = block_shell(products)
        found = np.empty((X.n_local, 3))
        products.mult_block(share(comm, V), found)
        np.testing.assert_allclose(found, share(comm, H @ K @ H @ V), atol=accuracy)
        x, y = mat.createVecs()
        x.setArray(share(comm, V)[:, 0])
        mat.mult(x, y)
        np.testing.assert_allclose(y.getArray(), found[:, 0], atol=accuracy)
        if dtype == np.float64:
            np.testing.assert_allclose(products.row_means, share(comm, K.mean(axis=1)), rtol=1e-12)
        else:
            assert products.row_means is None
        for thing in (x, y, mat):
            thing.destroy()


@pytest.mark.parametrize("engine", ["matrix_free", "assembled", "lapack"])
@pytest.mark.parametrize("kernel", KERNELS[:4], ids=lambda kernel: kernel.text)
@pytest.mark.usefixtures("small_tiles")
def test_against_dense_numpy(comm, engine, kernel):
    K, H = dense_kernel(kernel, ROWS), np.eye(120) - 1 / 120
    values, vectors = np.linalg.eigh(H @ K @ H)
    values, vectors = values[:-6:-1], vectors[:, :-6:-1]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), range(5)])
    settings = {
        "kernel": kernel.name,
        "gamma": kernel.gamma,
        "degree": kernel.degree,
        "coef0": kernel.coef0,
    }
    model = KernelPCA(5, engine=engine, **settings).fit(share(comm, ROWS), comm=comm)
    assert model.certified_
    assert model.residual_norms_.max() <= 1e-10 * values[0]
    np.testing.assert_allclose(model.eigenvalues_, values, rtol=1e-9)
    np.testing.assert_allclose(model.eigenvectors_, share(comm, vectors), atol=1e-8)
    # all other rows on the last rank: the others have none, and take part
    mine = OTHERS if comm.rank == comm.size - 1 else OTHERS[:0]
    places = dense_kernel(kernel, OTHERS, ROWS) - K.mean(axis=0)
    expected = (places - places.mean(axis=1, keepdims=True)) @ (vectors / np.sqrt(values))
    np.testing.assert_allclose(
        model.transform(mine), expected if len(mine) else np.empty((0, 5)), atol=1e-7
    )
    X = DataMatrix(share(comm, ROWS), np.zeros(len(share(comm, ROWS)), int), comm)
    again = KernelPCA(5, engine=engine, **settings)
    np.testing.assert_allclose(
        again.fit_transform(X), share(comm, vectors * np.sqrt(values)), atol=1e-7
    )
    np.testing.assert_allclose(again.transform(X), again.fit_transform(X), atol=1e-7)
    assert again.transform(X, np.float32).dtype == np.float32


@pytest.mark.parametrize("factor", [1e160, 1e-160, 2.0**-1060, 1e307])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_cosine_has_no_scale(comm, factor, sparse):
    rows = np.round(8 * ROWS[:60]) / (32 if factor > 1e300 else 1)
    rows[:, 1] = rows[:, 0] + 1 / 8
    rows[:, 2] = 0.0
    H = np.eye(60) - 1 / 60
    values = np.linalg.eigvalsh(H @ dense_kernel(Kernel("cosine"), rows) @ H)[:-4:-1]
    # row by row: large and small ones beside each other
    mine = share(comm, rows * np.where(np.arange(60) % 3 == 0, 1.0, factor)[:, None])
    assert np.isfinite(mine).all()
    mine = scipy.sparse.csr_array(mine) if sparse else mine
    for tol in (1e-10, 1e-6):
        for engine in ("lapack", "matrix_free"):
            model = KernelPCA(3, kernel="cosine", engine=engine, tol=tol)
            coordinates = model.fit_transform(mine, comm=comm)
            assert model.plan_.single == (tol > 1e-8 and engine != "lapack")
            assert model.certified_
            np.testing.assert_allclose(model.eigenvalues_, values, rtol=1e-8)
            assert "continued in double precision" not in model.result_.decisions
            np.testing.assert_allclose(model.transform(mine), coordinates, atol=1e-6)
    landmarks = Nystroem(3, n_landmarks=60, kernel="cosine").fit(mine, comm=comm)
    np.testing.assert_allclose(landmarks.eigenvalues_, values, rtol=1e-7)


def test_single_precision_is_judged_in_double(comm):
    rows = share(comm, ROWS).astype(np.float32)
    exact = KernelPCA(4, kernel="rbf", engine="lapack").fit(share(comm, ROWS), comm=comm)
    for engine in ("matrix_free", "assembled"):
        loose = KernelPCA(4, kernel="rbf", engine=engine).fit(rows, comm=comm)
        assert loose.plan_.single
        np.testing.assert_allclose(loose.eigenvalues_, exact.eigenvalues_, rtol=1e-6)
        assert loose.transform(rows).dtype == np.float32


def test_what_single_precision_spoils_is_refined(comm, monkeypatch):
    tile = RowsOfAll.kernel_tile

    def noisy(self, A, B):
        exact = tile(self, A, B)
        if self.dtype == np.float64:
            return exact
        return exact + np.float32(1e-3) * np.cos(100 * exact)

    monkeypatch.setattr(row_panels.RowsOfAll, "kernel_tile", noisy)
    model = KernelPCA(3, kernel="rbf", engine="matrix_free", tol=1e-6)
    model.fit(share(comm, ROWS), comm=comm)
    assert model.certified_
    assert "continued in double precision" in model.result_.decisions
    monkeypatch.undo()
    exact = KernelPCA(3, kernel="rbf", engine="lapack").fit(share(comm, ROWS), comm=comm)
    np.testing.assert_allclose(model.eigenvalues_, exact.eigenvalues_, rtol=1e-9)


@pytest.mark.parametrize("engine", ["matrix_free", "assembled", "lapack"])
def test_more_ranks_than_rows_and_equal_rows(comm, engine):
    few = ROWS[:2]
    mine = few if comm.rank == 0 else few[:0]
    model = KernelPCA(1, kernel="rbf", engine=engine).fit(mine, comm=comm)
    K = dense_kernel(Kernel("rbf", 1 / 6), few)
    assert model.eigenvalues_[0] == pytest.approx(1 - K[0, 1], rel=1e-12)
    assert model.transform(mine).shape == (len(mine), 1)
    twice = np.repeat(ROWS[:9], 4, axis=0)
    model = KernelPCA(12, kernel="rbf", engine=engine).fit(share(comm, twice), comm=comm)
    assert model.negligible_.sum() == 4
    exact = np.linalg.eigvalsh(
        (np.eye(36) - 1 / 36) @ dense_kernel(Kernel("rbf", 1 / 6), twice) @ (np.eye(36) - 1 / 36)
    )[:-13:-1]
    np.testing.assert_allclose(model.eigenvalues_, exact, atol=1e-9 * exact[0])
    np.testing.assert_array_equal(model.transform(share(comm, twice))[:, 8:], 0)


@pytest.mark.parametrize("sparse", [False, True])
def test_approximations_do_not_depend_on_the_number_of_ranks(comm, sparse):
    rows = scipy.sparse.csr_array(ROWS * (ROWS > 0.5)) if sparse else ROWS
    for model in (
        Nystroem(4, n_landmarks=30, random_state=3),
        Nystroem(4, n_landmarks=30, kernel="poly", gamma="median"),
        RandomFourierFeatures(4, n_directions=20, gamma="scale"),
    ):
        alone = model.fit(rows).transform(OTHERS)
        if isinstance(model, Nystroem):
            landmarks = model.landmarks_ * 1.0
        values = model.eigenvalues_
        found = model.fit(share(comm, rows), comm=comm).transform(OTHERS)
        np.testing.assert_allclose(model.eigenvalues_, values, rtol=1e-8)
        np.testing.assert_allclose(found, alone, atol=1e-6)
        assert len(set(comm.allgather(model.projection_.tobytes()))) == 1
        if isinstance(model, Nystroem):
            difference = abs(model.landmarks_ - landmarks)
            assert difference.max() == 0
        copied = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(copied.transform(OTHERS), found)


def test_all_rows_as_landmarks_are_exact(comm):
    exact = KernelPCA(4, kernel="rbf").fit(share(comm, ROWS), comm=comm)
    close = Nystroem(4, n_landmarks=500).fit(share(comm, ROWS), comm=comm)
    np.testing.assert_allclose(close.eigenvalues_, exact.eigenvalues_, rtol=1e-8)
    theirs = allgather_rows(comm, exact.transform(share(comm, ROWS)))
    ours = close.transform(ROWS)
    ours *= np.sign(np.sum(ours * theirs, axis=0))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    # rows of few ranks, as landmarks of all
    mine = ROWS[:5] if comm.rank == comm.size - 1 else ROWS[:0]
    few = Nystroem(3, n_landmarks=500).fit(mine, comm=comm)
    assert few.landmarks_.shape == (5, 6)


def test_rows_that_stay_in_a_file(comm, shared_tmp):
    path = shared_tmp / "rows.npy"
    if comm.rank == 0:
        np.save(path, ROWS)
    comm.Barrier()
    stream = hpcembed.open_rows(path, comm)
    held = Nystroem(3, n_landmarks=40).fit(share(comm, ROWS), comm=comm)
    read = Nystroem(3, n_landmarks=40).fit(stream)
    np.testing.assert_allclose(read.eigenvalues_, held.eigenvalues_, rtol=1e-12)
    np.testing.assert_allclose(read.transform(stream), held.transform(share(comm, ROWS)), atol=1e-9)
    with pytest.raises(InputError, match="load them into memory, or use Nystroem"):
        KernelPCA(3).fit(stream)


def test_unconverged_raises_or_is_kept(comm):
    rows = np.random.default_rng(1).standard_normal((400, 300))
    settings = {"engine": "assembled", "tol": 1e-12}
    with pytest.raises(ConvergenceError, match=r"did not converge to the tolerance 1e-12"):
        KernelPCA(1, solver=SolverSettings(max_it=1), **settings).fit(share(comm, rows), comm=comm)
    kept = KernelPCA(1, solver=SolverSettings(max_it=1, on_no_convergence="keep"), **settings).fit(
        share(comm, rows), comm=comm
    )
    assert not kept.certified_
    assert kept.eigenvectors_.shape == (len(share(comm, rows)), 1)


@pytest.mark.parametrize("engine", ["matrix_free", "assembled"])
@pytest.mark.parametrize("name", ["miramns", "krylovschur"])
def test_other_solvers_find_the_same(comm, engine, name):
    blocks = KernelPCA(4, kernel="rbf", engine=engine).fit(share(comm, ROWS), comm=comm)
    settings = SolverSettings(name=name, ncv=20, reference=True)
    single = KernelPCA(4, kernel="rbf", engine=engine, solver=settings)
    single.fit(share(comm, ROWS), comm=comm)
    np.testing.assert_allclose(single.eigenvalues_, blocks.eigenvalues_, rtol=1e-9)
    np.testing.assert_allclose(single.eigenvectors_, blocks.eigenvectors_, atol=1e-6)
    assert (single.reference_ is None) == (engine == "matrix_free")
    share_of_all = single.eigenvalues_ / single.explained_variance_ratio_
    K = dense_kernel(Kernel("rbf", 1 / 6), ROWS)
    np.testing.assert_allclose(share_of_all, np.trace(K) - K.sum() / 120, rtol=1e-10)
    # approximations solve a small square by the same solvers
    close = Nystroem(4, n_landmarks=60, solver=settings).fit(share(comm, ROWS), comm=comm)
    again = Nystroem(4, n_landmarks=60).fit(share(comm, ROWS), comm=comm)
    np.testing.assert_allclose(close.eigenvalues_, again.eigenvalues_, rtol=1e-9)
    assert close.comparison_.n_pairs == 4


def test_what_does_not_fit_is_refused_before_it_begins(comm):
    rows = share(comm, np.tile(ROWS, (40, 1)))
    with pytest.raises(MemoryLimitError, match="set engine = matrix_free, which fits"):
        KernelPCA(2, engine="lapack", memory_limit=2**25).fit(rows, comm=comm)
    with pytest.raises(MemoryLimitError, match="use more ranks, fewer rows, or an approximation"):
        KernelPCA(2, memory_limit=1000).fit(rows, comm=comm)
    with pytest.raises(MemoryLimitError, match=r"the scatter of 1000 features needs .*fewer"):
        Nystroem(2, memory_limit=1000).fit(rows, comm=comm)
    assert KernelPCA(2, memory_limit=2**25).fit(rows, comm=comm).plan_.engine == "matrix_free"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (KernelPCA(2, kernel="sigmoid"), "kernel = 'sigmoid' is not one of linear, poly, rbf"),
        (KernelPCA(2, gamma=-1.0), "gamma must be a positive number, got -1.0"),
        (KernelPCA(2, gamma=float("nan")), "gamma must be a positive number, got nan"),
        (Nystroem(2, gamma="mean"), "gamma = 'mean' is neither a number nor one of auto, scale"),
        (KernelPCA(2, degree=2.5), "degree must be a whole number from 1 to 100, got 2.5"),
        (Nystroem(2, coef0=float("inf")), "coef0 must be a finite number, got inf"),
        (KernelPCA(2.0), "n_components must be a positive integer or None, got 2.0"),
        (KernelPCA(121), "need 1 <= n_components <= rows, got n_components=121 with 120 rows"),
        (Nystroem(9, n_landmarks=8), "got n_components=9 with 8 features of Nystroem"),
        (Nystroem(2, n_landmarks=0), "n_landmarks must be a positive integer, got 0"),
        (RandomFourierFeatures(2, n_directions=1.5), "n_directions must be a positive integer"),
        (KernelPCA(2, engine="arpack"), "engine = 'arpack' is not one of auto"),
        (KernelPCA(2, tol=2.0), "tol must lie between 0 and 1, got 2.0"),
        (KernelPCA(2, solver=SolverSettings(name="qr")), "name = 'qr' is not one of auto, miramns"),
    ],
)
def test_settings_that_are_none(comm, model, message):
    with pytest.raises((ConfigError, InputError), match=message) as caught:
        model.fit(share(comm, ROWS), comm=comm)
    assert "\n" not in str(caught.value)


def test_rows_that_no_kernel_takes(comm):
    X = ROWS.copy()
    X[70] = 0.0
    for model in (KernelPCA(2, kernel="cosine"), Nystroem(2, kernel="cosine")):
        rows = DataMatrix(share(comm, X), np.zeros(len(share(comm, X)), int), comm)
        with pytest.raises(InputError, match="row 70 is zero and has no direction"):
            model.fit(rows)
        model.fit(share(comm, ROWS), comm=comm)
        if isinstance(model, KernelPCA):  # on one rank alone: all are told
            with pytest.raises(InputError, match="row 1 is zero"):
                model.transform(X[69:71] if comm.rank == 0 else X[:0])
    X[70, 2] = np.inf
    rows = DataMatrix(share(comm, X), np.zeros(len(share(comm, X)), int), comm)
    for model in (KernelPCA(2), Nystroem(2), RandomFourierFeatures(2)):
        with pytest.raises(InputError, match="row 70 is not finite: check the data for NaN or Inf"):
            model.fit(rows)
    for rows, settings, words in (
        (
            ROWS,
            {"kernel": "poly", "coef0": -1e4},
            r"coef0 -10000\) of every landmark.*: raise coef0, or",
        ),
        (
            0 * ROWS,
            {"kernel": "linear"},
            r"\(linear\) of every landmark.*: remove rows of zeros, or",
        ),
    ):
        with pytest.raises(InputError, match=words):
            Nystroem(2, **settings).fit(share(comm, rows), comm=comm)
    with pytest.raises(InputError, match="these rows have no spread"):
        KernelPCA(1, kernel="rbf", gamma="median").fit(np.ones((6, 2)), comm=comm)
    with pytest.raises(ValueError, match=r"at least 2 training rows|minimum of 2"):
        KernelPCA(1).fit(np.ones((int(comm.rank == 0), 3)), comm=comm)
    huge = share(comm, ROWS * 1e60)
    for model in (KernelPCA(1, kernel="poly", degree=7), Nystroem(1, kernel="poly", degree=7)):
        with pytest.raises(InputError, match="not finite"):
            model.fit(huge, comm=comm)


def test_a_model_on_several_ranks_is_not_copied(comm):
    model = KernelPCA(2).fit(share(comm, ROWS), comm=comm)
    if comm.size == 1:
        assert pickle.loads(pickle.dumps(model)).eigenvalues_.shape == (2,)
    else:
        with pytest.raises(ConfigError, match="are distributed over several ranks"):
            pickle.dumps(model)


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("sparse", [False, True])
def test_rows_that_change_after_the_fit(comm, copy, sparse):
    rows = share(comm, ROWS * (ROWS > 0)).copy()
    rows = scipy.sparse.csr_array(rows) if sparse else rows
    entries = rows.data if sparse else rows
    model = KernelPCA(3, kernel="rbf", gamma=0.1, copy_X=copy).fit(rows, comm=comm)
    before = model.transform(OTHERS)
    entries[:] = 7.0
    after = model.transform(OTHERS)
    # the values of sparse rows are converted, and so copied, in any case
    assert np.array_equal(before, after) == (copy or sparse)


@pytest.mark.parametrize("kernel", ["rbf", "poly", "cosine", "linear"])
def test_inverse_is_scikit_learns(comm, kernel):
    settings = {"kernel": kernel, "gamma": 0.05, "alpha": 0.3, "fit_inverse_transform": True}
    model = KernelPCA(4, **settings).fit(share(comm, ROWS), comm=comm)
    peer = SklearnKernelPCA(4, **settings, eigen_solver="dense").fit(ROWS)
    coordinates = model.transform(share(comm, OTHERS))
    expected = peer.inverse_transform(peer.transform(OTHERS))
    found = allgather_rows(comm, model.inverse_transform(coordinates))
    np.testing.assert_allclose(found, expected, atol=1e-8)
    # the map needs no rows on every rank
    mine = coordinates if comm.rank == 0 else coordinates[:0]
    count = len(share(comm, OTHERS)) if comm.rank == 0 else 0
    assert model.inverse_transform(mine).shape == (count, 6)
    if comm.size == 1:
        copied = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(copied.inverse_transform(coordinates), found)


def test_inverse_of_sparse_rows_and_refusals(comm):
    rows = scipy.sparse.csr_array(share(comm, ROWS * (ROWS > 0)))
    model = KernelPCA(4, kernel="rbf", gamma=0.05, fit_inverse_transform=True).fit(rows, comm=comm)
    whole = KernelPCA(4, kernel="rbf", gamma=0.05, fit_inverse_transform=True)
    expected = whole.fit(ROWS * (ROWS > 0)).inverse_transform(np.eye(4))
    np.testing.assert_allclose(model.inverse_transform(np.eye(4)), expected, atol=1e-8)
    for points in (np.eye(3), np.ones(4), np.full((1, 4), np.nan)):
        with pytest.raises(InputError, match=r"finite coordinates of shape \(n, 4\)"):
            model.inverse_transform(points)
    with pytest.raises(InputError, match="coordinates must be numbers"):
        model.inverse_transform([["a", "b", "c", "d"]])
    again = model.set_params(fit_inverse_transform=False).fit(rows, comm=comm)
    with pytest.raises(NotFittedError, match="set fit_inverse_transform = True"):
        again.inverse_transform(np.eye(4))
    with pytest.raises(ConfigError, match="alpha must be"):
        KernelPCA(2, alpha=-1.0).fit(rows, comm=comm)
    with pytest.raises(MemoryLimitError, match="leave fit_inverse_transform at False"):
        inverse_coefficients(
            DataMatrix(share(comm, ROWS), np.zeros(len(share(comm, ROWS)), np.int64), comm),
            np.zeros((len(share(comm, ROWS)), 2)), Kernel("linear"), 1.0, 1000,
        )  # fmt: skip
    negative = KernelPCA(2, kernel="poly", coef0=-9.0, alpha=0.0, fit_inverse_transform=True)
    with pytest.raises(ConfigError, match="raise alpha"):
        negative.fit(share(comm, ROWS), comm=comm)
