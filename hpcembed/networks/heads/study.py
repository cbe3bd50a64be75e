"""Study of heads on projections of frozen features.

For each seed a stratified part of the training rows becomes validation rows. The full head and
every projection see the other rows only. A head is fitted to convergence with each of several
penalties; validation rows select the penalty; then the test accuracy is measured, once for each
projection, number of components and seed. Differences from the full head are paired by seed,
because both use the same rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.splits import held_out_rows
from hpcembed.networks.heads.logistic import PENALTIES, LogisticHead, select_head
from hpcembed.networks.heads.projections import PROJECTIONS, Calibration, Projection, Projector
from hpcembed.networks.heads.results import FULL, HeadResult, HeadStudy
from hpcembed.runtime.arguments import check_choice, check_count, is_number
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["study_heads"]

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]
Rows = tuple[Matrix, Labels]


def study_heads(
    features_train: Any,
    labels_train: Any,
    features_test: Any,
    labels_test: Any,
    *,
    projections: Sequence[str] | Mapping[str, Projector] = tuple(PROJECTIONS),
    dimensions: Sequence[int] | None = None,
    seeds: int | Sequence[int] = 5,
    calibration_rows: Sequence[int | None] = (None,),
    calibrated: Sequence[str] = ("pca", "lda", "cca"),
    validation_fraction: float = 0.2,
    penalties: Sequence[float] = PENALTIES,
    confidence: float = 0.95,
) -> HeadStudy:
    """Compare heads on reduced features with the head on all features.

    Parameters
    ----------
    features_train, features_test : array-like of shape (n, d), (n_test, d)
        Features of a frozen network.
    labels_train, labels_test : array-like of shape (n,), (n_test,)
        Classes. Every class has at least two training rows.
    projections : sequence of str, or mapping of str to function
        Names from :data:`PROJECTIONS` (gaussian, sparse, fast, truncation, pca, lda, cca,
        row_space, bottleneck), or functions of (Calibration, components, seed) that return a
        :class:`Projection`.
    dimensions : sequence of int, optional
        Numbers of components. Default: d/2, d/4, d/8, d/16, d/32, C and C - 1 for C classes.
    seeds : int or sequence of int, default=5
    calibration_rows : sequence of int or None
        Rows from which the projections in `calibrated` are computed, a stratified sample; None is
        all rows. Their heads are fitted on all rows.
    calibrated : sequence of str
    validation_fraction : float, default=0.2
        Share of the training rows of each class.
    penalties : sequence of float
    confidence : float, default=0.95

    Returns
    -------
    HeadStudy

    Raises
    ------
    InputError
        If rows and labels do not match, features are not finite, or a test class has no training
        rows.
    ConfigError
        If a parameter has no valid value.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> study = study_heads(X[:900], y[:900], X[900:], y[900:], projections=["pca", "row_space"],
    ...                     dimensions=[9], seeds=2)
    >>> [(one.projection, one.n_components, one.parameters) for one in study.summary()]
    [('full', 64, 650), ('pca', 9, 676), ('row_space', 9, 676)]
    >>> study.select("row_space")[0].logit_error < 1e-8
    True
    """
    chosen = _projectors(projections)
    seed_list = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    _check(seed_list, calibration_rows, penalties, validation_fraction, confidence)
    train, test, n_classes = _checked(features_train, labels_train, features_test, labels_test)
    d = train[0].shape[1]
    if dimensions is None:
        dimensions = [d >> step for step in range(1, 6)] + [n_classes, n_classes - 1]
    for k in dimensions:
        check_count("dimensions", k)
    wanted = sorted({int(k) for k in dimensions}, reverse=True)
    results: list[HeadResult] = []
    omitted: dict[tuple[str, int, str], None] = {}
    for seed in seed_list:
        trial = _Trial.of(train, test, n_classes, seed, validation_fraction, penalties)
        results.append(trial.full_result)
        for name, project in chosen.items():
            for k in wanted:
                for n in calibration_rows if name in calibrated else (None,):
                    try:
                        results.append(trial.result(name, project, k, n))
                    except InputError as error:
                        omitted[name, k, str(error)] = None
    return HeadStudy(tuple(results), tuple(omitted), confidence)


@dataclass(frozen=True)
class _Trial:
    """The rows of one seed, with the full head."""

    train: Rows
    validation: Rows
    test: Rows
    n_classes: int
    seed: int
    penalties: Sequence[float]
    head: LogisticHead
    full_result: HeadResult

    @staticmethod
    def of(
        train: Rows,
        test: Rows,
        n_classes: int,
        seed: int,
        fraction: float,
        penalties: Sequence[float],
    ) -> _Trial:
        start = time.perf_counter()
        held = _sample(train[1], n_classes, fraction, seed)
        fitted = train[0][~held], train[1][~held]
        validation = train[0][held], train[1][held]
        head, accuracy = select_head(*fitted, n_classes, validation, penalties)
        d = train[0].shape[1]
        full = HeadResult(
            FULL, d, seed, None, head.l2, head.converged, accuracy, head.accuracy(*test), 0,
            n_classes * (d + 1), 0.0, time.perf_counter() - start,
        )  # fmt: skip
        return _Trial(fitted, validation, test, n_classes, seed, penalties, head, full)

    def result(self, name: str, project: Projector, k: int, n: int | None) -> HeadResult:
        """Return the result of one projection.

        Raises
        ------
        InputError
            If the projection has no k components.
        """
        start = time.perf_counter()
        X, y = self.train
        if n is not None:
            if n >= len(y):
                raise InputError(f"{n:,} calibration rows, but only {len(y):,} training rows")
            rows = _sample(y, self.n_classes, n / len(y), self.seed + 1)
            X, y = X[rows], y[rows]
        projection = project(Calibration(X, y, self.n_classes, self.head), k, self.seed)
        head, accuracy, logit_error = self._head(projection)
        coordinates = self.test[0] @ projection.components.T
        return HeadResult(
            name, k, self.seed, n, head.l2, head.converged, accuracy,
            head.accuracy(coordinates, self.test[1]), projection.parameters,
            self.n_classes * (k + 1), logit_error, time.perf_counter() - start,
        )  # fmt: skip

    def _head(self, projection: Projection) -> tuple[LogisticHead, float, float]:
        """Return the head of a projection, its accuracy on validation rows, and its logit error."""
        map_ = projection.components.T
        validation = self.validation[0] @ map_, self.validation[1]
        if projection.head is None:
            rows, labels = self.train[0] @ map_, self.train[1]
            head, accuracy = select_head(rows, labels, self.n_classes, validation, self.penalties)
            return head, accuracy, math.nan
        difference = projection.head.logits(self.test[0] @ map_) - self.head.logits(self.test[0])
        if len(projection.components) < self.n_classes:
            difference -= difference.mean(axis=1, keepdims=True)
        error = float(np.abs(difference).max())
        return projection.head, projection.head.accuracy(*validation), error


def _sample(labels: Labels, n_classes: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return a mask of a stratified sample of rows."""
    return held_out_rows(
        "stratified", fraction, seed, labels, n_classes, 0, len(labels), MPI.COMM_SELF
    )


def _projectors(projections: Sequence[str] | Mapping[str, Projector]) -> dict[str, Projector]:
    if isinstance(projections, Mapping):
        return dict(projections)
    for name in projections:
        check_choice("projections", name, PROJECTIONS)
    return {name: PROJECTIONS[name] for name in projections}


def _check(
    seeds: Sequence[int], rows: Iterable[int | None], penalties: Sequence[float],
    fraction: float, confidence: float,
) -> None:  # fmt: skip
    check_count("seeds", len(seeds))
    for n in rows:
        check_count("calibration_rows", n, optional=True)
    if not len(penalties) or not all(is_number(l2) and l2 > 0 for l2 in penalties):
        raise ConfigError(f"penalties must be positive numbers, got {penalties!r}")
    for name, value in (("validation_fraction", fraction), ("confidence", confidence)):
        if not is_number(value) or not 0 < value < 1:
            raise ConfigError(f"{name} must lie between 0 and 1, got {value!r}")


def _checked(X: Any, y: Any, X_test: Any, y_test: Any) -> tuple[Rows, Rows, int]:
    """Return rows with class codes, and the number of classes."""
    found = []
    for name, rows, labels in (("training", X, y), ("test", X_test, y_test)):
        features, values = np.asarray(rows, dtype=np.float64), np.asarray(labels)
        if features.ndim != 2 or values.shape != features.shape[:1] or not len(values):
            raise InputError(
                f"{name} features of shape {features.shape} and labels of shape {values.shape}: "
                "give (n, d) and (n,)"
            )
        if not np.isfinite(features).all():
            row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
            raise InputError(f"{name} row {row}: a feature is not finite")
        found.append((features, values))
    (features, values), (others, other_values) = found
    if features.shape[1] != others.shape[1]:
        raise InputError(f"{features.shape[1]} training and {others.shape[1]} test features")
    classes, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(classes) < 2 or counts.min() < 2:
        raise InputError("every class needs two training rows, and there must be two classes")
    unknown = np.setdiff1d(other_values, classes)
    if len(unknown):
        raise InputError(f"test class {unknown[0]!r} has no training rows")
    other_codes = np.searchsorted(classes, other_values)
    return (features, codes), (others, other_codes), len(classes)
