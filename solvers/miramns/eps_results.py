"""The answer of MIRAMns in the words of EPS: converged pairs, errors, bases."""
# The methods have SLEPc's names.
# ruff: noqa: N802

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from slepc4py import SLEPc

from miramns.convergence import MiramnsError, Reason
from miramns.eps_view import view_errors, view_values, view_vectors
from miramns.norms import matrix_norm
from miramns.result import EigenResult

__all__ = ["Results"]

_ERROR = SLEPc.EPS.ErrorType
_REASONS = {
    Reason.CONVERGED_TOL: SLEPc.EPS.ConvergedReason.CONVERGED_TOL,
    Reason.DIVERGED_ITS: SLEPc.EPS.ConvergedReason.DIVERGED_ITS,
    Reason.DIVERGED_STAGNATED: SLEPc.EPS.ConvergedReason.DIVERGED_BREAKDOWN,
}


class Results:
    """Methods of EPS that hand out results, before an EPS in the order of base classes."""

    _result: EigenResult | None
    _converged: NDArray[np.intp]
    _its: int
    _norms: tuple[float, float] | None
    _bv_filled: bool

    def _forget(self) -> None:
        self._result = None
        self._its = 0
        self._norms = None
        self._bv_filled = False

    @property
    def result(self) -> EigenResult:
        """All pairs asked for, converged or not, with their certificate. Not collective."""
        if self._result is None:
            raise MiramnsError("there is no result yet: call solve() first")
        return self._result

    def getConverged(self) -> int:
        """Give the number of converged pairs. Not collective."""
        return 0 if self._result is None else self._result.n_converged

    def getConvergedReason(self) -> int:
        """Why the last solve stopped, as ``EPS.ConvergedReason``. Not collective."""
        if self._result is None:
            return int(SLEPc.EPS.ConvergedReason.CONVERGED_ITERATING)
        return int(_REASONS[self._result.reason])

    def getIterationNumber(self) -> int:
        """Give the number of cycles between restarts. Not collective."""
        return self._its if self._result is None else self._result.n_restarts + 1

    def _place(self, i: int) -> int:
        """Where the i-th converged pair stands in the result."""
        if not 0 <= i < self.getConverged():
            raise MiramnsError(
                f"pair {i} is not among the {self.getConverged()} that converged, counted from 0"
            )
        result = self.result
        return int(np.flatnonzero(result.residual_norms <= result.bounds)[i])

    def getEigenvalue(self, i: int) -> complex | float:
        """Give the i-th value: float for Hermitian problems, else complex. Not collective."""
        return self.result.eigenvalues[self._place(i)].item()  # type: ignore[no-any-return]

    def getEigenvector(self, i: int, Vr: PETSc.Vec = None, Vi: PETSc.Vec = None) -> None:
        """Put real and imaginary part of the i-th vector into the given ones. Collective.

        Unit length, or unit length in the inner product of B for GHEP.
        """
        column = self.result.eigenvectors[:, self._place(i)]
        for vector, part in ((Vr, column.real), (Vi, column.imag)):
            if vector is not None:
                vector.setArray(part)

    def getEigenpair(self, i: int, Vr: PETSc.Vec = None, Vi: PETSc.Vec = None) -> complex | float:
        """Give the i-th value, its vector as :meth:`getEigenvector`. Collective."""
        self.getEigenvector(i, Vr, Vi)
        return self.getEigenvalue(i)

    def getErrorEstimate(self, i: int) -> float:
        """Give the residual norm relative to what the convergence test says. Not collective."""
        place, result = self._place(i), self.result
        residual = float(result.residual_norms[place])
        test = self.getConvergenceTest()  # type: ignore[attr-defined]
        if test == SLEPc.EPS.Conv.ABS:
            return residual
        if test == SLEPc.EPS.Conv.NORM:
            # the bound is the tolerance times the norms, unless rounding is larger
            return residual / float(result.bounds[place]) * float(self.getTolerances()[0])  # type: ignore[attr-defined]
        modulus = abs(result.eigenvalues[place])
        return residual / float(modulus) if modulus else residual

    def computeError(self, i: int, etype: int | None = None) -> float:
        """Give the error of the i-th pair from its true residual ``||A x - lambda B x||``.

        Collective. ABSOLUTE is the residual, RELATIVE (the default) its ratio to ``||lambda x||``,
        BACKWARD to ``(||A|| + |lambda| ||B||) ||x||`` in infinity norms.
        """
        place, result = self._place(i), self.result
        residual = float(result.residual_norms[place])
        if etype == _ERROR.ABSOLUTE:
            return residual
        column = result.eigenvectors[:, place]
        square = float(np.vdot(column, column).real)
        length = np.sqrt(self._communicator().allreduce(square, op=MPI.SUM))
        modulus = float(abs(result.eigenvalues[place]))
        if etype == _ERROR.BACKWARD:
            norms = self._matrix_norms()
            return float(residual / ((norms[0] + modulus * norms[1]) * length))
        return float(residual / (modulus * length)) if modulus else residual

    def _communicator(self) -> MPI.Comm:
        A, _ = self.getOperators()  # type: ignore[attr-defined]
        return A.getComm().tompi4py()

    def _matrix_norms(self) -> tuple[float, float]:
        if self._norms is None:
            A, B = self.getOperators()  # type: ignore[attr-defined]
            self._norms = _infinity_norm(A), 1.0 if B is None else _infinity_norm(B)
        return self._norms

    def getInvariantSubspace(self) -> list[PETSc.Vec]:
        """Give an orthonormal basis of the space of the converged vectors. Collective.

        The first j span that of the first j pairs, if no conjugate pair is cut there. For GHEP it
        is orthonormal in the inner product of B. The caller destroys the vectors.
        """
        columns = self._real_columns()
        if not self.isHermitian():  # type: ignore[attr-defined]
            _orthonormalize_in_order(self._communicator(), columns)
        return [self._vector(column) for column in columns.T]

    def getBV(self) -> SLEPc.BV:
        """Give the BV, which holds the converged vectors after a solve. Collective.

        As with EPS for real scalars, a conjugate pair takes two columns: real and imaginary part.
        """
        bv = super().getBV()  # type: ignore[misc]
        if self.getConverged() and not self._bv_filled:
            vectors = [self._vector(column) for column in self._real_columns().T]
            # not every type can be resized, so each result gets a new one
            fresh = SLEPc.BV().create(comm=bv.getComm())
            fresh.setSizesFromVec(vectors[0], len(vectors))
            fresh.setType(bv.getType() or SLEPc.BV.Type.SVEC)
            for j, vector in enumerate(vectors):
                fresh.insertVec(j, vector)
                vector.destroy()
            super().setBV(fresh)  # type: ignore[misc]
            self._bv_filled = True
            return fresh
        return bv

    def _real_columns(self) -> NDArray[np.float64]:
        """This rank's rows of the converged vectors, conjugate pairs as two real ones."""
        result = self.result
        passed = result.residual_norms <= result.bounds
        values, X = result.eigenvalues[passed], result.eigenvectors[:, passed]
        if not np.iscomplexobj(X):
            return np.array(X)
        return np.where(values.imag < 0, -X.imag, X.real)

    def _vector(self, column: NDArray[np.float64]) -> PETSc.Vec:
        vector = self.getOperators()[0].createVecLeft()  # type: ignore[attr-defined]
        vector.setArray(column)
        return vector

    def errorView(self, etype: int | None = None, viewer: PETSc.Viewer = None) -> None:
        """Print the errors of the pairs, or that they are within the tolerance. Collective."""
        view_errors(self, etype, viewer)

    def valuesView(self, viewer: PETSc.Viewer = None) -> None:
        """Print the converged eigenvalues. Collective."""
        view_values(self, viewer)

    def vectorsView(self, viewer: PETSc.Viewer = None) -> None:
        """Print the converged eigenvectors. Collective."""
        view_vectors(self, viewer)


def _infinity_norm(M: PETSc.Mat) -> float:
    if M.getType() in ("python", "shell"):
        return matrix_norm(M)
    return float(M.norm(PETSc.NormType.INFINITY))


def _orthonormalize_in_order(comm: MPI.Comm, X: NDArray[Any]) -> None:
    """Gram and Schmidt on the columns, twice each, in place. Collective."""
    for j in range(X.shape[1]):
        for _sweep in range(2):
            X[:, j] -= X[:, :j] @ comm.allreduce(X[:, :j].T @ X[:, j])
            X[:, j] /= np.sqrt(comm.allreduce(float(X[:, j] @ X[:, j])))
