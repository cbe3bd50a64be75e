"""Rayleigh-Ritz and true residuals for given vectors.

The vectors may come from a direct solver, an approximation, a file, or an earlier run. The subspace
is kept, the pairs are the best in it, and products with the operator give the residuals.
"""

from __future__ import annotations

import time

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.errors import MiramnsError
from miramns.factorization.orthogonalize import NOT_ORTHONORMAL, orthogonality, orthonormalize
from miramns.norms import EPSILON
from miramns.products import apply_columns
from miramns.residuals import fix_signs, rayleigh_ritz, residual_norms
from miramns.result import EigenResult
from miramns.selection import Order
from miramns.tolerances import Criterion, converged_reason, residual_tolerances


def certify(
    A: PETSc.Mat,
    X: NDArray[np.float64],
    *,
    which: Order = "LA",
    tol: float = 1e-8,
    criterion: Criterion = "relative",
    solver: str = "given vectors",
) -> EigenResult:
    """Compute the eigenpairs of a symmetric operator in a given subspace, with true residuals.

    Collective on ``A.comm``: one product per vector and some reductions.

    Parameters
    ----------
    A : PETSc.Mat
        Symmetric.
    X : ndarray of shape (n_local, k)
        This rank's rows of k columns, orthonormal to 1e-3 at least.
    which, tol, criterion
        As for :func:`miramns.solve` and :class:`miramns.Options`; `which` gives the order.
    solver : str
        Origin of the vectors, for ``EigenResult.solver``.

    Returns
    -------
    EigenResult
        The reason is ``DIVERGED_STAGNATED`` if a residual exceeds its tolerance.

    Raises
    ------
    MiramnsError
        On all ranks, if the columns are far from orthonormal.
    OperatorError
        If a product is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import miramns
    >>> from petsc4py import PETSc
    >>> M = np.diag([4.0, 3.0, 2.0, 1.0])
    >>> A = PETSc.Mat().createDense((4, 4), array=M, comm=PETSc.COMM_SELF)
    >>> A.assemble()
    >>> good = miramns.certify(A, np.eye(4, 2))
    >>> good.eigenvalues, good.converged
    (array([4., 3.]), True)
    >>> bad = miramns.certify(A, np.array([[0.6], [0.8], [0.0], [0.0]]))
    >>> bad.converged, bad.unconverged
    (False, (0,))
    """
    began = time.perf_counter()
    comm: MPI.Comm = A.getComm().tompi4py()
    vectors = np.array(X, dtype=np.float64, order="F")
    loss = orthonormalize(comm, vectors)
    if not loss <= NOT_ORTHONORMAL:
        raise MiramnsError(f"vectors to certify must be orthonormal, |X'X - I| is {loss:.1e}")
    values, vectors, products = rayleigh_ritz(comm, vectors, apply_columns(A, vectors), which)
    residuals = residual_norms(comm, values, vectors, products)
    norm = float(np.max(np.abs(values), initial=0.0))
    tolerances = residual_tolerances(values, tol, norm, criterion)
    requested = residual_tolerances(values, tol, norm, criterion, rounding=False)
    rows = A.getOwnershipRange()
    fix_signs(comm, rows[0], vectors)
    return EigenResult(
        eigenvalues=values,
        eigenvectors=vectors,
        ownership_range=rows,
        residual_norms=residuals,
        residual_tolerances=tolerances,
        error_bounds=np.maximum(residuals, EPSILON * norm),
        operator_norm=norm,
        orthogonality=orthogonality(comm, vectors),
        reason=converged_reason(residuals, tolerances, requested),
        n_certificate_matvec=vectors.shape[1],
        seconds=float(comm.allreduce(time.perf_counter() - began, op=MPI.MAX)),
        solver=solver,
    )
