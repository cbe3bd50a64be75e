"""Matrix-free operators: prescribed spectra, and sample covariances of sparse rows.

With a diagonal matrix D and a product H of a few Householder reflections at orthogonal vectors, the
operator A = H D H has the eigenvalues of D, and its eigenvectors are not unit vectors. A product
costs two passes over a few vectors.

The sample covariance X'X / n, not centred, belongs to sparse random rows like those of documents:
the columns of X are words, and the frequency of the j-th falls as a power of j.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.special import betaincinv

from miramns import seeded_normal
from miramns.bench.problems.distributed_matrices import (
    aij_from_entries,
    own_rows,
    seeded_uniform,
    shell,
)

_REFLECTIONS = 3


def spiked_values(n: int, spikes: int = 10) -> NDArray[np.float64]:
    """Return spikes from 100 to 5 above a bulk in [0, 4] with a square-root edge, shape (n,)."""
    spikes = min(spikes, n)
    bulk = 4.0 * betaincinv(1.5, 1.5, (np.arange(n - spikes) + 0.5) / max(n - spikes, 1))
    return np.concatenate([np.geomspace(100.0, 5.0, spikes), bulk[::-1]])


def power_law_values(n: int, decay: float = 1.0) -> NDArray[np.float64]:
    """Return the eigenvalues ``j ** -decay``, j = 1..n, shape (n,)."""
    return np.arange(1.0, n + 1.0) ** -decay


def clustered_values(n: int, width: float = 1e-5) -> NDArray[np.float64]:
    """Return ten clusters of four eigenvalues above a bulk, shape (n,).

    Each cluster has the given width relative to its centre.
    """
    centres = np.repeat(np.geomspace(10.0, 2.0, 10), 4)
    clusters = centres * (1.0 - width * np.tile(np.arange(4) / 3.0, 10))
    return np.concatenate([clusters, np.linspace(1.5, 0.0, max(n - 40, 0))])[:n]


def multiple_values(n: int, multiplicity: int = 3) -> NDArray[np.float64]:
    """Return twelve eigenvalues of equal multiplicity above a bulk, shape (n,)."""
    peaks = np.repeat(np.geomspace(10.0, 2.0, 12), multiplicity)
    return np.concatenate([peaks, np.linspace(1.5, 0.0, max(n - peaks.size, 0))])[:n]


def hidden_diagonal(comm: MPI.Comm, values: NDArray[np.float64], seed: int) -> PETSc.Mat:
    """Create an operator with given eigenvalues.

    Collective on `comm`.

    Parameters
    ----------
    values : ndarray of shape (n,)
        All eigenvalues, the same on every rank.
    seed : int
        Seed of the reflections.
    """
    return shell(comm, len(values), _HiddenDiagonal(comm, values, seed), hermitian=True)


class _HiddenDiagonal:
    """Context of a shell: A = H D H with H = I - 2 W W' and orthonormal W.

    H is the product of the reflections at the columns of W, applied together.
    """

    def __init__(self, comm: MPI.Comm, values: NDArray[np.float64], seed: int) -> None:
        n = len(values)
        first, last = own_rows(comm, n)
        self.comm = comm
        self.values = np.asarray(values[first:last], dtype=np.float64)
        streams = range(min(_REFLECTIONS, n))
        W = np.column_stack([seeded_normal(seed, first, last, stream) for stream in streams])
        R = np.linalg.cholesky(self._summed(W.T @ W)).T
        self.W = np.asfortranarray(np.linalg.solve(R.T, W.T).T)

    def mult(self, _shell: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Compute y = A x. Collective: two reductions of a few numbers."""
        work = self._reflected(x.getArray(readonly=1))
        work *= self.values
        y.setArray(self._reflected(work))

    def _reflected(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(x - self.W @ (2.0 * self._summed(self.W.T @ x)))

    def _summed(self, local: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.ascontiguousarray(local)
        self.comm.Allreduce(MPI.IN_PLACE, total)
        return total


def sparse_covariance(
    comm: MPI.Comm, rows: int, columns: int, per_row: int, decay: float, seed: int
) -> PETSc.Mat:
    """Create the shell X'X / rows of a sparse random matrix X.

    Collective on `comm`.

    Parameters
    ----------
    rows, columns : int
        Shape of X, whose rows are distributed.
    per_row : int
        Entries drawn per row, uniform in [0, 1); entries at the same place are added.
    decay : float
        The j-th column is drawn with a probability proportional to ``(j + 10) ** -decay``.
    """
    first, last = own_rows(comm, rows)
    start, stop = first * per_row, last * per_row
    limits = np.cumsum((np.arange(columns) + 10.0) ** -decay)
    drawn = np.searchsorted(limits, seeded_uniform(seed, 0, start, stop) * limits[-1])
    X = aij_from_entries(
        comm,
        (rows, columns),
        np.repeat(np.arange(first, last), per_row),
        # frequent columns are spread, so that every rank holds some of them
        _spread(np.minimum(drawn, columns - 1), columns),
        seeded_uniform(seed, 1, start, stop),
    )
    return shell(comm, columns, _Covariance(X, 1.0 / rows), hermitian=True)


def _spread(column: NDArray[Any], columns: int) -> NDArray[Any]:
    """Permute indices by multiplication with a number that is coprime to `columns`."""
    factor = int(columns * 0.618) | 1
    while np.gcd(factor, columns) != 1:
        factor += 2
    return (column * factor) % columns


class _Covariance:
    """Context of a shell: A = scale X'X, by two products with X."""

    def __init__(self, X: PETSc.Mat, scale: float) -> None:
        self.X = X
        self.scale = scale
        self.work = X.createVecLeft()

    def mult(self, _shell: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Compute y = A x. Collective."""
        self.X.mult(x, self.work)
        self.work.scale(self.scale)
        self.X.multTranspose(self.work, y)

    def destroy(self, _shell: PETSc.Mat) -> None:
        """Destroy X and the work vector together with the shell. Collective."""
        self.work.destroy()
        self.X.destroy()
