"""Estimators whose ``fit`` is the search of ``hpcembed compress``.

A fitted estimator holds its deployable model (scaling, encoding of columns, projection and network
as one), which needs no MPI, PETSc or torch to predict. It can be pickled, cloned, and used in
pipelines and cross-validation of scikit-learn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from hpcembed.data.in_memory import label_array, prediction_rows
from hpcembed.jobs.compact.requests import ranks_of
from hpcembed.jobs.compact.results import CompressReport
from hpcembed.jobs.compact.search_in_memory import Searched, search_in_memory
from hpcembed.jobs.export.inference import load
from hpcembed.runtime.output.files import write_whole
from hpcembed.runtime.output.whole_folder import whole_folder

__all__ = ["CompactClassifier", "CompactRegressor"]


@dataclass(eq=False, repr=False, kw_only=True)
class _CompactModel(BaseEstimator):  # type: ignore[misc]
    """Parameters and methods of both estimators."""

    max_loss: float = 0.5
    networks: Sequence[Any] | None = None
    max_components: int | None = None
    seeds: int = 5
    max_seeds: int | None = None
    confidence: float = 0.95
    scaling: str = "standard"
    test_fraction: float = 0.2
    random_state: int = 0
    settings: Mapping[str, Any] | None = None

    def _search(
        self, X: Any, y: Any, test: tuple[Any, Any] | None, comm: MPI.Comm | None, task: str
    ) -> Searched:
        """Search and keep the model. Collective."""
        found = search_in_memory(X, y, test, ranks_of(X, comm), task, self.get_params(deep=False))
        self._keep(found)
        return found

    def _keep(self, found: Searched) -> None:
        """Take over the model and report of a search."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in found.files.items():
                Path(folder, name).write_bytes(content)
            self.model_: Any = load(folder)
        self.files_ = found.files
        self.report_: CompressReport = found.report
        self.n_features_in_ = found.n_columns
        if found.column_names:
            self.feature_names_in_ = np.array(found.column_names, dtype=object)

    @property
    def report(self) -> CompressReport:
        """Steps and answer of the search."""
        check_is_fitted(self)
        return self.report_

    def save(self, folder: str | Path) -> Path:
        """Write the deployable model into a new folder, for :func:`hpcembed.load`.

        Raises
        ------
        OutputExistsError
            The folder is not empty.
        OutputError
            The folder cannot be written.
        """
        check_is_fitted(self)
        with whole_folder(Path(folder)) as partial:
            for name, content in self.files_.items():
                (partial / name).write_bytes(content)
        return Path(folder)

    def to_onnx(self, path: str | Path) -> Path:
        """Write the model as one ONNX file: from raw features to the prediction.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        check_is_fitted(self)
        write_whole(Path(path), self.files_["model.onnx"])
        return Path(path)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _repr_mimebundle_(self, **options: Any) -> dict[str, str]:
        """Show scikit-learn's diagram in a notebook, and the report of a fitted estimator."""
        shown: dict[str, str] = super()._repr_mimebundle_(**options)
        if hasattr(self, "report_") and "text/html" in shown:
            shown["text/html"] += self.report_._repr_html_()
        return shown


class CompactClassifier(ClassifierMixin, _CompactModel):  # type: ignore[misc]
    """Classifier: dominant components of the rows and a small network on them.

    ``fit`` holds out test rows, trains the largest network on all features, and searches for the
    smallest network and number of components whose accuracy on validation rows is at most
    `max_loss` points lower. The model is that network; if none is found, it is the one with the
    smallest loss, and a warning is logged: see ``report.verdict``.

    Parameters
    ----------
    max_loss : float, default 0.5
        Points of accuracy that may be lost.
    networks : sequence, optional
        Names (large, medium, low, very_low) or tuples of layer widths; default: all names.
    max_components : int, optional
        Largest number of components; default: as far as the spectrum goes.
    seeds : int, default 5
        Training runs of each network at first.
    max_seeds : int, optional
        Training runs at most, if the interval is undecided; default: 30.
    confidence : float, default 0.95
        Of the intervals.
    scaling : {"none", "divide", "minmax", "standard"}, default "standard"
    test_fraction : float, default 0.2
        Share of the rows on which the answer is judged.
    random_state : int, default 0
        Seed of the split, the solver and the networks.
    settings : mapping of str to object, optional
        Further keys of a job file: ``{"training.epochs": 50, "embedding.method": "svd"}``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of str objects
        For tables with named columns.
    report : CompressReport
        Steps and answer of the search.
    model_ : DeployedClassifier

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from hpcembed import CompactClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> small = CompactClassifier(max_loss=5, networks=[(16,), (32,)], seeds=3).fit(X, y)
    >>> small.classes_.tolist()
    [0, 1, 2]
    """

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        test: tuple[Any, Any] | None = None,
        comm: MPI.Comm | None = None,
    ) -> CompactClassifier:
        """Search for the smallest network and train it.

        Collective on `comm`.

        Parameters
        ----------
        X : array-like, sparse matrix, table, texts or RowStream
            Rows of this rank: arrays of two or more dimensions, tables of pandas, polars or Arrow,
            lists of texts, or files opened by :func:`hpcembed.open_rows`.
        y : array-like of shape (n_local,)
            Classes: numbers, booleans or text.
        test : tuple, optional
            Test rows and their labels; default: rows held out of `X`.
        comm : MPI.Comm, optional
            Ranks that share the rows; default: this rank alone.

        Returns
        -------
        CompactClassifier
            This object.

        Raises
        ------
        HpcembedError
            On all ranks, one line.
        """
        found = self._search(X, y, test, comm, "classification")
        self.classes_ = found.classes
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Compute class probabilities of shape (n, n_classes), in the order of ``classes_``."""
        check_is_fitted(self)
        return self.model_.predict_proba(prediction_rows(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the class of each row: shape (n,), values of ``classes_``."""
        check_is_fitted(self)
        return self.classes_[self.model_.predict_logits(prediction_rows(X)).argmax(axis=1)]


class CompactRegressor(RegressorMixin, _CompactModel):  # type: ignore[misc]
    """Regressor: dominant components of the rows and a small network on them.

    As :class:`CompactClassifier`, for continuous targets: `max_loss` is a hundredth of R2, so 0.5
    allows a loss of 0.005.

    Parameters
    ----------
    max_loss, networks, max_components, seeds, max_seeds, confidence, scaling, test_fraction, \
random_state, settings
        As for :class:`CompactClassifier`.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray of str objects
        For tables with named columns.
    report : CompressReport
    model_ : DeployedRegressor

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from hpcembed import CompactRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> small = CompactRegressor(max_loss=10, networks=[(16,), (32,)], seeds=3).fit(X, y)
    >>> bool(small.score(X, y) > 0.3)
    True
    """

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        test: tuple[Any, Any] | None = None,
        comm: MPI.Comm | None = None,
    ) -> CompactRegressor:
        """Search for the smallest network and train it.

        Collective on `comm`; parameters as for :meth:`CompactClassifier.fit`.
        """
        self._search(X, y, test, comm, "regression")
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict the target of each row: shape (n,), in the unit of the targets."""
        check_is_fitted(self)
        return self.model_.predict(prediction_rows(X))


def estimator_of(found: Searched, parameters: Mapping[str, Any]) -> Any:
    """Return a fitted estimator for the result of a search. Not collective."""
    estimator: Any
    if found.task == "regression":
        estimator = CompactRegressor(**parameters)
    else:
        estimator = CompactClassifier(**parameters)
        estimator.classes_ = found.classes
    estimator._keep(found)
    return estimator


def original_classes(y: Any, names: Sequence[str], comm: MPI.Comm) -> NDArray[Any]:
    """Return the values of `y` that class names stand for, in their order.

    Collective. Texts that differ by blanks at their ends, or by the spelling of a number, are one
    class: it has the name of the model.
    """
    from hpcembed.data.labels import as_classes, codes_of, labels_from_array

    array = label_array(y, "y")
    unique = np.unique(array)
    mine: list[tuple[int, Any]] = []
    if unique.size:
        codes = codes_of(as_classes(labels_from_array(unique, "y", 0)), names)
        mine = list(zip(codes.tolist(), unique.tolist(), strict=True))
    found: dict[int, set[Any]] = {}
    for part in comm.allgather(mine):
        for code, value in part:
            found.setdefault(code, set()).add(value)
    values = [found.get(code, {name}) for code, name in enumerate(names)]
    are_texts = any(isinstance(value, str) for spellings in values for value in spellings)
    return np.array(
        [
            name if are_texts and len(spellings) > 1 else min(spellings)
            for name, spellings in zip(names, values, strict=True)
        ]
    )
