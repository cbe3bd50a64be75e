"""Residuals of given pairs, and their bound by random combinations."""

import numpy as np
import pytest
from petsc4py import PETSc

import miramns

pytestmark = pytest.mark.mpi


def diagonal(comm, values):
    n = len(values)
    A = PETSc.Mat().createAIJ((n, n), nnz=1, comm=comm)
    first, last = A.getOwnershipRange()
    for i in range(first, last):
        A[i, i] = values[i]
    A.assemble()
    return A


def leading(A, k):
    """This rank's rows of the unit vectors of the k leading values."""
    first, last = A.getOwnershipRange()
    return np.asfortranarray(np.eye(A.getSize()[0])[first:last, :k])


def test_bound_of_exact_pairs_is_rounding(comm):
    values = np.linspace(10.0, 1.0, 90)
    A = diagonal(comm, values)
    result = miramns.certify_by_samples(A, values[:30], leading(A, 30), tol=1e-12)
    assert result.converged
    assert result.failure_probability == 1e-8
    assert result.n_certificate_matvec == 16
    assert result.residual_norms.max() < 1e-13
    assert result.eigenvectors.shape == (leading(A, 30).shape[0], 30)
    np.testing.assert_array_equal(result.residual_tolerances, 1e-12 * values[:30])
    A.destroy()


@pytest.mark.parametrize("n_samples", [1, 8, 16])
@pytest.mark.parametrize("probability", [1e-2, 1e-8])
def test_bound_holds_for_every_pair(comm, n_samples, probability):
    values = np.linspace(10.0, 1.0, 90)
    A = diagonal(comm, values)
    wrong = values[:30] + np.random.default_rng(0).normal(size=30) * 1e-4
    true = np.abs(wrong - values[:30]).max()
    bounds = []
    for seed in range(20):
        result = miramns.certify_by_samples(
            A,
            wrong,
            leading(A, 30),
            n_samples=n_samples,
            failure_probability=probability,
            seed=seed,
        )
        assert not result.converged
        assert result.reason.name == "DIVERGED_STAGNATED"
        bounds.append(result.residual_norms[0])
    assert min(bounds) >= true
    A.destroy()


def test_failure_probability_is_attained_by_one_wrong_pair(comm):
    """The bound fails as often as stated: with one sample and one pair, for small |g|."""
    A = diagonal(comm, np.linspace(10.0, 1.0, 20))
    values = np.array([10.0 + 1e-3])
    failed = 0
    for seed in range(400):
        result = miramns.certify_by_samples(
            A, values, leading(A, 1), n_samples=1, failure_probability=0.25, seed=seed
        )
        failed += bool(result.residual_norms[0] < 1e-3)
    # 100 expected, standard deviation 8.7
    assert 60 < failed < 140
    A.destroy()


def test_vectors_that_are_not_orthonormal_are_refused(comm):
    A = diagonal(comm, np.linspace(10.0, 1.0, 20))
    with pytest.raises(miramns.MiramnsError, match=r"orthonormal, \|X'X - I\| is"):
        miramns.certify_by_samples(A, np.array([10.0]), 2 * leading(A, 1))
    A.destroy()


def test_computed_residuals_have_no_failure_probability(comm):
    A = diagonal(comm, np.linspace(10.0, 1.0, 20))
    assert miramns.certify(A, leading(A, 3)).failure_probability == 0.0
    A.destroy()
