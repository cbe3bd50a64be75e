"""Orthonormal columns, distributed by rows: measuring, restoring and using orthonormality."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg.blas import dgemm, dgemv

from miramns.products import apply_columns
from miramns.projected import on_root

#: Loss of orthogonality beyond which columns are not treated as nearly orthonormal.
NOT_ORTHONORMAL = 1e-3

#: Loss of orthogonality that is left, and the largest that one sweep reduces to rounding.
_ORTHONORMAL = 1e-14
_NEARLY = 1e-6

#: Eigenvalues of the scaled Gram matrix of a block below this count as rounding.
_DEPENDENT = 1e-13

#: Entries that are recombined at a time: a few MB, which bound the extra memory and fit into the
#: cache.
_PANEL_ENTRIES = 2**18


def dot_columns(V: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return V'w of this rank's rows. BLAS does not warn of an overflow, as numpy does.

    Parameters
    ----------
    V : ndarray of shape (n_local, j)
        Column-major; may be empty.
    """
    return np.asarray(dgemv(1.0, V, w, trans=1)) if V.size else np.zeros(V.shape[1])


def subtract(
    V: NDArray[np.float64], coefficients: NDArray[np.float64], w: NDArray[np.float64]
) -> None:
    """Subtract V times the coefficients from `w`, in place.

    Parameters
    ----------
    V : ndarray of shape (n_local, j)
        Column-major; may be empty.
    coefficients : ndarray of shape (j,) or (j, b)
    w : ndarray of shape (n_local,), or (n_local, b) and column-major
    """
    if not V.size:
        return
    if w.ndim == 1:
        dgemv(-1.0, V, coefficients, beta=1.0, y=w, overwrite_y=1)
    else:
        # a third of the time of numpy's, which makes the product first; another order is copied
        assert w.flags.f_contiguous
        dgemm(-1.0, V, coefficients, beta=1.0, c=w, overwrite_c=1)


def panels(n_rows: int, size: int) -> list[slice]:
    """Return the slices of all rows into panels of `size` rows, or of 256 if that is more."""
    size = max(size, 256)
    return [slice(first, first + size) for first in range(0, n_rows, size)]


def recombine(V: NDArray[np.float64], Q: NDArray[np.float64]) -> None:
    """Replace the first p columns of V by its first m columns times Q, in place.

    Parameters
    ----------
    V : ndarray of shape (n_local, at least m)
    Q : ndarray of shape (m, p)
    """
    m, p = Q.shape
    for part in panels(len(V), _PANEL_ENTRIES // m):
        V[part, :p] = V[part, :m] @ Q


def orthogonality(comm: MPI.Comm, X: NDArray[Any], inner: PETSc.Mat | None = None) -> float:
    """Return the largest entry of ``|X'X - I|``, or of ``|X'BX - I|``.

    Collective: one reduction.
    """
    BX = X if inner is None else apply_columns(inner, X)
    gram = np.ascontiguousarray(X.T @ BX)
    comm.Allreduce(MPI.IN_PLACE, gram)
    return float(np.max(np.abs(gram - np.eye(len(gram))), initial=0.0))


def orthonormalize(comm: MPI.Comm, X: NDArray[np.float64]) -> float:
    """Orthonormalise nearly orthonormal columns in place, by the Cholesky factor of X'X.

    Collective: one reduction, or two for columns that are far from orthonormal. Returns the largest
    entry of ``|X'X - I|`` before; beyond ``NOT_ORTHONORMAL`` the columns are left unchanged.
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


def change_of_basis(
    comm: MPI.Comm, gram: NDArray[np.float64], H: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Express a factorisation ``A V_m = V H`` on orthonormal columns ``N = V R^-1``.

    Collective. With ``V'V = R'R``, ``A N_m = N (R H R_m^-1)`` holds for any V of full rank.

    Parameters
    ----------
    gram : ndarray of shape (m + b, m + b)
        V'V including the b residual directions, the same on all ranks.
    H : ndarray of shape (m + b, m)

    Returns
    -------
    hessenberg : ndarray of shape (m + b, m)
        ``R H R_m^-1``.
    inverse : ndarray of shape (m + b, m + b)
        ``R^-1``, upper triangular.

    Raises
    ------
    numpy.linalg.LinAlgError
        On all ranks, when the columns are dependent.
    """

    def compute() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        m = H.shape[1]
        R = scipy.linalg.cholesky(gram)
        hessenberg = scipy.linalg.solve_triangular(R[:m, :m], (R @ H).T, trans="T").T
        return hessenberg, scipy.linalg.solve_triangular(R, np.eye(len(gram)))

    return on_root(comm, compute)


def gram_factors(
    gram: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Return S and R with ``W = (W S) R`` from the Gram matrix W'W.

    The columns of W S are orthonormal, except for directions of W that are not distinguished from
    rounding. The third value is True if there are any.
    """
    norms = np.sqrt(np.maximum(gram.diagonal(), 0.0))
    scale = np.where(norms > 0, norms, 1.0)
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    roots = np.sqrt(np.maximum(values, _DEPENDENT))
    unclear = bool(values[0] <= _DEPENDENT)
    return (vectors / scale[:, None]) / roots, (roots[:, None] * vectors.T) * scale, unclear
