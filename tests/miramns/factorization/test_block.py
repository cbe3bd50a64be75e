"""The block variant: its identities, its answers, and dependent blocks."""

import numpy as np
import pytest

from miramns import MiramnsError, OperatorError, Options, seeded_normal, solve
from miramns.factorization import block
from miramns.factorization.block import BlockFactorization, chosen_width

pytestmark = pytest.mark.mpi

SPECTRA = {
    "power": np.arange(1.0, 201.0) ** -0.5,
    "multiple": np.r_[np.full(5, 3.0), np.arange(1.0, 150.0) ** -2.0],
    "laplacian": 2 - 2 * np.cos(np.pi * np.arange(1, 121) / 121),
    "zero": np.zeros(40),
    "identity": np.ones(50),
    "rank 3": np.r_[3.0, 2.0, 1.0, np.zeros(57)],
    "negative": -np.arange(1.0, 101.0),
}


def started(A, capacity, width, **more):
    start = seeded_normal(0, *A.getOwnershipRange())
    return BlockFactorization(A, capacity, start, width=width, **more)


@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize("hermitian", [True, False])
def test_relation_and_orthonormality(operators, gather, width, hermitian):
    M = np.random.default_rng(0).standard_normal((60, 60))
    M = M + M.T if hermitian else M
    f = started(operators(M), 30, width, hermitian=hermitian)
    f.extend(30)
    m = f.size
    assert 30 <= m < 30 + width
    assert f.n_matvec == m
    assert f.n_blocks == m // width
    V = gather(f.basis[:, : m + width])
    np.testing.assert_allclose(V.T @ V, np.eye(m + width), atol=1e-13)
    np.testing.assert_allclose(M @ V[:, :m], V @ f.hessenberg[: m + width, :m], atol=1e-12)
    f.destroy()


def test_dependent_directions_become_random_ones_without_coupling(operators, gather):
    values = np.r_[4.0, 3.0, 2.0, np.ones(57)]
    f = started(operators(diagonal=values), 20, 4)
    f.extend(20)
    assert f.n_breakdowns > 0
    m = f.size
    V = gather(f.basis[:, : m + 4])
    np.testing.assert_allclose(V.T @ V, np.eye(m + 4), atol=1e-13)
    np.testing.assert_allclose(
        values[:, None] * V[:, :m], V @ f.hessenberg[: m + 4, :m], atol=1e-13
    )
    f.destroy()


@pytest.mark.parametrize("width", [2, 4, 9])
@pytest.mark.parametrize("name", SPECTRA)
def test_answers(operators, symmetric, name, width):
    values = SPECTRA[name]
    result = solve(
        operators(symmetric(values)),
        6,
        hermitian=True,
        variant="block",
        options=Options(block_size=width),
    )
    expected = values[np.argsort(-np.abs(values), kind="stable")][:6]
    np.testing.assert_allclose(result.eigenvalues, expected, atol=1e-8 * abs(values).max())
    assert result.converged
    assert result.orthogonality < 1e-12
    assert (result.residual_norms <= result.residual_tolerances).all()
    assert result.multiplicity_checked or name == "laplacian"


def test_a_block_holds_copies_without_the_check(operators):
    values = np.r_[np.full(5, 3.0), np.arange(1.0, 200.0) ** -2.0]
    A = operators(diagonal=values)
    single = solve(A, 6, hermitian=True, tol=1e-6, options=Options(multiplicity_check="never"))
    assert single.eigenvalues[4] < 2
    block = solve(
        A,
        6,
        hermitian=True,
        tol=1e-6,
        variant="block",
        options=Options(multiplicity_check="never", block_size=6),
    )
    np.testing.assert_allclose(block.eigenvalues, values[:6], atol=1e-9)


def test_fewer_passes(operators):
    A = operators(diagonal=SPECTRA["power"])
    single = solve(A, 10, hermitian=True)
    block = solve(A, 10, hermitian=True, variant="block", options=Options(block_size=5))
    assert block.n_matvec / 5 < 0.6 * single.n_matvec


def test_restarts(operators, symmetric):
    values = SPECTRA["laplacian"]
    result = solve(
        operators(symmetric(values)),
        4,
        hermitian=True,
        variant="block",
        ncv=21,
        options=Options(block_size=3),
    )
    assert result.n_restarts > 0
    np.testing.assert_allclose(result.eigenvalues, np.sort(values)[::-1][:4], atol=1e-10)


def test_nonsymmetric(operators):
    M = np.random.default_rng(1).standard_normal((90, 90))
    result = solve(
        operators(M), 3, hermitian=False, variant="block", ncv=36, options=Options(block_size=3)
    )
    exact = np.linalg.eigvals(M)
    exact = exact[np.argsort(-np.abs(exact))][: len(result.eigenvalues)]
    np.testing.assert_allclose(np.abs(result.eigenvalues), np.abs(exact), atol=1e-6)
    assert result.converged


@pytest.mark.parametrize(("n", "width"), [(1, 3), (2, 2), (3, 2), (5, 4), (7, 3)])
def test_spaces_that_end_within_a_block(operators, symmetric, n, width):
    values = np.arange(n, 0.0, -1)
    result = solve(
        operators(symmetric(values)),
        n,
        hermitian=True,
        variant="block",
        options=Options(block_size=width),
    )
    np.testing.assert_allclose(result.eigenvalues, values, atol=1e-12)


def test_block_products_of_a_shell_are_used(operators):
    A = operators(diagonal=SPECTRA["power"])
    context = A.getPythonContext()
    widths = []

    def mult_block(X, Y):
        first, last = A.getOwnershipRange()
        widths.append(X.shape[1])
        Y[:] = context.values[first:last, None] * X

    context.mult_block = mult_block
    result = solve(A, 5, hermitian=True, variant="block", options=Options(block_size=4))
    np.testing.assert_allclose(result.eigenvalues, SPECTRA["power"][:5], atol=1e-12)
    assert set(widths) >= {4}


def test_chosen_width(operators):
    A = operators(diagonal=SPECTRA["power"])
    assert 2 <= chosen_width(A, 10, 200) <= 10
    assert chosen_width(A, 10, 1) == 1
    assert solve(A, 5, hermitian=True, variant="block").converged


def test_refusals(operators):
    A = operators(diagonal=np.ones(10))
    with pytest.raises(MiramnsError, match="block_size=3 needs variant='block'"):
        solve(A, 2, hermitian=True, options=Options(block_size=3))
    with pytest.raises(MiramnsError, match="block_size=0"):
        solve(A, 2, hermitian=True, variant="block", options=Options(block_size=0))
    with pytest.raises(MiramnsError, match="usual inner product"):
        solve(A, 2, hermitian=True, variant="block", options=Options(inner=A))
    values = np.ones(20)
    values[3] = np.nan
    with pytest.raises(OperatorError, match="not finite"):
        solve(
            operators(diagonal=values),
            2,
            hermitian=True,
            variant="block",
            options=Options(block_size=2),
        )


def _approximated(values):
    """A symmetric matrix with these eigenvalues, and the same with an error of 1e-6."""
    rng = np.random.default_rng(3)
    Q = np.linalg.qr(rng.standard_normal((len(values),) * 2))[0]
    error = rng.standard_normal((len(values),) * 2)
    error = (error + error.T) / np.linalg.norm(error + error.T, 2)
    exact = (Q * values) @ Q.T
    return exact, exact + 1e-6 * values[0] * error


def test_residuals_of_an_approximation_are_of_the_exact_operator(operators):
    exact, approximate = _approximated(0.7 ** np.arange(80.0))
    A, E = operators(approximate), operators(exact)
    settings = {"which": "LA", "hermitian": True, "variant": "block"}
    four = Options(criterion="norm", block_size=4, exact=E)
    result = solve(A, 6, tol=1e-5, options=four, **settings)
    assert result.converged
    # values are Rayleigh quotients of the exact operator, so their error is the square
    np.testing.assert_allclose(result.eigenvalues, 0.7 ** np.arange(6.0), atol=1e-10)
    assert 1e-9 < result.residual_norms.max() < 1e-5
    stopped = solve(A, 6, tol=1e-9, options=four, **settings)
    assert stopped.reason.name == "DIVERGED_STAGNATED"
    np.testing.assert_allclose(stopped.eigenvalues, 0.7 ** np.arange(6.0), atol=1e-10)
    six = Options(criterion="norm", block_size=6)
    continued = solve(E, 6, tol=1e-9, start=stopped.eigenvectors, options=six, **settings)
    afresh = solve(E, 6, tol=1e-9, options=six, **settings)
    assert continued.converged
    assert afresh.converged
    assert continued.n_matvec < afresh.n_matvec
    np.testing.assert_allclose(continued.eigenvalues, 0.7 ** np.arange(6.0), atol=1e-15)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hermitian": False}, "an exact operator beside its approximation is for Hermitian"),
        ({"hermitian": True, "variant": "published"}, "the default and block variants"),
    ],
)
def test_exact_operators_that_cannot_be(operators, settings, message):
    A = operators(np.eye(9))
    with pytest.raises(MiramnsError, match=message):
        solve(A, 2, options=Options(exact=A), **settings)
    with pytest.raises(MiramnsError, match="the sizes and the layout of A"):
        solve(A, 2, hermitian=True, options=Options(exact=operators(np.eye(8))))


def test_more_start_vectors_than_a_block_holds(operators):
    A = operators(np.eye(9))
    wide = np.ones((A.getLocalSize()[0], 3))
    with pytest.raises(MiramnsError, match="start holds 3 vectors: block_size is 2 here"):
        solve(A, 2, hermitian=True, variant="block", start=wide, options=Options(block_size=2))
    with pytest.raises(MiramnsError, match=r"one vector, of shape \(n_local,\), for this variant"):
        solve(A, 2, hermitian=True, start=wide)


def test_nan_where_the_space_ends_within_a_block(operators):
    with pytest.raises(OperatorError, match="not finite: check the data for NaN"):
        solve(
            operators(diagonal=np.r_[np.ones(3), np.nan]),
            2,
            hermitian=True,
            variant="block",
            options=Options(block_size=3),
        )


@pytest.mark.parametrize("noise", [1e-7, 1e-8, 1e-9])
def test_directions_that_differ_in_their_last_digits_are_not_lost(operators, noise):
    # started from nearly converged vectors, residual blocks are small and nearly dependent
    values = np.linspace(1, 0.1, 100)
    A = operators(diagonal=values)
    first, last = A.getOwnershipRange()
    rng = np.random.default_rng(0)
    start = np.eye(100, 5) + noise * rng.standard_normal((100, 5))
    result = solve(
        A,
        5,
        which="LA",
        hermitian=True,
        tol=1e-12,
        variant="block",
        start=np.asfortranarray(start[first:last]),
        options=Options(criterion="norm", block_size=7),
    )
    assert result.converged
    assert result.residual_norms.max() <= 1e-12
    np.testing.assert_allclose(result.eigenvalues, values[:5], atol=1e-15)


def test_no_random_vector_comes_twice(operators, gather, monkeypatch):
    streams = []

    def recorded(*args, stream=0):
        streams.append(stream)
        return seeded_normal(*args, stream=stream)

    monkeypatch.setattr(block, "seeded_normal", recorded)
    f = started(operators(diagonal=np.zeros(400)), 280, 70)
    f.extend(280)
    assert len(streams) >= 69 + 4 * 70, "every product vanishes, and is replaced"
    assert len(set(streams)) == len(streams)
    V = gather(f.basis[:, : f.size + f.width])
    np.testing.assert_allclose(V.T @ V, np.eye(350), atol=1e-13)
    f.destroy()


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("inside", [slice(1, 2), slice(5, 10)])
def test_an_invariant_start_is_not_the_end(operators, width, hermitian, inside):
    # residuals within the space of the start vector are zero, whatever is outside
    A = operators(diagonal=np.arange(100.0, 0.0, -1.0))
    start = np.zeros(100)
    start[inside] = 1.0
    result = solve(
        A,
        1,
        hermitian=hermitian,
        start=start[slice(*A.getOwnershipRange())],
        variant="block",
        options=Options(block_size=width, multiplicity_check="never"),
    )
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues, [100.0], rtol=1e-10)
