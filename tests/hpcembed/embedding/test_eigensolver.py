"""One adapter for all estimators: criterion, LAPACK, reference and parameters are decided alike."""

import dataclasses

import numpy as np
import pytest

import miramns
from hpcembed.embedding import (
    PCA,
    CooccurrenceEmbedding,
    KernelPCA,
    Nystroem,
    SolverSettings,
    SpectralEmbedding,
    TruncatedSVD,
    WordVectors,
)
from hpcembed.embedding._eigen_results import column_signs, compare
from hpcembed.runtime.errors import ConfigError, ConvergenceError
from hpcembed.runtime.ranks import ownership_range

pytestmark = pytest.mark.mpi

ROWS = np.random.default_rng(3).random((90, 8)) * 1.4 ** -np.arange(8.0)
GRAPH = np.exp(-((ROWS[:, None] - ROWS) ** 2).sum(axis=2))
TEXTS = [["ant", "bee", "cat"], ["bee", "cat", "dog"], ["cat", "ant", "elk", "dog"]] * 10

ESTIMATORS = {
    "pca": (lambda **more: PCA(3, **more), ROWS),
    "svd": (lambda **more: TruncatedSVD(3, **more), ROWS),
    "kernel_pca": (lambda **more: KernelPCA(3, kernel="rbf", **more), ROWS),
    "nystroem": (lambda **more: Nystroem(3, n_landmarks=40, **more), ROWS),
    "cooccurrence": (lambda **more: CooccurrenceEmbedding(3, **more), ROWS),
    "spectral": (
        lambda **more: SpectralEmbedding(3, affinity="precomputed", tau="mean", **more),
        GRAPH,
    ),
    "words": (lambda **more: WordVectors(2, **more), TEXTS),
}


def share(comm, rows):
    first, last = ownership_range(len(rows), comm)
    return rows[first:last]


def fitted(comm, name, **parameters):
    make, rows = ESTIMATORS[name]
    return make(**parameters).fit(share(comm, rows), comm=comm)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_published_variant_has_the_criterion_of_its_authors(comm, name, monkeypatch):
    criteria, solve = [], miramns.solve

    def recorded(mat, k, **settings):
        criteria.append(settings["options"].criterion)
        return solve(mat, k, **settings)

    monkeypatch.setattr(miramns, "solve", recorded)
    for settings in (
        SolverSettings(variant="published", on_no_convergence="keep"),
        SolverSettings(name="miramns"),
        SolverSettings(name="miramns", criterion="relative", on_no_convergence="keep"),
    ):
        fitted(comm, name, tol=1e-3, solver=settings)
    assert criteria == ["relative", "norm", "relative"]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_reference_contradicts(comm, name, monkeypatch):
    """A result without the dominant pair is not certified, by any estimator."""
    solve = miramns.solve

    def without_the_first(mat, k, **settings):
        options = dataclasses.replace(settings["options"], multiplicity_check="never")
        settings |= {"options": options}
        result = solve(mat, k + 1, **settings)
        kept = {
            field: getattr(result, field)[1:]
            for field in ("eigenvalues", "residual_norms", "residual_tolerances", "error_bounds")
        }
        vectors = np.asfortranarray(result.eigenvectors[:, 1:])
        return dataclasses.replace(result, eigenvectors=vectors, **kept)

    monkeypatch.setattr(miramns, "solve", without_the_first)
    engine = {"engine": "assembled"} if name == "kernel_pca" else {}
    settings = SolverSettings(name="miramns", reference=True)
    with pytest.raises(ConvergenceError, match=r"1.* not the dominant ones: SLEPc krylovschur has"):
        fitted(comm, name, tol=1e-8, solver=settings, **engine)
    settings = dataclasses.replace(settings, on_no_convergence="keep")
    kept = fitted(comm, name, tol=1e-8, solver=settings, **engine)
    assert kept.result_.converged
    assert not kept.certified_
    assert kept.comparison_.exceeded[0] == 0
    assert "are not the dominant ones" in kept.failure_text()


@pytest.mark.parametrize("name", ["miramns", "krylovschur"])
@pytest.mark.filterwarnings("ignore:the graph has")
def test_reference_of_largest_moduli_and_of_components(comm, name):
    bipartite = np.kron(np.array([[0, 1], [1, 0]]), np.ones((5, 5)))
    settings = SolverSettings(name=name, reference=True)
    model = SpectralEmbedding(
        2, affinity="precomputed", operator="adjacency", which="LM", solver=settings
    ).fit(share(comm, bipartite), comm=comm)
    np.testing.assert_allclose(np.sort(model.eigenvalues_), [-5, 5], atol=1e-9)
    assert model.certified_
    assert model.comparison_.n_pairs == 2
    parts = np.kron(np.eye(3), np.ones((4, 4)))
    for k, known in ((2, 2), (5, 2)):
        model = SpectralEmbedding(k, affinity="precomputed", solver=settings)
        model.fit(share(comm, parts), comm=comm)
        assert model.n_component_vectors_ == known
        assert model.certified_
        assert model.n_requested_ == model.comparison_.n_pairs == k + 1
        assert model.comparison_.max_relative_error < 1e-6


def test_lapack_where_it_is_asked_for(comm):
    settings = SolverSettings(name="lapack")
    for name in ("pca", "svd", "kernel_pca", "nystroem"):
        assert fitted(comm, name, solver=settings).result_.solver == "LAPACK"
    assert fitted(comm, "kernel_pca", solver=settings).plan_.engine == "lapack"
    assert fitted(comm, "pca", solver=settings).plan_.engine == "assembled"
    message = "solver.name = 'lapack': there is no dense operator here"
    for name, engine in (("pca", "matrix_free"), ("kernel_pca", "matrix_free")):
        with pytest.raises(ConfigError, match=message):
            fitted(comm, name, engine=engine, solver=settings)
    for name in ("spectral", "words", "cooccurrence"):
        with pytest.raises(ConfigError, match=message):
            fitted(comm, name, solver=settings)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_parameters_of_one_rank_are_refused_on_all(comm, name):
    last = comm.rank == comm.size - 1
    with pytest.raises(ConfigError, match="random_state must be an integer or None, got 'x'"):
        fitted(comm, name, random_state="x" if last else 0)
    if comm.size > 1:
        with pytest.raises(ConfigError, match=r"tol differs between ranks: 0\.001, 0\.1: give all"):
            fitted(comm, name, tol=1e-1 if last else 1e-3)
        with pytest.raises(ConfigError, match="solver differs between ranks"):
            fitted(comm, name, solver=SolverSettings(max_it=3 + last))


def test_comparison_by_value_and_by_modulus(comm):
    ours = PCA(2, solver=SolverSettings(name="miramns")).fit(share(comm, ROWS), comm=comm).result_
    values = np.array([2.0, -0.5])
    mine = dataclasses.replace(ours, eigenvalues=values)
    other = dataclasses.replace(ours, eigenvalues=np.array([2.0, -0.7]))
    assert compare(comm, mine, other, 1e-8).exceeded == ()
    assert compare(comm, other, mine, 1e-8).exceeded == (1,)
    assert compare(comm, mine, other, 1e-8, "LM").exceeded == (1,)


def test_signs_of_columns(comm):
    columns = np.zeros((7, 4))
    columns[:, 0] = np.linspace(-3, 2, 7)
    columns[[1, 5], 1] = 1.0, -1.0  # equal moduli: the first entry decides
    columns[[2, 6], 2] = -1.0, 1.0
    signs = column_signs(comm, share(comm, columns))
    np.testing.assert_array_equal(signs, [-1, 1, -1, 1])
