"""The task of a data set, classification or regression, and its targets.

The choice is a function of the training labels of all ranks: of the number of rows, of the
different values, and of whether all of them are numbers and integers. One reduction collects these,
so that the choice is the same on any number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.labels import MAX_CLASSES, LocalTargets, RowLabels
from hpcembed.data.number_text import (
    DEFAULT_MISSING,
    NUMBER_STYLES,
    NumberStyle,
    common_style,
    currency_of,
    number_of,
)
from hpcembed.runtime.errors import InputError

if TYPE_CHECKING:  # functions that communicate need MPI; the others do without it
    from mpi4py import MPI

__all__ = [
    "FEW_VALUES",
    "STYLES",
    "Task",
    "as_targets",
    "check_classes",
    "check_variation",
    "choose_task",
    "target_style",
]

Task = Literal["classification", "regression"]

#: The values of ``data.target_numbers``, besides auto.
STYLES: dict[str, NumberStyle] = {
    "plain": "plain",
    "decimal_point": "point",
    "decimal_comma": "comma",
}

#: Up to this number, different numbers are classes.
FEW_VALUES = 20
#: Integers are classes if there are at most so many different ones, with so many rows each.
MOST_CLASSES, ROWS_PER_CLASS = 1000, 20


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Properties of labels; those of all ranks are merged.

    `values` holds the smallest different numbers, at most one more than there may be classes: the
    smallest numbers of all ranks are among the smallest numbers of each.
    """

    n_rows: int
    are_numbers: bool
    are_integers: bool
    values: NDArray[np.float64]

    def merge(self, other: _Evidence) -> _Evidence:
        return _Evidence(
            self.n_rows + other.n_rows,
            self.are_numbers and other.are_numbers,
            self.are_integers and other.are_integers,
            np.union1d(self.values, other.values)[: MAX_CLASSES + 1],
        )


def choose_task(
    labels: RowLabels,
    setting: Literal["auto", "classification", "regression"],
    comm: MPI.Comm,
    style: NumberStyle = "plain",
) -> tuple[Task, str]:
    """Choose the task of training labels.

    Collective.

    Parameters
    ----------
    labels : LocalLabels or LocalTargets
        Training labels of this rank, as read.
    setting : {"auto", "classification", "regression"}
        Value of the key ``data.task``.
    style : {"plain", "point", "comma"}
        How numbers are written, from :func:`target_style`.

    Returns
    -------
    task : {"classification", "regression"}
    reason : str

    Raises
    ------
    InputError
        On all ranks: the labels are integers that may be classes or targets.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from hpcembed.data.labels import labels_from_array
    >>> targets = labels_from_array(np.arange(50) / 4, "prices.npy", 0)
    >>> choose_task(targets, "auto", MPI.COMM_SELF)
    ('regression', '50 different labels, and not all of them are integers')
    """
    if setting != "auto":
        return setting, f'data.task = "{setting}"'
    found: _Evidence = comm.allreduce(_evidence(labels, style), op=_Evidence.merge)
    n_values = len(found.values)
    count = f"more than {MAX_CLASSES:,}" if n_values > MAX_CLASSES else f"{n_values:,}"
    if not found.are_numbers:
        return "classification", "some labels are not numbers, or are names of folders"
    if n_values <= FEW_VALUES:
        return "classification", f"{count} different labels"
    if not found.are_integers:
        return "regression", f"{count} different labels, and not all of them are integers"
    if n_values <= MOST_CLASSES and found.n_rows >= ROWS_PER_CLASS * n_values:
        return "classification", f"{count} different integers in {found.n_rows:,} rows"
    raise InputError(
        f"{labels.source}: {count} different integers in {found.n_rows:,} rows may be classes or "
        'targets: set data.task = "regression" to predict numbers, or data.task = '
        '"classification" to predict classes (compress: --task, Python: task=)'
    )


def check_classes(labels: RowLabels, remedy: str, comm: MPI.Comm) -> None:
    """Check that labels may be classes.

    Collective.

    Parameters
    ----------
    remedy : str
        End of the message.

    Raises
    ------
    InputError
        On all ranks: there are more than 20 different numbers, and not all of them are integers.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from hpcembed.data.labels import labels_from_array
    >>> check_classes(labels_from_array(np.arange(50), "y", 0), "", MPI.COMM_SELF)
    """
    found: _Evidence = comm.allreduce(_evidence(labels), op=_Evidence.merge)
    if found.are_numbers and len(found.values) > FEW_VALUES and not found.are_integers:
        raise InputError(
            f"{labels.source}: the labels are continuous numbers, not classes: {remedy}"
        )


def _evidence(labels: RowLabels, style: NumberStyle = "plain") -> _Evidence:
    if isinstance(labels, LocalTargets):
        values, n_rows = np.unique(labels.values), labels.values.size
    else:
        used = [labels.values[code] for code in np.unique(labels.codes).tolist()]
        n_rows = labels.codes.size
        values = np.unique(np.array([number_of(text, style) for text in used], dtype=np.float64))
        if used and (labels.are_classes or np.isnan(values).any()):
            return _Evidence(n_rows, False, False, np.empty(0))
    are_integers = bool((values == np.floor(values)).all())
    return _Evidence(n_rows, True, are_integers, values[: MAX_CLASSES + 1])


@dataclass(frozen=True, slots=True)
class _Writing:
    """How labels are written; the properties of all ranks are merged.

    Attributes
    ----------
    n : int
        Different labels of each rank.
    n_styles : dict of str to int
        Labels that are numbers in a style.
    first : frozenset of str
        Some labels that are numbers, more than :data:`FEW_VALUES` if there are more.
    currencies : frozenset of str
    has_fractions : bool
        Whether a number is not an integer, in every style.
    other : tuple of (int, str)
        Rows and texts of the first labels that are not numbers.
    """

    n: int
    n_styles: dict[NumberStyle, int]
    first: frozenset[str]
    currencies: frozenset[str]
    has_fractions: bool
    other: tuple[tuple[int, str], ...]

    def merge(self, right: _Writing) -> _Writing:
        return _Writing(
            self.n + right.n,
            {style: self.n_styles[style] + right.n_styles[style] for style in NUMBER_STYLES},
            frozenset(sorted(self.first | right.first)[: FEW_VALUES + 1]),
            self.currencies | right.currencies,
            self.has_fractions or right.has_fractions,
            tuple(sorted(self.other + right.other)[:_MOST_OTHER]),
        )


#: Texts that are not numbers are kept up to this number.
_MOST_OTHER = 3
_MISSING = {text.casefold() for text in DEFAULT_MISSING}


def target_style(
    labels: RowLabels,
    setting: str,
    task: str,
    comm: MPI.Comm,
    *,
    start: int = 0,
    comma: bool | None = None,
) -> NumberStyle:
    """Determine how the numbers among labels are written.

    Collective.

    Parameters
    ----------
    labels : LocalLabels or LocalTargets
        Training labels of this rank, as read.
    setting : {"auto", "plain", "decimal_point", "decimal_comma"}
        Value of the key ``data.target_numbers``.
    task : {"auto", "classification", "regression"}
        Value of the key ``data.task``.
    start : int
        Number of the first row of this rank, from 0, for messages.
    comma : bool or None
        Whether the columns of the table have decimal commas; None: unknown.

    Returns
    -------
    {"plain", "point", "comma"}
        plain for labels that are not numbers.

    Raises
    ------
    InputError
        On all ranks: numbers that can be read in two ways, amounts in several currencies, or a few
        labels that are missing or no numbers among many numbers.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from hpcembed.data.labels import labels_from_text
    >>> prices = labels_from_text([f"{i}.000,50" for i in range(1, 40)], "prices.csv", 0)
    >>> target_style(prices, "auto", "auto", MPI.COMM_SELF)
    'comma'
    """
    if setting != "auto":
        return STYLES[setting]
    found: _Writing = comm.allreduce(_writing(labels, start), op=_Writing.merge)
    n_numbers, is_many = max(found.n_styles.values()), len(found.first) > FEW_VALUES
    if task == "classification" or not n_numbers or not (is_many or task == "regression"):
        return "plain"
    _check_other(labels.source, found, n_numbers)
    if n_numbers < found.n:
        return "plain"
    if len(found.currencies) > 1:
        listed = " and ".join(sorted(found.currencies)[:4])
        raise InputError(f"{labels.source}: targets in {listed}: convert them to one currency")
    style = common_style(found.n_styles, found.n, comma)
    if style is None:
        raise InputError(
            f"{labels.source}: the commas or points of the targets can be decimal marks or "
            'separators of thousands: set data.target_numbers = "decimal_comma" or '
            '"decimal_point"'
        )
    return style


def _check_other(source: str, found: _Writing, n_numbers: int) -> None:
    """Raise InputError for a few missing targets or other texts among many numbers."""
    n_other = found.n - n_numbers
    if not found.other or len(found.first) <= FEW_VALUES or n_other > max(2, 0.01 * found.n):
        return
    row, text = found.other[0]
    is_missing = text.casefold() in _MISSING
    if is_missing or found.has_fractions:
        reason = "is missing" if is_missing else "is not a number, as the other targets are"
        raise InputError(
            f"{source}: row {row + 1}: the target {text[:40]!r} {reason}: correct or remove such "
            'rows, or set data.task = "classification"'
        )


def _writing(labels: RowLabels, start: int) -> _Writing:
    none = dict.fromkeys(NUMBER_STYLES, 0)
    if isinstance(labels, LocalTargets):
        n = labels.values.size
        shown = frozenset(map(repr, labels.values[: FEW_VALUES + 1].tolist()))
        has_fractions = not bool((labels.values == np.floor(labels.values)).all())
        return _Writing(n, {**none, "plain": n}, shown, frozenset(), has_fractions, ())
    if labels.are_classes:
        return _Writing(labels.codes.size, none, frozenset(), frozenset(), False, ())
    used = np.unique(labels.codes).tolist()
    counts, other = dict(none), list[tuple[int, str]]()
    first, currencies, has_fractions = set[str](), set[str](), False
    for code in used:
        text = labels.values[code]
        values = {style: number_of(text, style) for style in NUMBER_STYLES}
        given = [value for value in values.values() if value == value]
        if not given:
            if len(other) < _MOST_OTHER:
                row = start + int(np.flatnonzero(labels.codes == code)[0])
                other.append((row, text))
            continue
        for style, value in values.items():
            counts[style] += value == value
        has_fractions |= not any(value.is_integer() for value in given)
        currencies.add(currency_of(text))
        if len(first) <= FEW_VALUES:
            first.add(text)
    return _Writing(
        len(used), counts, frozenset(first), frozenset(currencies - {""}), has_fractions,
        tuple(other),
    )  # fmt: skip


def as_targets(labels: RowLabels, start: int = 0, style: NumberStyle = "plain") -> LocalTargets:
    """Convert labels to the targets of a regression.

    Not collective.

    Parameters
    ----------
    start : int
        Number of the first row of this rank, from 0, for the message.
    style : {"plain", "point", "comma"}
        How the numbers are written.

    Raises
    ------
    InputError
        A label is not a finite number; the message names the row.

    Examples
    --------
    >>> from hpcembed.data.labels import labels_from_text
    >>> as_targets(labels_from_text(["1e3", "7", "-2.5"], "prices.csv", 0)).values.tolist()
    [1000.0, 7.0, -2.5]
    """
    if isinstance(labels, LocalTargets):
        return labels
    numbers = np.full(len(labels.values), np.nan)
    for code in np.unique(labels.codes).tolist():
        text = labels.values[code]
        numbers[code] = number_of(text, style)
        if np.isnan(numbers[code]):
            row = start + int(np.flatnonzero(labels.codes == code)[0]) + 1
            raise InputError(
                f"{labels.source}: row {row}: the target {text[:40]!r} is not a finite number: "
                'correct or remove such rows, or set data.task = "classification"'
            )
    values = numbers[labels.codes] if labels.codes.size else np.empty(0)
    return LocalTargets(values, labels.source)


def check_variation(targets: LocalTargets, comm: MPI.Comm) -> None:
    """Check that targets differ.

    Collective.

    Raises
    ------
    InputError
        All targets are equal, or there are none.
    """
    from mpi4py import MPI

    ends = np.array([targets.values.max(initial=-np.inf), -targets.values.min(initial=np.inf)])
    comm.Allreduce(MPI.IN_PLACE, ends, op=MPI.MAX)
    if not ends[0] > -ends[1]:
        raise InputError(
            f"{targets.source}: the targets of all training rows are equal: there is nothing to "
            "learn; name the column or array that holds the target"
        )
