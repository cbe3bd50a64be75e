"""Labels of rows: class codes that are the same on all ranks, or targets."""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.arguments import as_array
from hpcembed.runtime.errors import InputError, error_text

__all__ = ["all_have_classes", "class_codes", "has_classes", "label_array", "target_columns"]


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
        labels = as_array("y", given.labels if y is None else y)
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


def all_have_classes(X: RowSource, labels: NDArray[Any]) -> bool:
    """Return whether the labels of the ranks with rows are classes.

    Collective.

    Raises
    ------
    InputError
        On all ranks: some ranks have classes and others targets.
    """
    found = set(X.comm.allgather(has_classes(labels) if len(labels) else None)) - {None}
    if len(found) > 1:
        raise InputError(
            "y: some ranks have classes (integers or text), others targets (floating-point "
            "numbers, or several columns): give all ranks one type of labels"
        )
    return found != {False}


def target_columns(X: RowSource, labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the targets of this rank's rows, shape (n_local, t).

    Collective.

    Raises
    ------
    InputError
        On all ranks: targets are no numbers, or ranks have different numbers of them.
    """
    columns = np.empty((0, 1))
    with agreement(X.comm):
        try:
            columns = labels.astype(np.float64).reshape(len(labels), -1 if len(labels) else 1)
        except (TypeError, ValueError) as error:
            raise InputError(f"y: targets are no numbers: {error_text(error)}") from error
    widths = set(X.comm.allgather(columns.shape[1] if len(columns) else None)) - {None}
    if len(widths) > 1:
        listed = ", ".join(str(width) for width in sorted(widths))
        raise InputError(f"y: ranks have {listed} targets: give all ranks the same columns")
    return columns if len(columns) else np.empty((0, *widths))


def _distinct(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the distinct labels in ascending order."""
    try:
        return np.unique(labels)
    except TypeError as error:
        types = sorted({type(one).__name__ for one in labels.tolist()})
        raise InputError(
            f"y: labels of the types {', '.join(types)} have no order: give numbers or text"
        ) from error


def _kind(label: Any) -> str:
    """Return the kind of a label, in the plural."""
    if isinstance(label, str | bytes):
        return "text"
    return "numbers" if isinstance(label, Number | np.generic) else f"{type(label).__name__}s"


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
        mine = _distinct(labels)
    of_ranks = [part for part in X.comm.allgather(mine) if part.size]
    kinds = sorted({_kind(part[0]) for part in of_ranks})
    if len(kinds) > 1:
        raise InputError(f"y: ranks have {' and '.join(kinds)}: give all ranks one type of labels")
    classes = _distinct(np.concatenate(of_ranks)) if of_ranks else labels
    if len(classes) < 2:
        raise InputError(f"need training rows of at least two classes, got {len(classes)} class")
    codes = np.searchsorted(classes, labels) if len(labels) else np.empty(0)
    return codes.astype(np.int64), classes
