"""Reference eigenvalues: known ones, those of LAPACK, or a consensus of the methods.

The consensus is the best set of eigenvalues whose true residuals pass. For Hermitian operators the
values of orthonormal vectors never exceed the true ones (Cauchy), so of two such sets the one with
the larger sum of wanted values is right, or closer to it. The consensus thus reveals an eigenvalue
that is missing from an answer if one method found it. It does not reveal an eigenvalue that all
methods miss, such as the copies of a multiple one.

Eigenvalues match if they differ by no more than the residual allows: by the residual norm for
Hermitian operators, by its product with the condition number of the eigenvalue for others.
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

from miramns.bench.harness.root_rank import on_root_rank
from miramns.products import apply_columns
from miramns.selection import Which, selection_keys

#: Largest size for which LAPACK computes the reference.
LARGEST_DENSE = 2500

#: Multiple of the tolerance up to which residuals pass.
SLACK = 2.0

#: Assumed condition number of eigenvalues of nonsymmetric operators if it is not computed.
_ASSUMED_CONDITION = 100.0


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues, shape (n,), their condition numbers, shape (n,), and their source."""

    values: NDArray[Any]
    conditions: NDArray[np.float64]
    source: str


@dataclass(frozen=True)
class Reference:
    """The eigenvalues that a right answer contains.

    Attributes
    ----------
    values : ndarray of shape (k,)
        In the order of `which`.
    tolerances : ndarray of shape (k,)
        Largest error of each in a right answer.
    source : str
    which : str
    """

    values: NDArray[Any]
    tolerances: NDArray[np.float64]
    source: str
    which: Which

    def missing_from(self, found: NDArray[Any]) -> int:
        """Return the number of reference values that match none of the values found.

        Values that tie with the last one, as +x and -x do in modulus, may replace one another.
        """
        if not found.size:
            return len(self.values)
        key, found_key = (selection_keys(one, self.which) for one in (self.values, found))
        allowed = self.tolerances[:, None]
        fits = np.abs(self.values[:, None] - found) <= allowed
        at_cut = np.abs(key - key[-1]) <= self.tolerances + self.tolerances[-1]
        fits |= at_cut[:, None] & (np.abs(key[:, None] - found_key) <= allowed)
        rows, columns = linear_sum_assignment(fits, maximize=True)
        return int(len(self.values) - fits[rows, columns].sum())


def reference_of(spectrum: Spectrum | None, k: int, which: Which, tol: float) -> Reference | None:
    """Select k eigenvalues of a spectrum; None without a spectrum.

    Parameters
    ----------
    tol : float
        Tolerance of the residual norms, relative to the eigenvalue.
    """
    if spectrum is None:
        return None
    order = np.argsort(selection_keys(spectrum.values, which), kind="stable")[:k]
    values = spectrum.values[order]
    largest = float(np.max(np.abs(spectrum.values), initial=0.0))
    residuals = 2.0 * SLACK * tol * np.abs(values) + 1e-12 * largest
    return Reference(values, spectrum.conditions[order] * residuals, spectrum.source, which)


def dense_spectrum(A: PETSc.Mat, hermitian: bool) -> Spectrum:
    """Compute all eigenvalues by LAPACK on rank 0.

    Collective on ``A.comm``.

    Raises
    ------
    BenchError
        On all ranks, if LAPACK fails.
    """
    comm: MPI.Comm = A.getComm().tompi4py()
    first, last = A.getOwnershipRange()
    identity = np.eye(last - first, A.getSize()[1], first, order="F")
    parts: Any = comm.gather(apply_columns(A, identity))

    def solve() -> Spectrum:
        M = np.vstack(parts)
        if hermitian:
            return Spectrum(scipy.linalg.eigvalsh(M), np.ones(len(M)), "LAPACK")
        values, left, right = scipy.linalg.eig(M, left=True, right=True)
        overlaps = np.abs(np.sum(left.conj() * right, axis=0))
        conditions = 1.0 / np.maximum(overlaps, np.finfo(np.float64).eps)
        return Spectrum(values, conditions, "LAPACK")

    spectrum: Spectrum = on_root_rank(comm, solve)
    return spectrum


def consensus_spectrum(
    sets: Sequence[NDArray[Any]], k: int, which: Which, hermitian: bool
) -> Spectrum | None:
    """Return the set of k eigenvalues with the largest sum of wanted values.

    Parameters
    ----------
    sets : sequence of ndarray
        Eigenvalues of the answers whose residuals pass.

    Returns
    -------
    Spectrum or None
        None if no set has k eigenvalues.
    """
    complete = [values for values in sets if len(values) >= k]
    if not complete:
        return None

    def sum_of_keys(values: NDArray[Any]) -> float:
        return float(np.sort(selection_keys(values, which))[:k].sum())

    best = min(complete, key=sum_of_keys)  # the wanted values have the smallest keys
    condition = 1.0 if hermitian else _ASSUMED_CONDITION
    return Spectrum(best, np.full(len(best), condition), f"best of {len(complete)}")
