"""Deployed models in Python: a classifier and a regressor with scikit-learn's methods."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.columns.encoding import ColumnEncoding
from hpcembed.data.text.vectoriser import Vectoriser
from hpcembed.jobs.export.deployed_model import DeployedModel
from hpcembed.jobs.export.model import Model
from hpcembed.jobs.export.model_folder import read_encoding, read_model, read_vectoriser
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.wording import counted

#: Numbers without a plus sign and without zeros before other digits.
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)

__all__ = ["DeployedClassifier", "DeployedRegressor", "load", "probabilities"]


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
    return kind(
        model,
        description,
        read_vectoriser(Path(path), description, model),
        read_encoding(Path(path), description, model),
    )


class DeployedClassifier(DeployedModel):
    """A trained classifier on raw features, with scikit-learn's methods; made by :func:`load`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Integers or floats if all class names are numbers that are written as Python writes them,
        booleans if they are False and True, else text.
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
        super().__init__(model, description, vectoriser, encoding)
        self.classes_ = _classes(model.class_names)

    def __repr__(self) -> str:
        return f"<{self._name}, {self.classes_.size} classes>"

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
            raise InputError(f"labels of shape {labels.shape} for {counted(predicted.size, 'row')}")
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
    n_features_in_, feature_names_in_, row_shape_, vectoriser, encoding
        As for :class:`DeployedClassifier`.
    description : dict
        The content of ``model.json``: R2, errors, seconds, versions, seeds.

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
        return f"<{self._name}, regression>"

    def predict(self, X: Any, first_row: int = 0) -> NDArray[np.float64]:
        """Predict the target of each row, in its unit.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, d), sequence of str, or table
            As for :meth:`DeployedClassifier.predict_logits`.
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
            rows = counted(predicted.size, "row")
            raise InputError(f"targets of shape {targets.shape} for {rows}")
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


def _classes(names: tuple[str, ...]) -> NDArray[Any]:
    """Convert class names back to booleans, integers or floats, if no text is lost: not "01"."""
    if names == ("False", "True"):
        return np.array([False, True])
    if not all(_PLAIN_NUMBER.fullmatch(name) for name in names):
        return np.array(names)
    for kind in (np.int64, np.float64):
        try:
            values = np.array(names).astype(kind)
        except (ValueError, OverflowError):
            continue
        if np.isfinite(values).all() and np.unique(values).size == len(names):
            return values
    return np.array(names)
