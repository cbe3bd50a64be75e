"""Sampled Walsh-Hadamard transforms of rows, by small matrix products in the cache.

The Hadamard matrix of order ``D = 2^p`` has the entry ``(-1)^popcount(i & j)`` at (i, j). It is the
Kronecker product of p matrices of order 2; here of matrices of order at most 16, whose products run
at the speed of BLAS. Rows are transformed in tiles, transposed, so that all products have
contiguous columns. A tile is cut into pieces of 4,096 features that fit the cache. Each piece is
transformed as a whole; the transform across pieces is computed only where a sampled coordinate
needs it.

A row takes ``D log2(min(D, 4096))`` operations, up to a constant, and at most ``m k log2(m)`` for
``m = D / 4096`` pieces and k samples.

Reference: Ailon, Chazelle, "The fast Johnson-Lindenstrauss transform and approximate nearest
neighbors", SIAM J. Comput. 39 (2009); Ailon, Liberty, Discrete Comput. Geom. 42 (2009), for the
pruned transform.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

__all__ = ["SampledHadamard", "hadamard_entries"]

_PIECE_BITS = 12
_RADIX_BITS = 4
_TILE_ROWS = 16


def hadamard_entries(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return entries of the Hadamard matrix: 1 or -1, shape (rows, columns)."""
    bits = rows[:, np.newaxis] & columns
    for shift in (32, 16, 8, 4, 2, 1):
        bits ^= bits >> shift
    return 1.0 - 2.0 * (bits & 1)


class SampledHadamard:
    """Some coordinates of the transform of rows with changed signs: ``(x * signs) H[:, samples]``.

    Parameters
    ----------
    signs : ndarray of shape (d,)
    samples : ndarray of int, shape (k,)
        Distinct coordinates, below the power of two that follows d; rows are padded by zeros.
    dtype : {float64, float32}
        Precision of the products, and type of the rows.
    """

    def __init__(
        self, signs: NDArray[Any], samples: NDArray[np.int64], dtype: type[np.floating[Any]]
    ) -> None:
        self._signs = signs.astype(dtype)
        self._dtype = dtype
        bits = (len(signs) - 1).bit_length()
        self._width = 1 << min(bits, _PIECE_BITS)
        self._n_pieces = 1 << max(bits - _PIECE_BITS, 0)
        self._inside = _factors(min(bits, _PIECE_BITS), dtype)
        self._across = _factors(bits - _PIECE_BITS, dtype) if self._n_pieces > 1 else []
        self._kept, place = np.unique(samples % self._width, return_inverse=True)
        self._sampled = samples // self._width * len(self._kept) + place

    def __call__(self, rows: Any, result: NDArray[Any]) -> None:
        """Write the coordinates of rows (n, d), dense or csr, into an array of shape (n, k)."""
        b = min(_TILE_ROWS, max(1, rows.shape[0]))
        padded = np.empty((b, self._width), self._dtype)
        work = np.empty((2, self._width * b), self._dtype)
        columns = np.empty((2, self._n_pieces, len(self._kept) * b), self._dtype)
        for first in range(0, rows.shape[0], b):
            tile = rows[first : first + b]
            dense = tile.toarray() if scipy.sparse.issparse(tile) else tile
            if len(dense) < b:  # the last tile has the size of the others
                dense = np.concatenate(
                    [dense, np.zeros((b - len(dense), dense.shape[1]), dense.dtype)]
                )
            for piece in range(self._n_pieces):
                self._transform_piece(dense, piece, padded, work, columns[0, piece])
            found = _transform(columns[0], columns[1], self._across, columns.shape[2])
            part = result[first : first + b]
            part[...] = found.reshape(-1, b)[self._sampled, : len(part)].T

    def _transform_piece(
        self,
        dense: NDArray[Any],
        piece: int,
        padded: NDArray[Any],
        work: NDArray[Any],
        kept: NDArray[Any],
    ) -> None:
        """Transform a piece of the columns of a tile; keep the coordinates that are needed."""
        first, b = piece * self._width, len(padded)
        last = min(first + self._width, len(self._signs))
        if last <= first:
            kept[...] = 0.0
            return
        np.multiply(dense[:, first:last], self._signs[first:last], out=padded[:, : last - first])
        padded[:, last - first :] = 0.0
        lowest = self._inside[0]
        # the product reads the tile with transposed strides: nothing else transposes it
        turned = padded.reshape(b, -1, len(lowest)).transpose(1, 2, 0)
        np.matmul(lowest, turned, out=work[0].reshape(-1, len(lowest), b))
        found = _transform(work[0], work[1], self._inside[1:], len(lowest) * b)
        np.take(found.reshape(-1, b), self._kept, axis=0, out=kept.reshape(-1, b), mode="clip")


def _factors(bits: int, dtype: type[np.floating[Any]]) -> list[NDArray[Any]]:
    """Return Hadamard matrices whose Kronecker product has the order ``2^bits``."""
    count = max(1, -(-bits // _RADIX_BITS))
    sizes = [bits // count + (i < bits % count) for i in range(count)]
    return [scipy.linalg.hadamard(1 << size).astype(dtype) for size in sizes]


def _transform(
    values: NDArray[Any], scratch: NDArray[Any], factors: list[NDArray[Any]], inner: int
) -> NDArray[Any]:
    """Multiply along the digits of the first index, lowest digit first; the last one is whole.

    `inner` is the distance of neighbours along the lowest digit. Both arrays are overwritten, and
    one of them is returned.
    """
    for factor in factors:
        shape = (-1, len(factor), inner)
        np.matmul(factor, values.reshape(shape), out=scratch.reshape(shape))
        values, scratch = scratch, values
        inner *= len(factor)
    return values
