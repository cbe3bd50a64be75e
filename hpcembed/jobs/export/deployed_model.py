"""Outputs of a deployed model for raw rows, with products by numpy.

Rows are computed in blocks of a fixed size. Each row has its own place in its block, and unused
places are zero. A BLAS may add in another order for another shape, and the result of a row must not
depend on the number of rows or on their distribution over ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.columns.encoding import ColumnEncoding
from hpcembed.data.text.vectoriser import Vectoriser
from hpcembed.jobs.export.column_inputs import column_inputs
from hpcembed.jobs.export.model import Model
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.wording import counted

__all__ = ["DeployedModel"]

#: Rows of a block, and the most numbers that a block may have; wide rows have smaller blocks.
BLOCK_ROWS = 256
BLOCK_NUMBERS = 2**23


class DeployedModel:
    """Outputs of a trained network for raw features; the base of classifier and regressor."""

    def __init__(
        self,
        model: Model,
        description: Mapping[str, Any],
        vectoriser: Vectoriser | None = None,
        encoding: ColumnEncoding | None = None,
    ) -> None:
        self.model = model
        self.vectoriser = vectoriser
        self.encoding = encoding
        self.description = dict(description)
        names = model.feature_names if encoding is None else encoding.input_names
        self.n_features_in_ = model.n_features if encoding is None else len(names)
        self.row_shape_ = _row_shape(self.description.get("row_shape"), model.n_features)
        if names:
            self.feature_names_in_ = np.array(names, dtype=object)

    @property
    def _name(self) -> str:
        name = f"{self.description.get('name')} {self.description.get('network')}"
        return f"{name}: {counted(self.n_features_in_, 'feature')}"

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _outputs(self, X: Any, first_row: int) -> NDArray[np.float32]:
        """Compute the outputs of the network, shape (n, n_outputs)."""
        rows = self._rows(X, first_row)
        n, d = rows.shape
        widest = max(d, *(stage.weight.shape[1] for stage in self.model.stages))
        size = max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // widest))
        outputs = np.empty((n, self.model.n_outputs), dtype=np.float32)
        for begin in range(-(first_row % size), n, size):
            first, last = max(begin, 0), min(begin + size, n)
            own = slice(first - begin, last - begin)
            block = np.zeros((size, d), dtype=self.model.input_type)
            part = rows[first:last]
            with np.errstate(over="ignore"):  # reported just below
                block[own] = part.toarray() if hasattr(part, "toarray") else part
            self._check_finite(
                block[own],
                first_row + first,
                f"NaN, infinity, or a value that exceeds the range of {block.dtype}",
            )
            outputs[first:last] = self._forward(block)[own]
            self._check_finite(
                outputs[first:last],
                first_row + first,
                "the outputs overflow float32: the row is far outside the range of the training "
                "rows",
            )
        return outputs

    def onnx_inputs(self, X: Any) -> dict[str, NDArray[Any]]:
        """Return the inputs of the graph in ``model.onnx`` for raw rows.

        Parameters
        ----------
        X
            As for :meth:`DeployedClassifier.predict_logits`, but dense.

        Returns
        -------
        dict of str to ndarray
            For a model with an encoding one array of shape (n, 1) for each raw column: numbers
            with NaN for a missing cell, texts with "" for a missing cell. Else ``features``.
        """
        if self.encoding is None:
            rows = self._rows(X, 0)
            dense = rows.toarray() if hasattr(rows, "toarray") else rows
            return {"features": np.asarray(dense, dtype=self.model.input_type)}
        return column_inputs(self.encoding, X, self.model.input_type)

    def _rows(self, X: Any, first_row: int) -> Any:
        if isinstance(X, str):
            raise InputError("one text: give a list of texts")
        if self.encoding is not None:
            return self.encoding.transform(X, first_row)
        if self.vectoriser is not None and _are_texts(X):
            return self.vectoriser.clean_and_transform(X)
        X = self._named_columns(X)
        rows = X.tocsr() if hasattr(X, "tocsr") else np.asarray(X)
        if rows.ndim > 2:
            rows = self._flat(rows)
        if rows.ndim != 2:
            raise InputError(f"rows of shape {rows.shape}: give a table of shape (rows, features)")
        if rows.shape[1] != self.n_features_in_:
            raise InputError(
                f"rows of {counted(rows.shape[1], 'feature')}: the model takes "
                f"{self.n_features_in_}"
            )
        if rows.dtype == object:
            try:
                rows = rows.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise InputError(f"rows are not numbers: {error}") from error
        if rows.dtype.kind not in "biuf":
            raise InputError(f"rows of type {rows.dtype}: give real numbers")
        return rows

    def _flat(self, rows: NDArray[Any]) -> NDArray[Any]:
        shape = rows.shape[1:]
        if self.row_shape_ is not None and shape != self.row_shape_:
            raise InputError(
                f"rows of shape {shape}: the model takes rows of shape {self.row_shape_}"
            )
        return rows.reshape(rows.shape[0], math.prod(shape))

    def _named_columns(self, X: Any) -> Any:
        """Return the features of a table in the order of the model; other columns are left out."""
        names = getattr(X, "column_names", getattr(X, "columns", None))
        features = self.model.feature_names
        if names is None or not features:
            return X
        given = {str(name): name for name in names}
        missing = [name for name in features if name not in given]
        if missing:
            raise InputError(f"the model's features are missing: {', '.join(missing[:5])}")
        if [str(name) for name in names] == list(features):
            return X
        wanted = [given[name] for name in features]
        return X.select(wanted) if hasattr(X, "column_names") else X[wanted]

    def _forward(self, block: NDArray[Any]) -> NDArray[np.float32]:
        values = block
        with np.errstate(over="ignore", invalid="ignore"):
            values -= self.model.shift
            for stage in self.model.stages:
                values = values @ stage.weight
                if stage.bias is not None:
                    values += stage.bias
                values = values.astype(np.float32, copy=False)
                if stage.relu:
                    np.maximum(values, 0, out=values)
        return values

    def _check_finite(self, values: NDArray[Any], first_row: int, defect: str) -> None:
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if wrong.size:
            row = first_row + int(wrong[0]) + 1
            raise InputError(f"row {row}: {defect}")


def _row_shape(stored: Any, n_features: int) -> tuple[int, ...] | None:
    """Return the shape of a row that a description holds, None unless it fits the features."""
    if not isinstance(stored, list) or not all(type(size) is int for size in stored):
        return None
    return tuple(stored) if math.prod(stored) == n_features else None


def _are_texts(X: Any) -> bool:
    """Return whether `X` is a list, series or array of texts, one for each row."""
    if hasattr(X, "tocsr") or getattr(X, "ndim", 1) != 1:
        return False
    return all(isinstance(text, str) for text in X)
