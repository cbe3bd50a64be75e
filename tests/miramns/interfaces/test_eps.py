"""MIRAMns in place of SLEPc's EPS: the same calls and the same answers."""

import numpy as np
import pytest
from petsc4py import PETSc
from slepc4py import SLEPc

from miramns import ConvergedReason, MIRAMns, MiramnsError

pytestmark = pytest.mark.mpi

EPS = SLEPc.EPS


def chain(comm, n):
    """Second differences on n points."""
    A = PETSc.Mat().createAIJ([n, n], nnz=3, comm=comm)
    A.setUp()
    for i in range(*A.getOwnershipRange()):
        A[i, i] = 2.0
        if i > 0:
            A[i, i - 1] = -1.0
        if i < n - 1:
            A[i, i + 1] = -1.0
    A.assemble()
    return A


def grid(comm, m, n):
    """Five-point Laplacian on an m by n grid."""
    A = PETSc.Mat().createAIJ([m * n, m * n], nnz=5, comm=comm)
    A.setUp()
    for row in range(*A.getOwnershipRange()):
        i, j = divmod(row, n)
        A[row, row] = 4.0
        for inside, column in (
            (i > 0, row - n),
            (i < m - 1, row + n),
            (j > 0, row - 1),
            (j < n - 1, row + 1),
        ):
            if inside:
                A[row, column] = -1.0
    A.assemble()
    return A


def shell(sizes, mult, comm):
    class Context:
        def mult(self, mat, x, y):
            y.setArray(mult(x.getArray(readonly=1)))

    A = PETSc.Mat().createPython(sizes, Context(), comm=comm)
    A.setUp()
    return A


def interval_region(rg):
    rg.setType("interval")
    rg.setIntervalEndpoints(3.0, 7.0, -1.0, 1.0)


def report(E, A, nev):
    """The calls that a script makes after the solve."""
    xr, xi = A.createVecs()
    assert E.getIterationNumber() >= 1
    assert E.getType() == ("miramns" if isinstance(E, MIRAMns) else "krylovschur")
    assert E.getDimensions()[0] == nev
    tol, max_it = E.getTolerances()
    assert tol == 1e-8
    assert max_it > 0
    assert E.getConverged() >= nev
    values = []
    for i in range(nev):
        k = E.getEigenpair(i, xr, xi)
        assert E.computeError(i) <= 1e-8
        values.append(complex(k.real, k.imag))
        # the vectors that were handed out, against the matrix
        y = A.createVecLeft()
        A.mult(xr, y)
        y.axpy(-k.real, xr)
        if k.imag:
            y.axpy(k.imag, xi)
        assert y.norm() <= 1e-7 * abs(k)
        y.destroy()
    for vector in (xr, xi):
        vector.destroy()
    return values


def demo_chain(solver, comm):
    A = chain(comm, 30)
    E = solver()
    E.create(comm)
    E.setOperators(A)
    E.setProblemType(EPS.ProblemType.HEP)
    E.setFromOptions()
    E.solve()
    return E, A, 1


def demo_grid(solver, comm):
    A = grid(comm, 12, 11)
    E = solver().create(comm)
    E.setOperators(A, None)
    E.setDimensions(3, PETSc.DECIDE)
    E.setProblemType(EPS.ProblemType.HEP)
    E.setFromOptions()
    E.solve()
    return E, A, 3


def demo_matrix_free(solver, comm):
    m, n = 10, 9

    def laplacian(x):
        u = np.zeros((m + 2, n + 2))
        u[1:-1, 1:-1] = x.reshape(m, n)
        inner = u[1:-1, 1:-1]
        return (4 * inner - u[:-2, 1:-1] - u[2:, 1:-1] - u[1:-1, :-2] - u[1:-1, 2:]).ravel()

    A = shell([m * n, m * n], laplacian, PETSc.COMM_SELF)
    E = solver().create(PETSc.COMM_SELF)
    E.setOperators(A, None)
    E.setDimensions(3, PETSc.DECIDE)
    E.setProblemType(EPS.ProblemType.HEP)
    E.setFromOptions()
    E.solve()
    return E, A, 3


def demo_singular_value(solver, comm):
    # the largest singular value of Laeuchli's matrix, from its cross product
    n, mu = 30, 1e-3
    A = shell([n, n], lambda x: x.sum() + mu**2 * x, PETSc.COMM_SELF)
    E = solver()
    E.create(PETSc.COMM_SELF)
    E.setOperators(A)
    E.setProblemType(EPS.ProblemType.HEP)
    E.setFromOptions()
    E.solve()
    return E, A, 1


def demo_quadratic(solver, comm):
    # (lambda^2 + K) x = 0 as a linear problem of twice the size
    K = grid(PETSc.COMM_SELF, 6, 5)
    n = K.getSize()[0]
    dense = K.convert("dense").getDenseArray().copy()
    K.destroy()
    A = shell([2 * n, 2 * n], lambda x: np.concatenate([x[n:], -dense @ x[:n]]), PETSc.COMM_SELF)
    E = solver().create(PETSc.COMM_SELF)
    E.setOperators(A)
    E.setDimensions(6)
    E.setProblemType(EPS.ProblemType.NHEP)
    E.setFromOptions()
    E.solve()
    return E, A, 6


@pytest.mark.parametrize(
    "demo", [demo_chain, demo_grid, demo_matrix_free, demo_singular_value, demo_quadratic]
)
def test_the_class_is_all_that_is_replaced(comm, demo):
    values = {}
    for solver in (EPS, MIRAMns):
        E, A, nev = demo(solver, comm)
        assert isinstance(E, EPS)
        values[solver] = report(E, A, nev)
        E.destroy()
        A.destroy()
    np.testing.assert_allclose(values[MIRAMns], values[EPS], rtol=1e-7)


@pytest.fixture
def options():
    """Set options of the database for one test."""
    names = []

    def put(**values):
        for name, value in values.items():
            PETSc.Options().setValue(name, value)
            names.append(name)

    yield put
    for name in names:
        PETSc.Options().delValue(name)


@pytest.fixture
def solver(comm):
    """MIRAMns objects and matrices, destroyed after the test."""
    made = []

    def make(A, B=None, problem=EPS.ProblemType.HEP, nev=2):
        E = MIRAMns().create(comm)
        E.setOperators(A, B)
        E.setProblemType(problem)
        E.setDimensions(nev)
        made.append(E)
        return E

    yield make
    for E in made:
        E.destroy()


def test_settings_are_returned(comm, operators, solver):
    A = operators(np.diag(np.arange(1.0, 21)))
    E = solver(A, nev=4)
    assert E.getType() == E.type == E.Type.MIRAMNS == "miramns"
    assert (E.getConverged(), E.getConvergedReason(), E.getIterationNumber()) == (0, 0, 0)
    assert E.getOperators()[0] == A
    assert E.getOperators()[1] is None
    assert E.getProblemType() == EPS.ProblemType.HEP
    assert (E.isHermitian(), E.isGeneralized(), E.isPositive()) == (True, False, False)
    assert E.getDimensions()[0] == 4
    E.setDimensions(3, 12, 10)
    assert E.getDimensions() == (3, 12, 10)
    assert E.getTolerances() == (1e-8, 500)
    E.setTolerances(1e-6, 40)
    assert (E.tol, E.max_it) == E.getTolerances() == (1e-6, 40)
    E.setWhichEigenpairs(EPS.Which.SMALLEST_REAL)
    assert E.which == E.getWhichEigenpairs() == EPS.Which.SMALLEST_REAL
    E.setTarget(2.5)
    assert E.target == E.getTarget() == 2.5
    E.setConvergenceTest(EPS.Conv.ABS)
    assert E.getConvergenceTest() == EPS.Conv.ABS
    E.setTrueResidual(True)
    assert E.getTrueResidual() is True
    E.setOptionsPrefix("a_")
    E.appendOptionsPrefix("b_")
    assert E.getOptionsPrefix() == "a_b_"
    E.setVariant("published")
    E.setNestedSizes([5, 9])
    E.setBlockSize(2)
    E.setOrthogonalization("full")
    E.setMultiplicityCheck("never")
    E.setSeed(3)
    assert E.getVariant() == "published"
    assert E.getNestedSizes() == (5, 9)
    assert E.getBlockSize() == 2
    assert E.getOrthogonalization() == "full"
    assert E.getMultiplicityCheck() == "never"
    assert E.getSeed() == 3
    assert E.getMonitor() is None
    st = E.getST()
    other = SLEPc.ST().create(comm)
    other.setType("sinvert")
    E.setST(other)
    assert E.getST().getType() == "sinvert"
    E.setST(st)
    other.destroy()


def test_reason_of_residuals_at_rounding(operators, solver):
    E = solver(operators(np.diag(np.r_[3.0, 2.0, np.zeros(30)])), nev=4)
    E.solve()
    assert E.result.reason is ConvergedReason.CONVERGED_ROUNDING
    assert E.getConvergedReason() == EPS.ConvergedReason.CONVERGED_TOL
    assert E.getConverged() == 4


def test_results(operators, symmetric, gather, solver):
    M = symmetric(np.r_[10.0, 8.0, 7.0, np.linspace(0, 1, 37)])
    A = operators(M)
    E = solver(A, nev=3)
    E.setDimensions(3, 12)
    with pytest.raises(MiramnsError, match="call solve"):
        _ = E.result
    E.solve()
    result = E.result
    assert result.reason is ConvergedReason.CONVERGED_TOL
    assert E.getConvergedReason() == EPS.ConvergedReason.CONVERGED_TOL
    assert E.getConverged() == 3
    assert E.getIterationNumber() == result.n_restarts + 1
    assert E.getDimensions()[:2] == (3, 12)
    xr, xi = A.createVecs()
    norm = np.abs(M).sum(axis=1).max()
    for i, exact in enumerate([10.0, 8.0, 7.0]):
        assert E.getEigenvalue(i) == pytest.approx(exact, rel=1e-12)
        assert E.getEigenpair(i, xr, xi) == E.getEigenvalue(i)
        assert E.getEigenpair(i) == E.getEigenvalue(i)
        assert xi.norm() == 0
        assert xr.norm() == pytest.approx(1)
        xr.set(0)
        E.getEigenvector(i, xr)
        y = A * xr
        y.axpy(-E.getEigenvalue(i), xr)
        residual = y.norm()
        assert E.computeError(i, EPS.ErrorType.ABSOLUTE) == pytest.approx(residual, abs=1e-14)
        relative = pytest.approx(residual / exact, abs=1e-14)
        assert E.computeError(i) == E.computeError(i, EPS.ErrorType.RELATIVE) == relative
        backward = residual / (norm + exact)
        assert E.computeError(i, EPS.ErrorType.BACKWARD) == pytest.approx(backward, abs=1e-14)
        assert E.getErrorEstimate(i) == relative
        y.destroy()
    with pytest.raises(MiramnsError, match="pair 3 is not among the 3"):
        E.getEigenvalue(3)
    with pytest.raises(MiramnsError, match="pair -1"):
        E.getEigenpair(-1)
    bv = E.getBV()
    assert bv.getActiveColumns() == (0, 3)
    bv.copyVec(1, xr)
    np.testing.assert_array_equal(xr.getArray(), result.eigenvectors[:, 1])
    basis = E.getInvariantSubspace()
    V = gather(np.column_stack([v.getArray() for v in basis]))
    np.testing.assert_allclose(V.T @ V, np.eye(3), atol=1e-12)
    for vector in (xr, xi, *basis):
        vector.destroy()
    # another solve replaces what the BV holds
    E.setDimensions(2)
    E.setWhichEigenpairs(EPS.Which.SMALLEST_REAL)
    E.solve()
    assert E.getBV().getActiveColumns() == (0, 2)
    assert E.getEigenvalue(1) == pytest.approx(1 / 36, abs=1e-9)
    E.reset()
    assert E.getConverged() == 0
    with pytest.raises(MiramnsError, match="setOperators must be called"):
        E.solve()


def rotations(pairs, others, seed=0):
    """A nonsymmetric matrix with those conjugate pairs and real eigenvalues."""
    n = 2 * len(pairs) + len(others)
    M = np.diag(np.r_[np.zeros(2 * len(pairs)), others])
    for i, (real, imag) in enumerate(pairs):
        M[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[real, -imag], [imag, real]]
    X = np.random.default_rng(seed).standard_normal((n, n)) + 4 * np.eye(n)
    return X @ M @ np.linalg.inv(X)


def test_conjugate_pairs(operators, gather, solver):
    M = rotations([(2, 1), (-1, 2)], np.linspace(-1, 1, 26))
    A = operators(M)
    E = solver(A, problem=EPS.ProblemType.NHEP, nev=3)
    E.solve()
    # as EPS: a pair is whole, the positive imaginary part first
    assert E.getConverged() == 4
    values = np.array([E.getEigenvalue(i) for i in range(4)])
    np.testing.assert_allclose(np.abs(values), np.sqrt(5), atol=1e-8)
    np.testing.assert_array_equal(values[1::2], values[::2].conj())
    assert (values[::2].imag > 0).all()
    re, im = A.createVecs()
    for i in range(4):
        value = E.getEigenpair(i, re, im)
        x = gather(re.getArray()[:, None]) + 1j * gather(im.getArray()[:, None])
        assert np.linalg.norm(M @ x - value * x) <= 1e-7
        assert np.linalg.norm(x) == pytest.approx(1)
    basis = E.getInvariantSubspace()
    V = gather(np.column_stack([v.getArray() for v in basis]))
    np.testing.assert_allclose(V.T @ V, np.eye(4), atol=1e-12)
    for j in (2, 4):
        assert np.linalg.norm(M @ V[:, :j] - V[:, :j] @ (V[:, :j].T @ M @ V[:, :j])) <= 1e-6
    bv = E.getBV()
    bv.copyVec(0, re)
    bv.copyVec(1, im)
    x = gather(re.getArray()[:, None]) + 1j * gather(im.getArray()[:, None])
    assert np.linalg.norm(M @ x - values[0] * x) <= 1e-7
    for vector in (re, im, *basis):
        vector.destroy()


ORDERS = {
    "LARGEST_MAGNITUDE": lambda w: -np.abs(w),
    "SMALLEST_MAGNITUDE": np.abs,
    "LARGEST_REAL": lambda w: -w.real,
    "SMALLEST_REAL": lambda w: w.real,
    "LARGEST_IMAGINARY": lambda w: -np.abs(w.imag),
    "TARGET_MAGNITUDE": lambda w: np.abs(w - 0.7),
    "TARGET_REAL": lambda w: np.abs(w.real - 0.7),
    "TARGET_IMAGINARY": lambda w: np.abs(np.abs(w.imag) - 0.7),
    "USER": lambda w: np.abs(w - 1.3),
}


@pytest.mark.parametrize("which", ORDERS)
@pytest.mark.parametrize("hermitian", [True, False])
def test_every_part_of_the_spectrum(operators, symmetric, solver, which, hermitian):
    if hermitian and "IMAGINARY" in which:
        pytest.skip("eigenvalues of Hermitian problems are real")
    if hermitian:
        values = np.linspace(-3, 2, 40) ** 3 / 5 + 0.01
        M, kind = symmetric(values), EPS.ProblemType.HEP
    else:
        pairs = [(2, 1), (-1, 2), (0.9, 0.72), (0.71, 0.3), (0.2, 3)]
        reals = np.r_[np.linspace(-4, -3, 10), 0.05, -0.11, 1.25, 4.5]
        M, kind = rotations(pairs, reals), EPS.ProblemType.NHEP
        values = np.r_[[complex(a, s * b) for a, b in pairs for s in (1, -1)], reals]
    E = solver(operators(M), problem=kind, nev=3)
    E.setWhichEigenpairs(getattr(EPS.Which, which))
    E.setTarget(0.7)
    seen = []

    def nearer(a, b, args, shift=0.0):
        seen.append(args)
        return int(np.sign(abs(a - shift) - abs(b - shift)))

    E.setEigenvalueComparison(nearer, (1, 2), {"shift": 1.3})
    E.solve()
    assert E.getConverged() >= 3
    keys = np.sort(ORDERS[which](values))[:3]
    found = np.array([E.getEigenvalue(i) for i in range(3)])
    np.testing.assert_allclose(ORDERS[which](found), keys, atol=1e-7)
    if which == "USER" and E.getComm().getRank() == 0:
        assert set(seen) == {(1, 2)}


@pytest.mark.parametrize("conv", ["ABS", "REL", "NORM"])
def test_convergence_tests(operators, symmetric, solver, conv):
    values = 1e3 * np.r_[1.0, 0.9, np.linspace(0, 0.8, 198)]
    E = solver(operators(symmetric(values)))
    E.setConvergenceTest(getattr(EPS.Conv, conv))
    E.setTolerances(1e-5)
    E.solve()
    factor = {"ABS": 1.0, "REL": 900.0, "NORM": 1000.0}[conv]
    # ||A|| is an estimate from below
    least = 0.5 if conv == "NORM" else 0.999
    assert least <= E.result.residual_tolerances[1] / (1e-5 * factor) <= 1.001
    for i in range(2):
        share = E.result.residual_norms[i] / E.result.residual_tolerances[i]
        assert E.getErrorEstimate(i) == pytest.approx(1e-5 * share)


def test_too_few_cycles(operators, symmetric, solver):
    E = solver(operators(symmetric(np.linspace(1, 2, 200))), nev=4)
    E.setDimensions(4, 8)
    E.setTolerances(1e-10, 2)
    E.solve()
    assert E.getConvergedReason() == EPS.ConvergedReason.DIVERGED_ITS
    assert E.getIterationNumber() == 2
    assert E.getConverged() < 4


def test_an_operator_that_is_not_linear_does_not_converge(comm, solver):
    state = np.random.default_rng(0)
    values = np.linspace(1, 2, 60)

    class Noisy:
        def mult(self, mat, x, y):
            first, last = mat.getOwnershipRange()
            noise = 1e-3 * state.standard_normal(60)
            y.setArray((values + noise)[first:last] * x.getArray(readonly=1))

    A = PETSc.Mat().createPython([60, 60], Noisy(), comm=comm)
    A.setUp()
    E = solver(A)
    E.setMultiplicityCheck("never")
    E.solve()
    assert E.getConvergedReason() == EPS.ConvergedReason.DIVERGED_BREAKDOWN
    assert E.getConverged() < 2
    A.destroy()


def test_start_and_deflation_serve_for_one_solve(comm, operators, solver):
    values = np.r_[5.0, 4.0, 3.0, np.linspace(0, 1, 37)]
    A = operators(np.diag(values))
    E = solver(A, nev=1)
    vectors = []
    for place in (0, 1):
        vector = A.createVecLeft()
        vector.set(0)
        if comm.rank == 0:
            vector[place] = 2.0
        vector.assemble()
        vectors.append(vector)
    E.setDeflationSpace(vectors[0])
    E.setInitialSpace(vectors[1])
    E.solve()
    # from an eigenvector of the complement: one product would do
    assert E.getEigenvalue(0) == pytest.approx(4.0)
    E.setDeflationSpace(vectors)
    E.solve()
    assert E.getEigenvalue(0) == pytest.approx(3.0)
    E.solve()
    assert E.getEigenvalue(0) == pytest.approx(5.0)
    with pytest.raises(MiramnsError, match="at least one vector"):
        E.setInitialSpace([])
    for vector in vectors:
        vector.destroy()


def test_monitors(operators, symmetric, solver, options, capfd, comm):
    E = solver(operators(symmetric(np.linspace(1, 2, 100))), nev=2)
    calls = []

    def monitor(eps, its, nconv, eig, err, label, *, unit):
        assert eps is E
        assert len(eig) >= 2
        assert len(err) >= 2
        assert isinstance(eig[0], complex)
        assert isinstance(err[0], float)
        calls.append((its, nconv, label, unit))

    E.setMonitor(None)
    E.setMonitor(monitor, ("a",), {"unit": "b"})
    assert E.getMonitor() == [(monitor, ("a",), {"unit": "b"})]
    E.setDimensions(2, 8)
    E.solve()
    assert calls[-1] == (E.getIterationNumber(), 2, "a", "b")
    assert [its for its, *_ in calls] == sorted(its for its, *_ in calls)
    E.cancelMonitor()
    assert E.getMonitor() is None
    calls.clear()
    E.solve()
    assert not calls
    capfd.readouterr()
    options(miramns_monitor="")
    E.setFromOptions()
    E.solve()
    assert ("nconv=2 largest error" in capfd.readouterr().out) == (comm.rank == 0)
    E.setMonitor(monitor)
    options(eps_monitor_cancel="1")
    PETSc.Options().delValue("miramns_monitor")
    E.setFromOptions()
    assert E.getMonitor() is None


def test_options_of_eps(operators, solver, options):
    E = solver(operators(np.diag(np.arange(1.0, 41))))
    E.setOptionsPrefix("x_")
    options(x_eps_nev=3, x_eps_ncv=17, x_eps_tol=1e-5, x_eps_max_it=33, x_eps_target=20.2)
    options(x_eps_smallest_real="", x_eps_conv_abs="", x_st_type="sinvert", eps_nev=9)
    options(x_eps_type="lanczos", x_eps_hermitian="", x_st_shift=20.4)
    with pytest.warns(UserWarning, match="'lanczos' has no effect"):
        E.setFromOptions()
    assert E.getDimensions()[:2] == (3, 17)
    assert E.getTolerances() == (1e-5, 33)
    assert E.getTarget() == 20.2
    assert E.getWhichEigenpairs() == EPS.Which.TARGET_MAGNITUDE
    assert E.getConvergenceTest() == EPS.Conv.ABS
    assert E.getST().getType() == "sinvert"
    assert E.getST().getShift() == 20.4
    assert PETSc.Options().getString("x_eps_type") == "lanczos"
    E.solve()
    np.testing.assert_allclose([E.getEigenvalue(i) for i in range(3)], [20, 21, 19], atol=1e-5)


def test_one_reduction_a_column_by_option(operators, solver, options):
    E = solver(operators(np.diag(np.arange(1.0, 41) ** -1)))
    E.setOptionsPrefix("x_")
    options(x_miramns_orthogonalization="dcgs2", x_miramns_nev=2)
    E.setFromOptions()
    assert E.getOrthogonalization() == "dcgs2"
    E.solve()
    np.testing.assert_allclose([E.getEigenvalue(i) for i in range(2)], [1, 0.5], atol=1e-9)
    options(x_miramns_orthogonalization="cgs")
    with pytest.raises(MiramnsError, match="auto, full, partial, dcgs2"):
        E.setFromOptions()


def test_options_of_its_own(operators, solver, options):
    E = solver(operators(np.diag(np.arange(1.0, 41))))
    E.setOptionsPrefix("x_")
    options(x_eps_type="miramns", x_miramns_nev=3, x_miramns_ncv=19, x_miramns_mpd=15)
    options(x_miramns_tol=1e-5, x_miramns_max_it=33, x_miramns_variant="published")
    options(x_miramns_which="target_real", x_miramns_target=20.2, x_miramns_seed=4)
    options(x_miramns_orthogonalization="full", x_miramns_multiplicity_check="never")
    options(x_miramns_nested_sizes="6,12", x_miramns_conv="norm")
    options(x_miramns_block_size=3)
    E.setFromOptions()
    assert E.getDimensions() == (3, 19, 15)
    assert E.getTolerances() == (1e-5, 33)
    assert E.getTarget() == 20.2
    assert E.getWhichEigenpairs() == EPS.Which.TARGET_REAL
    assert E.getConvergenceTest() == EPS.Conv.NORM
    assert E.getVariant() == "published"
    assert E.getOrthogonalization() == "full"
    assert E.getMultiplicityCheck() == "never"
    assert E.getNestedSizes() == (6, 12)
    assert E.getBlockSize() == 3
    assert E.getSeed() == 4
    options(x_miramns_which="smallest_real", x_miramns_target=1.5)
    E.setFromOptions()
    assert E.getWhichEigenpairs() == EPS.Which.TARGET_MAGNITUDE
    for name, value, message in (
        ("which", "biggest", "-miramns_which biggest is not one of largest_magnitude"),
        ("variant", "x", "-miramns_variant x is not one of default, published, block"),
        ("nested_sizes", "4,b", "integers with commas"),
    ):
        options(**{f"x_miramns_{name}": value})
        with pytest.raises(MiramnsError, match=message):
            E.setFromOptions()
        PETSc.Options().delValue(f"x_miramns_{name}")


def text_of(view, comm, shared_tmp, name):
    path = shared_tmp / name
    viewer = PETSc.Viewer().createASCII(str(path), "w", comm=comm)
    view(viewer)
    viewer.destroy()
    comm.Barrier()
    return path.read_text()


def test_views(comm, operators, solver, shared_tmp):
    E = solver(operators(np.diag(np.arange(1.0, 31))))
    E.setNestedSizes([10, 30])
    E.solve()
    text = text_of(E.view, comm, shared_tmp, "settings")
    for line in ("type: miramns", "nested sizes: 10, 30", "symmetric eigenvalue problem"):
        assert line in text
    assert "largest magnitude" in text
    assert "(nev): 2" in text
    text = text_of(E.valuesView, comm, shared_tmp, "values")
    assert text == "Eigenvalues = \n   30.00000\n   29.00000\n\n"
    text = text_of(lambda v: E.errorView(None, v), comm, shared_tmp, "errors")
    assert "All requested eigenvalues computed up to the required tolerance" in text
    assert "30.00000, 29.00000" in text

    def detail(viewer):
        viewer.pushFormat(PETSc.Viewer.Format.ASCII_INFO_DETAIL)
        E.errorView(EPS.ErrorType.BACKWARD, viewer)
        viewer.popFormat()

    text = text_of(detail, comm, shared_tmp, "detail")
    assert "eta(x,k)" in text
    assert "30.000000" in text
    text = text_of(E.vectorsView, comm, shared_tmp, "vectors")
    assert text.count("Vec Object") == 2
    E.setDimensions(4, 6)
    E.setNestedSizes(None)
    E.setTolerances(1e-12, 1)
    E.solve()
    text = text_of(lambda v: E.errorView(viewer=v), comm, shared_tmp, "missing")
    assert "less than 4 eigenvalues converged" in text


def test_views_after_the_solve_by_options(operators, solver, options, capfd, comm):
    E = solver(operators(np.diag(np.arange(1.0, 31) / 100)))
    options(eps_view="", eps_view_values="", miramns_converged_reason="")
    options(eps_error_relative="::ascii_info_detail", eps_error_absolute="", eps_view_vectors="")
    E.solve()
    out = capfd.readouterr().out
    if comm.rank == 0:
        for text in (
            "type: miramns",
            "MIRAMns default",
            "Eigenvalues =",
            "converged (2 eigenpairs) due to CONVERGED_TOL; iterations ",
            "||Ax-kx||/||kx||",
            "All requested",
            "Vec Object",
        ):
            assert text in out


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda E: E.setProblemType(EPS.ProblemType.GHIEP), "use HEP, NHEP, GHEP or GNHEP"),
        (lambda E: E.setWhichEigenpairs(EPS.Which.ALL), "Which.ALL"),
        (lambda E: E.setInterval(0, 1), "interval"),
        (lambda E: E.setConvergenceTest(EPS.Conv.USER), "convergence test of the user"),
        (lambda E: E.setStoppingTest(print), "stopping test"),
        (lambda E: E.setArbitrarySelection(print), "arbitrary selection"),
        (lambda E: E.setTwoSided(True), "two-sided"),
        (lambda E: E.setThreshold(0.5), "threshold"),
        (lambda E: E.setLeftInitialSpace([]), "left initial space"),
        (lambda E: E.getLeftEigenvector(0), "left eigenvector"),
        (lambda E: (E.setBalance(EPS.Balance.ONESIDE), E.solve()), "balancing"),
        (lambda E: (interval_region(E.getRG()), E.solve()), "region of eigenvalues"),
        (lambda E: (E.setExtraction(EPS.Extraction.HARMONIC), E.solve()), "extraction"),
        (lambda E: (E.setWhichEigenpairs(EPS.Which.USER), E.solve()), "setEigenvalueComparison"),
        (
            lambda E: (E.setWhichEigenpairs(EPS.Which.TARGET_IMAGINARY), E.solve()),
            "eigenvalues of Hermitian problems are real",
        ),
        (lambda E: (E.getST().setType("filter"), E.solve()), "use shift, sinvert or cayley"),
    ],
)
def test_what_is_not_supported_is_refused(operators, solver, call, message):
    E = solver(operators(np.diag(np.arange(1.0, 11))))
    with pytest.raises(MiramnsError, match=message) as refusal:
        call(E)
    assert "\n" not in str(refusal.value)


def test_options_that_are_not_supported_are_refused(operators, solver, options):
    E = solver(operators(np.diag(np.arange(1.0, 11))))
    options(eps_all="")
    E.setFromOptions()
    with pytest.raises(MiramnsError, match=r"Which\.ALL"):
        E.solve()


@pytest.mark.parametrize("destroyed", [False, True])
def test_methods_without_an_object_are_refused(operators, solver, destroyed):
    """SLEPc crashes there."""
    A = operators(np.diag(np.arange(1.0, 11)))
    E = MIRAMns()
    if destroyed:
        E = solver(A)
        E.destroy()
    for call in (
        lambda: E.setOperators(A),
        lambda: E.setDimensions(2),
        lambda: E.solve(),
        lambda: E.getST(),
    ):
        with pytest.raises(MiramnsError, match=r"call create\(\) first"):
            call()
    E.destroy()


def test_harmless_calls_of_scripts_for_slepc(operators, solver):
    E = solver(operators(np.diag(np.arange(1.0, 11))), nev=99)
    with pytest.warns(UserWarning, match="'krylovschur' has no effect"):
        E.setType(E.Type.KRYLOVSCHUR)
    E.setType("miramns")
    E.setKrylovSchurRestart(0.7)
    E.setPurify(False)
    E.setTrackAll(True)
    E.setTwoSided(False)
    E.setStoppingTest(None)
    E.solve()
    # nev is cut to what there is, as by EPS
    assert E.getConverged() == 10


def test_problem_type_follows_the_matrices(operators, comm):
    A, B = operators(np.diag(np.arange(1.0, 11))), operators(np.diag(np.arange(2.0, 12)))
    E = MIRAMns().create(comm)
    E.setOperators(A)
    E.setUp()
    assert E.getProblemType() == EPS.ProblemType.NHEP
    assert E.getWhichEigenpairs() == EPS.Which.LARGEST_MAGNITUDE
    E.setProblemType(EPS.ProblemType.GHEP)
    E.setUp()
    assert E.getProblemType() == EPS.ProblemType.HEP
    E.setOperators(A, B)
    with pytest.raises(MiramnsError, match="must be GHEP or GNHEP"):
        E.setUp()
    E.destroy()
    E = MIRAMns().create(comm)
    E.setOperators(A, B)
    E.setUp()
    assert E.getProblemType() == EPS.ProblemType.GNHEP
    E.destroy()


def test_complex_build_is_refused(monkeypatch, comm):
    monkeypatch.setattr(PETSc, "ScalarType", np.complex128)
    with pytest.raises(MiramnsError, match="complex scalars"):
        MIRAMns().create(comm)
