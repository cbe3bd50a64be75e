"""The small projected problem: Ritz pairs, and the vectors that a restart keeps.

The operator projected on the columns of the basis is a matrix H of dozens to hundreds of rows. Rank
0 solves it and broadcasts the solution: a multithreaded LAPACK on every rank could give answers
that differ in the last bits, and the ranks would take different decisions.

Restarts keep an invariant subspace of H: Ritz vectors for Hermitian operators, Schur vectors
otherwise. This thick restart is the stable form of an implicit restart with exact shifts, and may
keep more than the k wanted directions.

Reference: Stewart, "A Krylov-Schur algorithm for large eigenproblems", SIAM J. Matrix Anal. Appl.
23 (2002).

Deviation: the Hermitian case takes the symmetric part of the whole projected matrix, not a
tridiagonal, so that restarts, breakdowns and rounding need no special form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrsen, ztrsen

from miramns.agreement import one_line, release_frames, without_frames
from miramns.errors import MiramnsError
from miramns.selection import Order, cuts_pair, wanted_order

#: Coupling of the columns to the residual: the norm of the residual of the last column, or a matrix
#: with a row for each of several residual directions.
Coupling = float | NDArray[np.float64]

#: Eigenvectors of one eigenvalue whose least singular value is below this are taken as dependent.
_DEPENDENT = 1e-6

#: Smallest number of full precision, by which may be divided.
_TINY = float(np.finfo(np.float64).tiny)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OrthonormalProjection:
    """The operator projected on an orthonormal basis of the subspace.

    Attributes
    ----------
    hessenberg : ndarray of shape (m, m)
        The projected operator H.
    coupling : float or ndarray of shape (b, m)
        Coupling to the residual: of the last column, or of all columns to a block of directions.
    inverse : ndarray of shape (m + 1, m + 1) or None
        Upper triangular: the stored columns times this are orthonormal. None if they are already.
    """

    hessenberg: NDArray[np.float64]
    coupling: Coupling
    inverse: NDArray[np.float64] | None = None

    @property
    def size(self) -> int:
        """Number of columns m."""
        return len(self.hessenberg)

    def coordinates(self, Y: NDArray[Any]) -> NDArray[Any]:
        """Return coefficients of the stored columns for coefficients Y of the orthonormal ones."""
        return Y if self.inverse is None else self.inverse[: self.size, : self.size] @ Y


@dataclass(frozen=True, slots=True)
class RitzPairs:
    """Ritz pairs of one subspace, wanted ones first.

    Attributes
    ----------
    values : ndarray of shape (m,)
        float64 for Hermitian operators, complex128 otherwise.
    vectors : ndarray of shape (m, m)
        Coefficients of the Ritz vectors in the basis, unit columns.
    estimates : ndarray of shape (m,)
        Residual norms of the Ritz pairs, from the coupling to the residual.
    """

    values: NDArray[Any]
    vectors: NDArray[Any]
    estimates: NDArray[np.float64]

    def whole_pairs(self, k: int) -> int:
        """Return k, or k + 1 if a cut after k values would separate a complex conjugate pair."""
        return k + int(cuts_pair(self.values, k))


def on_root(comm: MPI.Comm, compute: Callable[[], T]) -> T:
    """Compute on rank 0 and broadcast the value, or the error. Collective."""
    if comm.size == 1:
        return compute()
    answer: T | Exception | None = None
    if comm.rank == 0:
        try:
            answer = compute()
        except (np.linalg.LinAlgError, ValueError) as error:
            release_frames(error)
            answer = error
        except Exception as error:
            # perhaps of a function of the user, and of a type that cannot be sent
            comm.bcast(MiramnsError(f"[rank 0] {one_line(error)}"), root=0)
            raise without_frames(error, "On rank 0:") from None
    answer = comm.bcast(answer, root=0)
    if isinstance(answer, Exception):
        try:
            raise answer
        finally:
            del answer  # the frame would keep the exception, which holds the frame
    return answer  # type: ignore[return-value]


def ritz_pairs(projection: OrthonormalProjection, which: Order, *, hermitian: bool) -> RitzPairs:
    """Solve the projected problem."""
    H = projection.hessenberg
    values: NDArray[Any]
    vectors: NDArray[Any]
    if hermitian:
        # numpy's eigh: a program that multiplies with numpy keeps one set of BLAS threads busy
        values, vectors = np.linalg.eigh((H + H.T) / 2)
    else:
        values, vectors = scipy.linalg.eig(H)
        # LAPACK's vectors are real if no value is complex
        vectors = vectors.astype(np.complex128)
    order = wanted_order(values, which)
    values, vectors = values[order], vectors[:, order]
    estimates = np.linalg.norm(_coupled(projection.coupling, vectors), axis=0)
    return RitzPairs(values, vectors, estimates)


def thick_restart(
    projection: OrthonormalProjection, ritz: RitzPairs, keep: int, which: Order, *, hermitian: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the coordinates of the columns to keep, and the projected matrix on them.

    Returns
    -------
    Q : ndarray of shape (m, p)
        Orthonormal. p is `keep`, or one more to complete a conjugate pair (one less if there is no
        room for it).
    hessenberg : ndarray of shape (p + 1, p), (p + b, p) for blocks
        The projected matrix over its coupling rows.
    """
    if hermitian:
        Q = np.asarray(ritz.vectors[:, :keep])
        T = np.diag(ritz.values[:keep])
    else:
        T, Q = schur_basis(projection.hessenberg, which, keep, projection.size - 1)
    return Q, np.vstack([T, _coupled(projection.coupling, Q)])


def _coupled(coupling: Coupling, Y: NDArray[Any]) -> NDArray[Any]:
    """Return the coupling of combinations Y of the columns, a row for each residual direction."""
    return coupling @ Y if isinstance(coupling, np.ndarray) else coupling * Y[-1:]


def refined_pairs(
    H: NDArray[np.float64], values: NDArray[Any], vectors: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Improve eigenpairs of a nonsymmetric matrix, and return their condition numbers.

    LAPACK's driver balances the matrix first, which costs many digits of the vectors of graded and
    strongly nonnormal matrices. Schur form and back substitution do not have this error, but
    overflow for defective matrices. They take longer, so only the pairs of the answer are improved,
    and the better one of two pairs is returned.

    LAPACK may also return one vector several times for a multiple eigenvalue, if rounding alone
    couples parts of the matrix. A basis of the eigenspace replaces these vectors, if there is one
    of that dimension.

    Parameters
    ----------
    H : ndarray of shape (m, m)
    values : ndarray of shape (k,)
        Complex; in a conjugate pair, the positive imaginary part comes first.
    vectors : ndarray of shape (m, k)
        Unit columns.

    Returns
    -------
    values, vectors
        Of the same shapes; conjugate values have conjugate vectors.
    conditions : ndarray of shape (k,)
        Condition numbers of the eigenvalues: :func:`_condition_number`.
    """
    values, vectors = values.copy(), vectors.copy()
    _separate_copies(H, values, vectors)
    T, Z = scipy.linalg.schur(H, output="complex")
    diagonal = T.diagonal().copy()
    rounding = 10 * len(H) * float(np.finfo(np.float64).eps * np.linalg.norm(T))
    for i, value in enumerate(values):
        j = int(np.argmin(np.abs(diagonal - value)))
        better, y = complex(T[j, j]), Z[:, : j + 1] @ _triangular_vector(T, j)
        diagonal[j] = np.inf
        if value.imag == 0:
            largest = y[np.argmax(np.abs(y))]
            better, y = better.real, (y * (np.conj(largest) / max(abs(largest), _TINY))).real
        poor = _residual(H, value, vectors[:, i])
        if value.imag >= 0 and poor > rounding and _residual(H, better, y) < 0.1 * poor:
            values[i], vectors[:, i] = better, y / np.linalg.norm(y)
            if value.imag > 0 and i + 1 < len(values):
                values[i + 1], vectors[:, i + 1] = np.conj(better), np.conj(vectors[:, i])
    conditions = np.array([_condition_number(T, value, rounding) for value in values])
    return values, vectors, conditions


def _condition_number(T: NDArray[Any], value: complex, rounding: float) -> float:
    """Return the norm of the spectral projector of an eigenvalue of a triangular matrix.

    For a simple eigenvalue with left and right unit vectors y and x it is ``1 / |y'x|``: a
    perturbation of norm e moves the value by this times e. Eigenvalues that differ by `rounding`
    count as copies of one eigenvalue, which is their mean.
    """
    distances = np.abs(T.diagonal() - value)
    copies = (distances <= max(rounding, float(distances.min()))).astype(np.int32)
    m, n_copies = len(T), int(copies.sum())
    if n_copies == m:
        return 1.0
    lwork = max(1, n_copies * (m - n_copies))
    *_, reciprocal, _, info = ztrsen(copies, T, T, job="E", wantq=0, lwork=lwork)
    return 1.0 / reciprocal if info == 0 and reciprocal > 0 else np.inf


def _separate_copies(H: NDArray[np.float64], values: NDArray[Any], vectors: NDArray[Any]) -> None:
    """Replace dependent vectors of a multiple eigenvalue by a basis of its eigenspace, in place."""
    rounding = 10 * len(H) * np.finfo(np.float64).eps * np.linalg.norm(H)
    left = [i for i in range(len(values)) if values[i].imag >= 0]
    while left:
        value = values[left[0]]
        copies = [i for i in left if abs(values[i] - value) <= rounding]
        left = [i for i in left if i not in copies]
        if len(copies) == 1 or np.linalg.svd(vectors[:, copies])[1][-1] > _DEPENDENT:
            continue
        shifted = H - (value.real if value.imag == 0 else value) * np.eye(len(H))
        _, singular, right = np.linalg.svd(shifted)
        if singular[-len(copies)] > rounding:
            continue  # a defective eigenvalue has no other vector
        vectors[:, copies] = right[-len(copies) :].conj().T
        for i in copies:
            if value.imag > 0 and i + 1 < len(values):
                vectors[:, i + 1] = np.conj(vectors[:, i])


def _residual(H: NDArray[np.float64], value: complex, y: NDArray[Any]) -> float:
    """Return the relative residual of a pair; infinite for a zero or infinite vector."""
    norm = float(np.linalg.norm(y))
    if not 0 < norm < np.inf:
        return np.inf
    return float(np.linalg.norm(H @ y - value * y)) / norm


def _triangular_vector(T: NDArray[Any], j: int) -> NDArray[Any]:
    """Return the eigenvector of an upper triangular matrix for entry (j, j), of length j + 1."""
    shifted = T[:j, :j] - T[j, j] * np.eye(j)
    small = max(float(np.finfo(np.float64).eps * np.linalg.norm(T)), _TINY)
    entries = shifted.diagonal()
    np.fill_diagonal(shifted, np.where(np.abs(entries) < small, small, entries))
    x = np.ones(j + 1, dtype=np.complex128)
    if j:
        with np.errstate(all="ignore"):
            x[:j] = scipy.linalg.solve_triangular(shifted, -T[:j, j], check_finite=False)
            x /= np.linalg.norm(x)
    return x if np.isfinite(x).all() else np.zeros_like(x)


def schur_basis(
    H: NDArray[np.float64], which: Order, keep: int, most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the leading part of a real Schur form with the wanted values in front.

    Parameters
    ----------
    keep, most : int
        Number of values wanted, and the largest number to return.

    Returns
    -------
    T : ndarray of shape (p, p)
        Quasi-triangular; p is `keep`, or one more where a conjugate pair would be cut.
    Q : ndarray of shape (m, p)
        Orthonormal, ``H Q = Q T`` .
    """
    T, Q = scipy.linalg.schur(H, output="real")
    values = _quasi_triangular_values(T)
    order = wanted_order(values, which)
    cut = cuts_pair(values[order], keep)
    # a pair that does not fit is left out
    p = keep + (int(cut) if keep < most else -int(cut))
    select = np.zeros(len(values), dtype=np.int32)
    select[order[:p]] = 1
    T, Q, *_, info = dtrsen(select, T, Q, job="N", wantq=1)
    if info:
        raise np.linalg.LinAlgError("reordering of the Schur form failed: eigenvalues too close")
    return np.asarray(T[:p, :p]), np.asarray(Q[:, :p])


def _quasi_triangular_values(T: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the eigenvalues of a real Schur form, in the order of its diagonal."""
    m = T.shape[0]
    values = np.diag(T).astype(np.complex128)
    i = 0
    while i < m - 1:
        if T[i + 1, i] == 0.0:
            i += 1
            continue
        # a standardised 2 x 2 block has equal diagonal entries
        imag = np.sqrt(abs(T[i, i + 1])) * np.sqrt(abs(T[i + 1, i]))
        values[i], values[i + 1] = complex(T[i, i], imag), complex(T[i, i], -imag)
        i += 2
    return values
