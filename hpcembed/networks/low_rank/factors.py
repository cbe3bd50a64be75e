"""Optimal low-rank maps of a vector, from dominant eigenvectors of its covariance.

Problem. For a random vector y of length m with covariance C, find the map ``M_r`` of rank r with
the least mean ``||y - M_r y||_G^2``, where ``||v||_G^2 = v' G v``. Without `G` the norm is the
Euclidean one.

Method. With ``G = L L'`` and the eigenpairs ``L' C L a = lambda a``, the optimum is
``M_r = Q_r Q_r' G`` with ``Q = L^-T A``: the eigenvectors of the pencil ``G C G q = lambda G q``.
Its error is the trace of ``L' C L`` minus the r largest eigenvalues. For a layer ``y = W x`` the
map makes two layers: ``Q_r' G W``, then ``Q_r``. If y is longer than x, C is not formed: with
``C_x = S S'`` the eigenpairs of the small matrix ``S' W' G W S`` give those of the pencil.

LAPACK solves small problems and those with many wanted pairs, MIRAMns the others. Residuals are
formed with the returned vectors.

References: Zhang, Zou, He, Sun, "Accelerating very deep convolutional networks", arXiv 1505.06798
(centred output covariance); Martens, Grosse, arXiv 1503.05671 (the gradients' second moment as
weight of a layer's output).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

import miramns
from hpcembed.runtime.errors import ConvergenceError, InputError

__all__ = ["Factors", "damped", "implicit_factors", "output_factors"]

Matrix = NDArray[np.float64]

#: Orders up to which LAPACK solves the problem whatever the number of pairs.
_LAPACK_ORDER = 1500
#: Share of the eigenpairs from which LAPACK is faster at every order.
_LAPACK_SHARE = 0.2
#: Tolerance of MIRAMns, relative to the eigenvalue.
_TOLERANCE = 1e-10
#: Eigenvalues below this share of the largest one are rounding errors.
_ROUNDING = 1e-14


@dataclass(frozen=True)
class Factors:
    """The optimal maps ``M_r = left[:, :r] @ right[:r]`` of all ranks r up to k.

    Attributes
    ----------
    values : ndarray of shape (k,)
        Dominant eigenvalues, decreasing.
    trace : float
        Sum of all eigenvalues: the error of rank 0.
    left : ndarray of shape (m, k)
    right : ndarray of shape (k, m)
    residual_norms : ndarray of shape (k,)
        True residuals of the eigenpairs, relative to the largest eigenvalue.
    orthogonality : float
        Largest entry of ``|right @ left - I|``.
    complete : bool
        All eigenvalues above rounding are in `values`.
    solver : {"lapack", "miramns"}
    """

    values: NDArray[np.float64]
    trace: float
    left: Matrix
    right: Matrix
    residual_norms: NDArray[np.float64]
    orthogonality: float
    complete: bool
    solver: str

    @property
    def max_rank(self) -> int:
        """Largest rank for which there are factors."""
        return len(self.values)

    @cached_property
    def errors(self) -> NDArray[np.float64]:
        """Mean square errors of the ranks 0, 1, ..., k, shape (k + 1,)."""
        if self.complete:
            # The sum of what is left out has no cancellation, unlike a difference of traces.
            return np.append(np.cumsum(self.values[::-1])[::-1], 0.0)
        return np.maximum(self.trace - np.append(0.0, np.cumsum(self.values)), 0.0)

    def captured(self, rank: int) -> float:
        """Share of the trace that `rank` keeps, between 0 and 1."""
        return 1.0 if self.trace <= 0 else float(1.0 - self.errors[rank] / self.trace)

    def normalised_left(self, rank: int) -> tuple[Matrix, Matrix]:
        """Return factors of ``M_r`` with columns of length 1 in the left one.

        Layers have the scale of usual weights then, which training and short floats need.
        """
        scale = np.linalg.norm(self.left[:, :rank], axis=0)
        return self.left[:, :rank] / scale, self.right[:rank] * scale[:, None]

    def normalised_right(self, rank: int) -> tuple[Matrix, Matrix]:
        """Return factors of ``M_r`` with rows of length 1 in the right one."""
        scale = np.linalg.norm(self.right[:rank], axis=1)
        return self.left[:, :rank] * scale, self.right[:rank] / scale[:, None]

    def map(self, rank: int) -> Matrix:
        """Return ``M_r``, shape (m, m)."""
        return self.left[:, :rank] @ self.right[:rank]


def damped(weight: Matrix, damping: float) -> Matrix:
    """Return `weight` plus `damping` times its mean diagonal entry times the identity."""
    mean = float(np.trace(weight)) / len(weight)
    return weight + (damping * mean if mean > 0 else 1.0) * np.eye(len(weight))


def output_factors(
    covariance: Matrix, weight: Matrix | None = None, rank: int | None = None
) -> Factors:
    """Return the optimal maps of a vector with a given covariance.

    Parameters
    ----------
    covariance : ndarray of shape (m, m)
        Symmetric, positive semidefinite.
    weight : ndarray of shape (m, m), optional
        Symmetric positive definite G of the error norm.
    rank : int, optional
        Largest rank that is needed; default m.

    Raises
    ------
    InputError
        If a matrix is not finite.
    ConvergenceError
        If an eigenpair is unconverged.

    Examples
    --------
    >>> import numpy as np
    >>> factors = output_factors(np.diag([1.0, 4.0]))
    >>> factors.errors
    array([5., 1., 0.])
    >>> factors.map(1)
    array([[0., 0.],
           [0., 1.]])
    """
    _check_finite(covariance, weight)
    L = None if weight is None else scipy.linalg.cholesky(weight, lower=True)
    H = covariance if L is None else _symmetric(L.T @ covariance @ L)
    values, A, solver = _dominant_pairs(H, rank or len(H))
    residuals = np.linalg.norm(H @ A - A * values, axis=0)
    left = A if L is None else scipy.linalg.solve_triangular(L, A, lower=True, trans="T")
    right = A.T if L is None else A.T @ L.T
    return _factors(values, float(np.trace(H)), left, right, residuals, len(H), solver)


def implicit_factors(
    layer: Matrix, covariance: Matrix, weight: Matrix | None = None, rank: int | None = None
) -> Factors:
    """Return the optimal maps of ``y = layer @ x`` from the covariance of x, for y longer than x.

    Parameters
    ----------
    layer : ndarray of shape (m, n)
    covariance : ndarray of shape (n, n)
        Covariance of x.
    weight : ndarray of shape (m, m), optional
    rank : int, optional
        Largest rank that is needed; default n.
    """
    _check_finite(covariance, weight, layer)
    d, V = scipy.linalg.eigh(covariance)
    S = V * np.sqrt(np.maximum(d, 0.0))
    WS = layer @ S
    H = _symmetric(WS.T @ (WS if weight is None else weight @ WS))
    values, Z, solver = _dominant_pairs(H, min(rank or len(H), len(H)))
    kept = values > _ROUNDING * max(values[0], 0.0) if len(values) else values > 0
    values, Z = values[kept], Z[:, kept]
    left = (WS @ Z) / np.sqrt(values)
    right = left.T if weight is None else left.T @ weight
    # The residual of C G q = lambda q in full, not that of the small matrix.
    residuals = np.linalg.norm(WS @ (WS.T @ right.T) - left * values, axis=0)
    return _factors(values, float(np.trace(H)), left, right, residuals, int(kept.size), solver)


def _factors(
    values: Matrix, trace: float, left: Matrix, right: Matrix, residuals: Matrix, order: int,
    solver: str,
) -> Factors:  # fmt: skip
    scale = float(values[0]) if len(values) and values[0] > 0 else 1.0
    orthogonality = float(np.abs(right @ left - np.eye(len(values))).max(initial=0.0))
    return Factors(
        np.maximum(values, 0.0), max(trace, 0.0), left, right, residuals / scale, orthogonality,
        solver == "lapack" and len(values) <= order, solver,
    )  # fmt: skip


def _dominant_pairs(H: Matrix, rank: int) -> tuple[Matrix, Matrix, str]:
    """Return the `rank` largest eigenvalues, decreasing, their vectors, and the solver."""
    n = len(H)
    if n <= _LAPACK_ORDER or rank > _LAPACK_SHARE * n:
        values, vectors = scipy.linalg.eigh(H)
        return values[::-1], np.ascontiguousarray(vectors[:, ::-1]), "lapack"
    try:
        values, vectors = miramns.eigsh(H, k=rank, which="LA", tol=_TOLERANCE)
    except miramns.NoConvergence as error:
        raise ConvergenceError(f"{rank} eigenpairs of order {n}: {error}") from error
    return values[::-1], np.ascontiguousarray(vectors[:, ::-1]), "miramns"


def _symmetric(matrix: Matrix) -> Matrix:
    return (matrix + matrix.T) / 2


def _check_finite(*matrices: Matrix | None) -> None:
    for matrix in matrices:
        if matrix is not None and not np.isfinite(matrix).all():
            raise InputError("the moments of a layer are not finite: look for NaN or infinity")
