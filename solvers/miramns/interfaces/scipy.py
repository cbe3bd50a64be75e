"""``eigsh`` and ``eigs`` with the signatures of scipy.sparse.linalg, solved by MIRAMns.

They also accept PETSc matrices, and with ``comm`` each rank's rows of a distributed matrix.
Differences from scipy:

* A pair converges by its true residual ``||A x - w M x||``; ``tol=0`` means rounding level: 2e-13
  of ``(||A|| + |w| ||M||) ||x||``.
* ``eigsh`` returns ascending values also without vectors. ``eigs`` returns the wanted ones first,
  and exactly k: a conjugate pair that the cut separates is represented by its first value, with the
  positive imaginary part. Vectors of ``eigs`` have unit length also with M.
* The start vector is the same at each call, unless `v0` or `rng` is given.
* Complex matrices, complex `sigma`, and the mode "buckling" are not supported.
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

from miramns.agreement import same_on_all_ranks
from miramns.errors import MiramnsError
from miramns.interfaces.matrices import MatrixLike, as_petsc
from miramns.interfaces.scipy_arguments import ScipyArguments, pencil_of
from miramns.problem import require_real_scalars
from miramns.products import guarded
from miramns.result import EigenResult
from miramns.solve import solve
from miramns.transform.pencil import solve_pencil

_HERMITIAN_WHICH = ("LM", "SM", "LA", "SA", "BE")
_GENERAL_WHICH = ("LM", "SM", "LR", "SR", "LI", "SI")


class NoConvergence(ArpackNoConvergence):
    """Not all pairs converged. A subclass of scipy's ``ArpackNoConvergence``.

    Attributes
    ----------
    eigenvalues, eigenvectors : ndarray
        The converged pairs.
    result : EigenResult
        All pairs, with their residuals.

    Examples
    --------
    >>> import scipy.sparse
    >>> import miramns
    >>> A = scipy.sparse.diags([2.0, -1.0, -1.0], [0, 1, -1], shape=(1000, 1000))
    >>> try:
    ...     miramns.eigsh(A, k=6, ncv=12, maxiter=2)
    ... except miramns.NoConvergence as error:
    ...     print(len(error.result.eigenvalues), error.result.reason.name)
    6 DIVERGED_ITS
    """

    def __init__(self, result: EigenResult) -> None:
        passed = result.residual_norms <= result.residual_tolerances
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

    Collective on `comm`, or on the communicator of a PETSc matrix.

    Parameters
    ----------
    A, M : PETSc.Mat, ndarray, sparse or LinearOperator, shape (n, n)
        With `comm`, this rank's rows: shape (n_local, n), all in rank order.
    sigma : float, optional
        Shift of shift-and-invert: `which` then refers to ``1 / (w - sigma)``, or with
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
        Communicator of the rows of matrices that are not PETSc's.

    Returns
    -------
    w : ndarray of shape (k,)
        Ascending.
    v : ndarray of shape (n, k), or this rank's rows (n_local, k)
        Orthonormal, in the inner product of M if it is given.

    Raises
    ------
    NoConvergence
        If a pair did not converge.
    MiramnsError
        A ValueError: if the arguments do not fit together.

    Examples
    --------
    >>> import scipy.sparse
    >>> from miramns import eigsh
    >>> A = scipy.sparse.diags([2.0, -1.0, -1.0], [0, 1, -1], shape=(100, 100))
    >>> w, v = eigsh(A, k=3)
    >>> w.round(6), v.shape
    (array([3.991299, 3.996131, 3.999033]), (100, 3))
    >>> eigsh(A, k=2, sigma=0, return_eigenvectors=False).round(6)
    array([0.000967, 0.003869])
    """
    _check_agreement(
        A, comm, k=k, M=M is not None, sigma=sigma, which=which, has_v0=v0 is not None, ncv=ncv,
        maxiter=maxiter, tol=tol, Minv=Minv is not None, OPinv=OPinv is not None, mode=mode,
    )  # fmt: skip
    if which not in _HERMITIAN_WHICH:
        raise MiramnsError(f"which must be one of {' '.join(_HERMITIAN_WHICH)}, got {which!r}")
    if mode not in ("normal", "cayley"):
        raise MiramnsError(f"mode must be 'normal' or 'cayley', got {mode!r}")
    if mode == "cayley" and sigma is None:
        raise MiramnsError("mode 'cayley' needs sigma")
    arguments = ScipyArguments(True, sigma, which, v0, ncv, maxiter, tol, Minv, OPinv, mode, rng)
    if _takes_all(A, M, k, comm, margin=0, dense="eigh"):
        return scipy.linalg.eigh(A, b=M, eigvals_only=not return_eigenvectors)
    result = _solve(A, M, k, comm, arguments)
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

    Collective on `comm`, or on the communicator of a PETSc matrix.

    Parameters are the same as for :func:`eigsh`, with `which` one of LM, SM, LR, SR, LI, SI and
    k + 1 < ncv <= n. `OPpart` selects a part of ``(A - sigma M)^-1``; `sigma` is real, so only the
    real part "r" exists.

    Returns
    -------
    w : ndarray of shape (k,)
        Wanted ones first.
    v : ndarray of shape (n, k), or this rank's rows (n_local, k)
        Unit columns.

    Raises
    ------
    NoConvergence
        If a pair did not converge.
    MiramnsError
        A ValueError: if the arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from miramns import eigs
    >>> A = np.diag(np.linspace(0.0, 1.0, 50))
    >>> A[:2, :2] = [[3.0, -1.0], [1.0, 3.0]]
    >>> w, v = eigs(A, k=2)
    >>> w.round(6), v.shape
    (array([3.+1.j, 3.-1.j]), (50, 2))
    """
    _check_agreement(
        A, comm, k=k, M=M is not None, sigma=sigma, which=which, has_v0=v0 is not None, ncv=ncv,
        maxiter=maxiter, tol=tol, Minv=Minv is not None, OPinv=OPinv is not None, OPpart=OPpart,
    )  # fmt: skip
    if which not in _GENERAL_WHICH:
        raise MiramnsError(f"which must be one of {' '.join(_GENERAL_WHICH)}, got {which!r}")
    if OPpart is not None and (sigma is None or str(OPpart).lower() != "r"):
        raise MiramnsError(
            f"OPpart={OPpart!r}: with a real sigma it can be 'r', without sigma it must be None"
        )
    arguments = ScipyArguments(
        False, sigma, which, v0, ncv, maxiter, tol, Minv, OPinv, "normal", rng
    )
    if _takes_all(A, M, k, comm, margin=1, dense="eig"):
        return scipy.linalg.eig(A, b=M, right=return_eigenvectors)
    result = _solve(A, M, k, comm, arguments)
    w = result.eigenvalues[:k]
    return (w, np.asfortranarray(result.eigenvectors[:, :k])) if return_eigenvectors else w


def _check_agreement(A: MatrixLike, comm: MPI.Comm | None, **arguments: Any) -> None:
    """Raise an error if arguments differ between ranks. Collective."""
    if isinstance(A, PETSc.Mat):
        comm = A.getComm().tompi4py()
    if comm is not None:
        same_on_all_ranks(comm, **arguments)


def _takes_all(
    A: MatrixLike, M: MatrixLike, k: int, comm: MPI.Comm | None, *, margin: int, dense: str
) -> bool:
    """Return whether k is so large that LAPACK is used, as in scipy."""
    if k <= 0:
        raise MiramnsError(f"need k > 0, got {k}")
    shape = A.getSize() if isinstance(A, PETSc.Mat) else getattr(A, "shape", np.shape(A))
    parallel = comm is not None and comm.size > 1
    # the rows of all ranks are counted later
    is_square = len(shape) == 2 and (parallel or shape[0] == shape[1])
    if not is_square or k < shape[1] - margin:
        return False
    bound = "k >= n" + (f" - {margin}" if margin else "")
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
    A: MatrixLike, M: MatrixLike, k: int, comm: MPI.Comm | None, arguments: ScipyArguments
) -> EigenResult:
    require_real_scalars()
    with ExitStack() as stack:
        matrix = stack.enter_context(as_petsc(A, comm))
        B = None if M is None else stack.enter_context(as_petsc(M, comm, "M"))
        n = matrix.getSize()[0]
        if B is not None and B.getSizes() != matrix.getSizes():
            raise MiramnsError(f"M must be distributed as A: {B.getSizes()}, {matrix.getSizes()}")
        arguments.check(n, k, B is not None)
        settings = arguments.settings(n, k)
        if B is None and arguments.sigma is None:
            result = solve(matrix, k, hermitian=arguments.hermitian, **settings)
        else:
            matrix = stack.enter_context(guarded(matrix))
            B = None if B is None else stack.enter_context(guarded(B))
            pencil = pencil_of(matrix, B, comm, arguments, stack)
            result = solve_pencil(pencil, k, **settings)
    if not result.converged:
        raise NoConvergence(result)
    return result
