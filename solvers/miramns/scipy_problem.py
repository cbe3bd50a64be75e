"""The arguments of scipy's eigsh and eigs: what fits together, and the operator that they mean."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from slepc4py import SLEPc

from miramns.convergence import MiramnsError
from miramns.matrices import MatrixLike, Product, as_petsc, is_shell
from miramns.pencil import Pencil
from miramns.transform import Multiple, Transformation, inverse_of, operator_of, set_up, shell_like

__all__ = ["Request", "pencil_of"]

#: What tol=0 means, relative to the norms: rounding, which adds up where restarts are many.
_LEAST_TOL = 1000 * float(np.finfo(np.float64).eps)

#: Tolerance of the iterative solves with matrices that are known by their products alone.
_SOLVE_TOL = 1e-14


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the pairs, as it was given."""

    hermitian: bool
    sigma: float | None
    which: Any
    v0: NDArray[np.float64] | None
    ncv: int | None
    maxiter: int | None
    tol: float
    Minv: MatrixLike
    OPinv: MatrixLike
    mode: str
    rng: Any

    def check(self, n: int, k: int, has_M: bool) -> None:
        """Refuse what does not fit together. Not collective."""
        least = k + (1 if self.hermitian else 2)
        if self.ncv is not None and not least <= self.ncv <= n:
            raise MiramnsError(f"need {least} <= ncv <= n, got ncv={self.ncv}, n={n}")
        if self.maxiter is not None and self.maxiter <= 0:
            raise MiramnsError(f"need maxiter > 0, got {self.maxiter}")
        if not self.tol < 1:
            raise MiramnsError(f"need tol < 1, got {self.tol}")
        if self.sigma is not None and np.iscomplexobj(self.sigma):
            raise MiramnsError(f"sigma must be real, got {self.sigma}")
        if self.sigma is None and self.OPinv is not None:
            raise MiramnsError("OPinv is the inverse of A - sigma M: give sigma")
        if self.Minv is not None and (self.sigma is not None or not has_M):
            raise MiramnsError("Minv is for M without sigma")

    def settings(self, n: int, k: int) -> dict[str, Any]:
        """Arguments for the solver. Not collective."""
        rng = self.rng
        if isinstance(rng, np.random.Generator):
            rng = int(rng.integers(2**31))
        return {
            "which": self.which,
            "tol": self.tol if self.tol > 0 else _LEAST_TOL,
            "criterion": "relative" if self.tol > 0 else "norm",
            "max_it": (10 * n if self.maxiter is None else self.maxiter) - 1,
            # scipy takes ncv = k + 1, the method needs one more
            "ncv": None if self.ncv is None else min(max(self.ncv, k + 2), n),
            "start": None if self.v0 is None else np.asarray(self.v0, dtype=np.float64),
            "seed": 0 if rng is None else rng,
        }


def pencil_of(
    A: PETSc.Mat, B: PETSc.Mat | None, comm: MPI.Comm | None, request: Request, stack: ExitStack
) -> Pencil:
    """Give the problem with its operator, which ends with `stack`. Collective."""
    sigma = 0.0 if request.sigma is None else float(request.sigma)
    cayley = request.mode == "cayley"
    kind: Literal["shift", "sinvert", "cayley"]
    kind = "shift" if request.sigma is None else ("cayley" if cayley else "sinvert")
    given = request.Minv if request.sigma is None else request.OPinv
    if given is None:
        st = _st(A, B, kind, sigma, stack)
        transformation = set_up(st)
        operator = operator_of(st, A)
        inverse = inverse_of(st, A) if kind != "shift" else None
        if inverse is not None:
            stack.callback(inverse.destroy)
    else:
        inverse = stack.enter_context(
            as_petsc(given, comm, "Minv" if request.sigma is None else "OPinv")
        )
        transformation = Transformation(kind, sigma, sigma)
        right = B if request.sigma is not None else A
        if cayley:
            right = shell_like(A, _Sum(A, B, sigma))
            stack.callback(right.destroy)
        operator = shell_like(
            A, Multiple(inverse, 1.0) if right is None else Product(inverse, right)
        )
    stack.callback(operator.destroy)
    if kind == "shift":
        inverse = None
    return Pencil(A, B, request.hermitian, operator, transformation, inverse)


class _Sum:
    """Context of a shell matrix: A + sigma B, B the identity where None."""

    def __init__(self, A: PETSc.Mat, B: PETSc.Mat | None, sigma: float) -> None:
        self.A, self.B, self.sigma = A, B, sigma

    def mult(self, _shell: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Y = A x + sigma B x. Collective."""
        self.A.mult(x, y)
        if self.B is None:
            y.axpy(self.sigma, x)
        else:
            work = x.duplicate()
            self.B.mult(x, work)
            y.axpy(self.sigma, work)
            work.destroy()


def _st(A: PETSc.Mat, B: PETSc.Mat | None, kind: str, sigma: float, stack: ExitStack) -> SLEPc.ST:
    """An ST that factorises, or iterates where a matrix is known by its products alone."""
    st = SLEPc.ST().create(comm=A.getComm())
    stack.callback(st.destroy)
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
