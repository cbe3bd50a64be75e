"""Rows that stay on their rank while all ranks train one network on all of them.

What the gathered training takes from all rows is taken here from each rank's own ones and counts:
statistics of the columns, the order of an epoch. Rows of a data matrix are converted and
standardised batch by batch, so that no float32 copy of them is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.training.samples import (
    Batches,
    InputScaling,
    Rows,
    Samples,
    blocks_of,
    check_samples,
    column_moments,
    scaling_of,
)
from hpcembed.runtime.counter_random import permuted, row_keys
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import agreement, sum_over_ranks

__all__ = ["EpochOrder", "HeldRows", "LocalSamples", "check_local", "fit_local_scaling", "place"]

#: Bytes of one block of rows in double while statistics are taken.
_BLOCK_BYTES = 1 << 22


class HeldRows(Protocol):
    """What is asked of a data matrix."""

    @property
    def n_local(self) -> int:
        """Rows of this rank."""

    @property
    def n_features(self) -> int:
        """Columns."""

    def take(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float64]:
        """Rows of this rank, scaled, dense, in double, as an array of their own."""


@dataclass(frozen=True, slots=True)
class LocalSamples:
    """Labelled rows of this rank; ranks hold consecutive rows.

    Attributes
    ----------
    inputs : ndarray of shape (n_local, d), float32, float64 or uint8; or DataMatrix
        Perhaps no rows; the same type and d on all ranks.
    labels : ndarray of shape (n_local,), int64
        Classes 0, 1, ..., n_classes - 1.
    """

    inputs: NDArray[np.generic] | HeldRows
    labels: NDArray[np.int64]

    @property
    def n_features(self) -> int:
        """Columns. Not collective."""
        inputs = self.inputs
        return inputs.shape[1] if isinstance(inputs, np.ndarray) else inputs.n_features


def check_local(comm: MPI.Comm, samples: LocalSamples, n_classes: int, name: str) -> None:
    """Refuse on all ranks what :func:`check_samples` refuses on one. Collective.

    The values of a data matrix were checked when they were read.

    Raises
    ------
    InputError
        One line: which rank, which of the two sets (`name`), which of its rows, what is wrong.
    """
    with agreement(comm):
        inputs = samples.inputs
        if not isinstance(inputs, np.ndarray):
            inputs = np.empty((inputs.n_local, inputs.n_features), dtype=np.uint8)
        check_samples(Samples(inputs, samples.labels), n_classes, name)
    widths = set(comm.allgather(samples.n_features))
    if len(widths) > 1:
        listed = " and ".join(map(str, sorted(widths)))
        raise InputError(f"{name} rows: {listed} features on different ranks")


def fit_local_scaling(
    comm: MPI.Comm,
    samples: LocalSamples,
    kind: Literal["none", "global", "standard", "sqrt"],
) -> InputScaling:
    """Shift and scale of each column from the rows of all ranks, as one rank would find them.

    Collective: two reductions, see :func:`hpcembed.networks.training.samples.fit_scaling`.
    """
    d = samples.n_features
    if kind == "none":
        return InputScaling(np.zeros(d), np.ones(d))
    n, mean, squares = column_moments(_blocks(samples.inputs), d)
    total = max(comm.allreduce(n), 1)
    overall = sum_over_ranks(comm, mean * (n / total))
    squares += n * (mean - overall) ** 2
    return scaling_of(overall, np.sqrt(sum_over_ranks(comm, squares) / total), kind)


def _blocks(inputs: NDArray[np.generic] | HeldRows) -> Iterator[NDArray[np.generic]]:
    if isinstance(inputs, np.ndarray):
        yield from (block for _, block in blocks_of(inputs))
        return
    step = max(1, _BLOCK_BYTES // (8 * inputs.n_features))
    for first in range(0, inputs.n_local, step):
        yield inputs.take(slice(first, first + step))


def place(
    inputs: NDArray[np.generic] | HeldRows, scaling: InputScaling, device: torch.device
) -> Batches:
    """This rank's rows as batches are taken of them. Not collective."""
    if isinstance(inputs, np.ndarray):
        return Rows(inputs, scaling, device)
    return _MatrixRows(inputs, scaling, device)


class _MatrixRows:
    """Standardised float32 batches out of a data matrix, converted one at a time."""

    held_on = torch.device("cpu")

    def __init__(self, matrix: HeldRows, scaling: InputScaling, device: torch.device) -> None:
        self.matrix, self.scaling, self.device = matrix, scaling, device

    def batch(self, rows: torch.Tensor) -> torch.Tensor:
        """Take the rows with these numbers, standardised: shape (len(rows), d), float32."""
        values = self.matrix.take(rows.numpy())
        values -= self.scaling.shift
        values *= self.scaling.scale
        with np.errstate(over="ignore"):  # as a tensor's conversion: the loss will tell
            return torch.from_numpy(values.astype(np.float32)).to(self.device)


class EpochOrder:
    """Which of this rank's rows fall into each batch of all ranks' rows.

    Collective to construct. The order of an epoch is a permutation of all rows that takes
    (seed, epoch, number of the row) only, so the batches are the same rows for any number of ranks.

    Parameters
    ----------
    chosen : ndarray of int64, shape (m,)
        Numbers of this rank's rows that take part.
    batch_size : int
        Rows of a batch, on all ranks together.

    Attributes
    ----------
    n_rows : int
        Rows that take part, on all ranks.
    n_batches : int
    """

    def __init__(
        self, comm: MPI.Intracomm, chosen: NDArray[np.int64], batch_size: int, seed: int
    ) -> None:
        self.chosen, self.batch_size, self.seed = chosen, batch_size, seed
        self.n_rows: int = comm.allreduce(chosen.size)
        self.n_batches = -(-self.n_rows // batch_size)
        self._first: int = comm.scan(chosen.size) - chosen.size

    def batches(self, epoch: int) -> Iterator[tuple[NDArray[np.int64], int]]:
        """For each batch this rank's rows, perhaps none, and the rows of all. Not collective."""
        seed = int(row_keys(self.seed, np.array([epoch]))[0])
        own = np.arange(self._first, self._first + self.chosen.size)
        places = permuted(seed, self.n_rows, own)
        order = np.argsort(places)
        rows, batch_of = self.chosen[order], places[order] // self.batch_size
        ends = np.searchsorted(batch_of, np.arange(self.n_batches), side="right")
        begin = 0
        for number, end in enumerate(ends.tolist()):
            size = min(self.batch_size, self.n_rows - number * self.batch_size)
            yield rows[begin:end], size
            begin = end
