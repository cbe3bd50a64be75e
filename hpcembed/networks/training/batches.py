"""Rows of a training as standardised batches, and the batches of rows that lie on many ranks.

The rows may be large (50 000 images of 3072 pixels are 1.2 GB in double precision), so they are
never copied to float32 more than once: double rows are standardised into one float32 array; float32
and uint8 rows are kept as they are and standardised batch by batch, and so are the rows of a
matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.training.input_scaling import LARGE_OFFSET, InputScaling, blocks_of
from hpcembed.runtime.counter_random import permuted, row_keys
from hpcembed.runtime.ranks import place_rows

if TYPE_CHECKING:
    from hpcembed.data.matrix import DataMatrix

__all__ = ["ArrayBatches", "Batches", "EpochOrder", "MatrixBatches", "batches_of"]


class Batches(Protocol):
    """Standardised rows by their numbers."""

    @property
    def held_on(self) -> torch.device:
        """Device of the row numbers for :meth:`batch`."""

    def batch(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows with these numbers, standardised: shape (len(rows), d), float32."""


def batches_of(
    inputs: NDArray[np.generic] | DataMatrix, scaling: InputScaling, device: torch.device
) -> Batches:
    """Return the batches of an array or of this rank's rows of a matrix."""
    if isinstance(inputs, np.ndarray):
        return ArrayBatches(inputs, scaling, device)
    return MatrixBatches(inputs, scaling, device)


class ArrayBatches:
    """Standardised float32 batches of an array.

    Parameters
    ----------
    inputs : ndarray of shape (n, d)
    scaling : InputScaling
    device : torch.device
        Of the batches. The rows are kept there too where half of its free memory holds them, else
        they stay in main memory and each batch is copied.
    """

    def __init__(
        self, inputs: NDArray[np.generic], scaling: InputScaling, device: torch.device
    ) -> None:
        self.device = device
        prepared = inputs.dtype == np.float64
        host = _as_tensor(_standardised(inputs, scaling) if prepared else inputs)
        self._held = host.to(device) if _fits(host, device) else host
        self._plain = prepared or scaling.is_identity
        self._shift = torch.tensor(scaling.shift, dtype=torch.float64, device=device)
        self._scale = torch.tensor(scaling.scale, dtype=torch.float32, device=device)
        # In float32 the shift cancels digits where it is large against the spread, and only there;
        # pixels of 8 bits are exact.
        self._shift_in_single = self._shift.to(torch.float32)
        offset = float(np.max(np.abs(scaling.shift * scaling.scale), initial=0.0))
        self._single = inputs.dtype == np.uint8 or offset < LARGE_OFFSET

    def __len__(self) -> int:
        return self._held.shape[0]

    @property
    def held_on(self) -> torch.device:
        """Device of the rows, and of the row numbers for :meth:`batch`."""
        return self._held.device

    def batch(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows with these numbers, standardised: shape (len(rows), d), float32."""
        return self._finish(self._held.index_select(0, rows))

    def block(self, first: int, last: int) -> torch.Tensor:
        """Return the rows first, ..., last - 1, standardised."""
        return self._finish(self._held[first:last])

    def _finish(self, taken: torch.Tensor) -> torch.Tensor:
        taken = taken.to(self.device)
        if self._plain:
            return taken.to(torch.float32)
        if self._single:
            # Not in place: a block of float32 rows is a view of the caller's array.
            return (taken.to(torch.float32) - self._shift_in_single).mul_(self._scale)
        return (taken - self._shift).to(torch.float32).mul_(self._scale)


def _standardised(inputs: NDArray[np.generic], scaling: InputScaling) -> NDArray[np.float32]:
    prepared = np.empty(inputs.shape, dtype=np.float32)
    for first, block in blocks_of(inputs):
        values = block.astype(np.float64, copy=False)
        prepared[first : first + block.shape[0]] = (values - scaling.shift) * scaling.scale
    return prepared


def _as_tensor(inputs: NDArray[np.generic]) -> torch.Tensor:
    # PyTorch warns about memory it must not write to, and refuses negative strides.
    if not inputs.flags.writeable or not inputs.flags.c_contiguous:
        inputs = inputs.copy()
    return torch.from_numpy(inputs)


def _fits(rows: torch.Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return rows.numel() * rows.element_size() <= free // 2


class MatrixBatches:
    """Standardised float32 batches of this rank's rows of a matrix, converted one at a time."""

    held_on = torch.device("cpu")

    def __init__(self, matrix: DataMatrix, scaling: InputScaling, device: torch.device) -> None:
        self.matrix, self.scaling, self.device = matrix, scaling, device

    def batch(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows with these numbers, standardised: shape (len(rows), d), float32."""
        values = self.matrix.take(rows.numpy())
        values -= self.scaling.shift
        values *= self.scaling.scale
        with np.errstate(over="ignore"):  # as in the conversion of a tensor: the loss shows it
            return torch.from_numpy(values.astype(np.float32)).to(self.device)


class EpochOrder:
    """The rows of this rank in each batch of the rows of all ranks.

    Collective to construct. The order of an epoch is a permutation of all rows that is a function
    of (seed, epoch, number of the row), so the batches hold the same rows for any number of ranks.

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
        self._first, self.n_rows = place_rows(chosen.size, comm)
        self.n_batches = -(-self.n_rows // batch_size)

    def batches(self, epoch: int) -> Iterator[tuple[NDArray[np.int64], int]]:
        """Yield for each batch the rows of this rank, perhaps none, and the size of the batch."""
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
