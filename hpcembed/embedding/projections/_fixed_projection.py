"""Base of projections on orthonormal rows that need no eigenproblem: frequencies, or features."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.embedding._linear import LinearEmbedding
from hpcembed.embedding._parameters import check_components
from hpcembed.runtime.arguments import check_count

__all__ = ["FixedProjection"]

Self = TypeVar("Self", bound="FixedProjection")


class FixedProjection(LinearEmbedding):
    """Base of projections ``x P'`` with orthonormal rows of P; rows are not centred."""

    n_components: int
    n_components_: int

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the rows of the projection.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n_local, d)
        y : ignored
        comm : MPI.Comm, optional
            If `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        ConfigError
            On all ranks: a parameter is invalid, or differs between ranks.
        InputError
            On all ranks: the rows cannot be used, or there are more components than features.
        """
        data, _, _ = self._begin(X, comm)
        check_components(self.n_components, data.n_features, "features")
        self.n_components_ = int(self.n_components)
        self.mean_ = np.zeros(data.n_features)
        self.feature_variances_ = np.zeros(data.n_features)
        self.components_ = self._rows_of(data)
        return self

    def _rows_of(self, X: RowSource) -> NDArray[np.float64]:
        """Return the rows of the projection, shape (k, d). Collective."""
        raise NotImplementedError

    def _check_parameters(self) -> None:
        check_count("n_components", self.n_components)
        super()._check_parameters()

    @property
    def _n_features_out(self) -> int:
        return self.n_components_
