"""All variants against LAPACK and known spectra, on 1, 2 and 3 ranks."""

import numpy as np
import pytest
from petsc4py import PETSc

from miramns import (
    ConvergedReason,
    MiramnsError,
    OperatorError,
    Options,
    seeded_normal,
    slepc,
    solve,
)
from miramns.factorization.arnoldi import ArnoldiFactorization
from miramns.factorization.dcgs2 import DCGS2Factorization
from miramns.projected import ritz_pairs, thick_restart

pytestmark = pytest.mark.mpi

POWER = np.arange(1.0, 201.0) ** -0.5
LAPLACIAN = 2 - 2 * np.cos(np.pi * np.arange(1, 201) / 201)
GRADED = 10.0 ** -np.linspace(0, 15, 60)
SPECTRA = {
    "power": POWER,
    "laplacian": LAPLACIAN,
    "graded": GRADED,
    "negative": -POWER,
    "identity": np.ones(50),
    "zero": np.zeros(40),
    "rank 3": np.r_[3.0, 2.0, 1.0, np.zeros(57)],
    "two ones": np.r_[1.0, 1.0, np.zeros(58)],
}


@pytest.mark.parametrize("variant", ["default", "published"])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("k", [1, 6])
def test_symmetric_against_known_spectrum(
    operators, symmetric, gather, check_result, variant, name, k
):
    values = SPECTRA[name]
    M = symmetric(values)
    A = operators(M)
    ncv = 40 if variant == "published" else None
    result = solve(A, k, which="LM", hermitian=True, variant=variant, ncv=ncv)
    check_result(result, A, M, k)
    expected = values[np.argsort(-np.abs(values), kind="stable")][:k]
    np.testing.assert_allclose(result.eigenvalues, expected, atol=1e-9 * np.abs(values).max())
    assert result.orthogonality <= 1e-12
    X = gather(result.eigenvectors)
    np.testing.assert_allclose(X.T @ X, np.eye(k), atol=1e-12)
    assert (result.error_bounds >= result.residual_norms).all()
    assert (result.error_bounds <= result.residual_norms + 1e-15 * np.abs(values).max()).all()
    true_errors = np.abs(result.eigenvalues - expected)
    assert (true_errors <= result.error_bounds + 1e-13 * np.abs(values).max()).all()


@pytest.mark.parametrize("which", ["LR", "SR", "LA", "SA"])
def test_both_ends_of_a_symmetric_spectrum(operators, symmetric, which):
    values = np.linspace(-2, 1, 80)
    result = solve(operators(symmetric(values)), 4, which=which, hermitian=True)
    expected = values[::-1][:4] if which in ("LR", "LA") else values[:4]
    np.testing.assert_allclose(result.eigenvalues, expected, atol=1e-12)


@pytest.mark.parametrize("variant", ["default", "published"])
@pytest.mark.parametrize(("which", "k"), [("LM", 2), ("LM", 3), ("LR", 2), ("SR", 3)])
def test_nonsymmetric_with_pairs_at_the_cut(operators, gather, variant, which, k):
    blocks = np.diag(np.linspace(-1, 1, 40))
    for i, (real, imag) in enumerate([(2, 1), (-2, 0.5), (1.5, 2)]):
        blocks[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[real, -imag], [imag, real]]
    X = np.random.default_rng(0).standard_normal((40, 40))
    M = X @ blocks @ np.linalg.inv(X)
    A = operators(M)
    result = solve(A, k, which=which, hermitian=False, variant=variant, ncv=24)
    exact = np.linalg.eigvals(M)
    key = {"LM": -np.abs(exact), "LR": -exact.real, "SR": exact.real}[which]
    found = len(result.eigenvalues)
    expected = exact[np.lexsort((-exact.imag, np.abs(exact.imag), key))][:found]
    assert found in (k, k + 1)
    assert np.isclose(result.eigenvalues.imag.sum(), 0, atol=1e-10), "a pair was cut"
    np.testing.assert_allclose(result.eigenvalues, expected, atol=1e-6)
    V = gather(result.eigenvectors)
    norms = np.linalg.norm(M @ V - V * result.eigenvalues, axis=0)
    np.testing.assert_allclose(result.residual_norms, norms, atol=1e-12)
    assert result.converged
    np.testing.assert_allclose(result.error_bounds, result.residual_norms, atol=1e-14)
    assert result.orthogonality <= 1e-12


def test_exit_inside_the_sweep_and_history(operators, symmetric):
    A = operators(symmetric(0.7 ** np.arange(200.0)))
    seen = []
    result = solve(A, 5, hermitian=True, monitor=seen.append)
    assert result.n_restarts == 0
    assert result.n_matvec < 60
    assert [check.size for check in result.history] == [check.size for check in seen]
    last = result.history[-1]
    assert (last.chosen, last.n_converged, last.restart) == (True, 5, 0)
    assert last.n_matvec == last.size == result.n_matvec
    assert last.measure <= 1e-8 < result.history[-2].measure
    assert not any(check.chosen for check in result.history[:-1])
    assert 1 + result.n_matvec <= result.n_reductions <= 1 + 3 * result.n_matvec


def test_matvecs_of_an_unrestarted_run_are_at_most_krylov_schurs(operators):
    A = operators(diagonal=np.arange(1.0, 2001.0) ** -0.5)
    ours = solve(A, 10, hermitian=True)
    theirs = slepc(A, 10, hermitian=True)
    assert ours.n_matvec <= theirs.n_matvec
    np.testing.assert_allclose(ours.eigenvalues, theirs.eigenvalues, atol=1e-8)


def test_restarts_with_a_small_subspace(operators, symmetric):
    A = operators(symmetric(LAPLACIAN))
    result = solve(A, 4, hermitian=True, ncv=20)
    assert result.n_restarts > 0
    assert max(check.size for check in result.history) == 20
    np.testing.assert_allclose(result.eigenvalues, LAPLACIAN[::-1][:4], atol=1e-12)
    restarted_from = [c.size for c in result.history if c.chosen][:-1]
    assert restarted_from == [20] * result.n_restarts


def test_memory_limits_the_subspace(operators):
    A = operators(diagonal=POWER)
    longest = A.comm.tompi4py().allreduce(A.getLocalSize()[0], max)
    result = solve(A, 5, hermitian=True, options=Options(memory_bytes=8 * longest * 31))
    assert max(check.size for check in result.history) <= 30
    assert result.converged


def test_unconverged_run_hands_over_what_it_has(operators, symmetric, gather):
    M = symmetric(LAPLACIAN)
    A = operators(M)
    result = solve(A, 6, hermitian=True, ncv=12, max_it=3, tol=1e-12)
    assert result.reason is ConvergedReason.DIVERGED_ITS
    assert not result.converged
    assert "raise max_it or ncv" in result.view()
    assert result.n_restarts == 3
    assert result.n_converged == 6 - len(result.unconverged) < 6
    X = gather(result.eigenvectors)
    norms = np.linalg.norm(M @ X - X * result.eigenvalues, axis=0)
    np.testing.assert_allclose(result.residual_norms, norms, atol=1e-12)


def test_operator_that_changes_between_calls_does_not_converge(operators, comm):
    class Drifting:
        calls = 0

        def mult(self, mat, x, y):
            self.calls += 1
            with y as out:
                first, last = mat.getOwnershipRange()
                values = np.arange(1.0, 101.0)[first:last] ** -1.0
                out[:] = values * (1 + 1e-4 * self.calls) * x.getArray(readonly=1)

    A = PETSc.Mat().createPython(((None, 100), (None, 100)), Drifting(), comm=comm)
    A.setUp()
    result = solve(A, 3, hermitian=True)
    A.destroy()
    assert result.reason is ConvergedReason.DIVERGED_STAGNATED
    assert result.unconverged
    assert "not the same at every call" in result.view()


def test_start_vector_may_be_an_eigenvector(operators):
    values = np.arange(100.0, 0.0, -1.0)
    A = operators(diagonal=values)
    first, last = A.getOwnershipRange()
    start = np.zeros(100)
    start[50] = 1.0
    result = solve(A, 3, hermitian=True, start=start[first:last])
    np.testing.assert_allclose(result.eigenvalues, [100, 99, 98], rtol=1e-10)


def test_invariant_subspace_without_the_wanted_is_not_the_end(operators):
    # The space of this start vector closes at the first checkpoint, with estimates of zero.
    values = np.arange(100.0, 0.0, -1.0)
    A = operators(diagonal=values)
    first, last = A.getOwnershipRange()
    start = np.zeros(100)
    start[50:55] = 1.0
    result = solve(A, 3, hermitian=True, start=start[first:last])
    assert result.history[0].size > 5
    np.testing.assert_allclose(result.eigenvalues, [100, 99, 98], rtol=1e-10)


@pytest.mark.parametrize("variant", ["default", "published"])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (2, 2), (3, 3), (5, 5), (7, 6)])
def test_tiny_matrices_also_with_empty_ranks(operators, symmetric, variant, n, k):
    values = np.arange(n, 0.0, -1.0)
    A = operators(symmetric(values))
    result = solve(A, k, hermitian=True, variant=variant)
    np.testing.assert_allclose(result.eigenvalues, values[:k], atol=1e-12)
    assert result.converged


def test_signs_put_the_largest_entry_up(operators, symmetric, gather):
    result = solve(operators(symmetric(POWER)), 6, hermitian=True)
    X = gather(result.eigenvectors)
    assert (X[np.argmax(np.abs(X), axis=0), range(6)] > 0).all()


def test_sign_of_a_tie_is_decided_by_the_first_index(operators, gather):
    # Eigenvector (1, -1, 1, -1)/2 of the largest eigenvalue: all moduli are equal.
    M = np.array([[2, -1, 0, -1], [-1, 2, -1, 0], [0, -1, 2, -1], [-1, 0, -1, 2.0]])
    x = gather(solve(operators(M), 1, hermitian=True).eigenvectors)[:, 0]
    np.testing.assert_allclose(x, [0.5, -0.5, 0.5, -0.5], atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "need 1 <= k <= n, got k=0, n=20"),
        ({"k": 21}, "need 1 <= k <= n, got k=21, n=20"),
        ({"k": 2, "which": "LA", "hermitian": False}, "which='LA'"),
        ({"k": 2, "which": "XX"}, "which='XX'"),
        ({"k": 2, "variant": "paper"}, "variant='paper'"),
        ({"k": 2, "tol": 0.0}, "0 < tol < 1"),
        ({"k": 4, "ncv": 4}, "largest subspace of at least"),
        ({"k": 2, "start": np.ones(999)}, "start must hold"),
        ({"k": 2, "start": None, "max_it": -1}, "max_it >= 0"),
    ],
)
def test_arguments_that_do_not_fit(operators, arguments, message):
    A = operators(diagonal=np.arange(1.0, 21.0))
    with pytest.raises(MiramnsError, match=message):
        solve(A, **({"hermitian": True} | arguments))


def test_rectangular_operator_is_refused(comm):
    A = PETSc.Mat().createDense(((None, 4), (None, 3)), comm=comm)
    A.setUp()
    A.assemble()
    with pytest.raises(MiramnsError, match="square, got 4 x 3"):
        solve(A, 1)
    A.destroy()


def test_nan_in_the_operator_is_an_error(operators):
    values = np.arange(1.0, 31.0)
    values[3] = np.nan
    with pytest.raises(OperatorError, match="not finite"):
        solve(operators(diagonal=values), 2, hermitian=True)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"options": Options(orthogonalization="partial")},
        {"hermitian": False},
        {"variant": "block", "options": Options(block_size=3)},
        {"variant": "published"},
    ],
)
@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (1e155, "overflows: its largest entry is .*Rescale the operator"),
        (1e300, "overflows: its largest entry is .*Rescale the operator"),
        (1e-165, "underflows: its largest entry is .*Rescale the operator"),
        (1e-300, "underflows: its largest entry is .*Rescale the operator"),
    ],
)
def test_norms_out_of_range_are_named(operators, settings, scale, message):
    with pytest.raises(OperatorError, match=message):
        solve(operators(diagonal=scale * POWER), 3, **({"hermitian": True} | settings))


@pytest.mark.parametrize("scale", [1e120, 1e-120])
@pytest.mark.parametrize("hermitian", [True, False])
def test_large_and_small_operators(operators, scale, hermitian):
    result = solve(operators(diagonal=scale * POWER), 3, hermitian=hermitian)
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues / scale, POWER[:3], atol=1e-9)


def test_hermitian_is_taken_from_the_matrix(operators, symmetric):
    A = operators(symmetric(POWER))
    assert solve(A, 2).eigenvalues.dtype == np.complex128
    A.setOption(PETSc.Mat.Option.HERMITIAN, True)
    assert solve(A, 2).eigenvalues.dtype == np.float64


def test_sub_communicator(comm):
    """Nothing may use the world communicator: only one rank takes part here."""
    sub = comm.Split(color=comm.rank)
    A = PETSc.Mat().createAIJ((30, 30), nnz=1, comm=sub)
    for i in range(30):
        A[i, i] = i + 1.0
    A.assemble()
    if comm.rank == 0:
        result = solve(A, 2, hermitian=True)
        np.testing.assert_allclose(result.eigenvalues, [30, 29], rtol=1e-10)
    A.destroy()
    sub.Free()


def test_same_seed_same_start(operators):
    A = operators(diagonal=POWER)
    first, last = A.getOwnershipRange()
    by_seed = solve(A, 3, hermitian=True, seed=5)
    by_hand = solve(A, 3, hermitian=True, start=seeded_normal(5, first, last))
    np.testing.assert_array_equal(by_seed.eigenvalues, by_hand.eigenvalues)
    assert by_seed.n_matvec == by_hand.n_matvec


def test_a_close_eigenvalue_does_not_make_the_error_bound_too_small(operators):
    values = np.r_[10.0, 10.0 - 1e-7, 8 * 0.8 ** np.arange(198)]
    result = solve(
        operators(diagonal=values), 1, hermitian=True, options=Options(multiplicity_check="never")
    )
    assert np.abs(values - result.eigenvalues[0]).min() <= result.error_bounds[0]


@pytest.mark.parametrize("hermitian", [True, False])
def test_values_that_tie_come_in_a_stated_order(operators, gather, hermitian):
    M = np.diag(np.r_[-5.0, 5.0, -4.0, 4.0, np.linspace(-1, 1, 56)])
    for k, cut in ((1, True), (2, False), (3, True)):
        result = solve(operators(M), k, hermitian=hermitian)
        np.testing.assert_allclose(result.eigenvalues, [5, -5, 4][:k], atol=1e-9)
        X = gather(result.eigenvectors)
        np.testing.assert_allclose(np.argmax(np.abs(X), axis=0), [1, 0, 3][:k])
        assert result.tie_at_cut is cut
        assert ("ties with one that is not returned" in result.view()) is cut


def test_a_tie_that_only_the_search_for_copies_sees(operators):
    A = operators(diagonal=np.r_[3.0, 3.0, np.linspace(0, 1, 60)])
    assert solve(A, 1, hermitian=True).tie_at_cut
    assert not solve(A, 2, hermitian=True).tie_at_cut
    assert not solve(A, 1, hermitian=True, options=Options(multiplicity_check="never")).tie_at_cut


@pytest.mark.parametrize("which", ["LR", "SR"])
def test_real_values_come_before_complex_ones_of_equal_real_part(operators, which):
    M = np.diag(np.r_[1.0, 1, 1, np.linspace(-0.5, 0.5, 57)])
    M[0, 1], M[1, 0] = -1.5, 1.5
    M = M if which == "LR" else -M
    Q, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((60, 60)))
    A = operators(Q @ M @ Q.T)
    sign = 1 if which == "LR" else -1
    for k in (1, 2, 3):
        result = solve(A, k, which=which, hermitian=False, tol=1e-10)
        expected = [sign, sign + 1.5j, sign - 1.5j][: 1 if k == 1 else 3]
        np.testing.assert_allclose(result.eigenvalues, expected, atol=1e-9)
        assert result.tie_at_cut is (k == 1)


def test_start_in_an_invariant_subspace_with_a_small_ncv(operators):
    A = operators(diagonal=np.arange(1.0, 101.0))
    start = np.zeros(100)
    start[98] = 1.0
    first, last = A.getOwnershipRange()
    result = solve(A, 1, hermitian=True, start=start[first:last], ncv=5)
    np.testing.assert_allclose(result.eigenvalues, 100.0)


def test_a_low_rank_operator_needs_few_products(operators):
    values = np.r_[np.arange(30.0, 0.0, -1.0), np.zeros(970)]
    result = solve(operators(diagonal=values), 10, hermitian=True)
    np.testing.assert_allclose(result.eigenvalues, values[:10], atol=1e-9)
    assert result.n_matvec <= 45


def test_repeated_complex_pairs_stay_together(operators):
    result = solve(operators(np.kron(np.eye(20), [[0.0, 1.0], [-1.0, 0.0]])), 4, hermitian=False)
    np.testing.assert_allclose(result.eigenvalues, [1j, -1j, 1j, -1j], atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_smallest_subspace_of_nonsymmetric_problems(operators, k):
    A = operators(np.random.default_rng(0).standard_normal((55, 55)))
    with pytest.raises(MiramnsError, match=r"at least min\(k \+ 2, n\)"):
        solve(A, k, hermitian=False, ncv=k + 1)
    assert solve(A, k, hermitian=False, ncv=k + 2, max_it=30).n_restarts > 0


def test_norm_criterion_is_relative_to_the_largest_value(operators, symmetric):
    values = 1e3 * np.r_[1.0, 0.9, np.linspace(0, 0.8, 198)]
    result = solve(
        operators(symmetric(values)), 2, hermitian=True, tol=1e-5, options=Options(criterion="norm")
    )
    np.testing.assert_allclose(result.residual_tolerances, 1e3 * 1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {}),
        ({"ncv": 60}, {"orthogonalization": "partial"}),
        ({"hermitian": False}, {}),
        ({"variant": "block"}, {"block_size": 4}),
    ],
)
@pytest.mark.parametrize("distinct", [[1.0], [0.0, 1.0], [1.0, 2.0, 3.0]])
def test_few_distinct_eigenvalues_need_few_products(operators, settings, options, distinct):
    # every few columns the space is invariant, whatever is outside
    A = operators(diagonal=np.repeat(distinct, 120))
    options = Options(multiplicity_check="never", **options)
    result = solve(A, 5, options=options, **({"hermitian": True} | settings))
    np.testing.assert_allclose(result.eigenvalues, np.full(5, max(distinct)), atol=1e-12)
    assert result.converged
    assert result.n_restarts == 0
    assert result.n_matvec <= 48


def test_a_part_that_closed_may_hold_something_better(operators):
    values = np.r_[np.ones(5), np.full(95, 9.0)]
    A = operators(diagonal=values)
    start = (np.arange(100) < 5).astype(float)[slice(*A.getOwnershipRange())]
    result = solve(A, 5, hermitian=False, start=start)
    np.testing.assert_allclose(result.eigenvalues, np.full(5, 9.0), atol=1e-12)


@pytest.mark.parametrize("orthogonalization", ["full", "partial", "dcgs2"])
def test_converged_pairs_stay_active(operators, orthogonalization):
    # nothing is locked: a pair that has passed takes part in restarts, and gets better
    values = np.r_[8.0, 6.0, 2 - 2 * np.cos(np.pi * np.arange(1, 301) / 301)]
    result = solve(
        operators(diagonal=values),
        4,
        which="LA",
        hermitian=True,
        ncv=24,
        max_it=2000,
        options=Options(orthogonalization=orthogonalization, multiplicity_check="never"),
    )
    assert result.converged
    passed = next(i for i, check in enumerate(result.history) if check.n_converged >= 2)
    first, later = result.history[passed], result.history[passed + 1 :]
    assert later[-1].restart >= first.restart + 5, "the others converge at once: nothing is shown"
    for pair in range(2):
        assert later[-1].estimates[pair] < 1e-3 * first.estimates[pair]
        drift = max(abs(check.values[pair] - values[pair]) for check in later)
        assert drift < 1e-12


@pytest.mark.parametrize("factorization", [ArnoldiFactorization, DCGS2Factorization])
def test_a_thick_restart_lets_converged_pairs_go_by_their_coupling(operators, factorization):
    values = np.r_[8.0, 6.0, 2 - 2 * np.cos(np.pi * np.arange(1, 301) / 301)]
    A = operators(diagonal=values)
    f = factorization(A, 24, seeded_normal(0, *A.getOwnershipRange()), hermitian=True)
    for _cycle in range(6):
        f.extend(24)
        projection = f.orthonormal_projection()
        ritz = ritz_pairs(projection, "LA", hermitian=True)
        keep = thick_restart(projection, ritz, 12, "LA", hermitian=True)
        f.restart(*keep)
    coupling = np.abs(f.hessenberg[12, :12])
    assert coupling[:2].max() < 1e-13
    assert coupling[2:].max() > 1e-4
    # they are columns like the others, with their value on the diagonal
    np.testing.assert_allclose(f.hessenberg.diagonal()[:2], [8, 6], atol=1e-12)
    f.extend(24)
    assert np.abs(f.hessenberg[:2, 12:24]).max() < 1e-12
    f.destroy()
