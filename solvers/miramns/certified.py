"""An answer that came from elsewhere, judged: Rayleigh-Ritz on given vectors, and true residuals.

For vectors of a direct solver, of an approximation, of a file, or of an earlier run: the subspace
is kept, the pairs in it are the best that it holds, and the verdict comes from products with the
operator itself.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.arnoldi import apply_columns
from miramns.certificate import (
    NOT_ORTHONORMAL,
    fix_signs,
    orthogonality,
    orthonormalize,
    residual_norms,
)
from miramns.convergence import EPSILON, MiramnsError, Reason, residual_bounds
from miramns.problem import Criterion
from miramns.projected import Order, on_root, ritz_pairs
from miramns.result import EigenResult

__all__ = ["certify"]


def certify(
    A: PETSc.Mat,
    X: NDArray[np.float64],
    *,
    which: Order = "LA",
    tol: float = 1e-8,
    criterion: Criterion = "relative",
    solver: str = "given vectors",
) -> EigenResult:
    """Eigenpairs of a symmetric operator from vectors that span them, with their certificate.

    Collective on ``A.comm``: a product with every vector, some reductions.

    Parameters
    ----------
    A : PETSc.Mat
        Symmetric.
    X : ndarray of shape (n_local, k)
        This rank's rows of k columns, orthonormal to 1e-3 at least.
    which, tol, criterion
        As for :func:`miramns.solve`; `which` gives the order.
    solver : str
        Where the vectors came from, for ``EigenResult.solver``.

    Returns
    -------
    EigenResult
        Its reason is ``DIVERGED_STAGNATED`` where a pair misses the tolerance.

    Raises
    ------
    MiramnsError
        On all ranks, where the columns are far from orthonormal.
    OperatorError
        Where a product is not finite.
    """
    began = time.perf_counter()
    comm: MPI.Comm = A.getComm().tompi4py()
    vectors = np.array(X, dtype=np.float64, order="F")
    loss = orthonormalize(comm, vectors)
    if not loss <= NOT_ORTHONORMAL:
        raise MiramnsError(f"vectors to certify must be orthonormal, |X'X - I| is {loss:.1e}")
    products = apply_columns(A, vectors)
    projected = np.ascontiguousarray(vectors.T @ products)
    comm.Allreduce(MPI.IN_PLACE, projected)
    ritz = on_root(comm, partial(ritz_pairs, projected, 0.0, which, hermitian=True))
    vectors = np.asfortranarray(vectors @ ritz.vectors)
    residuals = residual_norms(comm, ritz.values, vectors, products @ ritz.vectors)
    norm = float(np.max(np.abs(ritz.values), initial=0.0))
    scale = {"relative": 0.0, "absolute": 1.0, "norm": norm}[criterion]
    bounds = residual_bounds(ritz.values, tol, norm, scale=scale)
    rows = A.getOwnershipRange()
    fix_signs(comm, rows[0], vectors)
    passed = residuals <= bounds
    return EigenResult(
        eigenvalues=ritz.values,
        eigenvectors=vectors,
        ownership_range=rows,
        residual_norms=residuals,
        bounds=bounds,
        error_bounds=np.maximum(residuals, EPSILON * norm),
        orthogonality=orthogonality(comm, vectors),
        n_converged=int(passed.sum()),
        reason=Reason.CONVERGED_TOL if passed.all() else Reason.DIVERGED_STAGNATED,
        n_matvec=0,
        n_certificate_matvec=vectors.shape[1],
        n_reductions=0,
        n_restarts=0,
        history=(),
        seconds=float(comm.allreduce(time.perf_counter() - began, op=MPI.MAX)),
        solver=solver,
    )
