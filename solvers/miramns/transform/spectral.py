"""Spectral transformations: operators whose eigenvalues are functions of those of A x = lambda B x.

SLEPc's ST applies them. Their effect on eigenvalues is implemented here, because slepc4py does not
provide the back-transformation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from slepc4py import SLEPc

from miramns.agreement import release_frames
from miramns.errors import MiramnsError
from miramns.norms import EPSILON
from miramns.products import is_shell, shell_like
from miramns.transform.pivoting import PivotedFactorization

#: Packages that factorise distributed sparse matrices.
_PARALLEL_PACKAGES = ("mumps", "superlu_dist", "pastix", "mkl_cpardiso")

#: Tolerance of the iterative solves with matrix-free matrices.
_SOLVE_TOL = 1e-14

Kind = Literal["shift", "sinvert", "cayley"]


@dataclass(frozen=True, slots=True)
class Transformation:
    """Eigenvalues of an operator as a function of the eigenvalues lambda of the problem.

    Attributes
    ----------
    kind : {"shift", "sinvert", "cayley"}
        lambda itself, 1 / (lambda - sigma), or (lambda + antishift) / (lambda - sigma).
    sigma, antishift : float
    """

    kind: Kind
    sigma: float = 0.0
    antishift: float = 0.0

    def forward(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values of the operator for values of the problem."""
        if self.kind == "shift":
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1.0 / (values - self.sigma)
        if self.kind == "sinvert":
            return np.asarray(inverse)
        return np.asarray(1.0 + (self.sigma + self.antishift) * inverse)

    def back(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values of the problem for values of the operator; they may be infinite."""
        if self.kind == "shift":
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.kind == "sinvert":
                return np.asarray(self.sigma + 1.0 / values)
            return np.asarray(self.sigma + (self.sigma + self.antishift) / (values - 1.0))

    def purified(
        self, values: NDArray[Any], X: NDArray[Any], products: NDArray[Any]
    ) -> NDArray[Any]:
        """Return ``(lambda - sigma) (A - sigma B)^-1 B X`` from products of the operator with X."""
        solved = products if self.kind == "sinvert" else products - X
        factor = 1.0 if self.kind == "sinvert" else self.sigma + self.antishift
        return solved * ((values - self.sigma) / factor)

    def __str__(self) -> str:
        names = {"shift": "shift", "sinvert": "shift-and-invert", "cayley": "Cayley transform"}
        return f"{names[self.kind]} at {self.sigma:g}"


def create_st(A: PETSc.Mat, B: PETSc.Mat | None, kind: Kind, sigma: float = 0.0) -> SLEPc.ST:
    """Create an ST that factorises, or iterates if a matrix is matrix-free.

    Collective. The caller destroys it.
    """
    st = SLEPc.ST().create(comm=A.getComm())
    st.setMatrices([A] if B is None else [A, B])
    st.setType(kind)
    st.setShift(sigma)
    if is_shell(A) or (B is not None and is_shell(B)):
        st.setMatMode(SLEPc.ST.MatMode.SHELL)
        ksp = st.getKSP()
        ksp.setType("gmres")
        ksp.getPC().setType("none")
        ksp.setTolerances(rtol=_SOLVE_TOL, max_it=10 * A.getSize()[0])
        ksp.setGMRESRestart(min(200, A.getSize()[0]))
    return st


def set_up(st: SLEPc.ST) -> Transformation:
    """Set up an ST that has its matrices, and return its transformation.

    Collective. Unless ``-st_pc_type`` is set, every rank factorises the whole matrix if no parallel
    package is available (PETSc's ``redundant``), and if the matrix has zeros on its diagonal
    (:class:`~miramns.transform.pivoting.PivotedFactorization`).

    Raises
    ------
    MiramnsError
        For types other than shift, sinvert and cayley, and with the message of SLEPc if it fails.
    """
    kind = st.getType()
    if kind is None:
        kind = "shift"
        st.setType(kind)
    if kind not in ("shift", "sinvert", "cayley"):
        raise MiramnsError(f"ST type {kind!r} is not supported: use shift, sinvert or cayley")
    # without this, an ST of type cayley without an EPS crashes
    st.setTransform(True)
    _choose_factorization(st, kind)
    hermitian = [matrix for matrix in st.getMatrices() if all(matrix.isHermitianKnown())]
    try:
        st.setUp()
    except (PETSc.Error, SystemError) as error:
        # newer bindings wrap PETSc's error
        reason = str(error.__cause__ or error).splitlines()[-1]
        raise MiramnsError(f"the {kind} transformation cannot be set up: {reason}") from error
    for matrix in hermitian:
        # SLEPc shares A with its own operator, and marks that as nonsymmetric if B is not known
        matrix.setOption(PETSc.Mat.Option.HERMITIAN, True)
    sigma = float(st.getShift())
    antishift = float(st.getCayleyAntishift()) if kind == "cayley" else 0.0
    return Transformation(kind, sigma, antishift)


def _choose_factorization(st: SLEPc.ST, kind: str) -> None:
    """Choose a factorisation where PETSc's own does not do, unless the user has chosen. Collective.

    PETSc's works on one rank, and does not pivot: it needs a diagonal without zeros.
    """
    matrices = st.getMatrices()
    if kind == "shift" and len(matrices) == 1:
        return
    ksp = st.getKSP()
    pc = ksp.getPC()
    chosen = PETSc.Options(st.getOptionsPrefix()).hasName("st_pc_type")
    factorizes = ksp.getType() in (None, "preonly") and pc.getType() in (None, "lu", "cholesky")
    if chosen or not factorizes:
        return
    is_sparse = all("aij" in matrix.getType() for matrix in matrices)
    if is_sparse and _has_zero_on_diagonal(st, kind):
        ksp.setType("preonly")
        pc.setType("python")
        pc.setPythonContext(PivotedFactorization())
        return
    able = is_sparse and any(PETSc.Sys.hasExternalPackage(name) for name in _PARALLEL_PACKAGES)
    if st.getComm().getSize() > 1 and not able:
        ksp.setType("preonly")
        pc.setType("redundant")


def release(st: SLEPc.ST) -> None:
    """Release a factorisation by scipy. Collective.

    PETSc cannot destroy it when it is finalised, after Python.
    """
    pc = st.getKSP().getPC()
    if pc.getType() == "python" and isinstance(pc.getPythonContext(), PivotedFactorization):
        pc.setType("lu")


def _has_zero_on_diagonal(st: SLEPc.ST, kind: str) -> bool:
    """Return whether the matrix to be factorised has a zero on its diagonal. Collective."""
    matrices = st.getMatrices()
    diagonal = matrices[-1].getDiagonal()
    if kind != "shift":
        sigma = st.getShift()
        if len(matrices) == 1:
            diagonal.shift(-sigma)
        else:
            diagonal.scale(-sigma)
            first = matrices[0].getDiagonal()
            diagonal.axpy(1.0, first)
            first.destroy()
    diagonal.abs()
    largest, least = diagonal.max()[1], diagonal.min()[1]
    diagonal.destroy()
    return bool(least <= EPSILON * largest)


def operator_of(st: SLEPc.ST, A: PETSc.Mat) -> PETSc.Mat:
    """Create a shell matrix that applies an ST. Collective. The caller destroys it.

    For the type shift, sigma is added back: a Krylov space does not depend on a shift, and the
    values are those of the problem.
    """
    add = float(st.getShift()) if st.getType() == "shift" else 0.0

    def apply(x: PETSc.Vec, y: PETSc.Vec) -> None:
        _solve_with(st, st.apply, x, y)
        if add:
            y.axpy(add, x)

    return shell_like(A, apply)


def _solve_with(
    st: SLEPc.ST, apply: Callable[[PETSc.Vec, PETSc.Vec], None], x: PETSc.Vec, y: PETSc.Vec
) -> None:
    """Apply the solver of an ST. Collective.

    Raises
    ------
    MiramnsError
        If a factorisation failed: PETSc raises an error, or notes it in the solver alone.
    """
    ksp = st.getKSP()
    cause: Exception | None = None
    try:
        apply(x, y)
    except (PETSc.Error, SystemError) as error:
        if ksp.getType() != "preonly":
            raise
        release_frames(error)
        cause = error
    if cause is None and not (ksp.getType() == "preonly" and ksp.getConvergedReason() < 0):
        return
    raise MiramnsError(
        f"A - sigma B cannot be factorised at sigma = {st.getShift():g}: if it is singular, sigma "
        "is an eigenvalue: choose another one"
        if st.getType() != "shift"
        else "B cannot be factorised: it may be singular"
    ) from cause


def inverse_of(st: SLEPc.ST, A: PETSc.Mat) -> PETSc.Mat:
    """Create a shell matrix of (A - sigma B)^-1 of an ST of type sinvert or cayley.

    Collective. The caller destroys it.
    """

    def apply(x: PETSc.Vec, y: PETSc.Vec) -> None:
        _solve_with(st, st.getKSP().solve, x, y)

    return shell_like(A, apply)


def refined_operator(
    A: PETSc.Mat, B: PETSc.Mat | None, inverse: PETSc.Mat, transformation: Transformation
) -> PETSc.Mat:
    """Create a shell matrix of shift-and-invert or Cayley with a step of iterative refinement.

    Collective. The caller destroys it. A factorisation without pivoting, or an iteration that ends
    early, solves with a residual above rounding level. One step of refinement reduces it by the
    same factor again.
    """

    def apply_metric(x: PETSc.Vec, y: PETSc.Vec) -> None:
        if B is None:
            x.copy(y)
        else:
            B.mult(x, y)

    def apply(x: PETSc.Vec, y: PETSc.Vec) -> None:
        residual, image, work = x.duplicate(), x.duplicate(), x.duplicate()
        apply_metric(x, residual)
        inverse.mult(residual, y)
        A.mult(y, image)
        residual.axpy(-1.0, image)
        apply_metric(y, image)
        residual.axpy(transformation.sigma, image)
        inverse.mult(residual, work)
        y.axpy(1.0, work)
        if transformation.kind == "cayley":
            y.aypx(transformation.sigma + transformation.antishift, x)
        for vector in (residual, image, work):
            vector.destroy()

    return shell_like(A, apply)
