"""Base of random projections: rows in, coordinates out, with a matrix that need not be stored.

Coordinates of a row x are ``P x`` for a random matrix P of shape (k, d), whose entries have mean 0
and variance 1/k. Entry (i, j) is a function of (seed, i, j), so P is the same on any number of
ranks, and no rank sends it. P is held in memory if it fits; otherwise rows are multiplied by panels
of some of its columns, which are generated again in every pass.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

import numpy as np
import scipy.linalg
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hpcembed.data.matrix import RowSource
from hpcembed.data.row_validation import assign
from hpcembed.embedding._estimator import RowEstimator
from hpcembed.embedding._parameters import check_components
from hpcembed.embedding.projections.bounds import check_distortion, least_components
from hpcembed.embedding.protocol import LinearMap
from hpcembed.runtime.arguments import check_count
from hpcembed.runtime.counter_random import row_keys
from hpcembed.runtime.errors import InputError, MemoryLimitError

__all__ = ["BLOCK_BYTES", "RandomProjection", "entry_keys"]

Self = TypeVar("Self", bound="RandomProjection")
Float = type[np.floating[Any]]

#: Share of the available memory that a projection may occupy.
_HELD_SHARE = 0.25

#: Components that have keys of their own for each feature.
_STRIDE = 2**24

#: The seeds of projections differ from those of rows and splits.
_STREAM = 0x70726F6A

#: Size of a block of rows.
BLOCK_BYTES = 2**25

#: Products of fewer rows with a panel are slower.
_PRODUCT_ROWS = 512
_LEAST_BLOCK, _LARGEST_BLOCK = 2**22, 2**28

#: Entries that are generated at once, so that temporary arrays fit the cache.
_PANEL_ENTRIES = 2**17


def entry_keys(seed: int, features: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
    """Return `count` keys for each feature, shape (f, count): functions of (seed, feature)."""
    return row_keys(seed ^ _STREAM, features[:, np.newaxis] * _STRIDE + np.arange(count))


class RandomProjection(RowEstimator):
    """Base of random projections; subclasses generate panels of the matrix."""

    n_components: int | Literal["auto"]
    eps: float

    #: Bytes of an entry of the matrix in memory.
    _entry_bytes = 8.0

    n_components_: int

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Choose the number of components; only the shape of the rows is used.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n, d)
            All rows, or this rank's rows if `comm` is given.
        y : ignored
        comm : MPI.Comm, optional
            Ranks that share the rows of an array.

        Raises
        ------
        ConfigError
            On all ranks: a parameter is invalid, or differs between ranks.
        InputError
            On all ranks: the rows cannot be used, or `n_components`, as given or by the bound for
            `eps`, exceeds the number of features.
        """
        data, machine, self._seed = self._begin(X, comm)
        k, d = self.n_components, data.n_features
        if k == "auto":
            k = least_components(data.n_rows, self.eps)
            if k > d:
                raise InputError(
                    f"eps = {self.eps:g} and {data.n_rows:,} rows need {k:,} components, more than "
                    f"the {d:,} features: raise eps or give n_components"
                )
        check_components(k, d, "features")
        self.n_components_ = int(k)
        self._held_bytes = int(_HELD_SHARE * max(machine.available_bytes, 0))
        self._threads = machine.threads
        self._held: dict[Any, Any] = {}
        self._inverse_gram: NDArray[np.float64] | None = None
        self._prepare(d)
        return self

    def _check_parameters(self) -> None:
        if self.n_components != "auto":
            check_count("n_components", self.n_components)
        check_distortion(self.eps)
        super()._check_parameters()

    def _prepare(self, n_features: int) -> None:
        """Set parameters of the matrix that depend on the shape of the rows."""

    @abstractmethod
    def _panel(self, features: NDArray[np.int64]) -> Any:
        """Return the columns of P of some features, transposed: (f, k), dense or csr."""

    def _panels(self, dtype: Float) -> Iterator[tuple[slice, Any]]:
        """Iterate over the columns of P in panels; there is one panel if it fits the memory."""
        d = self.n_features_in_
        if dtype in self._held:
            yield slice(0, d), self._held[dtype]
            return
        column = self._entry_bytes * self.n_components_
        width = min(d, max(64, int(self._held_bytes / column)))
        for first in range(0, d, width):
            part = slice(first, min(first + width, d))
            panel = self._generated(part, dtype)
            if width == d:
                self._held[dtype] = panel
            yield part, panel

    def _generated(self, columns: slice, dtype: Float) -> Any:
        step = max(1, _PANEL_ENTRIES // self.n_components_)
        pieces = []
        for first in range(columns.start, columns.stop, step):
            features = np.arange(first, min(first + step, columns.stop))
            pieces.append(self._panel(features).astype(dtype))
        stack = scipy.sparse.vstack if scipy.sparse.issparse(pieces[0]) else np.concatenate
        return stack(pieces) if len(pieces) > 1 else pieces[0]

    def _coordinates(self, X: RowSource, dtype: Float) -> NDArray[Any]:
        single = dtype == np.float32 and X.stored_type == np.float32
        product = self._multiply(X, np.float32 if single else np.float64)
        if product.dtype == dtype:
            return product
        embedded = np.empty(product.shape, dtype=dtype)
        assign(embedded, product)
        return embedded

    def _multiply(self, X: RowSource, dtype: Float) -> NDArray[Any]:
        """Return the coordinates in the precision of the products: one pass per panel."""
        product = np.zeros((X.n_local, self.n_components_), dtype=dtype)
        wanted = _PRODUCT_ROWS * X.n_features * np.dtype(dtype).itemsize
        most = min(_LARGEST_BLOCK, max(_LEAST_BLOCK, self._held_bytes))
        block_bytes = min(max(BLOCK_BYTES, wanted), most)
        for columns, panel in self._panels(dtype):
            whole = columns.stop - columns.start == X.n_features
            for first, block in X.blocks(dtype, block_bytes):
                part = product[first : first + block.shape[0]]
                added = (block if whole else block[:, columns]) @ panel
                part += added.toarray() if scipy.sparse.issparse(added) else added
        return product

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Return the rows of least norm that have given coordinates, shape (n, d).

        Not collective. Coordinates are multiplied by the pseudo-inverse of the projection,
        ``P' (P P')^+``. The first call needs O(d k^2) operations, each row O(d k).

        Raises
        ------
        InputError
            If the coordinates do not have the shape (n, k).
        """
        check_is_fitted(self)
        coordinates = np.asarray(X)
        single = coordinates.dtype == np.float32
        k = self.n_components_
        if coordinates.ndim != 2 or coordinates.shape[1] != k:
            raise InputError(f"coordinates of shape {coordinates.shape}: give (rows, {k})")
        if self._inverse_gram is None:
            self._inverse_gram = scipy.linalg.pinvh(self._gram())
        weights = coordinates.astype(np.float64) @ self._inverse_gram
        rows = np.empty((len(weights), self.n_features_in_), np.float32 if single else np.float64)
        for columns, panel in self._panels(np.float64):
            rows[:, columns] = (panel @ weights.T).T
        return rows

    def _gram(self) -> NDArray[np.float64]:
        """Return ``P P'``, shape (k, k)."""
        gram = np.zeros((self.n_components_, self.n_components_))
        for _, panel in self._panels(np.float64):
            product = panel.T @ panel
            gram += product.toarray() if scipy.sparse.issparse(product) else product
        return gram

    @property
    def components_(self) -> Any:
        """The matrix P of shape (k, d), dense or csr; generated unless it is held.

        Raises
        ------
        MemoryLimitError
            If the matrix exceeds the available memory.
        """
        check_is_fitted(self)
        size = self._entry_bytes * self.n_components_ * self.n_features_in_
        if size > self._held_bytes / _HELD_SHARE:
            raise MemoryLimitError(
                f"a projection of {self.n_components_:,} x {self.n_features_in_:,} entries needs "
                f"{size / 2**20:,.0f} MiB: use transform, which generates it in panels"
            )
        panels = [panel for _, panel in self._panels(np.float64)]
        if scipy.sparse.issparse(panels[0]):
            return scipy.sparse.vstack(panels).T.tocsr()
        return np.ascontiguousarray(np.concatenate(panels).T)

    @property
    def linear_map_(self) -> LinearMap:
        """The map that :meth:`transform` computes, with dense components."""
        components = self.components_
        dense = components.toarray() if scipy.sparse.issparse(components) else components
        return LinearMap(dense, np.zeros(self.n_features_in_))

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, without the matrix: it is a function of the seed."""
        state = super().__getstate__()
        if "_held" in state:
            state["_held"] = {}
        return state
