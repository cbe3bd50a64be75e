"""Differing arguments, and exceptions on one rank, end on every rank."""

import numpy as np
import pytest
import scipy.sparse
from petsc4py import PETSc

import miramns
from miramns import MIRAMns, MiramnsError, OperatorError, Options
from released_frames import releases_frames

pytestmark = pytest.mark.mpi

N = 300


def fail():
    """Raise an exception with a cause; both are variables of this frame, which they hold."""
    errors = []
    for number, text in enumerate(("no space", "disk is full")):
        try:
            raise RuntimeError(text) from (errors[-1] if number else None)
        except RuntimeError as error:
            errors.append(error)
    raise errors[-1]


class FailingShell:
    """diag(1, 1/2, 1/3, ...) whose product number `at` raises an exception on the last rank."""

    def __init__(self, comm, at):
        self.comm, self.at, self.count = comm, at, 0

    def mult(self, mat, x, y):
        self.count += 1
        if self.count == self.at and self.comm.rank == self.comm.size - 1:
            fail()
        first, last = mat.getOwnershipRange()
        y.setArray(x.getArray(readonly=1) / np.arange(first + 1.0, last + 1))


@pytest.fixture
def failing(comm, keep):
    def make(at=0):
        A = keep(PETSc.Mat()).createPython((N, N), FailingShell(comm, at), comm=comm)
        A.setUp()
        return A

    return make


def fails(comm, call, kind, message):
    """The last rank raises its exception, the others one that names this rank."""
    last = comm.size - 1
    if comm.size == 1:
        # newer bindings of PETSc wrap an exception of a product
        kind, message = (kind, PETSc.Error), None
    with pytest.raises(kind if comm.rank == last else MiramnsError, match=message) as caught:
        call()
    if comm.rank != last:
        assert f"[rank {last}]" in str(caught.value)
    return caught


SOLVES = {
    "default": lambda A: miramns.solve(A, 3, hermitian=True),
    "nonsymmetric": lambda A: miramns.solve(A, 3, hermitian=False),
    "published": lambda A: miramns.solve(A, 3, variant="published"),
    "block": lambda A: miramns.solve(A, 3, hermitian=True, variant="block"),
    "chosen width": lambda A: miramns.solve(A, 20, hermitian=True, variant="block"),
    "dcgs2": lambda A: miramns.solve(
        A, 3, hermitian=True, options=Options(orthogonalization="dcgs2")
    ),
    "partial": lambda A: miramns.solve(
        A, 3, hermitian=True, options=Options(orthogonalization="partial")
    ),
    "slepc": lambda A: miramns.slepc(A, 3, hermitian=True),
    "certify": lambda A: miramns.certify(A, np.eye(N, 12)[slice(*A.getOwnershipRange())], tol=1e-8),
}


@pytest.mark.parametrize("at", [1, 7, 12])
@pytest.mark.parametrize("name", SOLVES)
def test_a_product_that_fails_on_one_rank(comm, failing, name, at):
    fails(comm, lambda: SOLVES[name](failing(at)), RuntimeError, "disk is full")
    result = SOLVES[name](failing())
    exact = 1 / np.arange(1.0, len(result.eigenvalues) + 1)
    np.testing.assert_allclose(np.abs(result.eigenvalues), exact, rtol=1e-7)


def test_a_failure_is_an_operator_error_with_its_text(comm, failing):
    if comm.size == 1:
        pytest.skip("needs two ranks")
    if comm.rank < comm.size - 1:
        with pytest.raises(OperatorError, match=r"a product .* raised RuntimeError: disk is full"):
            miramns.solve(failing(3), 3, hermitian=True)
    else:
        with pytest.raises(RuntimeError, match="disk is full") as caught:
            miramns.solve(failing(3), 3, hermitian=True)
        assert "raise errors[-1]" in caught.value.__notes__[0]


@pytest.mark.parametrize("name", SOLVES)
def test_a_product_that_fails_leaves_no_frames(comm, failing, name):
    if comm.size == 1:
        pytest.skip("on one rank the traceback has frames")
    A = failing(3)
    assert releases_frames(lambda: SOLVES[name](A), (RuntimeError, MiramnsError))


def test_a_monitor_or_a_selection_that_fails_leaves_no_frames(comm, failing):
    if comm.size == 1:
        pytest.skip("on one rank the traceback has frames")

    def call(_values):
        if comm.rank == comm.size - 1:
            fail()

    def select(_values):
        fail()

    for options in ({"monitor": call}, {"which": select}):
        A = failing()
        assert releases_frames(
            lambda A=A, options=options: miramns.solve(A, 3, hermitian=True, **options),
            (RuntimeError, MiramnsError),
        )


def test_a_monitor_that_fails_on_one_rank(comm, failing):
    def monitor(record):
        if comm.rank == comm.size - 1 and record.size > 6:
            raise KeyError("no such record")

    def run():
        miramns.solve(failing(), 3, hermitian=True, monitor=monitor)

    fails(comm, run, KeyError, "no such record")


def test_a_monitor_on_one_rank_alone(comm, failing):
    records = []
    monitor = records.append if comm.rank == 0 else None
    result = miramns.solve(failing(), 3, hermitian=True, monitor=monitor)
    assert result.converged
    assert len(records) == (len(result.history) if comm.rank == 0 else 0)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("k", (3, 4)),
        ("tol", (1e-8, 1e-6)),
        ("ncv", (20, None)),
        ("variant", ("default", "block")),
        ("which", ("LM", "SM")),
        ("max_it", (100, 200)),
        ("seed", (0, 1)),
        ("hermitian", (True, False)),
        ("nested_sizes", ([8, 12], [8, 16])),
        ("block_size", (2, 3)),
    ],
)
def test_arguments_that_differ_between_ranks(comm, failing, name, values):
    if comm.size == 1:
        pytest.skip("needs two ranks")
    value = values[comm.rank == comm.size - 1]
    given = {"k": 3, "hermitian": True, "variant": "block" if name == "block_size" else "default"}
    if name in ("nested_sizes", "block_size"):
        given["options"] = Options(**{name: value})
    else:
        given[name] = value
    with pytest.raises(MiramnsError, match=f"{name} differs between ranks"):
        miramns.solve(failing(), **given)


def test_arguments_of_every_interface(comm, failing):
    if comm.size == 1:
        pytest.skip("needs two ranks")
    other = comm.rank == comm.size - 1
    A = failing()
    X = np.eye(N, 4 + other)[slice(*A.getOwnershipRange())]
    E = MIRAMns().create(comm)
    E.setOperators(A)
    E.setDimensions(3 + other)
    for call, name in (
        (lambda: miramns.slepc(A, 3, which="LM" if other else "LR"), "which"),
        (lambda: miramns.eigsh(A, 3, tol=1e-3 if other else 1e-4), "tol"),
        (lambda: miramns.eigs(A, 3, sigma=1.0 if other else None), "sigma"),
        (lambda: miramns.certify(A, X), "columns"),
        (lambda: miramns.certify_by_samples(A, np.ones(X.shape[1]), X), "columns"),
        (E.solve, "dimensions"),
    ):
        with pytest.raises(MiramnsError, match=f"{name} differs between ranks"):
            call()
    E.destroy()


def test_equal_values_of_different_types_are_the_same(comm, failing):
    k, tol = (np.int64(3), 1e-8) if comm.rank else (3, np.float64(1e-8))
    assert miramns.solve(failing(), k, tol=tol, hermitian=True).converged

    def which(values):
        return -np.abs(values)

    assert miramns.solve(failing(), 3, which=which, hermitian=True).converged


PENCILS = {
    "B": lambda A, B: miramns.solve(A, 3, B=B, hermitian=True, tol=1e-6),
    "B, nonsymmetric": lambda A, B: miramns.solve(A, 3, B=B, hermitian=False, tol=1e-6),
    "M": lambda A, B: miramns.eigsh(A, 3, M=B, tol=1e-6),
    "sigma": lambda A, B: miramns.eigsh(A, 3, sigma=0.4, tol=1e-6),
    "inner": lambda A, B: miramns.solve(A, 3, hermitian=True, options=Options(inner=B)),
}


@pytest.mark.parametrize("at", [1, 2, 7])
@pytest.mark.parametrize(("name", "failing_one"), [
    ("B", "A"), ("B", "B"), ("B, nonsymmetric", "B"), ("M", "B"), ("sigma", "A"), ("inner", "B"),
])  # fmt: skip
def test_matrices_of_a_pencil_that_fail_on_one_rank(comm, failing, name, failing_one, at):
    """Also in the iterative solves of PETSc, which know of no other rank."""
    if comm.size == 1:
        pytest.skip("PETSc's solver cannot be ended by an exception on one rank")
    A, B = failing(at if failing_one == "A" else 0), failing(at if failing_one == "B" else 0)
    fails(comm, lambda: PENCILS[name](A, B), RuntimeError, "disk is full")


def test_errors_without_and_with_several_lines_of_text(comm, failing):
    if comm.size == 1:
        pytest.skip("needs two ranks")

    class SilentError(Exception):
        def __str__(self):
            raise ValueError("no text")

    for error, text in (
        (RuntimeError("disk\nis full"), "disk is full"),
        (SilentError(), "without"),
    ):

        def monitor(record, error=error):
            if comm.rank == comm.size - 1:
                raise error

        with pytest.raises((MiramnsError, type(error))) as caught:
            miramns.solve(failing(), 3, hermitian=True, monitor=monitor)
        if comm.rank != comm.size - 1:
            assert text in str(caught.value)


def test_a_selection_that_fails_on_rank_0(comm, failing):
    def which(values):
        raise KeyError("no key")

    with pytest.raises((KeyError, MiramnsError), match="no key"):
        miramns.solve(failing(), 3, which=which, hermitian=True)


def test_pairs_to_certify_that_differ_or_do_not_fit(comm, failing):
    A = failing()
    first, last = A.getOwnershipRange()
    X, values = np.eye(N, 4)[first:last], 1 / np.arange(1.0, 5)
    with pytest.raises(MiramnsError, match="X must hold this rank's rows"):
        miramns.certify(A, X[:, 0])
    short = X[1:] if comm.rank == comm.size - 1 else X
    for certify in (miramns.certify, lambda A, X: miramns.certify_by_samples(A, values, X)):
        with pytest.raises(MiramnsError, match="X must hold this rank's rows"):
            certify(A, short)
    if comm.size == 1:
        pytest.skip("needs two ranks")
    for other in (values + (comm.rank == 1), values[: 4 - (comm.rank == 1)]):
        with pytest.raises(MiramnsError, match="values differs between ranks"):
            miramns.certify(A, X, values=other)
        with pytest.raises(MiramnsError, match="values differs between ranks"):
            miramns.certify_by_samples(A, other, X)


def test_kinds_of_rows_and_memory_that_differ(comm, failing):
    if comm.size == 1:
        pytest.skip("needs two ranks")
    rows = np.eye(N)[slice(*failing().getOwnershipRange())]
    mixed = scipy.sparse.csr_array(rows) if comm.rank else rows
    with pytest.raises(MiramnsError, match="the kind of A differs between ranks"):
        miramns.eigsh(mixed, 3, comm=comm)
    options = Options(memory_bytes=10**6 if comm.rank else None)
    with pytest.raises(MiramnsError, match="has_memory_bytes differs between ranks"):
        miramns.solve(failing(), 3, options=options)
    assert miramns.solve(failing(), 3, options=Options(memory_bytes=10**6 + comm.rank)).converged


@pytest.mark.parametrize("eps_type", ["krylovschur", "gd"])
def test_slepc_ends_after_an_exception(comm, failing, eps_type):
    """Not after the largest number of restarts."""
    A = failing(30)

    def run():
        miramns.slepc(A, 3, eps_type=eps_type, hermitian=True, tol=1e-15, max_it=10**6, ncv=10)

    fails(comm, run, RuntimeError, "disk is full")
    assert A.getPythonContext().count < 500
