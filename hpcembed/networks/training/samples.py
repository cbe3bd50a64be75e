"""Labelled rows on their way into a network: checks, standardisation, batches.

The rows may be large (50 000 images of 3072 pixels are 1.2 GB in double), so they are walked in
blocks and never copied to float32 more than once: double rows are standardised into one float32
array; float32 and uint8 rows stay where they are and are standardised batch by batch.

Scaling a projection. Principal components come with standard deviations that decay over orders
of magnitude. As they are, a network learns the trailing ones slowly; each divided by its own
deviation, it fits their noise. Dividing by the square root of the deviation lies between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from hpcembed.runtime.errors import InputError

__all__ = [
    "Batches",
    "InputScaling",
    "Rows",
    "Samples",
    "blocks_of",
    "check_samples",
    "column_moments",
    "fit_scaling",
    "scaling_of",
]

#: Bytes of one block of rows in double while statistics are taken or rows converted.
BLOCK_BYTES = 1 << 25
#: Columns whose deviation is below this share of the largest are rounding errors, not inputs.
CONSTANT = 1e-12

#: Mean over deviation up to which a float32 subtraction loses no digit that training could see.
_LARGE_OFFSET = 100.0

_TYPES = (np.float32, np.float64, np.uint8)


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled rows.

    Attributes
    ----------
    inputs : ndarray of shape (n, d), float32, float64 or uint8
    labels : ndarray of shape (n,), int64
        Classes 0, 1, ..., n_classes - 1.
    """

    inputs: NDArray[np.generic]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class InputScaling:
    """The network sees ``(x - shift) * scale``; both of shape (d,), float64."""

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing. Not collective."""
        return not self.shift.any() and bool((self.scale == 1.0).all())


def check_samples(samples: Samples, n_classes: int, name: str) -> None:
    """Refuse what no network can be trained or tested on.

    Not collective.

    Raises
    ------
    InputError
        One line: which of the two sets (`name`), which row, what is wrong.
    """
    inputs, labels = samples.inputs, samples.labels
    if inputs.ndim != 2 or labels.shape != (inputs.shape[0],):
        raise InputError(
            f"{name} rows: inputs of shape {inputs.shape} do not fit labels of shape {labels.shape}"
        )
    if inputs.dtype.type not in _TYPES:
        raise InputError(f"{name} rows: {inputs.dtype} is not float32, float64 or uint8")
    if inputs.shape[1] == 0:
        raise InputError(f"{name} rows: no features to learn from")
    outside = np.flatnonzero((labels < 0) | (labels >= n_classes))
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
            raise InputError(f"{name} rows: row {row} holds NaN or infinity; remove or mend it")


def blocks_of(inputs: NDArray[np.generic]) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """Rows in blocks of at most :data:`BLOCK_BYTES`, each with its first row's number."""
    step = max(1, BLOCK_BYTES // (8 * inputs.shape[1]))
    for first in range(0, inputs.shape[0], step):
        yield first, inputs[first : first + step]


def fit_scaling(
    inputs: NDArray[np.generic], kind: Literal["none", "global", "standard", "sqrt"]
) -> InputScaling:
    """Shift and scale of each column, from training rows.

    Not collective. A column that is constant there gets the scale 0: the network never saw it
    change, so a different value later must not reach it.

    Parameters
    ----------
    inputs : ndarray of shape (n, d)
    kind : {'none', 'global', 'standard', 'sqrt'}
        ``global``: one mean and one deviation for all columns; each its own mean where those lie
        far apart. ``standard``: each column by its
        own. ``sqrt``: each column centred and divided by the square root of its deviation, then
        all by one factor that makes the mean variance 1.
    """
    d = inputs.shape[1]
    if kind == "none":
        return InputScaling(np.zeros(d), np.ones(d))
    n, mean, squares = column_moments((block for _, block in blocks_of(inputs)), d)
    return scaling_of(mean, np.sqrt(squares / max(n, 1)), kind)


def scaling_of(
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
    kind: Literal["global", "standard", "sqrt"],
) -> InputScaling:
    """Shift and scale, as :func:`fit_scaling` gives them, of columns of known statistics."""
    if kind == "global":
        centre = float(mean.mean())
        spread = float(np.sqrt(np.mean(deviation**2 + (mean - centre) ** 2)))
        within = float(np.sqrt(np.mean(deviation**2)))
        if 0 < within * _LARGE_OFFSET < spread:
            # Offsets between the columns would drown what differs between the rows.
            return InputScaling(mean, np.full(mean.size, 1.0 / within))
        scale = np.full(mean.size, 1.0 / spread if spread > 0 else 1.0)
        return InputScaling(np.full(mean.size, centre), scale)
    varies = deviation > CONSTANT * max(float(deviation.max()), float(np.abs(mean).max()))
    power = 1.0 if kind == "standard" else 0.5
    scale = np.zeros(mean.size)
    scale[varies] = deviation[varies] ** -power
    if varies.any():
        scale /= np.sqrt(np.mean((scale * deviation)[varies] ** 2))
    return InputScaling(mean, scale)


def column_moments(
    blocks: Iterable[NDArray[np.generic]], d: int
) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Number of rows, mean of each column, and sum of squared distances from it.

    Not collective. Blocks are merged by Chan, Golub, LeVeque (1979), which does not cancel when
    the mean is large.
    """
    mean, squares, n = np.zeros(d), np.zeros(d), 0
    for rows in blocks:
        block = rows.astype(np.float64)
        m = block.shape[0]
        block_mean = block.mean(axis=0)
        gap = block_mean - mean
        block -= block_mean
        squares += np.einsum("ij,ij->j", block, block) + gap**2 * (n * m / (n + m))
        mean += gap * (m / (n + m))
        n += m
    return n, mean, squares


class Batches(Protocol):
    """Rows that batches are taken of."""

    @property
    def held_on(self) -> torch.device:
        """Where row numbers must be. Not collective."""

    def batch(self, rows: torch.Tensor) -> torch.Tensor:
        """Take the rows with these numbers, standardised, float32. Not collective."""


class Rows:
    """Standardised float32 batches out of rows that are held as they came.

    Not collective.

    Parameters
    ----------
    inputs : ndarray of shape (n, d)
    scaling : InputScaling
    device : torch.device
        Where batches are wanted. The rows are kept there too when half of its free memory
        holds them, else they stay in main memory and each batch is sent.
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
        self._single = inputs.dtype == np.uint8 or offset < _LARGE_OFFSET

    def __len__(self) -> int:
        return self._held.shape[0]

    @property
    def held_on(self) -> torch.device:
        """Where the rows are, and where row numbers for :meth:`batch` must be."""
        return self._held.device

    def batch(self, rows: torch.Tensor) -> torch.Tensor:
        """Take the rows with these numbers, standardised: shape (len(rows), d), float32."""
        return self._finish(self._held.index_select(0, rows))

    def block(self, first: int, last: int) -> torch.Tensor:
        """Take the rows first, ..., last - 1, standardised."""
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
