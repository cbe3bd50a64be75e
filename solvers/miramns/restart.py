"""Restarts: what is kept of a subspace, as a small orthonormal basis Q of its coordinates.

Thick restart keeps an invariant subspace of the projected matrix: Ritz vectors for Hermitian
operators, Schur vectors otherwise. It is the stable form of an implicitly restarted method with
exact shifts, and may keep more than the k wanted directions, which is what makes it fast.

The published method applies the unwanted Ritz values of the chosen subspace as exact shifts of
implicit QR steps and keeps k columns; complex shifts come in pairs and stay in real arithmetic.

References: Stewart, "A Krylov-Schur algorithm for large eigenproblems", SIAM J. Matrix Anal. Appl.
23 (2002). Sorensen, SIAM J. Matrix Anal. Appl. 13 (1992). Golub and Van Loan, Matrix Computations,
sections 7.5 and 10.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from miramns.projected import Coupling, Order, RitzPairs, coupled, schur_basis

__all__ = ["implicit_qr", "kept_size", "thick_restart"]


def kept_size(k: int, m: int) -> int:
    """Directions that a thick restart keeps: the wanted ones and half of the rest."""
    return min(k + (m - k) // 2, m - 1)


def thick_restart(
    H: NDArray[np.float64],
    beta: Coupling,
    ritz: RitzPairs,
    keep: int,
    which: Order,
    *,
    hermitian: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Basis of what is kept, and the projected matrix over its coupling row.

    Not collective.

    Returns
    -------
    Q : ndarray of shape (m, p)
        p is `keep`, or one more where a conjugate pair would be cut (one less if there is no room).
    hessenberg : ndarray of shape (p + 1, p), (p + b, p) for blocks
    """
    if hermitian:
        Q = np.asarray(ritz.vectors[:, :keep])
        T = np.diag(ritz.values[:keep])
    else:
        T, Q = schur_basis(H, which, keep, len(H) - 1)
    return Q, np.vstack([T, coupled(beta, Q)])


def implicit_qr(
    H: NDArray[np.float64], shifts: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Apply QR steps with the given shifts to an upper Hessenberg matrix.

    Not collective.

    Parameters
    ----------
    H : ndarray of shape (m, m)
        Upper Hessenberg.
    shifts : ndarray of shape (s,)
        Real, or complex in conjugate pairs next to each other.

    Returns
    -------
    H : ndarray of shape (m, m)
        ``Q' H Q``, upper Hessenberg.
    Q : ndarray of shape (m, m)
        Orthogonal, with at most s subdiagonals.
    """
    H = np.array(H, order="F")
    Q = np.eye(H.shape[0], order="F")
    position = 0
    while position < len(shifts):
        shift = complex(shifts[position])
        if shift.imag == 0.0:
            _chase_bulge(H, Q, _first_column_single(H, shift.real))
            position += 1
        else:
            _chase_bulge(H, Q, _first_column_double(H, shift))
            position += 2
    return H, Q


def _first_column_single(H: NDArray[np.float64], shift: float) -> NDArray[np.float64]:
    return np.array([H[0, 0] - shift, H[1, 0]])


def _first_column_double(H: NDArray[np.float64], shift: complex) -> NDArray[np.float64]:
    """First entries of ``(H - shift I)(H - conj(shift) I) e_1``, which is real."""
    trace, determinant = 2 * shift.real, abs(shift) ** 2
    column = [
        H[0, 0] * (H[0, 0] - trace) + determinant + H[0, 1] * H[1, 0],
        H[1, 0] * (H[0, 0] + H[1, 1] - trace),
    ]
    if H.shape[0] > 2:
        column.append(H[1, 0] * H[2, 1])
    return np.array(column)


def _chase_bulge(
    H: NDArray[np.float64], Q: NDArray[np.float64], first: NDArray[np.float64]
) -> None:
    """One implicit QR step: reflect `first` onto e_1, then restore the Hessenberg form."""
    m, width = H.shape[0], len(first)
    x = first
    for i in range(m - 1):
        rows = slice(i, min(i + width, m))
        if i > 0:
            x = H[rows, i - 1].copy()
        v, tau = _reflector(x)
        if tau:
            left = slice(max(i - 1, 0), m)
            H[rows, left] -= np.outer(tau * v, v @ H[rows, left])
            upper = slice(0, min(i + width + 1, m))
            H[upper, rows] -= np.outer(H[upper, rows] @ v, tau * v)
            Q[:, rows] -= np.outer(Q[:, rows] @ v, tau * v)
        if i > 0:
            H[i + 1 : min(i + width, m), i - 1] = 0.0


def _reflector(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Householder vector and factor with ``(I - tau v v') x = -sign(x_1) |x| e_1``."""
    scale = np.abs(x).max()
    if scale == 0.0 or not np.any(x[1:]):
        return x, 0.0
    v = x / scale
    v[0] += np.copysign(np.sqrt(v @ v), v[0])
    return v, 2.0 / (v @ v)
