"""Labels of rows: class codes that are the same on all ranks, or targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError

__all__ = ["class_codes", "has_classes", "label_array"]


def label_array(X: RowSource, given: Any, y: Any, estimator: str) -> NDArray[Any]:
    """Return the labels of this rank's rows: `y`, or those of a DataMatrix if `y` is None.

    Collective.

    Parameters
    ----------
    given : object
        The rows as the caller gave them; `X` are these rows, or a DataMatrix without labels on the
        same memory.

    Raises
    ------
    InputError
        On all ranks: there are no labels, not one for each row, or numbers that are not finite.
    """
    labels = np.empty(0)
    with agreement(X.comm):
        if y is None and not isinstance(given, DataMatrix):
            raise InputError(
                f"{estimator} requires y to be passed, but the target y is None: give y, the "
                "labels of the rows"
            )
        labels = np.asarray(given.labels if y is None else y)
        if labels.ndim == 2 and labels.shape[1] == 1 and labels.dtype.kind != "f":
            labels = labels[:, 0]
        if labels.ndim not in (1, 2) or len(labels) != X.n_local:
            raise InputError(
                f"y has the shape {labels.shape} for {X.n_local} rows: give one label for each row"
            )
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise InputError(
                f"y: row {int(np.argmin(np.isfinite(labels).reshape(len(labels), -1).all(1)))} "
                "contains NaN or infinity: remove this row"
            )
    return labels


def has_classes(labels: NDArray[Any]) -> bool:
    """Return whether labels are classes: one-dimensional, and no floating-point numbers.

    Examples
    --------
    >>> has_classes(np.array(["a", "b"])), has_classes(np.array([0.5, 1.0]))
    (True, False)
    """
    return labels.ndim == 1 and labels.dtype.kind != "f"


def class_codes(X: RowSource, labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the class of each of this rank's rows from 0 on, and the labels of all classes.

    Collective. Only classes with rows have a number, in ascending order of their labels.

    Raises
    ------
    InputError
        On all ranks: labels are fractions or have two dimensions, or there are not two classes.
    """
    with agreement(X.comm):
        if labels.ndim != 1:
            raise InputError(f"y has the shape {labels.shape}: give one class for each row")
        if labels.dtype.kind == "f" and np.any(labels != np.floor(labels)):
            raise InputError(
                "Unknown label type: continuous. y contains fractions, which are no classes: give "
                "class labels, or use CanonicalCorrelation for targets"
            )
    of_ranks = [part for part in X.comm.allgather(np.unique(labels)) if part.size]
    classes = np.unique(np.concatenate(of_ranks)) if of_ranks else labels
    if len(classes) < 2:
        raise InputError(f"need training rows of at least two classes, got {len(classes)} class")
    return np.searchsorted(classes, labels).astype(np.int64), classes
