"""``eigsh`` and ``eigs`` with the signatures of scipy.sparse.linalg, solved by MIRAMns.

They also take PETSc matrices, and with ``comm`` each rank's rows of a distributed matrix. They
differ from scipy's in this:

* A pair counts as converged by its true residual ``||A x - w M x||``; ``tol=0`` asks for rounding
  level: 2e-13 of ``(||A|| + |w| ||M||) ||x||``.
* ``eigsh`` gives ascending values also without vectors. ``eigs`` gives the wanted ones first, and
  exactly k: a conjugate pair that is cut there is represented by its first value, with the positive
  imaginary part. Vectors of ``eigs`` have unit length also with M.
* The start vector is the same at each call, unless `v0` or `rng` is given.
* Complex matrices, complex `sigma`, and the mode "buckling" are refused.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from typing import Any, Literal

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.sparse.linalg import ArpackNoConvergence

from miramns.convergence import MiramnsError
from miramns.matrices import MatrixLike, as_petsc
from miramns.method import solve
from miramns.pencil import solve_pencil
from miramns.problem import need_real_scalars
from miramns.result import EigenResult
from miramns.scipy_problem import Request, pencil_of

__all__ = ["NoConvergence", "eigs", "eigsh"]

_HERMITIAN_WHICH = ("LM", "SM", "LA", "SA", "BE")
_GENERAL_WHICH = ("LM", "SM", "LR", "SR", "LI", "SI")


class NoConvergence(ArpackNoConvergence):
    """Not all pairs converged. Handlers of scipy's ``ArpackNoConvergence`` catch it.

    Attributes
    ----------
    eigenvalues, eigenvectors : ndarray
        The pairs that did converge.
    result : EigenResult
        All that is known.
    """

    def __init__(self, result: EigenResult) -> None:
        passed = result.residual_norms <= result.bounds
        text = f"{passed.sum()} of {len(passed)} pairs converged: {result.reason.remedy}"
        super().__init__(text, result.eigenvalues[passed], result.eigenvectors[:, passed])
        self.args = (text,)
        self.result = result


def eigsh(
    A: MatrixLike,
    k: int = 6,
    M: MatrixLike = None,
    sigma: float | None = None,
    which: str = "LM",
    v0: NDArray[np.float64] | None = None,
    ncv: int | None = None,
    maxiter: int | None = None,
    tol: float = 0,
    return_eigenvectors: bool = True,
    Minv: MatrixLike = None,
    OPinv: MatrixLike = None,
    mode: Literal["normal", "cayley"] = "normal",
    rng: Any = None,
    comm: MPI.Comm | None = None,
) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find k eigenpairs of a real symmetric A, or of ``A x = w M x`` with positive M.

    Collective on `comm`, or on that of a PETSc matrix.

    Parameters
    ----------
    A, M : PETSc.Mat, ndarray, sparse or LinearOperator, shape (n, n)
        With `comm`, this rank's rows: shape (n_local, n), all in rank order.
    sigma : float, optional
        Shift-and-invert around it: `which` then refers to ``1 / (w - sigma)``, or with
        ``mode="cayley"`` to ``(w + sigma) / (w - sigma)``.
    which : {"LM", "SM", "LA", "SA", "BE"}
    v0 : ndarray of shape (n,), optional
        Start vector; with `comm`, this rank's entries.
    ncv : int, optional
        Largest subspace, k < ncv <= n. Default: chosen.
    maxiter : int, optional
        Largest number of cycles between restarts; default 10 n.
    tol : float
        Relative to the modulus of the eigenvalue; 0 for rounding level.
    Minv, OPinv : as A
        Inverse of M, or of ``A - sigma M``, in place of a factorisation.
    rng : int or numpy.random.Generator, optional
        Seed of the start vector.
    comm : mpi4py.MPI.Comm, optional
        Distributes the rows of matrices that are not PETSc's.

    Returns
    -------
    w : ndarray of shape (k,)
        Ascending.
    v : ndarray of shape (n, k), or this rank's rows (n_local, k)
        Orthonormal, in the inner product of M where it is given.

    Raises
    ------
    NoConvergence
        When a pair is missing.
    MiramnsError
        A ValueError: when the arguments do not fit together.
    """
    if which not in _HERMITIAN_WHICH:
        raise MiramnsError(f"which must be one of {' '.join(_HERMITIAN_WHICH)}, got {which!r}")
    if mode not in ("normal", "cayley"):
        raise MiramnsError(f"mode must be 'normal' or 'cayley', got {mode!r}")
    if mode == "cayley" and sigma is None:
        raise MiramnsError("mode 'cayley' needs sigma")
    request = Request(True, sigma, which, v0, ncv, maxiter, tol, Minv, OPinv, mode, rng)
    if _takes_all(A, M, k, comm, margin=0, dense="eigh"):
        return scipy.linalg.eigh(A, b=M, eigvals_only=not return_eigenvectors)
    result = _solve(A, M, k, comm, request)
    order = np.argsort(result.eigenvalues, kind="stable")
    w = result.eigenvalues[order]
    return (w, np.asfortranarray(result.eigenvectors[:, order])) if return_eigenvectors else w


def eigs(
    A: MatrixLike,
    k: int = 6,
    M: MatrixLike = None,
    sigma: float | None = None,
    which: str = "LM",
    v0: NDArray[np.float64] | None = None,
    ncv: int | None = None,
    maxiter: int | None = None,
    tol: float = 0,
    return_eigenvectors: bool = True,
    Minv: MatrixLike = None,
    OPinv: MatrixLike = None,
    OPpart: str | None = None,
    rng: Any = None,
    comm: MPI.Comm | None = None,
) -> NDArray[np.complex128] | tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Find k eigenpairs of a real square A, or of ``A x = w M x``.

    Collective on `comm`, or on that of a PETSc matrix.

    Parameters are those of :func:`eigsh`, with which one of LM, SM, LR, SR, LI, SI and
    k + 1 < ncv <= n; `OPpart` concerns complex `sigma` and is refused.

    Returns
    -------
    w : ndarray of shape (k,)
        Wanted ones first.
    v : ndarray of shape (n, k), or this rank's rows (n_local, k)
        Unit columns.

    Raises
    ------
    NoConvergence
        When a pair is missing.
    MiramnsError
        A ValueError: when the arguments do not fit together.
    """
    if which not in _GENERAL_WHICH:
        raise MiramnsError(f"which must be one of {' '.join(_GENERAL_WHICH)}, got {which!r}")
    if OPpart is not None:
        raise MiramnsError("OPpart is for complex sigma, which is not supported")
    request = Request(False, sigma, which, v0, ncv, maxiter, tol, Minv, OPinv, "normal", rng)
    if _takes_all(A, M, k, comm, margin=1, dense="eig"):
        return scipy.linalg.eig(A, b=M, right=return_eigenvectors)
    result = _solve(A, M, k, comm, request)
    w = result.eigenvalues[:k]
    return (w, np.asfortranarray(result.eigenvectors[:, :k])) if return_eigenvectors else w


def _takes_all(
    A: MatrixLike, M: MatrixLike, k: int, comm: MPI.Comm | None, *, margin: int, dense: str
) -> bool:
    """Whether so many pairs are asked for that LAPACK serves, as scipy does it."""
    if k <= 0:
        raise MiramnsError(f"need k > 0, got {k}")
    shape = A.getSize() if isinstance(A, PETSc.Mat) else getattr(A, "shape", np.shape(A))
    if len(shape) != 2 or k < shape[1] - margin:
        return False
    bound = "k >= n" + (f" - {margin}" if margin else "")
    parallel = comm is not None and comm.size > 1
    for matrix in (A, M):
        known = matrix is None or isinstance(matrix, np.ndarray | list | tuple)
        if not known or parallel:
            raise TypeError(
                f"{bound}: only scipy.linalg.{dense} finds them all, and it needs dense arrays on "
                "one rank; convert, or reduce k"
            )
    warnings.warn(f"{bound}: scipy.linalg.{dense} is used instead", RuntimeWarning, stacklevel=3)
    return True


def _solve(
    A: MatrixLike, M: MatrixLike, k: int, comm: MPI.Comm | None, request: Request
) -> EigenResult:
    need_real_scalars()
    with ExitStack() as stack:
        matrix = stack.enter_context(as_petsc(A, comm))
        B = None if M is None else stack.enter_context(as_petsc(M, comm, "M"))
        n = matrix.getSize()[0]
        if B is not None and B.getSizes() != matrix.getSizes():
            raise MiramnsError(f"M must be distributed as A: {B.getSizes()}, {matrix.getSizes()}")
        request.check(n, k, B is not None)
        settings = request.settings(n, k)
        if B is None and request.sigma is None:
            result = solve(matrix, k, hermitian=request.hermitian, **settings)
        else:
            pencil = pencil_of(matrix, B, comm, request, stack)
            result = solve_pencil(pencil, k, **settings)
    if not result.converged:
        raise NoConvergence(result)
    return result
