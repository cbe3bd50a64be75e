"""Labels: from the values in a file to class codes that are the same on all ranks.

Each rank collects the values of its rows (:class:`LocalLabels`). A rank with more different numbers
than there may be classes keeps the numbers themselves (:class:`LocalTargets`). Regression uses
numbers only; :mod:`hpcembed.data.targets` chooses the task.

The codes number the sorted union of the values of all ranks, so they do not depend on the number of
ranks. If every training label is a number, the order is numeric, and "1" and "1.0" are one class;
otherwise values are ordered as text. If there are no other classes than true and false, "True",
"true" and "1" are one class. An array of booleans has the labels "False" and "True". Training and
test rows share the encoding. A test label that no training row has is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from operator import or_
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.number_text import are_numbers
from hpcembed.runtime.errors import InputError

if TYPE_CHECKING:  # functions that communicate need MPI; the others do without it
    from mpi4py import MPI

__all__ = [
    "MAX_CLASSES",
    "LabelFile",
    "LocalLabels",
    "LocalTargets",
    "RowLabels",
    "as_classes",
    "check_lengths",
    "codes_of",
    "encode_labels",
    "is_number",
    "labels_from_array",
    "labels_from_text",
    "no_labels",
    "read_labels",
    "unusable",
]

#: A column with more different values than this is not a class.
MAX_CLASSES = 65536

_TOO_MANY = (
    f"{{}}: more than {MAX_CLASSES} different labels: these are not classes; name the column or "
    'array that holds the class, or set data.task = "regression" for numbers'
)
_BOOLEANS = ("false", "true")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class LocalLabels:
    """Labels of this rank's rows: ``values[codes[i]]`` is the text of row i.

    Attributes
    ----------
    codes : ndarray of int64, shape (n_local,)
    values : tuple of str
        As read: the texts that occur on this rank, in no particular order. Encoded: the class
        names, the same on all ranks.
    source : str
        File (and column), for messages.
    are_classes : bool
        Whether the values are classes although they may be numbers: names of folders.
    """

    codes: NDArray[np.int64]
    values: tuple[str, ...]
    source: str
    are_classes: bool = False

    @property
    def n_rows(self) -> int:
        """Number of rows on this rank."""
        return self.codes.size

    def select(self, keep: NDArray[np.bool_]) -> LocalLabels:
        """Return the labels of some rows."""
        return replace(self, codes=self.codes[keep])


@dataclass(frozen=True, slots=True)
class LocalTargets:
    """Targets of this rank's rows: finite numbers.

    Attributes
    ----------
    values : ndarray of float64, shape (n_local,)
    source : str
        File (and column), for messages.
    """

    values: NDArray[np.float64]
    source: str

    @property
    def n_rows(self) -> int:
        """Number of rows on this rank."""
        return self.values.size

    def select(self, keep: NDArray[np.bool_]) -> LocalTargets:
        """Return the targets of some rows."""
        return replace(self, values=self.values[keep])


#: Labels of this rank's rows. As read, a rank has targets only if it has more than
#: :data:`MAX_CLASSES` different numbers.
RowLabels = LocalLabels | LocalTargets


class LabelFile(Protocol):
    """Labels in a file of their own."""

    name: str
    n_labels: int

    def read(self, first: int, last: int) -> RowLabels:
        """Read labels first..last-1."""


def no_labels(n_local: int) -> LocalLabels:
    """Return the labels of rows without labels: the empty text."""
    return LocalLabels(np.zeros(n_local, dtype=np.int64), ("",), "no labels")


def labels_from_array(array: NDArray[np.generic], source: str, first_row: int) -> RowLabels:
    """Return the labels in an array of numbers or text.

    More than :data:`MAX_CLASSES` different numbers are returned as targets.

    Parameters
    ----------
    array : ndarray of shape (n_local,) or (n_local, 1)
    source : str
        File (and array), for messages.
    first_row : int
        Index of the first label in the file, from 0.

    Raises
    ------
    InputError
        A label is complex, NaN, infinite, empty or not UTF-8 text.

    Examples
    --------
    >>> import numpy as np
    >>> labels = labels_from_array(np.array([7, 3, 7]), "labels.npy", 0)
    >>> labels.values, labels.codes.tolist()
    (('3', '7'), [1, 0, 1])
    """
    flat = array.reshape(-1)
    if flat.dtype.kind not in "biufUS":
        raise InputError(f"{source}: labels of type {flat.dtype}: use integers or text")
    if flat.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(flat.astype(np.float64)))
        if bad.size:
            raise InputError(
                f"{source}: row {first_row + int(bad[0]) + 1}: the label is not a finite number: "
                "remove such rows"
            )
    values, codes = np.unique(flat, return_inverse=True)
    if len(values) > MAX_CLASSES and flat.dtype.kind in "biuf":
        return LocalTargets(flat.astype(np.float64), source)
    try:
        texts = tuple(_text(value) for value in values.tolist())
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: labels that are not UTF-8 text: convert them") from error
    if "" in texts:
        row = first_row + int(np.flatnonzero(codes.reshape(-1) == texts.index(""))[0]) + 1
        raise InputError(f"{source}: row {row}: the label is empty: remove such rows")
    if len(values) > MAX_CLASSES:
        return labels_from_text([texts[code] for code in codes.reshape(-1)], source, first_row)
    return LocalLabels(codes.reshape(-1).astype(np.int64), texts, source)


def labels_from_text(texts: Sequence[str], source: str, first_row: int) -> RowLabels:
    """Return the labels of rows, given as one text per row.

    More than :data:`MAX_CLASSES` different numbers are returned as targets, if they are written
    plainly.

    Raises
    ------
    InputError
        A label is empty, ``nan`` or an infinite number; the message names the row.

    Examples
    --------
    >>> labels_from_text(["fig", "pear", "fig"], "fruit.csv", 0).codes.tolist()
    [0, 1, 0]
    """
    index: dict[str, int] = {}
    codes = np.empty(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        codes[row] = index.setdefault(text.strip(), len(index))
    if len(index) > MAX_CLASSES and all(map(is_number, index)):
        return LocalTargets(np.array([float(value) for value in index])[codes], source)
    if not are_numbers(index):
        _check_number(len(index), source)
    for value, code in index.items():
        reason = unusable(value)
        if reason:
            row = first_row + int(np.flatnonzero(codes == code)[0]) + 1
            raise InputError(f"{source}: row {row}: the label is {reason}: remove such rows")
    return LocalLabels(codes, tuple(index), source)


def unusable(label: str) -> str:
    """Return why a text cannot be a label: "empty" or "not a finite number"; "" if it can."""
    if not label:
        return "empty"
    if label.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return "not a finite number"
    return ""


def is_number(text: str) -> bool:
    """Return whether a label is a finite decimal number.

    Examples
    --------
    >>> is_number("-1.5e3"), is_number("1e999"), is_number("12a")
    (True, False, False)
    """
    return bool(_NUMBER.fullmatch(text)) and math.isfinite(float(text))


def as_classes(labels: RowLabels) -> LocalLabels:
    """Return labels that can be classes.

    Raises
    ------
    InputError
        There are more than :data:`MAX_CLASSES` different ones.
    """
    if isinstance(labels, LocalTargets) or len(labels.values) > MAX_CLASSES:
        raise InputError(_TOO_MANY.format(labels.source))
    return labels


def encode_labels(labels: Sequence[LocalLabels], comm: MPI.Comm) -> list[LocalLabels]:
    """Encode labels over all ranks.

    Collective.

    Parameters
    ----------
    labels : sequence of LocalLabels
        Training labels, which define the classes, and possibly held-out labels.

    Returns
    -------
    list of LocalLabels
        The same labels; their values are the class names, in the same order on any number of ranks.

    Raises
    ------
    InputError
        There is one class only, there are more than :data:`MAX_CLASSES`, or a held-out label is not
        a training label.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> train = labels_from_text(["10", "9", "9.0"], "train", 0)
    >>> (encoded,) = encode_labels([train], MPI.COMM_SELF)
    >>> encoded.values, encoded.codes.tolist()
    (('9', '10'), [1, 0, 0])
    """
    train, *others = labels
    seen = _union(comm, _used(train))
    _check_number(len(seen), train.source)
    kind = _kind(seen)
    names: dict[Decimal | str, str] = {}
    for value in sorted(seen, key=lambda text: (len(text), text)):
        names.setdefault(_key(value, kind), value)
    keys = sorted(names)
    if len(keys) < 2:
        only = "".join(f" ({name})" for name in names.values())
        raise InputError(
            f"{train.source}: the training labels are of one class only{only}: "
            "a classifier needs at least two"
        )
    codes = {key: code for code, key in enumerate(keys)}
    for other in others:
        unknown = sorted(
            value for value in _union(comm, _used(other)) if _key(value, kind) not in codes
        )
        if unknown:
            listed = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            raise InputError(
                f"{other.source}: test labels that no training row has: {listed}: "
                "remove those rows or add training rows of these classes"
            )
    class_names = tuple(names[key] for key in keys)
    return [LocalLabels(_recode(one, codes, kind), class_names, one.source) for one in labels]


def codes_of(labels: LocalLabels, class_names: Sequence[str]) -> NDArray[np.int64]:
    """Return the codes of labels in given classes, -1 for a label that is none of them.

    As in :func:`encode_labels`, "1" and "1.0" are one class if all classes are numbers.
    """
    kind = _kind(class_names)
    codes = {_key(name, kind): code for code, name in enumerate(class_names)}
    return _recode(labels, codes, kind)


def check_lengths(n_rows: int, n_labels: int, rows: str, labels: str) -> None:
    """Raise InputError unless there are as many labels as rows; `rows` and `labels` name both."""
    if n_rows != n_labels:
        raise InputError(
            f"{labels}: {n_labels} labels for the {n_rows} rows of {rows}: "
            "they do not belong together"
        )


def read_labels(
    labels: LabelFile | None, first: int, last: int, n_rows: int, rows: str
) -> RowLabels:
    """Read the labels of rows first..last-1 of `n_rows`, or return empty ones without a file.

    Raises
    ------
    InputError
        The labels cannot be used, or there are not as many labels as rows.
    """
    if labels is None:
        return no_labels(last - first)
    check_lengths(n_rows, labels.n_labels, rows, labels.name)
    return labels.read(first, last)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8").strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _kind(values: Iterable[str]) -> Literal["number", "boolean", "text"]:
    """Return the kind of classes, which determines the texts that are one class."""
    listed = list(values)
    if all(_truth(value) is not None for value in listed):
        return "boolean"
    return "number" if all(_NUMBER.fullmatch(value) for value in listed) else "text"


def _truth(value: str) -> Decimal | None:
    """Return 0 or 1 for false, true, and these numbers; None for another label."""
    if value.casefold() in _BOOLEANS:
        return Decimal(_BOOLEANS.index(value.casefold()))
    number = Decimal(value) if _NUMBER.fullmatch(value) else None
    return number if number in (0, 1) else None


def _key(value: str, kind: Literal["number", "boolean", "text"]) -> Decimal | str:
    if kind == "number" and _NUMBER.fullmatch(value):
        return Decimal(value)
    truth = _truth(value) if kind == "boolean" else None
    return value if truth is None else truth


def _used(labels: LocalLabels) -> set[str]:
    return {labels.values[code] for code in np.unique(labels.codes).tolist()}


def _union(comm: MPI.Comm, values: Iterable[str]) -> frozenset[str]:
    return frozenset(comm.allreduce(frozenset(values), op=or_))


def _recode(
    labels: LocalLabels,
    codes: dict[Decimal | str, int],
    kind: Literal["number", "boolean", "text"],
) -> NDArray[np.int64]:
    table = np.array([codes.get(_key(value, kind), -1) for value in labels.values], dtype=np.int64)
    return table[labels.codes] if labels.codes.size else labels.codes.astype(np.int64)


def _check_number(n_values: int, source: str) -> None:
    if n_values > MAX_CLASSES:
        raise InputError(_TOO_MANY.format(source))
