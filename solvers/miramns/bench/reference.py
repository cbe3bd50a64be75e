"""Reference eigenvalues: known ones, LAPACK's, or the best that any method certified.

A certified set is one whose true residuals pass. For Hermitian operators the values of orthonormal
vectors never lie beyond the true ones (Cauchy), so of two certified sets the one that reaches
further is right, or nearer to it; which is why a consensus can tell a method that missed an
eigenvalue, as long as one method found it. What all methods miss, such as the copies of a multiple
eigenvalue, a consensus cannot tell.

Eigenvalues match when they differ by no more than the residual allows: the residual norm itself for
Hermitian operators, times the condition number of the eigenvalue for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix, vstack

from miramns.bench.files import agreed

__all__ = ["LARGEST_DENSE", "Reference", "Spectrum", "best_certified", "dense_spectrum", "wanted"]

#: Size up to which LAPACK answers.
LARGEST_DENSE = 2500

#: Residuals up to this many times the tolerance are let pass, so a value may be as far off.
SLACK = 2.0

#: Condition of eigenvalues of nonsymmetric operators that nobody has computed.
_ASSUMED_CONDITION = 100.0


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues with their condition numbers, shapes (n,) and (n,), and where they come from."""

    values: NDArray[Any]
    conditions: NDArray[np.float64]
    source: str


@dataclass(frozen=True)
class Reference:
    """The eigenvalues that are asked for.

    Attributes
    ----------
    values : ndarray of shape (k,)
        Wanted ones first.
    tolerances : ndarray of shape (k,)
        How far a right answer may be from each.
    source : str
    which : str
    """

    values: NDArray[Any]
    tolerances: NDArray[np.float64]
    source: str
    which: str

    def missed(self, found: NDArray[Any]) -> int:
        """Number of reference values without a partner among those found. Not collective.

        Where several are equally wanted at the cut, as +x and -x by modulus, any will do.
        """
        if not found.size:
            return len(self.values)
        key, found_key = wanted(self.values, self.which), wanted(found, self.which)
        allowed = self.tolerances[:, None]
        fits = np.abs(self.values[:, None] - found) <= allowed
        at_cut = np.abs(key - key[-1]) <= self.tolerances + self.tolerances[-1]
        fits |= at_cut[:, None] & (np.abs(key[:, None] - found_key) <= allowed)
        rows, columns = linear_sum_assignment(fits, maximize=True)
        return int(len(self.values) - fits[rows, columns].sum())


def wanted(values: NDArray[Any], which: str) -> NDArray[np.float64]:
    """How much each eigenvalue is wanted: more is more. Not collective."""
    if which == "LM":
        return np.abs(values)
    return np.asarray(-values.real if which in ("SR", "SA") else values.real, dtype=np.float64)


def reference_of(spectrum: Spectrum, k: int, which: str, tol: float) -> Reference:
    """Cut the k wanted ones out of a spectrum. Not collective.

    Parameters
    ----------
    tol : float
        Of the residual norms, relative to the eigenvalue.
    """
    order = np.argsort(-wanted(spectrum.values, which), kind="stable")[:k]
    values = spectrum.values[order]
    largest = float(np.max(np.abs(spectrum.values), initial=0.0))
    residuals = 2.0 * SLACK * tol * np.abs(values) + 1e-12 * largest
    return Reference(values, spectrum.conditions[order] * residuals, spectrum.source, which)


def known_spectrum(values: NDArray[np.float64]) -> Spectrum:
    """Spectrum of a Hermitian operator that was built to have it. Not collective."""
    return Spectrum(values, np.ones(len(values)), "exact")


def dense_spectrum(A: PETSc.Mat, hermitian: bool) -> Spectrum:
    """All eigenvalues by LAPACK on one rank. Collective on ``A.comm``.

    Raises
    ------
    BenchError
        On all ranks, when LAPACK fails.
    """
    comm: MPI.Comm = A.getComm().tompi4py()
    M = _dense(A)

    def solve() -> Spectrum:
        assert M is not None  # rank 0 holds the matrix
        if hermitian:
            return Spectrum(scipy.linalg.eigvalsh(M), np.ones(len(M)), "LAPACK")
        values, left, right = scipy.linalg.eig(M, left=True, right=True)
        overlaps = np.abs(np.sum(left.conj() * right, axis=0))
        conditions = 1.0 / np.maximum(overlaps, np.finfo(np.float64).eps)
        return Spectrum(values, conditions, "LAPACK")

    spectrum: Spectrum = agreed(comm, solve)
    return spectrum


def _dense(A: PETSc.Mat) -> NDArray[np.float64] | None:
    """The whole matrix on rank 0, nothing elsewhere. Collective."""
    comm: MPI.Comm = A.getComm().tompi4py()
    n = A.getSize()[1]
    if A.getType() == "python":
        x, y = A.createVecs()
        first, last = x.getOwnershipRange()
        local: Any = np.empty((y.getLocalSize(), n))
        for j in range(n):
            unit = np.zeros(last - first)
            if first <= j < last:
                unit[j - first] = 1.0
            x.setArray(unit)
            A.mult(x, y)
            local[:, j] = y.getArray(readonly=1)
        x.destroy()
        y.destroy()
    else:
        indptr, indices, data = A.getValuesCSR()
        local = csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, n))
    parts = comm.gather(local)
    if parts is None:
        return None
    if isinstance(local, np.ndarray):
        return np.vstack(parts)
    return np.asarray(vstack(parts).toarray())


def best_certified(
    sets: Sequence[NDArray[Any]], k: int, which: str, hermitian: bool
) -> Spectrum | None:
    """Consensus: of the certified sets of k eigenvalues the one that reaches furthest.

    Not collective. None where there is no such set.
    """
    whole = [values for values in sets if len(values) >= k]
    if not whole:
        return None

    def reach(values: NDArray[Any]) -> float:
        return float(np.sort(wanted(values, which))[::-1][:k].sum())

    best = max(whole, key=reach)
    condition = 1.0 if hermitian else _ASSUMED_CONDITION
    return Spectrum(best, np.full(len(best), condition), f"best of {len(whole)}")
