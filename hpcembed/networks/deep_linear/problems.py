"""Recovery of a matrix of low rank from linear measurements: the interface, and factorisation.

A problem has measurements ``y = A(X)`` of an unknown matrix X of shape (m, n). The loss of a
candidate is ``c/2 ||A(X) - y||^2``. The algorithms of this package hold ``X = left @ right.T`` and
need products only:

* ``measure(left, right)``: A of this product, without forming it where the entries are few;
* ``adjoint_products(residual, left, right)``: ``G @ right`` and ``G.T @ left`` with
  ``G = A*(residual)``.

Rows of X are distributed over the ranks of ``comm``: `left` contains this rank's rows, `right` all
columns on every rank.

Loss of each problem as in Kwon et al., "Efficient compression of overparameterized deep models
through low-dimensional learning dynamics", AISTATS 2024 (arXiv 2311.05061): the mean over the seen
entries for factorisation and completion, the sum over the measurements for sensing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.deep_linear.low_rank_norms import difference_norm, product_norm
from hpcembed.runtime.errors import InputError

__all__ = ["Factorisation", "Matrix", "Problem", "Truth", "finite_array"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Truth:
    """The true matrix ``left @ right.T``; `left` contains this rank's rows.

    Examples
    --------
    >>> import numpy as np
    >>> Truth.of(np.outer([1.0, 2.0], [3.0, 4.0])).left.shape
    (2, 1)
    """

    left: Matrix
    right: Matrix

    def __repr__(self) -> str:
        return f"<Truth: {len(self.left)} x {len(self.right)}, rank {self.left.shape[1]}>"

    @classmethod
    def of(cls, matrix: Matrix) -> Truth:
        """Return the truth of a dense matrix on one rank, by its singular values."""
        U, s, Vt = np.linalg.svd(matrix, full_matrices=False)
        k = max(1, int((s > s[0] * 1e-14).sum()))
        return cls(U[:, :k] * s[:k], Vt[:k].T.copy())


class Problem(ABC):
    """Linear measurements of an unknown matrix.

    Attributes
    ----------
    shape : tuple of int
        Shape (m, n) of the whole matrix.
    comm : MPI.Intracomm
    row_range : tuple of int
        First and one past last row of this rank.
    targets : ndarray
        This rank's measurements.
    n_measurements : int
        On all ranks.
    loss_factor : float
        The factor c of the loss.
    surrogate_factor : float
        Factor with which ``A*(y)`` estimates X.
    truth : Truth or None
        The true matrix, if it is known.
    """

    name = ""
    shape: tuple[int, int]
    comm: MPI.Intracomm
    row_range: tuple[int, int]
    targets: Matrix
    n_measurements: int
    loss_factor: float
    surrogate_factor: float
    truth: Truth | None

    def __repr__(self) -> str:
        m, n = self.shape
        return f"<{type(self).__name__}: {m} x {n}, {self.n_measurements:,} measurements>"

    @abstractmethod
    def measure(self, left: Matrix, right: Matrix) -> Matrix:
        """Return this rank's measurements of ``left @ right.T``. Not collective."""

    @abstractmethod
    def adjoint_products(
        self, residual: Matrix, left: Matrix, right: Matrix
    ) -> tuple[Matrix, Matrix]:
        """Return ``G @ right`` (this rank's rows) and ``G.T @ left`` (all columns).

        Collective.
        """

    @abstractmethod
    def measure_matrix(self, matrix: Matrix) -> Matrix:
        """Return the measurements of a dense matrix. One rank only."""

    @abstractmethod
    def adjoint(self, residual: Matrix) -> Matrix:
        """Return ``A*(residual)`` as a dense matrix. One rank only."""

    @abstractmethod
    def noise_edge(self, residual: Matrix) -> float:
        """Return the largest singular value that sampling alone gives the surrogate. Collective.

        The surrogate of a residual E is E plus noise with independent entries. Singular values of
        the noise with variance sigma^2 lie below about ``sigma (sqrt(m) + sqrt(n))``.
        """

    def surrogate(self, residual: Matrix) -> Any:
        """Return this rank's rows of ``A*(residual)`` times the surrogate's factor."""
        return self.surrogate_factor * self.adjoint(residual)

    def inner(self, a: Matrix, b: Matrix) -> float:
        """Return the inner product of two arrays of measurements. Collective."""
        return float(self.comm.allreduce(float(np.vdot(a, b))))

    def loss(self, residual: Matrix) -> float:
        """Return the loss of a residual ``A(X) - y``. Collective."""
        return 0.5 * self.loss_factor * self.inner(residual, residual)

    def loss_and_products(self, left: Matrix, right: Matrix) -> tuple[float, Matrix, Matrix]:
        """Return the loss at ``X = left @ right.T``, ``G @ right`` and ``G.T @ left``.

        Collective. G is the gradient of the loss by X.
        """
        residual = self.measure(left, right)
        residual -= self.targets
        left_product, right_product = self.adjoint_products(residual, left, right)
        left_product *= self.loss_factor
        right_product *= self.loss_factor
        return self.loss(residual), left_product, right_product

    def loss_and_gradient(self, matrix: Matrix) -> tuple[float, Matrix]:
        """Return the loss at a dense matrix and its gradient. One rank only."""
        residual = self.measure_matrix(matrix)
        residual -= self.targets
        return self.loss(residual), self.loss_factor * self.adjoint(residual)

    def recovery_error(self, left: Matrix, right: Matrix) -> float:
        """Return ``||left @ right.T - truth|| / ||truth||`` (Frobenius); NaN without truth.

        Collective. The product is not formed: the norm is that of triangular factors.
        """
        if self.truth is None:
            return math.nan
        true_left, true_right = self.truth.left, self.truth.right
        scale = product_norm(self.comm, true_left, true_right)
        difference = difference_norm(self.comm, left, right, true_left, true_right)
        return difference / scale if scale > 0 else difference


class Factorisation(Problem):
    """A matrix whose entries are all given.

    Parameters
    ----------
    target : ndarray of shape (m, n)

    Raises
    ------
    InputError
        The target is not a finite matrix.

    Examples
    --------
    >>> import numpy as np
    >>> problem = Factorisation(np.eye(3))
    >>> problem.loss_and_gradient(np.zeros((3, 3)))[0].__round__(6)
    0.166667
    """

    name = "factorisation"

    def __init__(self, target: Matrix) -> None:
        self.targets = finite_array(target, "target", 2)
        self.shape = (self.targets.shape[0], self.targets.shape[1])
        self.comm = MPI.COMM_SELF
        self.row_range = (0, self.shape[0])
        self.n_measurements = self.targets.size
        self.loss_factor = 1 / self.targets.size
        self.surrogate_factor = 1.0
        self.truth = Truth.of(self.targets)

    def measure(self, left: Matrix, right: Matrix) -> Matrix:
        """Return ``left @ right.T``."""
        return left @ right.T

    def adjoint_products(
        self, residual: Matrix, left: Matrix, right: Matrix
    ) -> tuple[Matrix, Matrix]:
        """Return ``residual @ right`` and ``residual.T @ left``."""
        return residual @ right, residual.T @ left

    def measure_matrix(self, matrix: Matrix) -> Matrix:
        """Return a copy of the matrix."""
        return matrix.copy()

    def adjoint(self, residual: Matrix) -> Matrix:
        """Return the residual."""
        return residual

    def noise_edge(self, residual: Matrix) -> float:
        """Return the rounding level: the surrogate is the residual itself."""
        return max(self.shape) * float(np.finfo(float).eps) * float(np.linalg.norm(self.targets))


def finite_array(values: Any, what: str, dimensions: int) -> Matrix:
    """Return a contiguous array in double precision.

    Raises
    ------
    InputError
        The number of dimensions differs, or a number is not finite.
    """
    found = np.ascontiguousarray(values, dtype=np.float64)
    if found.ndim != dimensions or not found.size:
        raise InputError(f"{what} of shape {found.shape}: give {dimensions} dimensions")
    if not np.isfinite(found).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(found))[0])
        raise InputError(f"{what}: entry {place} is not finite: remove or replace it")
    return found
