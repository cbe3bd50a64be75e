"""Small assembled matrices, solved by LAPACK at once.

For some hundred rows, an iteration takes longer than LAPACK: its time is that of Python calls and
of small dense problems. So rank 0 gathers the matrix and solves it, and the residuals of the
answer come from products with the matrix, as after an iteration. LAPACK returns every copy of a
multiple eigenvalue: the multiplicity is known.

Hermitian matrices are reduced to tridiagonal form once. It gives all eigenvalues, and the vectors
of the wanted ones alone. Nonsymmetric matrices are balanced by LAPACK, which also gives accurate
eigenvalues of badly scaled ones.

Deviation: copies of a value of a nonsymmetric matrix may have dependent vectors; they are separated
only where a residual or this dependence shows it (:func:`~miramns.projected.refined_pairs`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg.lapack import dormqr, dsterf, dsytrd

from miramns.errors import OperatorError
from miramns.factorization.orthogonalize import orthogonality, orthonormalize
from miramns.norms import EPSILON
from miramns.problem import Problem
from miramns.products import apply_columns
from miramns.projected import on_root, refined_pairs
from miramns.residuals import rayleigh_ritz, residual_norms, true_residuals
from miramns.result import EigenResult
from miramns.selection import Order, cuts_pair, ties_at, wanted_order
from miramns.tolerances import accepted_tolerances, converged_reason

#: Rows up to which LAPACK is faster, for Hermitian and for nonsymmetric matrices.
LARGEST, LARGEST_NONSYMMETRIC = 500, 120

#: If more than a quarter of the pairs are wanted: rows up to which LAPACK is faster.
LARGEST_OF_MANY, LARGEST_OF_MANY_NONSYMMETRIC = 1000, 500

#: Entries beyond these are scaled, so that no square overflows or vanishes.
_LEAST, _MOST = 1e-100, 1e100

#: Largest error of a vector of a tridiagonal matrix, relative to the norm.
_ACCURATE = 20 * EPSILON

#: Least singular value of eigenvectors that count as independent.
_INDEPENDENT = 1e-6


def suits_lapack(problem: Problem) -> bool:
    """Return whether LAPACK is faster than an iteration. Options of iterations are not regarded."""
    p = problem
    kind = p.operator.getType()
    many = 4 * p.k > p.n
    if p.hermitian:
        largest = max(LARGEST, LARGEST_OF_MANY if many and LARGEST else 0)
    else:
        most = LARGEST_OF_MANY_NONSYMMETRIC if many and LARGEST_NONSYMMETRIC else 0
        largest = max(LARGEST_NONSYMMETRIC, most)
    is_stored = kind in ("seqaij", "mpiaij", "seqdense", "mpidense")
    options = p.options
    is_plain = options.inner is None and options.exact is None and p.locked is None
    return is_stored and p.variant == "default" and is_plain and p.n <= largest


def direct_result(problem: Problem) -> EigenResult:
    """Solve the problem by LAPACK on rank 0.

    Collective.

    Raises
    ------
    OperatorError
        If an entry is not finite.
    """
    p, A = problem, problem.operator
    comm: MPI.Comm = A.getComm().tompi4py()
    local = _local_rows(A)
    largest = comm.allreduce(float(np.max(np.abs(local), initial=0.0)), op=MPI.MAX)
    # a maximum over ranks may lose a NaN
    if not comm.allreduce(bool(np.isfinite(local).all()), op=MPI.LAND):
        raise OperatorError(
            "the matrix has entries that are not finite: check the data for NaN or Inf"
        )
    scale = largest if 0 < largest < _LEAST or largest > _MOST else 1.0
    M = _gathered(comm, local / scale if scale != 1.0 else local, p.n)
    if p.hermitian:
        values, X, tie = on_root(comm, partial(_hermitian_pairs, M, p.k, p.which))
        conditions = None
    else:
        values, X, conditions, tie = on_root(comm, partial(_pairs, M, p.k, p.which, p.tol))
    first, last = rows = A.getOwnershipRange()
    # the norm of a column bounds ||A|| from below, also where no eigenvalue does
    columns = float(np.max(np.linalg.norm(M, axis=0), initial=0.0))
    norm = max(comm.bcast(columns), float(np.max(np.abs(values)))) * scale
    values, X = values[: X.shape[1]] * scale, np.asfortranarray(X[first:last])
    if p.hermitian:
        loss = orthonormalize(comm, X)
        products = apply_columns(A, X)
        if loss > len(values) * EPSILON:
            values, X, products = rayleigh_ritz(comm, X, products, p.which)
        residuals = residual_norms(comm, values, X, products)
    else:
        residuals = true_residuals(A, values, X)
    requested = p.tolerances(values, norm, rounding=False)
    tolerances = accepted_tolerances(residuals, p.tolerances(values, norm), requested, conditions)
    return EigenResult(
        eigenvalues=values,
        eigenvectors=X,
        ownership_range=rows,
        residual_norms=residuals,
        residual_tolerances=tolerances,
        error_bounds=np.maximum(residuals, EPSILON * norm),
        operator_norm=norm,
        orthogonality=orthogonality(comm, X) if p.hermitian else 0.0,
        reason=converged_reason(residuals, tolerances, requested),
        solver=f"LAPACK ({p.n} rows)",
        n_certificate_matvec=X.shape[1],
        tie_at_cut=tie,
        multiplicity_checked=p.hermitian,
        condition_numbers=conditions,
    )


def _local_rows(A: PETSc.Mat) -> NDArray[np.float64]:
    """Return this rank's rows of an assembled matrix as a dense array."""
    if "dense" in A.getType():
        return np.array(A.getDenseArray(readonly=True), order="C")
    pointers, columns, entries = A.getValuesCSR()
    rows = np.zeros((len(pointers) - 1, A.getSize()[1]))
    rows[np.repeat(np.arange(len(rows)), np.diff(pointers)), columns] = entries
    return rows


def _gathered(comm: MPI.Comm, local: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return all rows on rank 0, nothing on others. Collective."""
    if comm.size == 1:
        return local
    counts = comm.gather(local.size)
    whole = np.empty((n, n) if comm.rank == 0 else (0, n))
    comm.Gatherv(np.ascontiguousarray(local), (whole, counts) if comm.rank == 0 else None)
    return whole


def _hermitian_pairs(
    M: NDArray[np.float64], k: int, which: Order
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Return all eigenvalues, wanted ones first, k vectors, and whether the cut separates a tie."""
    n = len(M)
    if n == 1:
        return M[0], np.ones((1, 1)), False
    reduced, diagonal, beside, tau, info = dsytrd(M, lower=1, lwork=32 * n)
    all_values, failed = dsterf(diagonal, beside)
    if info or failed:
        raise np.linalg.LinAlgError("the tridiagonal form or its eigenvalues failed")
    order = wanted_order(all_values, which)
    tie = ties_at(all_values[order], which, k)
    Z = _tridiagonal_vectors(diagonal, beside, all_values, order[:k])
    if Z is None:
        all_values, vectors = np.linalg.eigh(M)
        order = wanted_order(all_values, which)
        return all_values[order], vectors[:, order[:k]], tie
    if n > 2:
        Z[1:] = dormqr("L", "N", reduced[1:, : n - 1], tau, Z[1:], 32 * k)[0]
    elif tau[0]:
        Z[1] *= 1.0 - tau[0]
    return all_values[order], Z, tie


def _tridiagonal_vectors(
    diagonal: NDArray[np.float64],
    beside: NDArray[np.float64],
    values: NDArray[np.float64],
    wanted: NDArray[np.intp],
) -> NDArray[np.float64] | None:
    """Return vectors of a tridiagonal matrix at the wanted places among its ascending values.

    None if they are not accurate: relatively robust representations fail for some clusters.
    """
    places = np.sort(wanted)
    Z = np.empty((len(values), len(wanted)), order="F")
    # ranges of neighbours
    for span in np.split(np.arange(len(places)), np.flatnonzero(np.diff(places) > 1) + 1):
        ends = int(places[span[0]]), int(places[span[-1]])
        try:
            Z[:, span] = scipy.linalg.eigh_tridiagonal(
                diagonal, beside, select="i", select_range=ends, lapack_driver="stemr"
            )[1]
        except np.linalg.LinAlgError:
            return None
    TZ = diagonal[:, None] * Z
    TZ[1:] += beside[:, None] * Z[:-1]
    TZ[:-1] += beside[:, None] * Z[1:]
    residual = float(np.max(np.abs(TZ - Z * values[places])))
    loss = float(np.max(np.abs(Z.T @ Z - np.eye(len(places)))))
    if residual > _ACCURATE * float(np.max(np.abs(values))) or loss > _ACCURATE:
        return None
    return Z[:, np.searchsorted(places, wanted)]


def _pairs(
    M: NDArray[np.float64], k: int, which: Order, tol: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64], bool]:
    """Return all eigenvalues, wanted ones first, k vectors or k + 1, their conditions, the tie."""
    values, left, right = scipy.linalg.eig(M, left=True)
    order = wanted_order(values, which)
    values = values[order]
    k += int(cuts_pair(values, k))
    left, right = left[:, order[:k]], right[:, order[:k]].astype(np.complex128)
    overlaps = np.abs(np.sum(left.conj() * right, axis=0))
    conditions = 1.0 / np.maximum(overlaps, np.finfo(np.float64).tiny)
    residuals = np.linalg.norm(M @ right - right * values[:k], axis=0)
    independent = np.linalg.svd(right, compute_uv=False)[-1] > _INDEPENDENT
    if (residuals > tol * np.abs(values[:k])).any() or not independent:
        values[:k], right, conditions = refined_pairs(M, values[:k], right)
    return values, right, conditions, ties_at(values, which, k)
