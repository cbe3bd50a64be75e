"""Measuring an answer instead of believing it: residuals, orthogonality, signs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.arnoldi import apply_columns
from miramns.convergence import OperatorError
from miramns.projected import Order, on_root, ritz_pairs

__all__ = [
    "NOT_ORTHONORMAL",
    "apply_to_pairs",
    "fix_signs",
    "orthogonality",
    "orthonormalize",
    "rayleigh_ritz",
    "residual_norms",
    "true_residuals",
]

#: Entries within this fraction of the largest count as equal when a sign is chosen, so that
#: rounding does not choose another one on another number of ranks.
_SIGN_TIE = 1e-8

#: Loss of orthogonality that is left as it is, and the largest that one sweep mends to rounding.
_ORTHONORMAL = 1e-14
_NEARLY = 1e-6

#: Loss of orthogonality with which columns are no basis of anything.
NOT_ORTHONORMAL = 1e-3


def true_residuals(A: PETSc.Mat, values: NDArray[Any], X: NDArray[Any]) -> NDArray[np.float64]:
    """Residual norms ``||A x - theta x||``, by one product for each.

    Collective: one product per real vector (two per conjugate pair), one reduction.

    Parameters
    ----------
    values : ndarray of shape (k,)
        Ritz values; of a conjugate pair the value with positive imaginary part comes first.
    X : ndarray of shape (n_local, k)
        Their vectors.
    """
    comm: MPI.Comm = A.getComm().tompi4py()
    return residual_norms(comm, values, X, apply_to_pairs(A, values, X))


def apply_to_pairs(A: PETSc.Mat, values: NDArray[Any], X: NDArray[Any]) -> NDArray[Any]:
    """Products with vectors of which the complex ones come in conjugate pairs.

    Collective: one product per real vector, two per pair. Arguments as :func:`true_residuals`.
    """
    if not np.iscomplexobj(X):
        return apply_columns(A, X)
    is_real = values.imag == 0
    stored = np.where(values.imag < 0, X.imag, X.real)
    # Of a pair, the second member is the conjugate of the first: its imaginary part serves.
    products = apply_columns(A, np.asfortranarray(stored))
    AX = products.astype(np.complex128)
    for j in np.flatnonzero(~is_real & (values.imag > 0)):
        AX[:, j] = products[:, j] - 1j * products[:, j + 1]
        AX[:, j + 1] = products[:, j] + 1j * products[:, j + 1]
    return AX


def residual_norms(
    comm: MPI.Comm, values: NDArray[Any], X: NDArray[Any], AX: NDArray[Any]
) -> NDArray[np.float64]:
    """Norms of the columns of ``AX - X diag(values)``. Collective: three small reductions."""
    with np.errstate(invalid="ignore", over="ignore"):
        R = AX - X * values
    # a maximum over ranks may lose a NaN
    if not comm.allreduce(bool(np.isfinite(R).all()), op=MPI.LAND):
        raise OperatorError(
            "a product made for the certificate has entries that are not finite: look for NaN or "
            "Inf in the data"
        )
    largest = np.max(np.abs(R), axis=0, initial=0.0)
    comm.Allreduce(MPI.IN_PLACE, largest, op=MPI.MAX)
    # scaled, so that no square overflows or vanishes
    scale = np.where(largest > 0, largest, 1.0)
    squares = np.sum(np.abs(R / scale) ** 2, axis=0)
    comm.Allreduce(MPI.IN_PLACE, squares)
    return np.asarray(scale * np.sqrt(squares))


def orthogonality(comm: MPI.Comm, X: NDArray[Any], inner: PETSc.Mat | None = None) -> float:
    """Largest entry of ``|X'X - I|`` (``|X'BX - I|``). Collective: one reduction."""
    BX = X if inner is None else apply_columns(inner, X)
    gram = np.ascontiguousarray(X.T @ BX)
    comm.Allreduce(MPI.IN_PLACE, gram)
    return float(np.max(np.abs(gram - np.eye(len(gram))), initial=0.0))


def orthonormalize(comm: MPI.Comm, X: NDArray[np.float64]) -> float:
    """Make columns that are nearly orthonormal exactly so, in place, by their Cholesky factor.

    Collective: one reduction, or two where the columns were far from orthonormal. Returns the loss
    of orthogonality that there was; beyond ``NOT_ORTHONORMAL`` the columns are left as they are.
    """
    first_loss = 0.0
    for sweep in range(2):
        gram = np.ascontiguousarray(X.T @ X)
        comm.Allreduce(MPI.IN_PLACE, gram)
        loss = float(np.max(np.abs(gram - np.eye(len(gram))), initial=0.0))
        first_loss = max(first_loss, loss)
        if not loss <= NOT_ORTHONORMAL:
            break
        if loss > _ORTHONORMAL:
            X[:] = X @ on_root(comm, partial(_inverse_factor, gram))
        if loss <= _NEARLY or sweep:
            break
    return first_loss


def _inverse_factor(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(scipy.linalg.inv(scipy.linalg.cholesky(gram)))


def rayleigh_ritz(
    comm: MPI.Comm, X: NDArray[np.float64], AX: NDArray[np.float64], which: Order
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Ritz pairs of a Hermitian operator in the span of orthonormal columns, wanted ones first.

    Collective: one reduction.

    Parameters
    ----------
    X, AX : ndarray of shape (n_local, m)
        The columns, and their products.

    Returns
    -------
    values : ndarray of shape (m,)
    vectors, products : ndarray of shape (n_local, m)
        Column-major.
    """
    projected = np.ascontiguousarray(X.T @ AX)
    comm.Allreduce(MPI.IN_PLACE, projected)
    ritz = on_root(comm, lambda: ritz_pairs(projected, 0.0, which, hermitian=True))
    Y = ritz.vectors
    return ritz.values, np.asfortranarray(X @ Y), np.asfortranarray(AX @ Y)


def fix_signs(comm: MPI.Comm, first_row: int, X: NDArray[Any]) -> None:
    """Turn each column so that its largest entry is real and positive, in place.

    Collective: two small reductions. Among entries whose moduli agree to 8 digits the one with the
    smallest global index decides.
    """
    k = X.shape[1]
    moduli = np.abs(X)
    largest = np.max(moduli, axis=0, initial=0.0)
    comm.Allreduce(MPI.IN_PLACE, largest, op=MPI.MAX)
    nobody = np.iinfo(np.int64).max
    index = np.full(k, nobody, dtype=np.int64)
    if X.shape[0]:
        candidate = moduli >= (1 - _SIGN_TIE) * largest
        local = np.argmax(candidate, axis=0)
        index = np.where(candidate.any(axis=0), local + first_row, nobody)
    chosen = np.empty_like(index)
    comm.Allreduce(index, chosen, op=MPI.MIN)
    phase = np.zeros(k, dtype=X.dtype)
    mine = (index == chosen) & (chosen < nobody)
    for j in np.flatnonzero(mine):
        entry = X[chosen[j] - first_row, j]
        phase[j] = np.conj(entry) / abs(entry) if entry != 0 else 1
    comm.Allreduce(MPI.IN_PLACE, phase)
    X *= phase
