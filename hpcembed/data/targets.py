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

from hpcembed.data.labels import MAX_CLASSES, LocalTargets, RowLabels, is_number
from hpcembed.runtime.errors import InputError

if TYPE_CHECKING:  # functions that communicate need MPI; the others do without it
    from mpi4py import MPI

__all__ = ["FEW_VALUES", "Task", "as_targets", "check_classes", "check_variation", "choose_task"]

Task = Literal["classification", "regression"]

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
    labels: RowLabels, setting: Literal["auto", "classification", "regression"], comm: MPI.Comm
) -> tuple[Task, str]:
    """Choose the task of training labels.

    Collective.

    Parameters
    ----------
    labels : LocalLabels or LocalTargets
        Training labels of this rank, as read.
    setting : {"auto", "classification", "regression"}
        Value of the key ``data.task``.

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
    found: _Evidence = comm.allreduce(_evidence(labels), op=_Evidence.merge)
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


def _evidence(labels: RowLabels) -> _Evidence:
    if isinstance(labels, LocalTargets):
        values, n_rows = np.unique(labels.values), labels.values.size
    else:
        used = [labels.values[code] for code in np.unique(labels.codes).tolist()]
        n_rows = labels.codes.size
        if used and (labels.are_classes or not all(map(is_number, used))):
            return _Evidence(n_rows, False, False, np.empty(0))
        values = np.unique(np.array([float(text) for text in used], dtype=np.float64))
    are_integers = bool((values == np.floor(values)).all())
    return _Evidence(n_rows, True, are_integers, values[: MAX_CLASSES + 1])


def as_targets(labels: RowLabels, start: int = 0) -> LocalTargets:
    """Convert labels to the targets of a regression.

    Not collective.

    Parameters
    ----------
    start : int
        Number of the first row of this rank, from 0, for the message.

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
        if not is_number(text):
            row = start + int(np.flatnonzero(labels.codes == code)[0]) + 1
            raise InputError(
                f"{labels.source}: row {row}: the target {text[:40]!r} is not a finite number: "
                'correct or remove such rows, or set data.task = "classification"'
            )
        numbers[code] = float(text)
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
