"""Every engine against LAPACK on the double covariance, on data that are hard on digits."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse

import miramns
from hpcembed.data import matrix
from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding import PCA, SolverSettings, TruncatedSVD, _covariance
from hpcembed.operators.block_shell import block_shell
from hpcembed.operators.covariance import covariance_passes
from hpcembed.operators.covariance.covariance_passes import CovariancePasses, Moments
from hpcembed.operators.covariance.gram import GramPasses
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError, MemoryLimitError
from hpcembed.runtime.ranks import ownership_range

pytestmark = pytest.mark.mpi

ENGINES = ["assembled", "matrix_free", "block", "gram"]


def hard(name):
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((160, 40)) * np.geomspace(1, 1e-3, 40)
    rows = rows @ np.linalg.qr(rng.standard_normal((40, 40)))[0]
    if name == "huge means":
        rows += 1e5 * rng.standard_normal(40)
    elif name == "one huge mean":
        rows[:, 3] += 1e7
    elif name == "constant and duplicated columns":
        rows[:, 5] = 7.0
        rows[:, 6] = rows[:, 9]
    elif name == "scales":
        rows *= np.logspace(-6, 6, 40)
    elif name == "tiny":
        rows *= 1e-30
    elif name == "huge":
        rows *= 1e30
    elif name == "few rows":
        rows = rows[:12]
    elif name == "equal":
        rows = np.repeat(np.eye(40)[:8], 20, axis=0)
    elif name == "sorted":
        rows[80:] += 50
    return rows


NAMES = [
    "plain", "huge means", "one huge mean", "constant and duplicated columns", "scales", "tiny",
    "huge", "few rows", "equal", "sorted",
]  # fmt: skip


def share(comm, rows):
    first, last = ownership_range(len(rows), comm)
    return np.ascontiguousarray(rows[first:last])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_within_the_certified_bound_of_lapack(comm, name, engine, dtype):
    rows = hard(name)
    if dtype == np.float32 and name in ("huge", "tiny"):
        rows = rows * (1e-12 if name == "huge" else 1e12)  # what single precision holds
    rows = rows.astype(dtype)
    k = 5
    exact, vectors = scipy.linalg.eigh(np.cov(rows.astype(np.float64).T))
    exact, vectors = exact[::-1][:k], vectors[:, ::-1][:, :k]
    pca = PCA(k, engine=engine).fit(share(comm, rows), comm=comm)
    tol = 1e-6 if dtype == np.float32 else 1e-10
    assert pca.certified_
    assert pca.residual_norms_.max() <= tol * exact[0]
    rounding = 1e-13 * exact[0] + 1e-15 * np.abs(rows).max() ** 2
    np.testing.assert_allclose(
        pca.explained_variance_, exact, rtol=0, atol=pca.residual_norms_.max() + rounding
    )
    np.testing.assert_allclose(pca.components_ @ pca.components_.T, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(pca.mean_, rows.astype(float).mean(axis=0), rtol=1e-11, atol=1e-30)
    # captured variance: the Rayleigh quotients of what was found
    found = np.einsum(
        "ij,jk,ik->i", pca.components_, np.cov(rows.astype(np.float64).T), pca.components_
    )
    assert found.sum() == pytest.approx(exact.sum(), rel=1e-8)


@pytest.mark.parametrize("engine", ["auto", *ENGINES[:3]])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sparse_rows_in_every_engine(comm, engine, dtype):
    whole = scipy.sparse.random(700, 40, 0.1, format="csr", dtype=dtype, random_state=3)
    first, last = ownership_range(700, comm)
    pca = PCA(4, engine=engine).fit(whole[first:last], comm=comm)
    C = np.cov(whole.toarray().T.astype(np.float64))
    values = np.linalg.eigvalsh(C)[:-5:-1]
    tol = 1e-6 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(pca.explained_variance_, values, atol=2 * tol * values[0])
    V = pca.components_.T
    residuals = np.linalg.norm(C @ V - V * pca.explained_variance_, axis=0)
    assert (residuals <= 2 * tol * values[0]).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_all_ranks_hold_the_same_bits(comm, engine):
    pca = PCA(3, engine=engine).fit(share(comm, hard("plain")), comm=comm)
    mine = (pca.components_.tobytes(), pca.mean_.tobytes(), pca.explained_variance_.tobytes())
    assert len(set(comm.allgather(mine))) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_any_number_of_ranks_finds_the_same(comm, engine):
    rows = hard("plain")
    alone = PCA(4, engine=engine).fit(rows)
    shared = PCA(4, engine=engine).fit(share(comm, rows), comm=comm)
    np.testing.assert_allclose(shared.explained_variance_, alone.explained_variance_, rtol=1e-11)
    np.testing.assert_allclose(shared.components_, alone.components_, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["plain", "huge means", "sorted"])
@pytest.mark.parametrize("long_row", [10, 20_000])
@pytest.mark.parametrize("products", ["", "none"], ids=["best", "numpy"])
def test_passes_are_products_with_the_covariance(
    comm, monkeypatch, dtype, name, long_row, products
):
    monkeypatch.setenv("HPCEMBED_NATIVE", products)
    monkeypatch.setattr(covariance_passes, "_LONG_ROW", long_row)
    monkeypatch.setattr(matrix, "_BLOCK_BYTES", 1)  # several blocks
    rows = hard(name)
    C, centred = np.cov(rows.T), rows - rows.mean(axis=0)
    X = DataMatrix(share(comm, rows), np.zeros(len(share(comm, rows)), int), comm, storage="shell")
    moments = Moments(X)
    accuracy = (1e-6 if dtype == np.float32 else 1e-13) * np.linalg.norm(C, 2)
    # rows far from the origin carry the rounding of their own conversion
    accuracy *= max(1.0, np.abs(rows).max() / np.abs(centred).max())
    for mat, expected in (
        (block_shell(CovariancePasses(X, moments, dtype)), C),
        (block_shell(GramPasses(X, moments, dtype)), centred @ centred.T / (len(rows) - 1)),
    ):
        first, last = mat.getOwnershipRange()
        V = np.random.default_rng(0).standard_normal((len(expected), 3))
        V /= np.linalg.norm(V, axis=0)
        product = np.empty((last - first, 3))
        mat.getPythonContext().mult_block(V[first:last], product)
        np.testing.assert_allclose(product, (expected @ V)[first:last], atol=accuracy)
        x, y = mat.createVecs()
        x.setArray(V[first:last, 0])
        mat.mult(x, y)
        np.testing.assert_allclose(y.getArray(), product[:, 0], atol=accuracy)
        x.destroy()
        y.destroy()
        mat.destroy()
    if dtype == np.float64:
        np.testing.assert_allclose(moments.variances, np.diag(C), rtol=1e-9)
        np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-12)


def test_what_single_precision_misses_is_refined_in_double(comm):
    rows = hard("plain").astype(np.float32)
    loose = PCA(3, engine="block").fit(share(comm, rows), comm=comm)
    tight = PCA(3, engine="block", tol=1e-12).fit(share(comm, rows), comm=comm)
    assert "continued in double precision" not in loose.result_.decisions
    assert "continued in double precision" in tight.result_.decisions
    assert loose.residual_norms_.max() > 1e-12 * loose.explained_variance_[0]
    assert tight.residual_norms_.max() <= 1e-12 * tight.explained_variance_[0]
    assert tight.result_.n_matvec > loose.result_.n_matvec
    assert len(tight.result_.history) > len(loose.result_.history)


def test_a_space_that_single_precision_spoils_is_refined(comm, monkeypatch):
    """The same where its products are worse than they ever should be."""
    rows = hard("plain").astype(np.float32)
    product = CovariancePasses.whole_product

    def spoiled(self, V):
        exact = product(self, V)
        return (
            exact
            if self._dtype == np.float64
            else exact * (1 + 1e-4 * np.sin(np.arange(40)))[:, None]
        )

    monkeypatch.setattr(CovariancePasses, "whole_product", spoiled)
    pca = PCA(3, engine="block").fit(share(comm, rows), comm=comm)
    assert pca.certified_
    assert "continued in double precision" in pca.result_.decisions
    exact = np.linalg.eigvalsh(np.cov(rows.astype(float).T))[::-1][:3]
    np.testing.assert_allclose(pca.explained_variance_, exact, rtol=1e-9)


def test_a_run_that_does_not_fit_is_refused_before_it_begins(comm, monkeypatch):
    monkeypatch.setattr(_covariance, "_CovarianceSearch", None)
    rows = np.ones((4, 3000))
    with pytest.raises(MemoryLimitError, match="set engine = block, which fits"):
        PCA(2, engine="assembled", memory_limit=2**25).fit(share(comm, rows), comm=comm)
    with pytest.raises(MemoryLimitError, match="more ranks"):
        PCA(2, memory_limit=1000).fit(share(comm, rows), comm=comm)


def test_bad_rows_on_one_rank_reach_all(comm):
    rows = share(comm, hard("plain")).copy()
    if comm.rank == comm.size - 1:
        rows[0, 0] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        PCA(2).fit(rows, comm=comm)
    text = np.array([["a", "b"]]) if comm.rank == 0 else np.ones((1, 2))
    with pytest.raises(ValueError, match=r"could not convert|numeric|dtype"):
        PCA(1).fit(text, comm=comm)
    with pytest.raises(ValueError, match=r"at least 2 training rows|minimum of 2"):
        PCA(1).fit(np.ones((int(comm.rank == 0), 3)), comm=comm)


def test_ranks_without_rows(comm):
    rows = hard("plain")
    mine = rows if comm.rank == comm.size - 1 else rows[:0]
    for engine in ENGINES:
        pca = PCA(3, engine=engine).fit(mine, comm=comm)
        exact = np.linalg.eigvalsh(np.cov(rows.T))[::-1][:3]
        np.testing.assert_allclose(pca.explained_variance_, exact, rtol=1e-9)
        assert pca.transform(mine).shape == (len(mine), 3)


def test_certify_judges_given_vectors(comm):
    rows = hard("plain")
    X = DataMatrix(share(comm, rows), np.zeros(len(share(comm, rows)), int), comm)
    mat = block_shell(CovariancePasses(X, Moments(X)))
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    first, last = mat.getOwnershipRange()
    best = vectors[first:last, :-4:-1]
    good = miramns.certify(mat, best, tol=1e-10, solver="LAPACK")
    assert good.converged
    assert good.solver == "LAPACK"
    np.testing.assert_allclose(good.eigenvalues, values[:-4:-1], rtol=1e-12)
    turned = best @ np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    again = miramns.certify(mat, turned, tol=1e-10)
    np.testing.assert_allclose(again.eigenvalues, good.eigenvalues, rtol=1e-12)
    np.testing.assert_allclose(again.eigenvectors, good.eigenvectors, atol=1e-9)
    assert again.n_certificate_matvec == 3
    bad = miramns.certify(mat, np.eye(40, 2)[first:last], tol=1e-10)
    assert bad.reason.name == "DIVERGED_STAGNATED"
    assert bad.unconverged == (0, 1)
    with pytest.raises(miramns.MiramnsError, match="must be orthonormal"):
        miramns.certify(mat, np.ones((last - first, 2)))
    mat.destroy()


def test_unconverged_says_which(comm):
    rows = np.random.default_rng(0).standard_normal((400, 300))
    with pytest.raises(ConvergenceError, match="did not converge to the tolerance"):
        PCA(5, engine="matrix_free", tol=1e-12, solver=SolverSettings(ncv=8, max_it=0)).fit(
            share(comm, rows), comm=comm
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            lambda rank: {"n_components": 3 + (rank == 1)},
            "n_components differs between ranks: 3, 4",
        ),
        (
            lambda rank: {"n_components": 3 * (rank != 1)},
            "n_components differs between ranks: 0, 3",
        ),
        (
            lambda rank: {"engine": ENGINES[min(rank, 1)]},
            "engine differs between ranks",
        ),
        (lambda rank: {"solver": SolverSettings(max_it=5 + (rank > 0))}, "solver differs between"),
    ],
)
def test_settings_that_differ_between_ranks(comm, settings, message):
    if comm.size == 1:
        pytest.skip("needs two ranks")
    mine = {"n_components": 3, **settings(comm.rank)}
    with pytest.raises(ConfigError, match=message):
        PCA(**mine).fit(share(comm, hard("plain")), comm=comm)


def test_what_ranks_may_choose_on_their_own(comm):
    looked = []
    settings = SolverSettings(name="miramns", monitor=looked.append)
    pca = PCA(
        3, random_state=0, memory_limit=2**30 + comm.rank, n_threads=1 + comm.rank, solver=settings
    )
    assert pca.fit(share(comm, hard("plain")), comm=comm).certified_
    assert looked


def test_other_estimators_on_other_ranks(comm):
    if comm.size == 1:
        pytest.skip("needs two ranks")
    estimator = (TruncatedSVD if comm.rank else PCA)(2)
    with pytest.raises(ConfigError, match="estimator differs between ranks: 'PCA', 'TruncatedSVD'"):
        estimator.fit(share(comm, hard("plain")), comm=comm)


def test_sparse_rows_with_columns_that_are_none(comm):
    rows = scipy.sparse.csr_array(hard("plain"))[: 20 + comm.rank]
    rows.indices[0] = 40 if comm.rank == comm.size - 1 else rows.indices[0]
    with pytest.raises((InputError, ValueError), match="a column number beyond their 40 features"):
        PCA(2).fit(rows, comm=comm)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("k", "offset"), [(10, 0), (40, 1), (20, 100)])
def test_blocks_that_run_out_of_directions(comm, dtype, k, offset):
    # without centring the first eigenvalue stands far above the others, which are soon exhausted
    rows = np.random.default_rng(3).standard_normal((500, 150)) * 1.1 ** -np.arange(150.0) + offset
    rows = rows.astype(dtype)
    svd = TruncatedSVD(k, engine="block").fit(share(comm, rows), comm=comm)
    exact = np.linalg.svd(rows.astype(float), compute_uv=False)[:k]
    bound = svd.residual_norms_.max() + 1e-12 * exact[0] ** 2
    np.testing.assert_allclose(svd.singular_values_**2, exact**2, rtol=0, atol=bound)
    assert svd.result_.orthogonality < 1e-13
