"""Sensing: a matrix of which inner products with given matrices are measured."""

from __future__ import annotations

import math

import numpy as np
from mpi4py import MPI

from hpcembed.networks.deep_linear.problems import Matrix, Problem, Truth, finite_array
from hpcembed.runtime.errors import InputError

__all__ = ["Sensing"]

#: Bytes of measurement matrices in one block, so that a block is read from memory once.
_BLOCK_BYTES = 4 * 2**20


class Sensing(Problem):
    """Inner products of a matrix with given matrices: ``y_i = <A_i, X>``.

    Parameters
    ----------
    matrices : ndarray of shape (measurements, m, n)
        In memory once, not copied.
    values : ndarray of shape (measurements,)
    truth : Truth, optional

    Raises
    ------
    InputError
        Shapes do not fit, or a number is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> problem = Sensing(np.eye(4).reshape(4, 2, 2), np.array([1.0, 0.0, 0.0, 1.0]))
    >>> problem.adjoint(problem.targets)
    array([[1., 0.],
           [0., 1.]])
    """

    name = "sensing"

    def __init__(self, matrices: Matrix, values: Matrix, truth: Truth | None = None) -> None:
        matrices = finite_array(matrices, "measurement matrices", 3)
        self.targets = finite_array(values, "measured values", 1)
        if len(self.targets) != len(matrices):
            raise InputError(
                f"{len(self.targets)} measured values for {len(matrices)} matrices: give one each"
            )
        self.shape = (matrices.shape[1], matrices.shape[2])
        self.comm = MPI.COMM_SELF
        self.row_range = (0, self.shape[0])
        self.n_measurements = len(self.targets)
        self.loss_factor = 1.0
        self._flat = matrices.reshape(len(matrices), -1)
        squares = float(np.vdot(self._flat, self._flat))
        if squares == 0:
            raise InputError("all measurement matrices are zero: nothing is measured")
        self.surrogate_factor = self._flat.shape[1] / squares
        self.truth = truth

    def measure(self, left: Matrix, right: Matrix) -> Matrix:
        """Return ``<A_i, left @ right.T>`` for all i."""
        return self.measure_matrix(left @ right.T)

    def adjoint_products(
        self, residual: Matrix, left: Matrix, right: Matrix
    ) -> tuple[Matrix, Matrix]:
        """Return products with ``sum_i residual_i A_i``."""
        G = self.adjoint(residual)
        return G @ right, G.T @ left

    def measure_matrix(self, matrix: Matrix) -> Matrix:
        """Return ``<A_i, matrix>`` for all i."""
        return self._flat @ matrix.reshape(-1)

    def adjoint(self, residual: Matrix) -> Matrix:
        """Return ``sum_i residual_i A_i``."""
        return (residual @ self._flat).reshape(self.shape)

    def loss_and_products(self, left: Matrix, right: Matrix) -> tuple[float, Matrix, Matrix]:
        """Return the loss and the products, with one pass over the measurement matrices."""
        loss, G = self.loss_and_gradient(left @ right.T)
        return loss, G @ right, G.T @ left

    def loss_and_gradient(self, matrix: Matrix) -> tuple[float, Matrix]:
        """Return the loss and its gradient, with one pass over the measurement matrices."""
        flat = matrix.reshape(-1)
        step = max(1, _BLOCK_BYTES // (8 * flat.size))
        G, total = np.zeros(flat.size), 0.0
        for first in range(0, self.n_measurements, step):
            block = self._flat[first : first + step]
            residual = block @ flat - self.targets[first : first + step]
            G += residual @ block
            total += float(residual @ residual)
        return 0.5 * total, G.reshape(self.shape)

    def noise_edge(self, residual: Matrix) -> float:
        """Return the edge for matrices with independent entries, by the norm of the residual."""
        m, n = self.shape
        squares = self.surrogate_factor * float(residual @ residual)
        return math.sqrt(squares / self.n_measurements) * (math.sqrt(m) + math.sqrt(n))
