"""Generalised and transformed problems against LAPACK and known spectra, on 1, 2 and 3 ranks."""

import numpy as np
import pytest
import scipy.linalg
from petsc4py import PETSc
from slepc4py import SLEPc

from miramns import ConvergedReason, MIRAMns, MiramnsError, slepc
from miramns.interfaces.eps_selection import ByComparison, NearestTo, transformed_order
from miramns.products import shell_like
from miramns.transform.pencil import Pencil, solve_pencil
from miramns.transform.spectral import Transformation

pytestmark = pytest.mark.mpi

EPS = SLEPc.EPS
GHEP, GNHEP = EPS.ProblemType.GHEP, EPS.ProblemType.GNHEP
HEP, NHEP = EPS.ProblemType.HEP, EPS.ProblemType.NHEP


@pytest.fixture
def solver(comm, keep):
    def make(A, B, problem, nev, kind=None, target=None):
        E = keep(MIRAMns()).create(comm)
        E.setOperators(A, B)
        E.setProblemType(problem)
        E.setDimensions(nev)
        if kind is not None:
            E.getST().setType(kind)
        if target is not None:
            E.setTarget(target)
        return E

    return make


def check(E, A, B, gather, exact, rtol=1e-9):
    """Values, vectors, norms and every field of the result, from the matrices."""
    result = E.result
    assert result.reason in (ConvergedReason.CONVERGED_TOL, ConvergedReason.CONVERGED_ROUNDING)
    k = len(result.eigenvalues)
    X = gather(result.eigenvectors)
    metric = np.eye(len(A)) if B is None else B
    residuals = np.linalg.norm(A @ X - metric @ X * result.eigenvalues, axis=0)
    scale = np.linalg.norm(A, 2) + np.abs(result.eigenvalues).max() * np.linalg.norm(metric, 2)
    lengths = np.linalg.norm(X, axis=0)
    np.testing.assert_allclose(result.residual_norms, residuals, atol=1e-14 * scale * lengths.max())
    assert (result.residual_norms <= result.residual_tolerances).all()
    np.testing.assert_array_equal(result.error_bounds, result.residual_norms)
    assert result.n_converged == E.getConverged() == k
    np.testing.assert_allclose(result.eigenvalues, exact[:k], rtol=rtol, atol=1e-14 * scale)
    if E.isHermitian():
        np.testing.assert_allclose(X.T @ metric @ X, np.eye(k), atol=1e-11)
        assert result.orthogonality <= 1e-11
    else:
        np.testing.assert_allclose(lengths, 1, atol=1e-12)
    for i in range(k):
        size = abs(result.eigenvalues[i]) * lengths[i]
        rounding = 1e-13 * scale * lengths[i] / size
        assert E.computeError(i) == pytest.approx(residuals[i] / size, abs=rounding)


def laplacian(m, n):
    """Graph Laplacian of an m by n grid: singular, constants in its null space."""
    chains = []
    for size in (m, n):
        T = 2 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)
        T[0, 0] = T[-1, -1] = 1
        chains.append(T)
    return np.kron(chains[0], np.eye(n)) + np.kron(np.eye(m), chains[1])


def test_smallest_of_a_graph_laplacian_beside_the_constants(sparse, gather, solver):
    L = laplacian(12, 9)
    A = sparse(L)
    exact = np.linalg.eigvalsh(L)[1:]
    E = solver(A, None, HEP, 5, "sinvert", -1e-3)
    constant = A.createVecLeft()
    constant.set(1.0)
    E.setDeflationSpace(constant)
    E.solve()
    constant.destroy()
    check(E, L, None, gather, exact)
    assert np.abs(gather(E.result.eigenvectors).sum(axis=0)).max() <= 1e-10
    assert E.result.multiplicity_checked
    # shift-and-invert takes few steps where the matrix itself takes hundreds
    assert E.result.n_matvec <= 60
    assert "shift-and-invert at -0.001" in E.result.solver


@pytest.mark.parametrize("kind", ["sinvert", "cayley"])
@pytest.mark.parametrize(("diagonal", "target"), [(None, 0.0), (1.0, 1.0), (None, 0.3)])
def test_zero_on_the_shifted_diagonal(comm, keep, gather, solver, kind, diagonal, target):
    """The diagonal is not stored, or is zero after the shift."""
    n = 60
    T = np.eye(n, k=1) + np.eye(n, k=-1) + (diagonal or 0.0) * np.eye(n)
    A = keep(PETSc.Mat()).createAIJ((n, n), nnz=3, comm=comm)
    for i in range(*A.getOwnershipRange()):
        for j in np.flatnonzero(T[i]):
            A[i, j] = T[i, j]
    A.assemble()
    E = solver(A, None, HEP, 4, kind, target)
    E.getST().setShift(target)
    if kind == "cayley":
        E.getST().setCayleyAntishift(1.0)
    exact = np.linalg.eigvalsh(T)
    exact = np.sort(exact[np.argsort(np.abs(exact - target), kind="stable")[:4]])
    for _ in range(2):
        E.solve()
        values = np.sort([E.getEigenvalue(i) for i in range(4)])
        np.testing.assert_allclose(values, exact, atol=1e-9)
        assert E.getOperators()[0] == A


def test_double_eigenvalues_of_a_square_grid(sparse, gather, solver):
    L = laplacian(10, 10)
    E = solver(sparse(L), None, HEP, 6, "sinvert", -0.01)
    E.setMultiplicityCheck("always")
    E.solve()
    check(E, L, None, gather, np.linalg.eigvalsh(L), rtol=1e-8)


def stiffness_and_mass(n, seed=0):
    """A symmetric A and a positive B that do not commute."""
    rng = np.random.default_rng(seed)
    A = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    A += np.diag(rng.uniform(0, 1, n))
    B = (4 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)) / 6
    return A, B


@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
@pytest.mark.parametrize("which", ["LARGEST_MAGNITUDE", "SMALLEST_REAL", "TARGET_MAGNITUDE"])
def test_symmetric_pencil_without_inversion(sparse, gather, solver, scale, which):
    A, B = stiffness_and_mass(60)
    B = B * scale
    values = scipy.linalg.eigh(A, B)[0]
    target = 3.0 / scale
    keys = {
        "LARGEST_MAGNITUDE": -np.abs(values),
        "SMALLEST_REAL": values,
        "TARGET_MAGNITUDE": np.abs(values - target),
    }[which]
    E = solver(sparse(A), sparse(B), GHEP, 4, target=target)
    E.setWhichEigenpairs(getattr(EPS.Which, which))
    E.solve()
    check(E, A, B, gather, values[np.argsort(keys)], rtol=1e-8)


@pytest.mark.parametrize("kind", ["shift", "sinvert", "cayley"])
def test_the_scale_of_the_metric_changes_nothing(sparse, solver, kind):
    A, B = stiffness_and_mass(80)
    counts = set()
    for scale in (1.0, 2.0**-30, 2.0**30):
        E = solver(sparse(A), sparse(B * scale), GHEP, 3, kind, 2.0 / scale)
        if kind == "shift":
            E.setWhichEigenpairs(EPS.Which.LARGEST_REAL)
        E.solve()
        assert E.result.converged
        counts.add((E.result.n_matvec, E.result.n_certificate_matvec))
    assert len(counts) == 1


def test_a_shift_alone_changes_nothing(sparse, solver):
    A, B = stiffness_and_mass(50)
    values = scipy.linalg.eigh(A, B)[0]
    for metric, exact in ((B, values), (None, np.linalg.eigvalsh(A))):
        E = solver(
            sparse(A), None if metric is None else sparse(B), HEP if metric is None else GHEP, 3
        )
        E.setWhichEigenpairs(EPS.Which.TARGET_MAGNITUDE)
        E.setTarget(exact[25])
        E.getST().setShift(1.5)
        E.solve()
        order = np.argsort(np.abs(exact - exact[25]))
        found = [E.getEigenvalue(i) for i in range(3)]
        np.testing.assert_allclose(found, exact[order[:3]], rtol=1e-8)


@pytest.mark.parametrize("kind", ["sinvert", "cayley"])
@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_symmetric_pencil_around_a_target(sparse, gather, solver, kind, scale):
    A, B = stiffness_and_mass(80)
    B = B * scale
    values = scipy.linalg.eigh(A, B)[0]
    target = 2.0 / scale
    E = solver(sparse(A), sparse(B), GHEP, 5, kind, target)
    E.solve()
    check(E, A, B, gather, values[np.argsort(np.abs(values - target))])
    assert E.getWhichEigenpairs() == EPS.Which.TARGET_MAGNITUDE
    assert E.result.n_matvec <= 40


@pytest.mark.parametrize("variant", ["default", "published", "block"])
@pytest.mark.parametrize("generalised", [False, True])
def test_every_variant(sparse, gather, solver, variant, generalised):
    A, B = stiffness_and_mass(80)
    problem, metric = (GHEP, B) if generalised else (HEP, None)
    values = scipy.linalg.eigh(A, metric)[0]
    E = solver(sparse(A), sparse(B) if generalised else None, problem, 3, "sinvert", 2.0)
    E.setVariant(variant)
    if generalised and variant == "block":
        with pytest.raises(MiramnsError, match="usual inner product"):
            E.solve()
        return
    E.solve()
    check(E, A, metric, gather, values[np.argsort(np.abs(values - 2.0))])
    assert f"MIRAMns {variant}" in E.result.solver


def test_dense_matrices(operators, symmetric, gather, solver):
    A = symmetric(np.linspace(-2, 3, 50))
    B = symmetric(np.linspace(1, 4, 50), seed=1)
    values = scipy.linalg.eigh(A, B)[0]
    E = solver(operators(A), operators(B), GHEP, 3, "sinvert", 0.1)
    E.solve()
    check(E, A, B, gather, values[np.argsort(np.abs(values - 0.1))])


def test_mass_matrix_with_a_null_space(sparse, gather, solver):
    A, B = stiffness_and_mass(60)
    B[40:, :] = B[:, 40:] = 0
    inside = scipy.linalg.eigvals(A, B)
    values = np.sort(inside[np.isfinite(inside) & (np.abs(inside) < 1e8)].real)
    E = solver(sparse(A), sparse(B), GHEP, 4, "sinvert", 0.0)
    E.solve()
    check(E, A, B, gather, values[np.argsort(np.abs(values))], rtol=1e-8)


@pytest.mark.parametrize("kind", ["shift", "sinvert", "cayley"])
@pytest.mark.parametrize("generalised", [False, True])
def test_nonsymmetric(sparse, gather, solver, kind, generalised):
    rng = np.random.default_rng(3)
    n = 60
    A = rng.standard_normal((n, n))
    B = np.eye(n) * 3 + rng.standard_normal((n, n)) / 5 if generalised else None
    values = scipy.linalg.eigvals(A, B)
    keys = -np.abs(values) if kind == "shift" else np.abs(values - 0.4)
    order = np.lexsort((-values.imag, np.round(keys, 10)))
    E = solver(
        sparse(A), sparse(B) if generalised else None, GNHEP if generalised else NHEP, 5, kind,
        None if kind == "shift" else 0.4,
    )  # fmt: skip
    E.solve()
    exact = values[order]
    check(E, A, B, gather, exact, rtol=1e-7)
    assert E.getConverged() == 5 + (exact[4].imag > 0)


@pytest.mark.parametrize("which", ["TARGET_REAL", "SMALLEST_REAL", "LARGEST_REAL", "USER"])
def test_wanted_are_the_values_themselves_not_the_transformed(sparse, gather, solver, which):
    A = np.diag(np.r_[-5.0, -1.0, 0.9, 1.2, 2.0, np.linspace(3, 9, 35)])
    values = np.diag(A)
    keys = {
        "TARGET_REAL": np.abs(values - 1.5),
        "SMALLEST_REAL": values,
        "LARGEST_REAL": -values,
        "USER": np.abs(values - 2.9),
    }[which]
    E = solver(sparse(A), None, HEP, 3, "sinvert", 1.5)
    E.getST().setShift(1.1)
    E.setWhichEigenpairs(getattr(EPS.Which, which))
    E.setEigenvalueComparison(lambda a, b, _: np.sign(abs(a - 2.9) - abs(b - 2.9)))
    E.solve()
    check(E, A, None, gather, values[np.argsort(keys, kind="stable")])


def test_residuals_are_those_of_the_problem(sparse, solver):
    # near 0 a residual that is small for the inverse is not small relative to the value
    values = np.r_[1e-6, 2e-6, 3e-6, np.linspace(1, 1e3, 77)]
    E = solver(sparse(np.diag(values)), None, HEP, 3, "sinvert", -1.0)
    E.solve()
    np.testing.assert_allclose([E.getEigenvalue(i) for i in range(3)], values[:3], rtol=1e-6)
    assert E.result.converged
    # purified at the target itself, they are small relative to the value at once
    E.getST().setShift(1e-7)
    E.solve()
    assert E.result.converged
    assert E.result.n_matvec <= 8
    E.setConvergenceTest(EPS.Conv.ABS)
    E.setTolerances(1e-11)
    E.solve()
    assert (E.result.residual_norms <= np.maximum(1e-11, 3e-14 * 1e3)).all()
    assert (E.result.residual_tolerances >= 1e-11).all()
    E.setConvergenceTest(EPS.Conv.NORM)
    E.solve()
    np.testing.assert_allclose(E.result.residual_tolerances, 3e-11 * 1e3, rtol=1)


def test_too_few_cycles(sparse, solver):
    A, B = stiffness_and_mass(200)
    E = solver(sparse(A), sparse(B), GHEP, 6)
    E.setDimensions(6, 9)
    E.setTolerances(1e-10, 1)
    E.solve()
    assert E.getConvergedReason() == EPS.ConvergedReason.DIVERGED_ITS
    assert E.getConverged() < 6


@pytest.mark.parametrize("kind", ["sinvert", "cayley"])
@pytest.mark.parametrize("refines", [False, True])
def test_inexact_solves_are_refined_or_do_not_converge(operators, gather, kind, refines):
    A, B = stiffness_and_mass(60)
    values = scipy.linalg.eigh(A, B)[0]
    noise = np.random.default_rng(1).standard_normal((60, 60))
    inverse = operators(np.linalg.inv(A - 2 * B) @ (np.eye(60) + 1e-7 * noise))
    matrices = operators(A), operators(B)
    right = operators(B if kind == "sinvert" else A + 2 * B)
    work = right.createVecLeft()
    operator = shell_like(matrices[0], lambda x, y: (right.mult(x, work), inverse.mult(work, y)))
    transformation = Transformation(kind, 2.0, 2.0)
    given = inverse if refines else None
    pencil = Pencil(*matrices, True, operator, transformation, given)
    order = transformed_order(NearestTo(2.0), transformation)
    result = solve_pencil(pencil, 3, which=order, tol=1e-10)
    operator.destroy()
    work.destroy()
    assert result.converged == refines
    assert refines or result.reason is ConvergedReason.DIVERGED_STAGNATED
    expected = values[np.argsort(np.abs(values - 2.0))][:3]
    np.testing.assert_allclose(result.eigenvalues, expected, rtol=1e-11 if refines else 1e-3)


def test_options_of_the_transformation(sparse, gather, solver):
    names = {
        "t_st_type": "sinvert",
        "t_st_shift": "2.1",
        "t_st_ksp_type": "gmres",
        "t_st_ksp_rtol": "1e-12",
        "t_st_pc_type": "redundant",
        "t_eps_target": "2.1",
        "t_eps_gen_hermitian": "",
    }
    A, B = stiffness_and_mass(60)
    values = scipy.linalg.eigh(A, B)[0]
    E = MIRAMns().create(sparse(A).getComm())
    for name, value in names.items():
        PETSc.Options().setValue(name, value)
    try:
        E.setOperators(sparse(A), sparse(B))
        E.setOptionsPrefix("t_")
        E.setDimensions(3)
        E.setFromOptions()
        E.solve()
    finally:
        for name in names:
            PETSc.Options().delValue(name)
    assert E.getST().getKSP().getType() == "gmres"
    assert E.getST().getKSP().getPC().getType() == "redundant"
    check(E, A, B, gather, values[np.argsort(np.abs(values - 2.1))], rtol=1e-8)
    E.destroy()


def test_same_answer_as_slepc(comm, sparse, solver):
    A, B = stiffness_and_mass(50)
    mats = sparse(A), sparse(B)
    E = solver(*mats, GHEP, 3)
    E.solve()
    other = EPS().create(comm)
    other.setOperators(*mats)
    other.setProblemType(GHEP)
    other.setDimensions(3)
    # works in parallel without a package for it
    other.getST().getKSP().setType("preonly")
    other.getST().getKSP().getPC().setType("redundant")
    other.solve()
    x, y = mats[0].createVecs()
    for i in range(3):
        assert E.getEigenpair(i, x) == pytest.approx(other.getEigenpair(i, y).real, rel=1e-10)
        assert x.norm() == pytest.approx(y.norm(), rel=1e-6)
    bv = E.getBV()
    bv.copyVec(0, x)
    E.getEigenvector(0, y)
    np.testing.assert_array_equal(x.getArray(), y.getArray())
    x.destroy()
    y.destroy()
    other.destroy()


def test_slepc_with_a_second_matrix_start_and_deflation(comm, sparse, gather):
    A, B = stiffness_and_mass(50)
    values, vectors = scipy.linalg.eigh(A, B)
    matrix, metric = sparse(A), sparse(B)
    rows = slice(*matrix.getOwnershipRange())
    PETSc.Options().setValue("g_st_ksp_type", "preonly")
    PETSc.Options().setValue("g_st_pc_type", "redundant")
    try:
        result = slepc(
            matrix, 2, hermitian=True, B=metric, which="LR", options_prefix="g_",
            deflation=vectors[rows, -1:], start=vectors[rows, -2] + vectors[rows, -3],
        )  # fmt: skip
    finally:
        for name in ("g_st_ksp_type", "g_st_pc_type"):
            PETSc.Options().delValue(name)
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues, values[-2:-4:-1], rtol=1e-8)
    X = gather(result.eigenvectors)
    np.testing.assert_allclose(X.T @ B @ X, np.eye(2), atol=1e-8)
    assert result.orthogonality <= 1e-8
    residuals = np.linalg.norm(A @ X - B @ X * result.eigenvalues, axis=0)
    np.testing.assert_allclose(result.residual_norms, residuals, atol=1e-13)


def test_what_cannot_be_transformed(sparse, solver):
    A, B = stiffness_and_mass(20)
    E = solver(sparse(A), sparse(B), GHEP, 2, "cayley", 0.0)
    with pytest.raises(MiramnsError, match=r"cannot be set up: .*shift and antishift"):
        E.solve()
    E = solver(sparse(A), sparse(-B), GHEP, 2)
    with pytest.raises(MiramnsError, match="not positive"):
        E.solve()
    E = solver(sparse(A), sparse(B), GHEP, 2)
    E.setOrthogonalization("partial")
    with pytest.raises(MiramnsError, match="usual inner product"):
        E.solve()


@pytest.mark.parametrize("kind", ["shift", "sinvert", "cayley"])
def test_values_go_forth_and_back(kind):
    values = np.array([0.5, -3.0, 2 + 1j, 2 - 1j, 100.0])
    transformation = Transformation(kind, 1.25, 0.75)
    np.testing.assert_allclose(transformation.back(transformation.forward(values)), values)


def test_orders_through_a_transformation():
    sinvert = Transformation("sinvert", 2.0)
    assert transformed_order("LR", Transformation("shift", 2.0)) == "LR"
    assert transformed_order(NearestTo(2.0), sinvert) == "LM"
    assert transformed_order(NearestTo(2.0, "real"), sinvert) != "LM"
    order = transformed_order("SR", sinvert)
    # 1 / (lambda - 2) of 3, infinity, 1
    np.testing.assert_array_equal(order(np.array([1.0, 0.0, -1.0])), [3.0, np.inf, 1.0])
    ranks = ByComparison(lambda a, b: int(np.sign(b.real - a.real)))
    values = np.array([1 + 1j, 5.0, 1 - 1j, 3.0])
    np.testing.assert_array_equal(ranks(values), [2, 0, 2, 1])
