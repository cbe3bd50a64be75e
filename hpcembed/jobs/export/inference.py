"""Inference with a deployed model in Python: scikit-learn's methods, products by numpy.

Rows are computed in blocks of a fixed size. Each row has its own place in its block, and unused
places are zero. A BLAS may add in another order for another shape, and the result of a row must not
depend on the number of rows or on their distribution over ranks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.text.vectoriser import Vectoriser
from hpcembed.jobs.export.model import Model
from hpcembed.jobs.export.model_folder import read_model, read_vectoriser
from hpcembed.runtime.errors import InputError

__all__ = ["DeployedClassifier", "DeployedModel", "DeployedRegressor", "load"]

#: Rows of a block, and the most numbers that a block may have; wide rows have smaller blocks.
BLOCK_ROWS = 256
BLOCK_NUMBERS = 2**23


def load(path: str | os.PathLike[str]) -> DeployedClassifier | DeployedRegressor:
    """Load a model that ``hpcembed run`` or ``hpcembed export`` wrote.

    Loading and prediction need numpy and safetensors; they do not need MPI, PETSc or torch.

    Parameters
    ----------
    path : path-like
        Folder of the model, its ``model.json``, or the folder of a run that contains ``model/``.

    Returns
    -------
    DeployedClassifier or DeployedRegressor

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
    kind = DeployedClassifier if model.target is None else DeployedRegressor
    return kind(model, description, read_vectoriser(Path(path), description, model))


class DeployedModel:
    """Outputs of a trained network for raw features; the base of classifier and regressor."""

    def __init__(
        self, model: Model, description: Mapping[str, Any], vectoriser: Vectoriser | None = None
    ) -> None:
        self.model = model
        self.vectoriser = vectoriser
        self.description = dict(description)
        self.n_features_in_ = model.n_features
        if model.feature_names:
            self.feature_names_in_ = np.array(model.feature_names, dtype=object)

    @property
    def _name(self) -> str:
        return f"{self.description.get('name')} {self.description.get('network')}"

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _outputs(self, X: Any, first_row: int) -> NDArray[np.float32]:
        """Compute the outputs of the network, shape (n, n_outputs)."""
        rows = self._rows(X)
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

    def _rows(self, X: Any) -> Any:
        if isinstance(X, str):
            raise InputError("one text: give a list of texts")
        if self.vectoriser is not None and _are_texts(X):
            return self.vectoriser.clean_and_transform(X)
        self._check_names(X)
        rows = X.tocsr() if hasattr(X, "tocsr") else np.asarray(X)
        if rows.ndim != 2:
            raise InputError(f"rows of shape {rows.shape}: give a table of shape (rows, features)")
        if rows.shape[1] != self.n_features_in_:
            raise InputError(
                f"rows of {rows.shape[1]} features: the model takes {self.n_features_in_}"
            )
        if rows.dtype == object:
            try:
                rows = rows.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise InputError(f"rows are not numbers: {error}") from error
        if rows.dtype.kind not in "biuf":
            raise InputError(f"rows of type {rows.dtype}: give real numbers")
        return rows

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


class DeployedClassifier(DeployedModel):
    """A trained classifier on raw features, with scikit-learn's methods; made by :func:`load`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Integers or floats if all class names are numbers, else text.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (d,), object
        Absent if the data had no names.
    description : dict
        The content of ``model.json``: accuracy, seconds, versions, seeds.
    vectoriser : Vectoriser or None
        Vectoriser of a model of texts, whose methods take a list of str as `X`; None for other
        models.

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
        self, model: Model, description: Mapping[str, Any], vectoriser: Vectoriser | None = None
    ) -> None:
        super().__init__(model, description, vectoriser)
        self.classes_ = _classes(model.class_names)

    def __repr__(self) -> str:
        return f"<{self._name}: {self.n_features_in_} features, {self.classes_.size} classes>"

    def predict_logits(self, X: Any, first_row: int = 0) -> NDArray[np.float32]:
        """Compute the logits, the values before the softmax.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, d), or sequence of str
            Raw features, as in the training files; texts for a model of texts.
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
        return self._outputs(X, first_row)

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
            raise InputError(f"labels of shape {labels.shape} for {predicted.size} rows")
        if labels.dtype == object:
            labels = np.array(labels.tolist())
        if (labels.dtype.kind in "US") != (predicted.dtype.kind == "U"):
            kinds = ("numbers", "text") if predicted.dtype.kind == "U" else ("text", "numbers")
            raise InputError(f"labels are {kinds[0]} where the model's classes are {kinds[1]}")
        if labels.dtype.kind == "S":
            labels = labels.astype(np.str_)
        return float(np.mean(predicted == labels))


class DeployedRegressor(DeployedModel):
    """A trained regression on raw features, with scikit-learn's methods; made by :func:`load`.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (d,), object
        Absent if the data had no names.
    description : dict
        The content of ``model.json``: R2, errors, seconds, versions, seeds.
    vectoriser : Vectoriser or None
        Vectoriser of a model of texts, whose methods take a list of str as `X`; None for other
        models.

    Examples
    --------
    A linear model of two features, whose output is in units of 10 above 100:

    >>> import numpy as np
    >>> from hpcembed.jobs.export.model import Model, Stage, TargetScaling
    >>> stage = Stage(np.ones((2, 1), dtype=np.float32), None, relu=False)
    >>> unit = TargetScaling(np.float32([100.0]), np.float32([10.0]))
    >>> model = Model(np.zeros(2, dtype=np.float32), (stage,), (), target=unit)
    >>> regressor = DeployedRegressor(model, {"name": "prices", "network": "full-linear"})
    >>> regressor
    <prices full-linear: 2 features, regression>
    >>> regressor.predict([[3.0, 1.0], [0.0, 2.0]]).tolist()
    [140.0, 120.0]
    >>> regressor.score([[3.0, 1.0], [0.0, 2.0]], [141.0, 121.0])
    0.99
    """

    def __repr__(self) -> str:
        return f"<{self._name}: {self.n_features_in_} features, regression>"

    def predict(self, X: Any, first_row: int = 0) -> NDArray[np.float64]:
        """Predict the target of each row, in its unit.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, d), or sequence of str
            Raw features, as in the training files; texts for a model of texts.
        first_row : int
            Number of the first row in the table that these rows are part of. The result of a row is
            the same to the last bit at the same place of the table.

        Returns
        -------
        ndarray of shape (n,), float64

        Raises
        ------
        InputError
            The rows have another number of features, or hold text, NaN or infinity.
        """
        unit = self.model.target
        assert unit is not None  # a regression
        outputs = self._outputs(X, first_row)[:, 0].astype(unit.shift.dtype)
        return np.asarray(outputs * unit.scale + unit.shift, dtype=np.float64)

    def score(self, X: Any, y: Any) -> float:
        """Compute R2 as scikit-learn does: 1 for exact predictions, 0 for the mean of `y`.

        Raises
        ------
        InputError
            `y` has not one number for each row, or its values are equal.
        """
        predicted = self.predict(X)
        try:
            targets = np.asarray(y, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"targets are not numbers: {error}") from error
        if targets.shape != predicted.shape:
            raise InputError(f"targets of shape {targets.shape} for {predicted.size} rows")
        spread = float(np.sum((targets - targets.mean()) ** 2)) if targets.size else 0.0
        if not spread > 0:
            raise InputError("R2 is not defined: it needs targets that differ")
        return 1.0 - float(np.sum((targets - predicted) ** 2)) / spread


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the softmax of each row, in double precision."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True, initial=-np.inf)
    np.exp(shifted, out=shifted)
    return shifted / shifted.sum(axis=1, keepdims=True)


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
