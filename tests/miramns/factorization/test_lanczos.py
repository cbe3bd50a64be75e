"""The partially orthogonalised factorisation: its identities, and the loss of orthogonality."""

import numpy as np
import pytest

from miramns import OperatorError, Options, seeded_normal, solve
from miramns.factorization import lanczos
from miramns.factorization.arnoldi import ArnoldiFactorization
from miramns.factorization.lanczos import LanczosFactorization
from miramns.projected import ritz_pairs, thick_restart

pytestmark = pytest.mark.mpi

#: Two outliers, which converge at once and make a three-term basis lose its orthogonality.
VALUES = np.r_[5.0, 4.0, np.linspace(-1, 1, 898)]


def started(A, capacity, **more):
    return LanczosFactorization(A, capacity, seeded_normal(0, *A.getOwnershipRange()), **more)


def check_relation(f, M, gather):
    V = gather(f.basis[:, : f.size + 1])
    H = f.hessenberg[: f.size + 1, : f.size]
    np.testing.assert_allclose(M @ V[:, :-1], V @ H, atol=2e-14)
    return V


def check_projection(f, M, V):
    projection = f.orthonormal_projection()
    N = V @ projection.inverse
    np.testing.assert_allclose(N.T @ N, np.eye(f.size + 1), atol=5e-14)
    np.testing.assert_allclose(projection.hessenberg, projection.hessenberg.T, atol=1e-13)
    np.testing.assert_allclose(projection.hessenberg, N[:, :-1].T @ M @ N[:, :-1], atol=1e-13)
    np.testing.assert_allclose(abs(projection.coupling), abs(N[:, -1] @ M @ N[:, -2]), atol=1e-13)
    return projection


def test_relation_and_projection_through_restarts(operators, gather):
    M = np.diag(VALUES)
    f = started(operators(diagonal=VALUES), 70)
    for _cycle in range(4):
        f.extend(70)
        V = check_relation(f, M, gather)
        projection = check_projection(f, M, V)
        assert 1e-15 < f.orthogonality_level < 1e-6, "semi-orthogonal, and not more"
        ritz = ritz_pairs(projection, "LA", hermitian=True)
        Q, hessenberg = thick_restart(projection, ritz, 20, "LA", hermitian=True)
        f.restart(Q, hessenberg)
        kept = gather(f.basis[:, :21])
        np.testing.assert_allclose(kept.T @ kept, np.eye(21), atol=1e-14)
    assert f.n_orthogonality_losses == 0
    assert f.n_reorthogonalized < f.n_matvec / 5
    assert f.reorthogonalization_seconds()[0] > 0
    assert f.reorthogonalization_seconds()[1] > 0
    assert f.seconds_per_multiply() > 0
    f.destroy()


def test_one_reduction_per_column(operators):
    f = started(operators(diagonal=VALUES), 60)
    before = f.n_reductions
    f.extend(60)
    made = f.n_reductions - before
    assert made <= 60 + f.n_reorthogonalized + 3
    f.destroy()


def test_same_projection_as_full_orthogonalisation(operators):
    A = operators(diagonal=VALUES)
    partial, full = (
        started(A, 60),
        ArnoldiFactorization(A, 60, seeded_normal(0, *A.getOwnershipRange()), hermitian=True),
    )
    partial.extend(60)
    full.extend(60)
    ours = np.linalg.eigvalsh(partial.orthonormal_projection().hessenberg)
    H = full.orthonormal_projection().hessenberg
    np.testing.assert_allclose(ours, np.linalg.eigvalsh((H + H.T) / 2), atol=1e-11)
    partial.destroy()
    full.destroy()


def test_lost_orthogonality_is_detected_and_restored(operators, gather, monkeypatch):
    monkeypatch.setattr(lanczos, "_LEVEL", 1e12)
    M = np.diag(VALUES)
    f = started(operators(diagonal=VALUES), 70)
    f.extend(70)
    V = check_relation(f, M, gather)
    assert np.abs(V.T @ V - np.eye(71)).max() > 0.5, "orthogonality is not lost: nothing is tested"
    monkeypatch.undo()
    projection = f.orthonormal_projection()
    assert f.n_orthogonality_losses == 1
    assert f.orthogonality_level > 0.5
    assert projection.size == f.size < 70
    f.extend(70)
    V = check_relation(f, M, gather)
    check_projection(f, M, V)
    assert f.n_orthogonality_losses == 1
    f.destroy()


def test_answer_is_right_although_orthogonality_was_lost(operators, monkeypatch):
    # level after level is too high to help, until the strictness that is learned outweighs it
    monkeypatch.setattr(lanczos, "_LEVEL", 1e2)
    result = solve(
        operators(diagonal=VALUES),
        6,
        which="LA",
        hermitian=True,
        ncv=60,
        options=Options(orthogonalization="partial"),
    )
    assert result.converged
    assert result.n_orthogonality_losses > 0
    assert result.orthogonality_level > 1e-3
    assert result.orthogonality < 1e-12
    np.testing.assert_allclose(result.eigenvalues, np.sort(VALUES)[::-1][:6], atol=1e-9)


def test_locked_columns_stay_out(operators, gather):
    A = operators(diagonal=VALUES)
    first, last = A.getOwnershipRange()
    locked = np.eye(900)[first:last, :2] * 3.0
    f = started(A, 40, locked=locked)
    f.extend(40)
    V = gather(f.basis[:, :41])
    assert np.abs(V[:2]).max() < 1e-14
    assert f.dimension == 898
    assert np.linalg.eigvalsh(f.orthonormal_projection().hessenberg).max() <= 1 + 1e-12
    f.destroy()


def test_invariant_subspace_goes_on_with_a_new_direction(operators, gather):
    values = np.r_[3.0, 2.0, np.linspace(-1, 1, 98)]
    A = operators(diagonal=values)
    first, last = A.getOwnershipRange()
    start = (np.arange(100) < 4).astype(float)[first:last]
    f = LanczosFactorization(A, 30, start)
    f.extend(30)
    assert f.n_breakdowns == 1
    assert f.part_start == 4
    assert f.hessenberg[4, 3] == 0.0
    V = check_relation(f, np.diag(values), gather)
    check_projection(f, np.diag(values), V)
    f.destroy()


def test_not_finite_products_are_named(operators):
    values = np.ones(50)
    values[7] = np.nan
    with pytest.raises(OperatorError, match=r"product 1 .* not finite"):
        started(operators(diagonal=values), 5).extend(5)


@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
def test_sizes_chosen_while_running(operators, which):
    values = 2 - 2 * np.cos(np.pi * np.arange(1, 6001) / 6001)
    values[:4] -= [0.5, 0.4, 0.3, 0.2]
    values[-4:] += [0.2, 0.3, 0.4, 0.5]
    result = solve(
        operators(diagonal=values),
        4,
        which=which,
        hermitian=True,
        options=Options(orthogonalization="partial", memory_bytes=8 * 6000 * 60),
    )
    ordered = {
        "LA": np.sort(values)[::-1][:4],
        "SA": np.sort(values)[:4],
        "LM": np.sort(values)[::-1][:4],
        "BE": np.r_[values[-1], values[0], values[-2], values[1]],
    }[which]
    np.testing.assert_allclose(result.eigenvalues, ordered, atol=1e-6)
    assert result.converged
    assert "sizes chosen while running" in result.solver
    assert len(result.decisions) == result.n_restarts or result.n_restarts > 0
