"""Spectral start: dominant singular triplets of the surrogate ``A*(y)``, certified.

Small surrogates on one rank are decomposed by LAPACK. Large or distributed ones go to
:class:`~hpcembed.embedding.TruncatedSVD`: the sparse rows are a PETSc AIJ matrix, the eigensolver
of ``S'S`` is MIRAMns, and its true residuals are tested. Left vectors are ``S V / sigma``.

The rank, where none is given, is the number of singular values above the noise edge: the largest
singular value that missing entries alone give the surrogate (independent entries of variance
sigma^2 have singular values up to ``sigma (sqrt(m) + sqrt(n))``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding import TruncatedSVD
from hpcembed.networks.deep_linear.problems import Matrix, Problem
from hpcembed.runtime.arguments import check_count
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError

__all__ = ["LARGEST_RANK", "SpectralStart", "components_above", "spectral_start"]

#: Surrogates with at most this smaller dimension are decomposed by LAPACK, on one rank.
_SMALL = 600
#: A component is part of the matrix if its singular value exceeds the noise edge by this factor.
_ABOVE_EDGE = 1.1
#: Largest rank that is searched for where none is given.
LARGEST_RANK = 50


@dataclass(frozen=True, eq=False, repr=False)
class SpectralStart:
    """Dominant singular triplets of a surrogate.

    Attributes
    ----------
    left : ndarray of shape (m_local, k)
        Orthonormal columns; this rank's rows.
    values : ndarray of shape (k,)
        Singular values, descending.
    right : ndarray of shape (n, k)
    residual_norms : ndarray of shape (k,)
        ``||S'S v - sigma^2 v|| / sigma_1^2``.
    tol : float
        Tolerance of the residuals.
    method : {"lapack", "miramns"}
    noise_edge : float
        Largest singular value that sampling alone explains.
    """

    left: Matrix
    values: Matrix
    right: Matrix
    residual_norms: Matrix
    tol: float
    method: Literal["lapack", "miramns"]
    noise_edge: float

    def __repr__(self) -> str:
        return (
            f"<SpectralStart: {len(self.values)} triplets by {self.method}, "
            f"values {self.values[0]:.3g} to {self.values[-1]:.3g}, "
            f"largest residual {self.residual_norms.max():.1e}>"
        )

    @property
    def certified(self) -> bool:
        """Whether all residuals meet the tolerance."""
        return bool((self.residual_norms <= self.tol).all())

    def check_count(self, count: int) -> None:
        """Raise ConfigError if there are fewer than `count` triplets."""
        if len(self.values) < count:
            raise ConfigError(
                f"the start has {len(self.values)} singular vectors, {count} are needed: "
                "leave it out, or find more"
            )

    def factors(self) -> tuple[Matrix, Matrix]:
        """Return balanced factors: left and right vectors times square roots of the values."""
        roots = np.sqrt(self.values)
        return self.left * roots, self.right * roots


def components_above(values: NDArray[np.float64], edge: float) -> int:
    """Return how many singular values lie above the noise edge, with a margin of 10 %.

    Examples
    --------
    >>> import numpy as np
    >>> components_above(np.array([3.0, 2.0, 1.0]), 1.0)
    2
    """
    return int((np.asarray(values) > _ABOVE_EDGE * edge).sum())


def spectral_start(
    problem: Problem,
    rank: int | None = None,
    *,
    residual: Matrix | None = None,
    tol: float | None = None,
    seed: int = 0,
) -> SpectralStart:
    """Find the dominant singular triplets of the surrogate of a problem.

    Collective on the problem's communicator.

    Parameters
    ----------
    rank : int, optional
        Default: the number of singular values above the noise edge, at least 1 and at most 50.
    residual : ndarray, optional
        Measurements in place of the problem's targets.
    tol : float, optional
        Largest ``||S'S v - sigma^2 v|| / sigma_1^2``. Default: 1e-10 for LAPACK, 1e-6 for MIRAMns,
        whose vectors only begin an iteration.
    seed : int
        Of the start vectors of the solver.

    Raises
    ------
    InputError
        The surrogate is zero.
    ConfigError
        `rank` exceeds the dimensions.
    ConvergenceError
        A triplet misses the tolerance.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcembed.networks.deep_linear import Factorisation, spectral_start
    >>> start = spectral_start(Factorisation(np.diag([3.0, 2.0, 0.0])))
    >>> start.values, start.certified
    (array([3., 2.]), True)
    """
    check_count("rank", rank, optional=True)
    smaller = min(problem.shape)
    if rank is not None and rank > smaller:
        raise ConfigError(f"rank = {rank} exceeds {smaller}, the smaller dimension: reduce it")
    values = problem.targets if residual is None else residual
    edge = problem.noise_edge(values)
    surrogate = problem.surrogate(values)
    largest = float(abs(surrogate).max()) if surrogate.size else 0.0
    if problem.comm.allreduce(largest, op=MPI.MAX) == 0:
        raise InputError("all measurements are zero: the surrogate has no dominant direction")
    k = rank or min(LARGEST_RANK, max(1, smaller - 1))
    if problem.comm.size == 1 and smaller <= _SMALL:
        left, s, right, norms = _by_lapack(surrogate, k)
        method, tol = "lapack", tol or 1e-10
    else:
        left, s, right, norms = _by_miramns(problem, surrogate, k, tol or 1e-6, seed)
        method, tol = "miramns", tol or 1e-6
    if rank is None:
        k = max(1, components_above(s, edge))
    start = SpectralStart(left[:, :k], s[:k], right[:, :k], norms[:k], tol, method, edge)  # type: ignore[arg-type]
    if not start.certified:
        missed = int((start.residual_norms > tol).sum())
        raise ConvergenceError(
            f"{missed} of {k} singular vectors of the surrogate missed the tolerance {tol:g} "
            f"(worst {start.residual_norms.max():.1e}): reduce the rank or raise tol",
            start,
        )
    return start


def _by_lapack(surrogate: Any, k: int) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    S = surrogate.toarray() if scipy.sparse.issparse(surrogate) else surrogate
    U, s, Vt = scipy.linalg.svd(S, full_matrices=False)
    U, s, V = U[:, :k], s[:k], Vt[:k].T
    signs = _signs(V)
    U, V = U * signs, V * signs
    norms = np.linalg.norm(S.T @ (S @ V) - V * s**2, axis=0) / s[0] ** 2
    return U, s, V, norms


def _by_miramns(
    problem: Problem, surrogate: Any, k: int, tol: float, seed: int
) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    rows = scipy.sparse.csr_array(surrogate)
    n_local = rows.shape[0]
    X = DataMatrix(rows, np.zeros(n_local, dtype=np.int64), problem.comm)
    try:
        svd = TruncatedSVD(k, tol=tol, random_state=seed, certify="double").fit(X)
    finally:
        X.destroy()
    s = svd.singular_values_
    right = np.ascontiguousarray(svd.components_.T)
    # a value of zero has no left vector; the factors have zeros there
    left = (rows @ right) / np.where(s > math.sqrt(tol) * 1e-3 * s[0], s, np.inf)
    return left, s, right, svd.residual_norms_ / s[0] ** 2


def _signs(V: Matrix) -> Matrix:
    """Return signs that make the largest entry of each column positive."""
    largest = np.argmax(np.abs(V), axis=0)
    return np.where(V[largest, np.arange(V.shape[1])] < 0, -1.0, 1.0)
