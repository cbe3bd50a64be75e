"""True residuals of given vectors or pairs.

The vectors may come from a direct solver, an approximation, a file, or an earlier run.

:func:`certify` keeps the subspace, computes the best pairs in it, and takes one product per vector
for their residuals. :func:`certify_by_samples` keeps the pairs, and takes a fixed number of
products with random combinations of them for a bound of their residuals.

Reference of the bound: N. Halko, P.-G. Martinsson, J. A. Tropp, "Finding structure with
randomness", SIAM Review 53 (2011), lemma 4.1, here with the exact distribution of a normal number.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import scipy.special
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.agreement import forget_failures, same_on_all_ranks
from miramns.errors import MiramnsError
from miramns.factorization.orthogonalize import NOT_ORTHONORMAL, orthogonality, orthonormalize
from miramns.norms import EPSILON
from miramns.products import apply_columns
from miramns.random_vectors import seeded_normal
from miramns.residuals import fix_signs, rayleigh_ritz, residual_norms
from miramns.result import EigenResult
from miramns.selection import Order
from miramns.tolerances import Criterion, converged_reason, residual_tolerances

#: Stream of the random numbers of combinations.
_STREAM = 2**41


def certify(
    A: PETSc.Mat,
    X: NDArray[np.float64],
    *,
    which: Order = "LA",
    tol: float = 1e-8,
    criterion: Criterion = "relative",
    solver: str = "given vectors",
    values: NDArray[np.float64] | None = None,
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
    values : ndarray of shape (k,), optional
        Eigenvalues of the columns, the same on every rank. The pairs are kept as they are.

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
    _check_pairs(A, X, values, which=which, tol=tol, criterion=criterion)
    vectors = np.array(X, dtype=np.float64, order="F")
    loss = orthonormalize(comm, vectors) if values is None else orthogonality(comm, vectors)
    if not loss <= NOT_ORTHONORMAL:
        raise MiramnsError(f"vectors to certify must be orthonormal, |X'X - I| is {loss:.1e}")
    products, is_rotated = apply_columns(A, vectors), values is None
    if values is None:
        values, vectors, products = rayleigh_ritz(comm, vectors, products, which)
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
        orthogonality=orthogonality(comm, vectors) if is_rotated else loss,
        reason=converged_reason(residuals, tolerances, requested),
        n_certificate_matvec=vectors.shape[1],
        seconds=float(comm.allreduce(time.perf_counter() - began, op=MPI.MAX)),
        solver=solver,
    )


def certify_by_samples(
    A: PETSc.Mat,
    values: NDArray[np.float64],
    X: NDArray[np.float64],
    *,
    tol: float = 1e-8,
    criterion: Criterion = "relative",
    solver: str = "given pairs",
    n_samples: int = 16,
    failure_probability: float = 1e-8,
    seed: int = 0,
) -> EigenResult:
    """Bound the residuals of given eigenpairs of a symmetric operator by random combinations.

    Collective on ``A.comm``: `n_samples` products and some reductions.

    For ``R = A X - X diag(values)`` and a standard normal vector w, ``||R w||`` is at least
    ``||R||_2 |g|`` with a standard normal number g. So ``max_i ||R w_i|| / t`` bounds every
    residual except with probability ``P(|g| < t) ** n_samples``, which defines t.

    Parameters
    ----------
    A : PETSc.Mat
        Symmetric.
    values : ndarray of shape (k,)
        The same on every rank.
    X : ndarray of shape (n_local, k)
        This rank's rows of the vectors, orthonormal to 1e-3 at least.
    tol, criterion
        As for :func:`miramns.solve` and :class:`miramns.Options`.
    solver : str
        Origin of the pairs, for ``EigenResult.solver``.
    n_samples : int
        Number of random combinations. The bound exceeds ``||R||_F`` by a factor of about 10 with 8
        of them, and 3 with 16.
    failure_probability : float
        Probability with which a residual may exceed the bound.
    seed : int
        Seed of the combinations.

    Returns
    -------
    EigenResult
        All ``residual_norms`` are the bound. The reason is ``DIVERGED_STAGNATED`` if the bound
        exceeds a tolerance, in which case the pairs may still be good.

    Raises
    ------
    MiramnsError
        On all ranks, if the columns are far from orthonormal.

    Examples
    --------
    >>> import numpy as np
    >>> import miramns
    >>> from petsc4py import PETSc
    >>> A = PETSc.Mat().createDense((40, 40), array=np.diag(np.arange(40.0)), comm=PETSc.COMM_SELF)
    >>> A.assemble()
    >>> values, X = np.arange(39.0, 19.0, -1), np.eye(40)[:, :19:-1]
    >>> miramns.certify_by_samples(A, values, X).converged
    True
    >>> values[7] += 1e-3
    >>> result = miramns.certify_by_samples(A, values, X)
    >>> result.converged, bool(1e-3 <= result.residual_norms[0] <= 0.1)
    (False, True)
    """
    began = time.perf_counter()
    comm: MPI.Comm = A.getComm().tompi4py()
    _check_pairs(
        A, X, values, tol=tol, criterion=criterion, n_samples=n_samples, seed=seed,
        failure_probability=failure_probability,
    )  # fmt: skip
    loss = orthogonality(comm, X)
    if not loss <= NOT_ORTHONORMAL:
        raise MiramnsError(f"vectors to certify must be orthonormal, |X'X - I| is {loss:.1e}")
    weights = seeded_normal(seed, 0, len(values) * n_samples, _STREAM).reshape(len(values), -1)
    products = apply_columns(A, np.asfortranarray(X @ weights))
    residuals = products - X @ (values[:, None] * weights)
    squares = comm.allreduce(np.square(residuals).sum(axis=0))
    least = math.sqrt(2.0) * scipy.special.erfinv(failure_probability ** (1 / n_samples))
    bound = float(np.sqrt(squares.max())) / least
    norm = float(np.max(np.abs(values), initial=0.0))
    tolerances = residual_tolerances(values, tol, norm, criterion)
    requested = residual_tolerances(values, tol, norm, criterion, rounding=False)
    bounds = np.full(len(values), bound)
    return EigenResult(
        eigenvalues=values,
        eigenvectors=X,
        ownership_range=A.getOwnershipRange(),
        residual_norms=bounds,
        residual_tolerances=tolerances,
        error_bounds=np.full(len(values), max(bound, EPSILON * norm)),
        operator_norm=norm,
        orthogonality=loss,
        reason=converged_reason(bounds, tolerances, requested),
        n_certificate_matvec=n_samples,
        seconds=float(comm.allreduce(time.perf_counter() - began, op=MPI.MAX)),
        solver=solver,
        failure_probability=failure_probability,
    )


def _check_pairs(
    A: PETSc.Mat, X: NDArray[np.float64], values: NDArray[np.float64] | None, **settings: Any
) -> None:
    """Raise an error on all ranks if settings or values differ, or do not fit the vectors."""
    comm, shape = A.getComm().tompi4py(), np.shape(X)
    same_on_all_ranks(comm, columns=shape[1:], values=values, **settings)
    forget_failures()
    fits = len(shape) == 2 and shape[0] == A.getLocalSize()[0]
    fits = fits and (values is None or np.shape(values) == shape[1:])
    if not comm.allreduce(fits, op=MPI.LAND):
        raise MiramnsError(
            "X must hold this rank's rows of k columns, and values k numbers: shape (n_local, k) "
            f"with n_local = {A.getLocalSize()[0]}, got {shape}"
        )
