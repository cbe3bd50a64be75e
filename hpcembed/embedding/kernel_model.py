"""A fitted kernel PCA: its training rows with coefficients, which give other rows coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hpcembed.data.matrix import DataMatrix, RowStream
from hpcembed.data.row_validation import assign
from hpcembed.embedding.kernel_base import KernelEmbedding
from hpcembed.embedding.kernel_choice import check_rows
from hpcembed.embedding.kernel_engines import KernelComponents
from hpcembed.embedding.linear import wrapped
from hpcembed.operators import RowsOfAll, kernel_coordinates
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import agreement, sum_over_ranks

__all__ = ["KernelModel"]

#: Eigenvalues below this share of the largest are zero, as scikit-learn has it.
_NOTHING = 1e-12


class KernelModel(KernelEmbedding):
    """Base of :class:`~hpcembed.embedding.KernelPCA`: what follows the eigenproblem.

    The training rows stay where they are, a DataMatrix on the ranks of the fit.
    """

    kernel: str

    _train: DataMatrix
    _origin: NDArray[np.float64] | None

    def __getstate__(self) -> dict[str, Any]:
        """With the training rows, which transforms need; they must be all on this rank.

        Raises
        ------
        ConfigError
        """
        train = self.__dict__.get("_train")
        state = dict(super().__getstate__())
        if train is not None:
            if train.comm.size > 1:
                raise ConfigError(
                    "the training rows lie on several ranks and cannot be copied with the model: "
                    "use Nystroem, whose models are small"
                )
            state["_train"] = _held(train)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_train" in state:
            self._train = wrapped(state["_train"], MPI.COMM_SELF)

    def _keep(self, found: KernelComponents, X: DataMatrix, *, drop_zeros: bool) -> None:
        """Take over what was found. Collective."""
        result = found.result
        values = np.asarray(result.eigenvalues, dtype=np.float64)
        floor = _NOTHING * max(float(np.max(values, initial=0.0)), 0.0)
        residuals = np.asarray(result.residual_norms)
        negligible = values <= np.maximum(floor, residuals)
        keep = np.ones(len(values), dtype=bool)
        if drop_zeros:
            keep = ~negligible
        self.trace_ = found.trace
        self.residual_norms_, self.negligible_ = residuals[keep], negligible[keep]
        self.eigenvalues_ = np.where(negligible, np.maximum(values, 0.0), values)[keep]
        self.eigenvectors_ = np.ascontiguousarray(np.asarray(result.eigenvectors)[:, keep])
        self._train = X
        # a zero in the place of what cannot be divided by
        roots = np.sqrt(np.where(self.negligible_, 1.0, self.eigenvalues_))
        scaled = self.eigenvectors_ * np.where(self.negligible_, 0.0, 1.0 / roots)
        scaled -= sum_over_ranks(X.comm, scaled.sum(axis=0)) / X.n_rows
        self._coefficients = scaled
        self._offset = sum_over_ranks(X.comm, found.row_means @ scaled)

    def fit_transform(
        self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None
    ) -> NDArray[Any]:
        """Coordinates of the training rows, which the eigenvectors hold. As :meth:`fit`."""
        self.fit(X, comm=comm)
        single = not isinstance(X, DataMatrix) and self._train.stored_type == np.float32
        return self._of_training_rows().astype(np.float32 if single else np.float64)

    def _of_training_rows(self) -> NDArray[np.float64]:
        roots = np.sqrt(np.where(self.negligible_, 0.0, self.eigenvalues_))
        return self.eigenvectors_ * roots

    def transform(self, X: Any, dtype: type[np.floating[Any]] | None = None) -> NDArray[Any]:
        """Coordinates of rows in the components.

        Collective where the training rows lie on several ranks: they travel to all of them, each
        of which transforms its own rows, perhaps none. Of the DataMatrix that was fitted the
        eigenvectors hold them.

        Parameters
        ----------
        X : DataMatrix, or array or sparse matrix of shape (n_local, d)
        dtype : {float64, float32}, optional
            Of the result. Default: float32 for float32 arrays, float64 otherwise.

        Returns
        -------
        ndarray of shape (n_local, k)

        Raises
        ------
        InputError, ValueError
            When `X` has another number of features than the data of :meth:`fit`, or rows that the
            kernel cannot take.
        """
        check_is_fitted(self)
        if isinstance(X, RowStream):
            raise InputError("kernel PCA transforms rows in memory: load them, or use Nystroem")
        rows = self._given_rows(X)
        single = not isinstance(X, DataMatrix) and rows.stored_type == np.float32
        embedded = np.empty(
            (rows.n_local, self._coefficients.shape[1]), dtype or (np.float32 if single else float)
        )
        if X is self._train:
            coordinates = self._of_training_rows()
        else:
            train = RowsOfAll(self._train, self.kernel_, self._origin, np.float64)
            coordinates = kernel_coordinates(train, self._coefficients, rows) - self._offset
        with agreement(self.comm_):
            assign(embedded, coordinates)
        return embedded

    def _given_rows(self, X: Any) -> DataMatrix:
        """Rows to transform; refused on all ranks or none. Collective where distributed."""
        with agreement(self.comm_):
            try:
                rows = self._rows(X)
            except (ValueError, TypeError) as error:
                if self.comm_.size == 1:
                    raise
                raise InputError(str(error)) from error
            check_rows(rows, self.kernel)
        return rows  # type: ignore[return-value]

    @property
    def _n_features_out(self) -> int:
        return int(self.eigenvalues_.shape[0])


def _held(X: DataMatrix) -> Any:
    """The scaled rows as one array or sparse matrix. Not collective."""
    if not X.is_sparse:
        return X.dense_rows(np.float64)
    return scipy.sparse.vstack([block for _, block in X.blocks()], format="csr")
