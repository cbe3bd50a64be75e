"""Arguments of scipy's eigsh and eigs: their checks, and the operator that they describe."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.errors import MiramnsError
from miramns.interfaces.matrices import MatrixLike, as_petsc
from miramns.norms import EPSILON
from miramns.problem import Options
from miramns.products import shell_like
from miramns.transform.pencil import Pencil, pencil_of_st
from miramns.transform.spectral import Kind, Transformation, create_st, set_up

#: Tolerance for tol=0, relative to the norms: rounding, which adds up over many restarts.
_LEAST_TOL = 1000 * EPSILON


@dataclass(frozen=True, slots=True)
class ScipyArguments:
    """Arguments of eigsh or eigs."""

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
        """Raise an error if the arguments do not fit together."""
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
        """Return the arguments of the solver."""
        rng = self.rng
        if isinstance(rng, np.random.Generator):
            rng = int(rng.integers(2**31))
        return {
            "which": self.which,
            "tol": self.tol if self.tol > 0 else _LEAST_TOL,
            "options": Options(criterion="relative" if self.tol > 0 else "norm"),
            "max_it": (10 * n if self.maxiter is None else self.maxiter) - 1,
            # scipy accepts ncv = k + 1, the method needs one more
            "ncv": None if self.ncv is None else min(max(self.ncv, k + 2), n),
            "start": None if self.v0 is None else np.asarray(self.v0, dtype=np.float64),
            "seed": 0 if rng is None else rng,
        }


def pencil_of(
    A: PETSc.Mat,
    B: PETSc.Mat | None,
    comm: MPI.Comm | None,
    arguments: ScipyArguments,
    stack: ExitStack,
) -> Pencil:
    """Return the problem with its operator, which is destroyed with `stack`. Collective."""
    sigma = 0.0 if arguments.sigma is None else float(arguments.sigma)
    cayley = arguments.mode == "cayley"
    kind: Kind = "shift" if arguments.sigma is None else ("cayley" if cayley else "sinvert")
    name, given = ("Minv", arguments.Minv) if kind == "shift" else ("OPinv", arguments.OPinv)
    if given is None:
        st = create_st(A, B, kind, sigma)
        stack.callback(st.destroy)
        return stack.enter_context(pencil_of_st(st, set_up(st), A, B, arguments.hermitian))
    inverse = stack.enter_context(as_petsc(given, comm, name))
    right: dict[Kind, list[tuple[PETSc.Mat | None, float]]] = {
        "shift": [(A, 1.0)],
        "sinvert": [(B, 1.0)],
        "cayley": [(A, 1.0), (B, sigma)],
    }
    operator = _inverse_times(inverse, right[kind])
    stack.callback(operator.destroy)
    transformation = Transformation(kind, sigma, sigma)
    return Pencil(
        A, B, arguments.hermitian, operator, transformation, None if kind == "shift" else inverse
    )


def _inverse_times(inverse: PETSc.Mat, terms: list[tuple[PETSc.Mat | None, float]]) -> PETSc.Mat:
    """Create a shell matrix of the inverse times a sum of factor times matrix.

    Collective. The caller destroys it. None stands for the identity.
    """

    def apply(x: PETSc.Vec, y: PETSc.Vec) -> None:
        total, work = x.duplicate(), x.duplicate()
        total.set(0.0)
        for matrix, factor in terms:
            if matrix is None:
                total.axpy(factor, x)
            else:
                matrix.mult(x, work)
                total.axpy(factor, work)
        inverse.mult(total, y)
        total.destroy()
        work.destroy()

    return shell_like(inverse, apply)
