"""Names of the arrays in a file of several arrays: NPZ, HDF5 and MATLAB files.

A file holds the rows and, perhaps, their labels, and perhaps test rows and their labels. Names that
the caller does not state are recognised among the usual ones, without regard to upper and lower
case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcembed.runtime.errors import InputError

__all__ = ["ArrayNames", "StatedNames", "find_arrays", "list_names"]

#: Usual names of rows and their labels. Names of training rows come first.
_USUAL = (
    ("x_train", "y_train"),
    ("train_x", "train_y"),
    ("xtrain", "ytrain"),
    ("xtr", "ytr"),
    ("x_tr", "y_tr"),
    ("train_images", "train_labels"),
    ("train_data", "train_labels"),
    ("train_data", "train_target"),
    ("train_features", "train_labels"),
    ("x_train", "t_train"),
    ("x", "y"),
    ("data", "target"),
    ("data", "labels"),
    ("data", "label"),
    ("features", "labels"),
    ("features", "label"),
    ("features", "target"),
    ("images", "labels"),
    ("images", "label"),
    ("embeddings", "labels"),
    ("embeddings", "label"),
    ("x", "labels"),
    ("x", "label"),
    ("x", "target"),
    ("arr_0", "arr_1"),
)
#: Usual names of labels beside rows of any name.
_LABELS = ("y", "labels", "label", "target", "targets")
_MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class StatedNames:
    """Names of arrays that the caller states; empty for those to recognise."""

    features: str = ""
    labels: str = ""
    test_features: str = ""
    test_labels: str = ""


@dataclass(frozen=True, slots=True)
class ArrayNames:
    """Names of the arrays of a file.

    Attributes
    ----------
    features : str
    labels : str
        Empty if the file has none.
    test_features, test_labels : str
        Both empty if the file has no test rows.
    """

    features: str
    labels: str
    test_features: str = ""
    test_labels: str = ""


def find_arrays(path: Path, names: Sequence[str], stated: StatedNames) -> ArrayNames:
    """Return the names of the arrays of rows and labels in a file.

    Parameters
    ----------
    path : Path
        For messages.
    names : sequence of str
        Arrays of the file.
    stated : StatedNames

    Raises
    ------
    InputError
        An array that is stated does not exist, or no array is recognised as rows; the message lists
        the arrays of the file.

    Examples
    --------
    >>> names = ["X_train", "y_train", "X_test", "y_test"]
    >>> find_arrays(Path("a.npz"), names, StatedNames()).test_features
    'X_test'
    """
    for name in (stated.features, stated.test_features, stated.test_labels):
        if name and name not in names:
            raise InputError(
                f"{path}: no array {name!r}; it has {list_names(names)}: set data.features_key "
                "and data.labels_key"
            )
    by_lower = {name.lower(): name for name in reversed(names)}
    features = stated.features or _usual_features(by_lower, stated.labels)
    if not features:
        raise InputError(
            f"{path}: no array of a usual name (x, X_train, data, ...); it has "
            f"{list_names(names)}: set data.features_key and data.labels_key"
        )
    labels = stated.labels if stated.labels in names else ""
    if not stated.labels:
        labels = _partner(by_lower, features)
    test_features = stated.test_features or _test_name(by_lower, features)
    test_labels = stated.test_labels or _test_name(by_lower, labels)
    if test_features and not test_labels:
        test_labels = _partner(by_lower, test_features)
    if not (test_features and test_labels):
        if stated.test_features or stated.test_labels:
            raise InputError(
                f"{path}: test rows need an array of rows and one of labels; it has "
                f"{list_names(names)}: set data.test_features_key and data.test_labels_key"
            )
        test_features = test_labels = ""
    return ArrayNames(features, labels, test_features, test_labels)


def list_names(names: Sequence[str]) -> str:
    """Return the first names, sorted, as text for a message."""
    shown = ", ".join(sorted(names)[:_MOST_LISTED]) or "nothing"
    return shown + (", ..." if len(names) > _MOST_LISTED else "")


def _usual_features(by_lower: dict[str, str], labels: str) -> str:
    for features, partner in _USUAL:
        if features in by_lower and (labels or partner in by_lower):
            return by_lower[features]
    for features, _ in _USUAL:  # labels of another name, or none
        if features in by_lower:
            return by_lower[features]
    return ""


def _partner(by_lower: dict[str, str], features: str) -> str:
    """Return the labels of rows by their name, or ""."""
    name = features.lower()
    is_test = "test" in name
    for rows, labels in _USUAL:
        if is_test:
            rows, labels = rows.replace("train", "test"), labels.replace("train", "test")
        if rows == name and labels in by_lower:
            return by_lower[labels]
    if "test" in name or "train" in name:
        return ""
    return next((by_lower[label] for label in _LABELS if label in by_lower), "")


def _test_name(by_lower: dict[str, str], training: str) -> str:
    """Return the array of test rows that belongs to an array of training rows, or ""."""
    name = training.lower()
    candidates = [f"{name}_test", f"test_{name}"] if name else []
    if "train" in name:
        candidates = [name.replace("train", "test")]
    elif name.endswith(("_tr", "xtr", "ytr")):
        candidates = [name.removesuffix("tr") + "te"]
    return next((by_lower[one] for one in candidates if one in by_lower), "")
