"""Inference with a deployed model in Python: scikit-learn's methods, products by numpy.

Rows are computed in blocks of a fixed size. Each row has its own place in its block, and unused
places are zero. A BLAS may add in another order for another shape, and the result of a row must not
depend on the number of rows or on their distribution over ranks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.columns.encoding import ColumnEncoding
from hpcembed.data.text.vectoriser import Vectoriser
from hpcembed.jobs.export.column_inputs import column_inputs
from hpcembed.jobs.export.model import Model
from hpcembed.jobs.export.model_folder import read_encoding, read_model, read_vectoriser
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.wording import counted

__all__ = ["DeployedClassifier", "load"]

#: Rows of a block, and the most numbers that a block may have; wide rows have smaller blocks.
BLOCK_ROWS = 256
BLOCK_NUMBERS = 2**23


def load(path: str | os.PathLike[str]) -> DeployedClassifier:
    """Load a model that ``hpcembed run`` or ``hpcembed export`` wrote.

    Loading and prediction need numpy and safetensors; they do not need MPI, PETSc or torch.

    Parameters
    ----------
    path : path-like
        Folder of the model, its ``model.json``, or the folder of a run that contains ``model/``.

    Returns
    -------
    DeployedClassifier

    Raises
    ------
    InputError
        There is no model, or it is damaged, or a newer version of hpcembed wrote it.

    Examples
    --------
    A folder is written here for a linear model of two features and two classes; usually
    ``hpcembed run`` writes it.

    >>> import tempfile
    >>> from hpcembed.jobs.export.model import Model, Stage
    >>> from hpcembed.jobs.export.model_folder import write_model
    >>> stage = Stage(np.eye(2, dtype=np.float32), None, relu=False)
    >>> pets = Model(np.zeros(2, dtype=np.float32), (stage,), ("cat", "dog"))
    >>> folder = Path(tempfile.mkdtemp()) / "pets"
    >>> write_model(folder, pets, {"name": "pets", "network": "full-linear"}, card="")
    >>> model = load(folder)
    >>> model
    <pets full-linear: 2 features, 2 classes>
    >>> model.predict([[3.0, 1.0], [0.0, 2.0]]).tolist()
    ['cat', 'dog']
    """
    model, description = read_model(Path(path))
    return DeployedClassifier(
        model,
        description,
        read_vectoriser(Path(path), description, model),
        read_encoding(Path(path), description, model),
    )


class DeployedClassifier:
    """A trained classifier on raw features, with scikit-learn's methods; made by :func:`load`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Integers or floats if all class names are numbers, else text.
    n_features_in_ : int
        Number of features; of raw columns for a model with an encoding.
    feature_names_in_ : ndarray of shape (n_features_in_,), object
        Absent if the data had no names.
    row_shape_ : tuple of int or None
        Shape of a training row before it was flattened, such as (height, width) of images or
        (times, channels) of time series: rows may have it, or be flat. None for flat rows.
    description : dict
        The content of ``model.json``: accuracy, seconds, versions, seeds.
    vectoriser : Vectoriser or None
        Vectoriser of a model of texts, whose methods take a list of str as `X`; None for other
        models.
    encoding : ColumnEncoding or None
        Encoding of a model of raw columns (categories, dates, gaps); None for other models. Its
        methods take as `X` a DataFrame of pandas or polars, an Arrow table, a dict of columns or a
        list of dicts: columns are found by name, and superfluous ones are ignored. An array without
        names has the columns of ``feature_names_in_``.

    Examples
    --------
    A linear model of two features and two classes:

    >>> import numpy as np
    >>> from hpcembed.jobs.export.model import Model, Stage
    >>> stage = Stage(np.eye(2, dtype=np.float32), None, relu=False)
    >>> model = Model(np.zeros(2, dtype=np.float32), (stage,), ("cat", "dog"))
    >>> classifier = DeployedClassifier(model, {"name": "pets", "network": "full-linear"})
    >>> classifier
    <pets full-linear: 2 features, 2 classes>
    >>> X = [[3.0, 1.0], [0.0, 2.0]]
    >>> classifier.predict(X).tolist()
    ['cat', 'dog']
    >>> classifier.predict_proba(X).round(2).tolist()
    [[0.88, 0.12], [0.12, 0.88]]
    >>> classifier.score(X, ["cat", "cat"])
    0.5
    """

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
        self.classes_ = _classes(model.class_names)
        names = model.feature_names if encoding is None else encoding.input_names
        self.n_features_in_ = model.n_features if encoding is None else len(names)
        self.row_shape_ = _row_shape(self.description.get("row_shape"), model.n_features)
        if names:
            self.feature_names_in_ = np.array(names, dtype=object)

    def __repr__(self) -> str:
        name = f"{self.description.get('name')} {self.description.get('network')}"
        return f"<{name}: {counted(self.n_features_in_, 'feature')}, {self.classes_.size} classes>"

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_logits(self, X: Any, first_row: int = 0) -> NDArray[np.float32]:
        """Compute the logits, the values before the softmax.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, d), sequence of str, or table
            Raw features, as in the training files; texts for a model of texts; a table of raw
            columns for a model with an encoding. Images (n, height, width[, channels]) and time
            series (n, times, channels) are flattened.
        first_row : int
            Number of the first row in the table that these rows are part of. The result of a row is
            the same to the last bit at the same place of the table.

        Returns
        -------
        ndarray of shape (n, n_classes), float32

        Raises
        ------
        InputError
            The rows have another number of features, or hold text, NaN or infinity.
        """
        rows = self._rows(X, first_row)
        n, d = rows.shape
        widest = max(d, *(stage.weight.shape[1] for stage in self.model.stages))
        size = max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // widest))
        logits = np.empty((n, len(self.model.class_names)), dtype=np.float32)
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
            logits[first:last] = self._forward(block)[own]
            self._check_finite(
                logits[first:last],
                first_row + first,
                "the logits overflow float32: the row is far outside the range of the training "
                "rows",
            )
        return logits

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Compute class probabilities of shape (n, n_classes), in the order of ``classes_``."""
        return probabilities(self.predict_logits(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the most probable class of each row: shape (n,), values of ``classes_``."""
        return self.classes_[self.predict_logits(X).argmax(axis=1)]

    def score(self, X: Any, y: Any) -> float:
        """Compute the accuracy: the share of rows whose predicted class is that in `y`.

        Raises
        ------
        InputError
            `y` has not one label for each row, or holds text for numeric classes or the reverse.
        """
        predicted, labels = self.predict(X), np.asarray(y)
        if labels.shape != predicted.shape:
            raise InputError(f"labels of shape {labels.shape} for {counted(predicted.size, 'row')}")
        if labels.dtype == object:
            labels = np.array(labels.tolist())
        if (labels.dtype.kind in "US") != (predicted.dtype.kind == "U"):
            kinds = ("numbers", "text") if predicted.dtype.kind == "U" else ("text", "numbers")
            raise InputError(f"labels are {kinds[0]} where the model's classes are {kinds[1]}")
        if labels.dtype.kind == "S":
            labels = labels.astype(np.str_)
        return float(np.mean(predicted == labels))

    def onnx_inputs(self, X: Any) -> dict[str, NDArray[Any]]:
        """Return the inputs of the graph in ``model.onnx`` for raw rows.

        Parameters
        ----------
        X
            As for :meth:`predict_logits`, but dense.

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
        self._check_names(X)
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

    def _check_names(self, X: Any) -> None:
        names = getattr(X, "columns", None)
        if names is None or not self.model.feature_names:
            return
        given = [str(name) for name in names]
        if given == list(self.model.feature_names):
            return
        missing = [name for name in self.model.feature_names if name not in given]
        if missing:
            raise InputError(f"the model's features are missing: {', '.join(missing[:5])}")
        raise InputError("the columns are not in the order of the model: use X[feature_names_in_]")

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


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the softmax of each row, in double precision."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True, initial=-np.inf)
    np.exp(shifted, out=shifted)
    return shifted / shifted.sum(axis=1, keepdims=True)


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


def _classes(names: tuple[str, ...]) -> NDArray[Any]:
    """Convert class names back to integers or floats, if all of them are numbers."""
    for kind in (np.int64, np.float64):
        try:
            values = np.array(names).astype(kind)
        except (ValueError, OverflowError):
            continue
        if np.isfinite(values).all() and np.unique(values).size == len(names):
            return values
    return np.array(names)
