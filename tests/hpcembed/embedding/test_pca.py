"""PCA against scikit-learn, its certificate, and its refusals."""

import dataclasses

import numpy as np
import pytest
import sklearn.decomposition

import miramns
from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding import PCA, SolverSettings
from hpcembed.embedding._eigen_results import subspace_sin_angle
from hpcembed.embedding._eigensolver import Eigensolver
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError
from hpcembed.runtime.ranks import allgather_rows, ownership_range
from synthetic_data import planted_covariance

pytestmark = pytest.mark.mpi

SPECTRUM = 0.8 ** np.arange(12.0)
ROWS = planted_covariance(150, 12, SPECTRUM, seed=1, start=0, stop=150) + 3.0


@pytest.fixture(name="X")
def rows_with_offset(comm):
    first, last = ownership_range(150, comm)
    matrix = DataMatrix(np.ascontiguousarray(ROWS[first:last]), np.zeros(last - first, int), comm)
    yield matrix
    matrix.destroy()


@pytest.mark.parametrize("operator", ["assembled", "matrix_free"])
@pytest.mark.parametrize("solver", ["miramns", "krylovschur"])
def test_against_scikit_learn(comm, X, operator, solver):
    k = 4
    settings = SolverSettings(name=solver, criterion="relative", reference=True)
    pca = PCA(k, engine=operator, solver=settings).fit(X)
    oracle = sklearn.decomposition.PCA(k, svd_solver="full").fit(ROWS)
    np.testing.assert_allclose(pca.eigenvalues_, oracle.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(
        pca.explained_variance_ratio_, oracle.explained_variance_ratio_, rtol=1e-10
    )
    np.testing.assert_allclose(pca.mean_, oracle.mean_, rtol=1e-12)
    np.testing.assert_allclose(pca.components_ @ pca.components_.T, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(
        np.abs(np.sum(pca.components_ * oracle.components_, axis=1)), 1, atol=1e-9
    )
    assert (pca.components_[range(k), np.abs(pca.components_).argmax(axis=1)] > 0).all()
    coordinates = allgather_rows(comm, pca.transform(X))
    np.testing.assert_allclose(coordinates, (ROWS - oracle.mean_) @ pca.components_.T, atol=1e-12)
    np.testing.assert_allclose(coordinates.var(axis=0, ddof=1), pca.eigenvalues_, rtol=1e-9)
    assert pca.transform(X, np.float32).dtype == np.float32
    assert pca.plan_.engine == operator
    assert pca.n_features_in_ == 12
    assert pca.result_.relative_residuals.max() <= 1e-10
    assert pca.reference_.converged
    assert pca.reference_sin_angle_ <= 1e-8
    assert set(pca.seconds_) == {"operator", "solve"}


def test_all_components_and_duplicated_columns(comm):
    first, last = ownership_range(150, comm)
    doubled = np.hstack([ROWS, ROWS[:, :3], np.full((150, 1), 5.0)])
    X = DataMatrix(np.ascontiguousarray(doubled[first:last]), np.zeros(last - first, int), comm)
    pca = PCA(16).fit(X)
    exact = np.linalg.eigvalsh(np.cov(doubled.T))[::-1]
    np.testing.assert_allclose(pca.eigenvalues_, exact, atol=1e-12 * exact[0])
    np.testing.assert_allclose(pca.components_ @ pca.components_.T, np.eye(16), atol=1e-11)
    assert pca.explained_variance_ratio_.sum() == pytest.approx(1.0, rel=1e-10)


def test_fewer_rows_than_features(comm):
    rows = np.random.default_rng(0).standard_normal((5, 30))
    first, last = ownership_range(5, comm)
    X = DataMatrix(np.ascontiguousarray(rows[first:last]), np.zeros(last - first, int), comm)
    pca = PCA(6).fit(X)
    exact = np.linalg.eigvalsh(np.cov(rows.T))[::-1][:6]
    np.testing.assert_allclose(pca.eigenvalues_, exact, atol=1e-12 * exact[0])


def test_data_without_any_variance(comm):
    X = DataMatrix(np.full((4, 3), 2.0), np.zeros(4, int), comm)
    pca = PCA(2).fit(X)
    np.testing.assert_array_equal(pca.eigenvalues_, 0)
    np.testing.assert_array_equal(pca.explained_variance_ratio_, 0)


@pytest.mark.parametrize("k", [0, 13])
def test_too_many_components(X, k):
    with pytest.raises(InputError, match=f"n_components={k} with 12 features"):
        PCA(k).fit(X)


def test_other_width_at_transform(comm, X):
    pca = PCA(2).fit(X)
    with pytest.raises(InputError, match="fitted on 12 features, got 3 to transform"):
        pca.transform(DataMatrix(np.ones((2, 3)), np.zeros(2, int), comm))


def test_unconverged_raises_or_is_kept(comm):
    d = 120
    values = np.linspace(1, 2, d)
    rows = planted_covariance(4 * d, d, values, seed=0, start=0, stop=4 * d)
    first, last = ownership_range(4 * d, comm)
    X = DataMatrix(np.ascontiguousarray(rows[first:last]), np.zeros(last - first, int), comm)
    settings = {"solver": SolverSettings(ncv=8, max_it=1), "tol": 1e-12}
    with pytest.raises(
        ConvergenceError, match=r"did not converge to the tolerance 1e-12: .*raise max_it"
    ) as e:
        PCA(5, **settings).fit(X)
    assert e.value.exit_status == 3
    assert len(e.value.result.eigenvalues) == 5
    settings["solver"] = dataclasses.replace(settings["solver"], on_no_convergence="keep")
    kept = PCA(5, **settings).fit(X)
    assert kept.result_.unconverged
    assert kept.components_.shape == (5, d)


def pairs(result, chosen):
    """The same answer, reduced to some of its pairs."""
    return dataclasses.replace(
        result,
        **{name: getattr(result, name)[chosen] for name in PER_PAIR},
        eigenvectors=np.asfortranarray(result.eigenvectors[:, chosen]),
    )


PER_PAIR = ("eigenvalues", "residual_norms", "residual_tolerances", "error_bounds")


def test_a_passed_over_eigenvalue_is_seen_by_the_reference(X, monkeypatch):
    five = PCA(5).fit(X).result_
    monkeypatch.setattr(miramns, "solve", lambda *_, **__: pairs(five, [0, 1, 3, 4]))
    settings = SolverSettings(name="miramns", reference=True)
    with pytest.raises(ConvergenceError, match="eigenpairs 3, 4 are not the dominant ones: SLEPc"):
        PCA(4, solver=settings).fit(X)
    settings = dataclasses.replace(settings, on_no_convergence="keep")
    kept = PCA(4, solver=settings).fit(X)
    assert kept.result_.converged
    assert not kept.certified_
    assert kept.comparison_.exceeded == (2, 3)
    error = np.max(1 - kept.eigenvalues_ / five.eigenvalues[:4])
    assert kept.comparison_.max_relative_error == pytest.approx(error)
    assert kept.comparison_.n_pairs == 4


def test_another_basis_of_a_null_space_is_no_disagreement(comm):
    rows = np.random.default_rng(0).standard_normal((5, 30))
    first, last = ownership_range(5, comm)
    X = DataMatrix(np.ascontiguousarray(rows[first:last]), np.zeros(last - first, int), comm)
    pca = PCA(8, solver=SolverSettings(reference=True)).fit(X)
    assert pca.certified_
    assert pca.comparison_.exceeded == ()


def test_a_reference_without_any_pair(comm, X, monkeypatch):
    none = pairs(PCA(2).fit(X).result_, [])
    monkeypatch.setattr(Eigensolver, "_krylov_schur", lambda *_, **__: none)
    pca = PCA(2, solver=SolverSettings(reference=True)).fit(X)
    assert pca.certified_
    assert pca.comparison_.n_pairs == 0
    assert np.isnan(pca.reference_sin_angle_)
    assert np.isnan(pca.comparison_.max_relative_error)


def test_solver_settings_that_do_not_fit(X):
    with pytest.raises(ConfigError, match="solver: need a largest subspace of at least"):
        PCA(5, solver=SolverSettings(ncv=4)).fit(X)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"n_components": 3.0},
            "n_components must be an integer, or a share .*got 3.0",
        ),
        ({"n_components": True}, "n_components must be a number or None, got True"),
        ({"random_state": -1}, "seed must lie between 0 and 2"),
        ({"random_state": "x"}, "random_state must be an integer or None, got 'x'"),
        ({"tol": 0.0}, "tol must lie between 0 and 1, got 0.0"),
        ({"tol": "small"}, "tol must lie between 0 and 1, got 'small'"),
        ({"memory_limit": "1GB"}, "memory_limit must be a positive integer or None, got '1GB'"),
        ({"n_threads": 0}, "n_threads must be a positive integer or None, got 0"),
        ({"eigenvalue_threshold": 2}, "eigenvalue_threshold must lie between 0 and 1, got 2"),
        (
            {"solver": SolverSettings(name="lanczos")},
            "name = 'lanczos' is not one of auto, miramns, krylovschur, lapack",
        ),
        ({"solver": SolverSettings(ncv=1.5)}, "ncv must be an integer, got 1.5"),
        ({"engine": "dense"}, "engine = 'dense' is not one of auto, assembled, matrix"),
        (
            {"solver": SolverSettings(name="krylovschur", ncv=2)},
            "SLEPc's solver: .*ncv.*; check --petsc",
        ),
        (
            {"solver": SolverSettings(ncv=9), "engine": "block"},
            "the block engine has its own solver: leave solver and ncv as they are",
        ),
    ],
)
def test_settings_that_are_none(X, settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        PCA(**{"n_components": 5, **settings}).fit(X)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("engine", ["matrix_free", "block", "assembled"])
def test_nan_reaches_the_user_as_one_line(comm, engine):
    rows = np.random.default_rng(0).standard_normal((9, 4))
    rows[3, 1] = np.nan
    X = DataMatrix(rows, np.zeros(9, int), comm)
    with pytest.raises(InputError, match=r"not finite: check the data for NaN or Inf"):
        PCA(2, engine=engine).fit(X)


def test_sin_angle(comm):
    first, last = ownership_range(6, comm)
    E = np.eye(6)
    tilted = E[:, :2].copy()
    tilted[:, 1] = np.cos(1e-9) * E[:, 1] + np.sin(1e-9) * E[:, 4]

    def angle(A, B):
        return subspace_sin_angle(comm, A[first:last], B[first:last])

    assert angle(E[:, :2], tilted) == pytest.approx(1e-9, rel=1e-6)
    assert angle(E[:, :2], E[:, 1::-1]) == 0.0
    assert angle(E[:, :2], E[:, 2:4]) == pytest.approx(1.0)
