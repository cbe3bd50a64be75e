"""The gradient in the span of dominant eigenvectors of the Hessian, over the epochs of a training.

After a short time the gradient of a classifier with C classes lies mostly in the span of the C
dominant eigenvectors of the Hessian, and this span changes slowly. The share of a gradient g in the
span of orthonormal columns V is ``||V'g||^2 / ||g||^2``; a random direction has the share k / n.
The overlap of two spans of dimension k is ``||U'V||_F^2 / k``: 1 for equal ones, about k / n for
random ones.

Reference: Gur-Ari, Roberts, Dyer, "Gradient descent happens in a tiny subspace", arXiv 1812.04754
(2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcembed.networks.curvature.products import Loss
from hpcembed.networks.curvature.spectrum import CurvatureSpectrum, hessian_eigenpairs
from hpcembed.runtime.errors import ConfigError

__all__ = ["SubspaceRecord", "SubspaceTracker", "gradient_share", "subspace_overlap"]

Array = NDArray[np.float64]


def gradient_share(gradient: Array, vectors: Array) -> float:
    """Return the share of a gradient in the span of orthonormal columns, from 0 to 1.

    Parameters
    ----------
    gradient : ndarray of shape (n,)
    vectors : ndarray of shape (n, k)
        Orthonormal columns.

    Returns
    -------
    float
        ``||V'g||^2 / ||g||^2``; 0 for a gradient of zero.

    Examples
    --------
    >>> import numpy as np
    >>> gradient_share(np.array([3.0, 0.0, 4.0]), np.eye(3, 2))
    0.36
    """
    largest = float(np.max(np.abs(gradient), initial=0.0))
    if largest == 0:
        return 0.0
    scaled = gradient / largest  # squares neither over- nor underflow
    inside = vectors.T @ scaled
    return float(inside @ inside) / float(scaled @ scaled)


def subspace_overlap(first: Array, second: Array) -> float:
    """Return the overlap of the spans of orthonormal columns, from 0 to 1.

    Parameters
    ----------
    first, second : ndarray of shape (n, k)
        Orthonormal columns.

    Returns
    -------
    float
        ``||U'V||_F^2 / k``, the mean of the squared cosines of the principal angles.

    Raises
    ------
    ConfigError
        The shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> subspace_overlap(np.eye(4, 2), np.eye(4)[:, 1:3])
    0.5
    """
    if np.shape(first) != np.shape(second):
        raise ConfigError(
            f"subspaces of shapes {np.shape(first)} and {np.shape(second)}: give the same number "
            "of vectors of the same length"
        )
    return float(np.square(first.T @ second).sum() / first.shape[1])


@dataclass(frozen=True, eq=False)
class SubspaceRecord:
    """The dominant subspace of the Hessian at one moment of a training.

    Attributes
    ----------
    epoch : int
    loss : float
        Mean loss of the rows.
    gradient_norm : float
    share : float
        Share of the gradient in the span of the eigenvectors.
    random_share : float
        Expected share of a random direction: k / n.
    overlap : float or None
        Overlap of the span with that of the previous record; None for the first.
    eigenvalues : ndarray of shape (k,)
    largest_residual : float
        Largest true residual norm, relative to the largest eigenvalue.
    n_products : int
        Products with the Hessian, those of the residuals included.
    """

    epoch: int
    loss: float
    gradient_norm: float
    share: float
    random_share: float
    overlap: float | None
    eigenvalues: Array
    largest_residual: float
    n_products: int


class SubspaceTracker:
    """Measures the share of the gradient in the dominant subspace over the epochs of a training.

    Parameters
    ----------
    loss : callable
        As for :func:`hessian_eigenpairs`.
    rows, labels : Tensor or ndarray
        This rank's rows on which loss, gradient and Hessian are measured.
    k : int
        Number of eigenvectors: the number of classes in the reference.
    comm : MPI.Comm, optional
    **settings
        Further arguments of :func:`hessian_eigenpairs`, such as `tol` or `matrix`.

    Attributes
    ----------
    records : list of SubspaceRecord
        One for each call of :meth:`measure`.
    spectrum : CurvatureSpectrum or None
        That of the last call.

    Examples
    --------
    >>> import torch
    >>> from hpcembed.networks.curvature import SubspaceTracker
    >>> rows = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    >>> labels = (rows[:, 0] > 0).long()
    >>> model = torch.nn.Linear(4, 2)
    >>> tracker = SubspaceTracker(torch.nn.functional.cross_entropy, rows, labels, k=2)
    >>> optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    >>> for epoch in range(3):
    ...     record = tracker.measure(model, epoch)
    ...     optimiser.zero_grad()
    ...     torch.nn.functional.cross_entropy(model(rows), labels).backward()
    ...     optimiser.step()
    >>> [record.epoch for record in tracker.records], 0 <= record.share <= 1, record.overlap > 0.5
    ([0, 1, 2], True, True)
    """

    def __init__(
        self,
        loss: Loss,
        rows: Tensor | NDArray[Any],
        labels: Tensor | NDArray[Any],
        k: int,
        *,
        comm: MPI.Comm | None = None,
        **settings: Any,
    ) -> None:
        self._loss, self._rows, self._labels, self._k = loss, rows, labels, k
        self._settings = {**settings, "comm": comm}
        self.records: list[SubspaceRecord] = []
        self.spectrum: CurvatureSpectrum | None = None

    def measure(self, model: nn.Module, epoch: int) -> SubspaceRecord:
        """Compute the dominant subspace of the model as it is, and append a record.

        Collective on the communicator.

        Parameters
        ----------
        model : nn.Module
            The same parameters on every rank. It is not changed.
        epoch : int
            Number for the record.
        """
        found = hessian_eigenpairs(
            model, self._loss, self._rows, self._labels, self._k, **self._settings
        )
        before = self.spectrum
        record = SubspaceRecord(
            epoch=epoch,
            loss=found.loss,
            gradient_norm=float(np.linalg.norm(found.gradient)),
            share=gradient_share(found.gradient, found.eigenvectors),
            random_share=self._k / len(found.gradient),
            overlap=None
            if before is None
            else subspace_overlap(before.eigenvectors, found.eigenvectors),
            eigenvalues=found.eigenvalues,
            largest_residual=float(found.relative_residuals.max()),
            n_products=found.n_products + found.n_certificate_products,
        )
        self.spectrum = found
        self.records.append(record)
        return record
