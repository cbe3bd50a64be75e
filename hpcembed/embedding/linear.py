"""What embeddings share: input of every kind; of linear ones also projection and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse
import sklearn
from mpi4py import MPI
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_info

from hpcembed.data.matrix import DataMatrix, RowSource, RowStream
from hpcembed.data.row_validation import assign
from hpcembed.embedding.solving import SolverSettings
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.memory import available_per_rank
from hpcembed.runtime.ranks import agreement
from hpcembed.runtime.threads import available_cores

__all__ = [
    "LinearEmbedding",
    "RowEstimator",
    "available_bytes",
    "n_nonzeros",
    "validated",
    "wrapped",
]

#: Settings that ranks may choose on their own.
_PRIVATE = ("memory_limit", "n_threads", "random_state")

#: Mean over deviation beyond which rows are centred before they are projected.
_LARGE_OFFSET = 1e3

#: Types in which plain arrays are taken as they are; others become float64.
_TYPES = [np.float64, np.float32, *(np.dtype(code).type for code in "bBhHiIlL?")]


class RowEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Base of estimators of rows, which may be distributed.

    Rows may be a :class:`~hpcembed.data.matrix.DataMatrix`, or an array or sparse matrix: all rows,
    or this rank's where `fit` was given a communicator.
    """

    comm_: MPI.Intracomm
    n_features_in_: int

    def __getstate__(self) -> dict[str, Any]:
        """What a copy in another process needs: communicators stay where they are."""
        state = dict(super().__getstate__())
        state.pop("comm_", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "n_features_in_" in state:
            self.comm_ = MPI.COMM_SELF

    def _agree_on_settings(self, X: Any, comm: MPI.Intracomm | None) -> None:
        """Refuse settings that differ between ranks, before any of them acts on its own.

        Collective where distributed.
        """
        shared = X.comm if isinstance(X, DataMatrix | RowStream) else comm
        if shared is None or shared.size == 1:
            return
        mine = {
            name: repr(
                replace(value, on_check=None) if isinstance(value, SolverSettings) else value
            )
            for name, value in self.get_params(deep=False).items()
            if name not in _PRIVATE
        }
        settings = shared.allgather({"estimator": type(self).__name__, **mine})
        for name in settings[0]:
            values = {rank.get(name) for rank in settings}
            if len(values) > 1 or any(rank.keys() != settings[0].keys() for rank in settings):
                listed = ", ".join(sorted(str(value) for value in values))
                raise ConfigError(f"{name} differs between ranks: {listed}: give all the same")

    def _matrix(self, X: Any, comm: MPI.Intracomm | None) -> RowSource:
        """What to fit: rows over the same memory, or in their files. Collective."""
        if isinstance(X, DataMatrix | RowStream):
            if comm is not None and comm != X.comm:
                raise ConfigError("these rows have their communicator: leave comm out")
            self.comm_ = X.comm
            self.n_features_in_ = X.n_features
            if X.feature_names:
                self.feature_names_in_ = np.asarray(X.feature_names, dtype=object)
            return X
        self.comm_ = MPI.COMM_SELF if comm is None else comm
        if comm is None or comm.size == 1:
            rows = self._checked(X, reset=True, ensure_min_samples=2)
        else:
            with agreement(comm):
                try:
                    rows = self._checked(X, reset=True, ensure_min_samples=0)
                except (ValueError, TypeError) as error:
                    raise InputError(str(error)) from error
        return wrapped(rows, self.comm_)

    def _rows(self, X: Any) -> RowSource:
        """Rows to transform; on this rank alone. Not collective."""
        check_is_fitted(self)
        if isinstance(X, DataMatrix | RowStream):
            if X.n_features != self.n_features_in_:
                raise InputError(
                    f"fitted on {self.n_features_in_} features, asked to transform {X.n_features}"
                )
            return X
        least = 1 if self.comm_.size == 1 else 0
        rows = self._checked(X, reset=False, ensure_min_samples=least)
        return wrapped(rows, MPI.COMM_SELF)

    def _checked(self, X: Any, **settings: Any) -> Any:
        return validated(self, X, **{"accept_sparse": "csr", "dtype": _TYPES, **settings})

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks: sparse rows are welcome, float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {"preserves_dtype": [np.float64, np.float32]}

    def _threads(self, asked: int | None, comm: MPI.Intracomm) -> int:
        """BLAS threads of a process, for the cost model: the fewest of all ranks. Collective."""
        running = [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]
        return int(
            comm.allreduce(asked or max(running, default=len(available_cores())), op=MPI.MIN)
        )


class LinearEmbedding(RowEstimator):
    """Base of estimators that project centred or uncentred rows on orthonormal components.

    Subclasses set ``components_`` (k, d), ``mean_`` (d,), ``feature_variances_`` (d,) and
    ``comm_``.
    """

    components_: NDArray[np.float64]
    mean_: NDArray[np.float64]
    feature_variances_: NDArray[np.float64]

    def transform(self, X: Any, dtype: type[np.floating[Any]] | None = None) -> NDArray[Any]:
        """Coordinates of rows in the components.

        Not collective.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n_local, d)
        dtype : {float64, float32}, optional
            Of the result. Default: float32 for float32 arrays, float64 otherwise.

        Returns
        -------
        ndarray of shape (n_local, k)

        Raises
        ------
        InputError, ValueError
            When `X` has another number of features than the data of :meth:`fit`, or a coordinate
            is beyond `dtype`.
        """
        rows = self._rows(X)
        single = not isinstance(X, DataMatrix | RowStream) and rows.stored_type == np.float32
        target = dtype or (np.float32 if single else np.float64)
        embedded = self._project(rows, target)
        return self._scaled(embedded)

    def _project(self, X: RowSource, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        V = self.components_.T
        # Products with a mean far larger than the spread would cancel.
        spread = np.sqrt(np.max(self.feature_variances_, initial=0.0))
        largest = float(np.max(np.abs(self.mean_), initial=0.0))
        centred = not X.is_sparse and largest > _LARGE_OFFSET * spread
        # float32 rows lose nothing more by a product in float32, unless it cancels
        single = dtype == np.float32 and X.stored_type == np.float32 and largest <= 4 * spread
        work: type[np.floating[Any]] = np.float32 if single else np.float64
        V = np.ascontiguousarray(V, dtype=work)
        offset = (0.0 * self.mean_ if centred else self.mean_) @ self.components_.T
        embedded = np.empty((X.n_local, V.shape[1]), dtype=dtype)
        for first, block in X.blocks(work):
            rows = block - self.mean_ if centred else block
            part = embedded[first : first + block.shape[0]]
            if work == dtype:
                part[...] = rows @ V
                part -= offset.astype(work)
            else:
                assign(part, rows @ V - offset)
        return embedded

    def _scaled(self, embedded: NDArray[Any]) -> NDArray[Any]:
        """A chance for subclasses to scale coordinates."""
        return embedded

    def _unscaled(self, coordinates: NDArray[Any]) -> NDArray[Any]:
        """The reverse."""
        return coordinates

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Rows that the coordinates stand for, shape (n, d). Not collective."""
        check_is_fitted(self)
        coordinates = np.asarray(X)
        coordinates = coordinates if coordinates.dtype == np.float32 else coordinates.astype(float)
        k = self.components_.shape[0]
        if coordinates.ndim != 2 or coordinates.shape[1] != k:
            raise InputError(f"coordinates of shape {coordinates.shape}: give (rows, {k})")
        rows = self._unscaled(coordinates) @ self.components_ + self.mean_
        return np.asarray(rows, dtype=coordinates.dtype)

    @property
    def _n_features_out(self) -> int:
        return int(self.components_.shape[0])


def validated(estimator: Any, X: Any, **settings: Any) -> Any:
    """What scikit-learn makes of the input of an estimator, whatever its release. Not collective.

    Raises
    ------
    ValueError, TypeError
    """
    if _VALIDATE is None:
        return estimator._validate_data(X, **settings)
    return _VALIDATE(estimator, X, **settings)


def available_bytes(X: RowSource, limit: int | None) -> int:
    """What one rank may take beside the rows. Collective."""
    available = available_per_rank(X.comm, limit or 0)
    return available - X.buffer_bytes if isinstance(X, RowStream) else available


def n_nonzeros(X: RowSource) -> int | None:
    """Stored entries of sparse rows on all ranks. Collective for them."""
    return X.n_nonzeros if isinstance(X, DataMatrix) and X.is_sparse else None


def wrapped(rows: Any, comm: MPI.Intracomm) -> DataMatrix:
    """Rows of an array or sparse matrix over the same memory. Collective."""
    storage: Any = "aij" if scipy.sparse.issparse(rows) else "shell"
    return DataMatrix(rows, np.zeros(rows.shape[0], np.int64), comm, storage=storage)


def _validation() -> Callable[..., Any] | None:
    """scikit-learn's function where it has one (from 1.6 on); a method of estimators before."""
    version = tuple(int(part) for part in sklearn.__version__.split(".")[:2])
    if version < (1, 6):
        return None
    from sklearn.utils.validation import validate_data

    return validate_data


_VALIDATE = _validation()
