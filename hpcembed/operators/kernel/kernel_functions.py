"""Kernels of rows, tile by tile: a matrix product and a function of its entries, in cache.

With rows a and b, ``rbf`` is ``exp(-gamma |a - b|^2)``, ``poly`` is ``(gamma a'b + coef0)^degree``,
``cosine`` is ``a'b / (|a| |b|)``, ``linear`` is ``a'b``. Rows are prepared once per block, such
that a tile is a function of products alone: scaled by the root of the factor that gamma gives them,
of unit length for the cosine. Squared distances of rows far from the origin would cancel. Dense
rows are therefore shifted by the mean for ``rbf``, which does not depend on the origin; sparse rows
stay sparse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource

__all__ = [
    "KERNELS",
    "Kernel",
    "KernelName",
    "Prepared",
    "largest_entries",
    "panel_rows",
    "tile_rows",
    "tiles",
]

KernelName = Literal["linear", "poly", "rbf", "cosine"]
KERNELS: tuple[KernelName, ...] = ("linear", "poly", "rbf", "cosine")

#: Bytes of the prepared rows of a tile, which is multiplied, and of a panel of many tiles.
_TILE_BYTES, _PANEL_BYTES = 4 * 2**20, 8 * 2**20
#: Least and most rows of a tile, and tiles of a panel.
_LEAST_ROWS, _MOST_ROWS, _PANEL_TILES = 64, 512, 4


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows such that the kernel is a function of their products.

    Attributes
    ----------
    rows : ndarray or csr_array of shape (b, d)
    halves : ndarray of shape (b,)
        Half of their squared lengths, for ``rbf``; empty for other kernels.
    """

    rows: Any
    halves: NDArray[Any]

    def part(self, first: int, last: int) -> Prepared:
        """Return rows `first` to `last`."""
        return Prepared(self.rows[first:last], self.halves[first:last])

    def cast(self, dtype: type[np.floating[Any]]) -> Prepared:
        """Return the rows in another precision."""
        return Prepared(self.rows.astype(dtype, copy=False), self.halves.astype(dtype, copy=False))


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel function with its parameters.

    Attributes
    ----------
    name : {"linear", "poly", "rbf", "cosine"}
    gamma, coef0 : float
    degree : int

    Examples
    --------
    >>> import numpy as np
    >>> from hpcembed.operators.kernel.kernel_functions import Kernel
    >>> kernel = Kernel("poly", gamma=0.5, degree=2, coef0=1.0)
    >>> rows = kernel.prepare(np.array([[2.0, 0.0], [0.0, 2.0]]))
    >>> kernel.tile(rows, rows).round(6).tolist()
    [[9.0, 1.0], [1.0, 9.0]]
    """

    name: KernelName
    gamma: float = 1.0
    degree: int = 3
    coef0: float = 1.0

    def prepare(self, block: Any, origin: NDArray[np.float64] | None = None) -> Prepared:
        """Return rows ready to be multiplied, in the precision of `block`, as a copy.

        Parameters
        ----------
        block : ndarray or csr_array of shape (b, d)
        origin : ndarray of shape (d,), optional
            Shift of the rows for ``rbf``; it makes sparse rows dense.
        """
        none = np.empty(0, dtype=block.dtype)
        if self.name == "rbf":
            if origin is not None:
                block = block if isinstance(block, np.ndarray) else block.toarray()
                block = np.subtract(block, origin, dtype=block.dtype, casting="same_kind")
            rows = _times(block, math.sqrt(2.0 * self.gamma))
            return Prepared(rows, (0.5 * _squares(rows)).astype(block.dtype))
        if self.name == "poly":
            return Prepared(_times(block, math.sqrt(self.gamma)), none)
        if self.name == "cosine":
            # squares of finite rows may overflow or vanish, those of rows scaled to one do not
            rows = _each_times(block, _powers(block))
            lengths = np.sqrt(_squares(rows))
            return Prepared(_each_times(rows, 1.0 / np.where(lengths > 0, lengths, 1.0)), none)
        return Prepared(_times(block, 1.0), none)

    def tile(self, A: Prepared, B: Prepared) -> NDArray[Any]:
        """Return the kernel of the rows of `A` with those of `B`."""
        tile = A.rows @ B.rows.T
        if scipy.sparse.issparse(tile):
            tile = tile.toarray()
        if self.name == "rbf":
            tile -= A.halves[:, None]
            tile -= B.halves
            np.minimum(tile, 0.0, out=tile)
            return np.exp(tile, out=tile)
        if self.name == "poly":
            tile += self.coef0
            return _power(tile, self.degree)
        return np.asarray(tile)

    def diagonal(self, A: Prepared) -> NDArray[np.float64]:
        """Return the kernel of each row with itself."""
        if self.name == "rbf":
            return np.ones(A.rows.shape[0])
        squares = _squares(A.rows)
        return _power(squares + self.coef0, self.degree) if self.name == "poly" else squares

    @property
    def has_halves(self) -> bool:
        """Whether prepared rows hold half of their squared lengths."""
        return self.name == "rbf"

    @property
    def text(self) -> str:
        """The name of the kernel with the parameters that it uses."""
        if self.name == "rbf":
            return f"rbf, gamma {self.gamma:.6g}"
        if self.name == "poly":
            return f"poly, gamma {self.gamma:.6g}, degree {self.degree}, coef0 {self.coef0:g}"
        return self.name


def _times(block: Any, factor: Any) -> Any:
    """Return row-major rows times numbers, as a copy."""
    if isinstance(block, np.ndarray):
        return np.multiply(block, factor, order="C", dtype=block.dtype)
    return scipy.sparse.csr_array(
        (block.data * block.dtype.type(factor), block.indices, block.indptr), shape=block.shape
    )


def _each_times(block: Any, factors: NDArray[np.float64]) -> Any:
    """Return row-major rows, each times its own factor, as a copy."""
    if isinstance(block, np.ndarray):
        return _times(block, factors[:, None].astype(block.dtype))
    entries = np.repeat(factors, np.diff(block.indptr)).astype(block.dtype)
    return scipy.sparse.csr_array(
        (block.data * entries, block.indices, block.indptr), shape=block.shape
    )


def largest_entries(block: Any) -> NDArray[Any]:
    """Return the largest magnitude in each row; NaN if the row holds one."""
    if isinstance(block, np.ndarray):
        return np.maximum(block.max(axis=1, initial=0.0), -block.min(axis=1, initial=0.0))
    largest = np.zeros(block.shape[0], dtype=block.dtype)
    filled = np.diff(block.indptr) > 0
    if filled.any():
        largest[filled] = np.maximum.reduceat(np.abs(block.data), block.indptr[:-1][filled])
    return largest


def _powers(block: Any) -> NDArray[np.float64]:
    """Return powers of two that scale the largest entry of each row to about one."""
    _, exponents = np.frexp(largest_entries(block))
    most = -int(np.finfo(block.dtype).minexp)
    return np.ldexp(1.0, -np.clip(exponents, -most, most))


def _squares(rows: Any) -> NDArray[np.float64]:
    """Return squared lengths, added in double precision."""
    if isinstance(rows, np.ndarray):
        return np.asarray(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    owners = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    squares = np.square(rows.data, dtype=np.float64)
    return np.asarray(np.bincount(owners, squares, minlength=rows.shape[0]), dtype=np.float64)


def _power(tile: NDArray[Any], degree: int) -> NDArray[Any]:
    """Return the entries to a whole power, by squaring; overflow gives infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        result: NDArray[Any] | None = None
        while True:
            if degree & 1:
                result = tile.copy() if result is None else np.multiply(result, tile, out=result)
            degree >>= 1
            if not degree:
                break
            tile = np.multiply(tile, tile, out=tile)
    assert result is not None  # a degree is at least one
    return result


def tile_rows(n_features: int, itemsize: int) -> int:
    """Return the rows of a tile."""
    return min(max(_TILE_BYTES // (itemsize * max(n_features, 1)), _LEAST_ROWS), _MOST_ROWS)


def panel_rows(n_features: int, itemsize: int) -> int:
    """Return the rows of a panel: a whole, even number of tiles."""
    tile = tile_rows(n_features, itemsize)
    count = _PANEL_BYTES // (itemsize * max(n_features, 1) * tile)
    return tile * (2 if count < _PANEL_TILES else _PANEL_TILES)


def tiles(X: RowSource, dtype: type[np.floating[Any]], count: int) -> Iterator[tuple[int, Any]]:
    """Yield this rank's rows, `count` at a time: local index of the first one, and the rows.

    Not collective. The rows are read-only, and valid until the next ones.
    """
    size = count * np.dtype(dtype).itemsize * max(X.n_features, 1)
    for first, block in X.blocks(dtype, size):
        for start in range(0, block.shape[0], count):
            yield first + start, block[start : start + count]
