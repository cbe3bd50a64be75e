"""Origin of the residuals of principal components: exact, in double precision, or sampled."""

import numpy as np
import pytest

import miramns
from hpcembed.embedding import PCA, TruncatedSVD
from hpcembed.operators.cost import Rates
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.machine.native_library import instruction_set

pytestmark = pytest.mark.mpi


def share(comm, rows):
    n = len(rows)
    return rows[comm.rank * n // comm.size : (comm.rank + 1) * n // comm.size]


@pytest.fixture
def rows():
    """Values and the deviations of features are of one magnitude: 40 of 60 have large variances."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(2000, 60)) * np.geomspace(1, 0.05, 60)).astype(np.float32)


@pytest.fixture
def in_single(monkeypatch):
    """Make squares in single precision those of the plan, and LAPACK solve for a few pairs."""
    monkeypatch.setattr(Rates, "square", {4: 1e12, 8: 1e3})
    monkeypatch.setattr(Rates, "update", {4: 1e12, 8: 1e3})


def true_residuals(pca, rows):
    X = rows.astype(float)
    C = np.cov(X.T) if isinstance(pca, PCA) else X.T @ X / (len(X) - 1)
    V = pca.components_.T
    return np.linalg.norm(C @ V - V * pca.eigenvalues_, axis=0)


@pytest.mark.parametrize("estimator", [PCA, TruncatedSVD])
def test_sampled_bound_is_above_the_residuals(comm, rows, in_single, estimator):
    found = estimator(20).fit(share(comm, rows), comm=comm)
    assert found.plan_.engine == "assembled"
    assert found.plan_.single
    if instruction_set() is None:
        # BLAS adds all rows in single precision: the bound is larger, and a full pass may follow
        assert found.certificate_ in ("sampled", "double")
        return
    assert found.certificate_ == "sampled"
    assert found.certified_
    assert found.result_.failure_probability == 1e-6
    scale = 1 if estimator is PCA else len(rows) - 1
    bound = found.residual_norms_ / scale
    assert (bound == bound[0]).all()
    largest = true_residuals(found, rows).max()
    assert largest <= bound[0] <= 1e-6 * found.eigenvalues_[0]


def test_double_makes_a_product_for_every_component(comm, rows, in_single):
    found = PCA(20, certify="double").fit(share(comm, rows), comm=comm)
    assert found.certificate_ == "double"
    assert found.result_.failure_probability == 0.0
    assert found.result_.n_certificate_matvec >= 20
    np.testing.assert_allclose(found.residual_norms_, true_residuals(found, rows), atol=1e-12)


def test_few_components_have_products_of_their_own(comm, rows, in_single):
    assert PCA(8).fit(share(comm, rows), comm=comm).certificate_ == "double"


def test_a_bound_above_the_tolerance_is_followed_by_all_products(
    comm, rows, in_single, monkeypatch
):
    from hpcembed.embedding import _covariance

    # the bound of one sample is 1e8 times too large
    monkeypatch.setattr(_covariance, "CERTIFICATE_SAMPLES", 1)
    found = PCA(20).fit(share(comm, rows), comm=comm)
    assert found.certificate_ == "double"
    assert found.certified_
    assert found.result_.n_certificate_matvec >= 1 + 20


def test_wrong_pairs_do_not_pass_by_samples(comm, rows, in_single, monkeypatch):
    from hpcembed.embedding._eigensolver import Eigensolver

    original = Eigensolver.lapack

    def wrong(self, mat, lower):
        found = original(self, mat, lower)
        found.eigenvalues[3] *= 1.0 + 1e-4
        return found

    monkeypatch.setattr(Eigensolver, "lapack", wrong)
    found = PCA(20).fit(share(comm, rows), comm=comm)
    assert found.certificate_ == "double"
    exact = np.linalg.eigvalsh(np.cov(rows.T.astype(float)))[::-1][:20]
    np.testing.assert_allclose(found.explained_variance_, exact, rtol=1e-6)


def test_integers_and_squares_in_double(comm, rows):
    bytes_ = (rows * 20).astype(np.int8)
    assert PCA(5).fit(share(comm, bytes_), comm=comm).certificate_ == "exact"
    assert PCA(5).fit(share(comm, rows.astype(float)), comm=comm).certificate_ == "double"


def test_blocks_are_certified_in_double(comm, rows):
    assert PCA(20, engine="block").fit(share(comm, rows), comm=comm).certificate_ == "double"


@pytest.mark.parametrize("estimator", [PCA, TruncatedSVD])
def test_unknown_values_are_refused(comm, rows, estimator):
    with pytest.raises(ConfigError, match="certify = 'single' is not one of auto, double"):
        estimator(2, certify="single").fit(share(comm, rows), comm=comm)


def test_shares_of_variance_from_squares_in_single_and_double(comm, rows, in_single):
    """The whole spectrum comes from one square; its certificate is not of the components left."""
    found = PCA(0.9).fit(share(comm, rows), comm=comm)
    values = np.linalg.eigvalsh(np.cov(rows.T.astype(float)))[::-1]
    k = int(np.searchsorted(np.cumsum(values) / values.sum(), 0.9, side="right")) + 1
    assert found.n_components_ == k
    assert found.certified_
    assert isinstance(found.result_, miramns.EigenResult)
