"""Products of operators with one or several vectors, their check, and shell matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.agreement import forget_failures, held_failure, keep_failure, raise_failure
from miramns.errors import OperatorError

#: The square of a smaller norm has too few digits.
_LEAST_NORM = 1e-140


class _Function:
    """Context of a shell matrix whose product is a function."""

    def __init__(self, apply: Callable[[PETSc.Vec, PETSc.Vec], None]) -> None:
        self.apply = apply

    def mult(self, _shell: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Call the function. Collective."""
        self.apply(x, y)


class CountedProducts:
    """The product with A, for :func:`shell_like`, and the number of its calls."""

    def __init__(self, A: PETSc.Mat) -> None:
        self.A = A
        self.count = 0

    def __call__(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Compute y = A x. Collective."""
        self.count += 1
        self.A.mult(x, y)


class GuardedProducts(CountedProducts):
    """The same without exceptions, for solvers of PETSc and SLEPc. The caller destroys it.

    A product that raises an exception, and every later one, is `fill`: zero for SLEPc, whose
    objects cannot be destroyed after an exception or NaN. Products are still made, because other
    ranks may take part in them. End the solver if one ``failed``, and call
    :func:`~miramns.agreement.raise_failure` after it.
    """

    def __init__(self, A: PETSc.Mat, fill: float) -> None:
        super().__init__(A)
        self._fill = fill
        self.failed = False
        # a vector stays locked after an exception in its product, and a solver that writes to it
        # would fail, on this rank alone
        self._source = A.createVecRight()

    def __call__(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Compute y = A x. Collective."""
        self._source.placeArray(x.getArray(readonly=1))
        try:
            super().__call__(self._source, y)
        except Exception as error:
            self.failed = True
            with y as entries:
                keep_failure(error, entries, self._fill)
        else:
            if self.failed:
                # VecSet would keep a norm, on this rank alone
                with y as entries:
                    entries[:] = self._fill
        finally:
            self._source.resetArray()

    def destroy(self) -> None:
        """Destroy the vector that this object holds, and forget exceptions. Collective."""
        self._source.destroy()
        forget_failures()


def shell_like(A: PETSc.Mat, apply: Callable[[PETSc.Vec, PETSc.Vec], None]) -> PETSc.Mat:
    """Create a shell matrix distributed as A whose product into y is ``apply(x, y)``.

    Collective. The caller destroys it.
    """
    shell = PETSc.Mat().createPython(A.getSizes(), _Function(apply), comm=A.getComm())
    shell.setUp()
    return shell


@contextmanager
def guarded(A: PETSc.Mat) -> Iterator[PETSc.Mat]:
    """Provide a matrix-free A on several ranks without exceptions in products, which are NaN.

    Collective. For products that PETSc's solvers make. Other matrices are provided as they are.
    """
    if not is_shell(A) or A.getComm().getSize() == 1:
        yield A
        return
    products = GuardedProducts(A, np.nan)
    shell = shell_like(A, products)
    try:
        yield shell
    finally:
        shell.destroy()
        products.destroy()


def vector_like(A: PETSc.Mat, column: NDArray[np.float64]) -> PETSc.Vec:
    """Create a vector with this rank's entries. Collective. The caller destroys it."""
    vector = A.createVecLeft()
    vector.setArray(column)
    return vector


def is_shell(A: PETSc.Mat) -> bool:
    """Return whether a matrix is matrix-free."""
    return A.getType() in ("python", "shell")


def multiply(
    A: PETSc.Mat,
    source: PETSc.Vec,
    target: PETSc.Vec,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> None:
    """Multiply this rank's rows `x` by A, into `y`. Collective.

    If the product raises an exception, `y` is NaN, and :func:`require_norm` raises it.

    Parameters
    ----------
    source, target : PETSc.Vec
        Vectors of the layout of A, laid over the arrays for the time of the product.
    """
    source.placeArray(x)
    target.placeArray(y)
    try:
        A.mult(source, target)
    except Exception as error:
        if not held_failure(A, error, y):
            raise
    finally:
        target.resetArray()
        source.resetArray()


def apply_block(A: PETSc.Mat, X: NDArray[np.float64], Y: NDArray[np.float64]) -> None:
    """Multiply the columns of `X` by the operator, into `Y`, in one product if possible.

    Collective. A shell matrix whose context has a method ``mult_block(X, Y)`` (this rank's rows of
    both, as arrays) calls it; an assembled matrix multiplies a dense matrix; other operators make
    one product per column.

    Parameters
    ----------
    X, Y : ndarray of shape (n_local, k)
        Column-major.
    """
    kind = A.getType()
    if X.shape[1] > 1 and kind == "python":
        context = A.getPythonContext()
        if hasattr(context, "mult_block"):
            try:
                context.mult_block(X, Y)
            except Exception as error:
                if not held_failure(A, error, Y):
                    raise
            return
    if X.shape[1] > 1 and ("dense" in kind or "aij" in kind):
        _multiply_at_once(A, X, Y)
    else:
        _multiply_one_by_one(A, X, Y)


def _multiply_at_once(A: PETSc.Mat, X: NDArray[np.float64], Y: NDArray[np.float64]) -> None:
    sizes = ((X.shape[0], A.getSize()[0]), (None, X.shape[1]))
    source = PETSc.Mat().createDense(sizes, array=np.asfortranarray(X), comm=A.getComm())
    target = None
    try:
        source.assemble()
        target = A.matMult(source)
        Y[:] = target.getDenseArray()
    finally:
        if target is not None:
            target.destroy()
        source.destroy()


def _multiply_one_by_one(A: PETSc.Mat, X: NDArray[np.float64], Y: NDArray[np.float64]) -> None:
    source, target = A.createVecs()
    try:
        for j in range(X.shape[1]):
            multiply(A, source, target, np.ascontiguousarray(X[:, j]), Y[:, j])
    finally:
        source.destroy()
        target.destroy()


def apply_columns(A: PETSc.Mat, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply the columns of `X` by the operator, into a new array.

    Collective. An exception in a product on one rank is raised on all of them.
    """
    Y = np.empty(X.shape, order="F")
    apply_block(A, X, Y)
    if A.getComm().getSize() > 1:
        raise_failure(A.getComm().tompi4py())
    return Y


def apply_to_pairs(A: PETSc.Mat, values: NDArray[Any], X: NDArray[Any]) -> NDArray[Any]:
    """Multiply vectors, complex ones in conjugate pairs, by a real operator.

    Collective: one product per real vector, two per pair.

    Parameters
    ----------
    values : ndarray of shape (k,)
        Eigenvalues of the vectors; in a conjugate pair, the positive imaginary part comes first.
    X : ndarray of shape (n_local, k)
    """
    if not np.iscomplexobj(X):
        return apply_columns(A, X)
    is_real = values.imag == 0
    stored = np.where(values.imag < 0, X.imag, X.real)
    # the second vector of a pair is the conjugate of the first: store its imaginary part
    products = apply_columns(A, np.asfortranarray(stored))
    AX = products.astype(np.complex128)
    for j in np.flatnonzero(~is_real & (values.imag > 0)):
        AX[:, j] = products[:, j] - 1j * products[:, j + 1]
        AX[:, j + 1] = products[:, j] + 1j * products[:, j + 1]
    return AX


def require_norm(
    comm: MPI.Comm, squared: float, w: NDArray[np.float64], operator_norm: float, number: int
) -> None:
    """Raise if the squared norm of a product is not finite or underflows.

    Collective.

    Parameters
    ----------
    squared : float
        The squared norm, the same on all ranks.
    w : ndarray of shape (n_local,) or (n_local, b)
        The product.
    operator_norm : float
        Norm beside which a product may be small.
    number : int
        Number of the product, for the message.

    Raises
    ------
    OperatorError
        On all ranks; an exception that a product raised, on its rank.
    """
    usable = math.isfinite(squared)
    if usable and max(math.sqrt(squared), operator_norm) >= _LEAST_NORM:
        return
    raise_failure(comm)
    # a maximum over ranks may lose a NaN
    if not comm.allreduce(bool(np.isfinite(w).all()), op=MPI.LAND):
        raise OperatorError(
            f"product {number} with the operator has entries that are not finite: "
            "check the data for NaN or Inf"
        )
    largest = comm.allreduce(float(np.max(np.abs(w), initial=0.0)), op=MPI.MAX)
    if not usable or largest > 0:
        raise OperatorError(
            f"the squared norm of product {number} with the operator "
            f"{'underflows' if usable else 'overflows'}: its largest entry is {largest:.1e}. "
            "Rescale the operator so that its eigenvalues are closer to 1"
        )
