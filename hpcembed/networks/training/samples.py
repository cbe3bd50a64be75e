"""Labelled rows for a training, and the checks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.training.input_scaling import blocks_of
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError

if TYPE_CHECKING:
    from hpcembed.data.matrix import DataMatrix

__all__ = ["Samples", "check_local_samples", "check_samples"]

_TYPES = (np.float32, np.float64, np.uint8)


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled rows of one process.

    Attributes
    ----------
    inputs : ndarray of shape (n, d), float32, float64 or uint8; or DataMatrix
        In a data-parallel training the rows of this rank, perhaps none; there a matrix is accepted
        as well, and type and d are the same on all ranks.
    labels : ndarray of shape (n,)
        Classes 0, 1, ..., n_classes - 1 (int64), or the targets of a regression (float64).
    """

    inputs: NDArray[np.generic] | DataMatrix
    labels: NDArray[np.int64] | NDArray[np.float64]

    @property
    def n_features(self) -> int:
        """Columns."""
        inputs = self.inputs
        return inputs.shape[1] if isinstance(inputs, np.ndarray) else inputs.n_features

    @property
    def array(self) -> NDArray[np.generic]:
        """The inputs, where they are an array."""
        if not isinstance(self.inputs, np.ndarray):
            raise TypeError("rows of a DataMatrix are for train_data_parallel")
        return self.inputs


def check_samples(samples: Samples, n_classes: int, name: str) -> None:
    """Refuse rows that no network can be trained or tested on.

    The values of a matrix were checked when they were read. `n_classes` is 0 for a regression.

    Raises
    ------
    InputError
        The message names the set (`name`), the row and the problem.

    Examples
    --------
    >>> check_samples(Samples(np.zeros((2, 0)), np.array([0, 1])), 2, "training")
    Traceback (most recent call last):
        ...
    hpcembed.runtime.errors.InputError: training rows: no features to learn from
    """
    inputs, labels = samples.inputs, samples.labels
    if not isinstance(inputs, np.ndarray):
        inputs = np.empty((inputs.n_local, inputs.n_features), dtype=np.uint8)
    if inputs.ndim != 2 or labels.shape != (inputs.shape[0],):
        raise InputError(
            f"{name} rows: inputs of shape {inputs.shape} do not fit labels of shape {labels.shape}"
        )
    if inputs.dtype.type not in _TYPES:
        raise InputError(f"{name} rows: {inputs.dtype} is not float32, float64 or uint8")
    if inputs.shape[1] == 0:
        raise InputError(f"{name} rows: no features to learn from")
    if n_classes == 0:
        _check_targets(labels, name)
    elif labels.dtype.kind not in "iu":
        raise InputError(f"{name} rows: labels of type {labels.dtype} are not classes")
    outside = np.flatnonzero((labels < 0) | (labels >= n_classes)) if n_classes else np.empty(0)
    if outside.size:
        row = int(outside[0])
        raise InputError(
            f"{name} rows: label {labels[row]} of row {row} is not one of the classes "
            f"0 to {n_classes - 1}"
        )
    if inputs.dtype == np.uint8:
        return
    for first, block in blocks_of(inputs):
        if not np.isfinite(block).all():
            row = first + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise InputError(
                f"{name} rows: row {row} contains NaN or infinity; remove or correct it"
            )


def _check_targets(targets: NDArray[np.generic], name: str) -> None:
    if targets.dtype != np.float64:
        raise InputError(f"{name} rows: targets of type {targets.dtype}: give float64")
    wrong = np.flatnonzero(~np.isfinite(targets))
    if wrong.size:
        row = int(wrong[0])
        raise InputError(f"{name} rows: the target {targets[row]} of row {row} is not finite")


def check_local_samples(comm: MPI.Comm, samples: Samples, n_classes: int, name: str) -> None:
    """Check the rows of each rank as :func:`check_samples`, and that their widths are equal.

    Collective.

    Raises
    ------
    InputError
        On all ranks; one line that also names the rank.
    """
    with agreement(comm):
        check_samples(samples, n_classes, name)
    widths = set(comm.allgather(samples.n_features))
    if len(widths) > 1:
        listed = " and ".join(map(str, sorted(widths)))
        raise InputError(f"{name} rows: {listed} features on different ranks")
