"""Reduction of embeddings to k principal coordinates, stored as floats or as bytes.

Neighbours are compared by cosines, so coordinates have length 1 after the projection. A byte holds
a coordinate in steps of a 127th of the largest modulus that it has in the fitted rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.embedding import PCA
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.arguments import check_count
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import communicator

__all__ = ["EmbeddingReduction", "fit_reduction"]

_LEVELS = 127
_BLOCK_ROWS = 65_536


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingReduction:
    """A projection on k coordinates of length 1.

    Attributes
    ----------
    mean : ndarray of shape (d,)
    components : ndarray of shape (k, d)
        Orthonormal rows.
    steps : ndarray of shape (k,)
        Difference of two neighbouring byte codes of each coordinate.
    captured : float
        Share of the variance of the fitted rows in the k coordinates.
    residual_norms : ndarray of shape (k,)
        True residuals of the eigenpairs.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    steps: NDArray[np.float64]
    captured: float
    residual_norms: NDArray[np.float64]

    def __repr__(self) -> str:
        k, d = self.components.shape
        return (
            f"<EmbeddingReduction: {d} -> {k} coordinates, {self.captured:.1%} of the variance, "
            f"{4 * k} or {k} bytes a row>"
        )

    @property
    def bytes_per_row(self) -> tuple[int, int]:
        """Bytes of one row as float32 coordinates and as codes."""
        return 4 * len(self.components), len(self.components)

    def transform(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Return coordinates of length 1, shape (n, k)."""
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] != len(self.mean):
            raise InputError(
                f"embeddings of shape (n, {len(self.mean)}) are needed, not {rows.shape}"
            )
        found = (rows - self.mean) @ self.components.T
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        return (found / np.where(norms > 0, norms, 1.0)).astype(np.float32)

    def codes(self, rows: NDArray[Any]) -> NDArray[np.int8]:
        """Return the coordinates as bytes, shape (n, k)."""
        levels = np.rint(self.transform(rows) / self.steps)
        return np.clip(levels, -_LEVELS, _LEVELS).astype(np.int8)

    def decode(self, codes: NDArray[np.int8]) -> NDArray[np.float32]:
        """Return the coordinates of codes, shape (n, k)."""
        return (codes * self.steps).astype(np.float32)


def fit_reduction(rows: Any, k: int, *, comm: MPI.Intracomm | None = None) -> EmbeddingReduction:
    """Find the k principal coordinates of embeddings.

    Collective on `comm`, or on the communicator of :func:`hpcembed.open_rows`.

    Parameters
    ----------
    rows : ndarray, or rows of :func:`hpcembed.open_rows`
        Embeddings, shape (n, d); with `comm` those of this rank.
    k : int
        Number of coordinates, from 1 to d.
    comm : MPI.Intracomm, optional
        If `rows` is an array: the ranks that hold the other rows.

    Raises
    ------
    InputError
        If k is larger than d, or rows are not finite.
    ConfigError
        If k is not a positive integer.
    ConvergenceError
        If an eigenpair is unconverged.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).standard_normal((200, 16)) * 0.8 ** np.arange(16)
    >>> reduction = fit_reduction(rows, 4)
    >>> reduction.codes(rows).shape, reduction.bytes_per_row
    ((200, 4), (16, 4))
    """
    ranks = getattr(rows, "comm", None) or communicator(comm)
    with agreement(ranks):
        check_count("k", k)
        d = _dimensions(rows)
        if k > d:
            raise InputError(f"k = {k} exceeds the {d} dimensions of the embeddings: reduce it")
    pca = PCA(k).fit(rows, comm=comm)
    captured = float(np.sum(pca.explained_variance_ratio_))
    found = EmbeddingReduction(
        np.asarray(pca.mean_), np.asarray(pca.components_), np.ones(k), captured,
        np.asarray(pca.residual_norms_),
    )  # fmt: skip
    largest = np.zeros(k)
    for block in _blocks(rows):
        largest = np.maximum(largest, np.abs(found.transform(block)).max(axis=0, initial=0.0))
    ranks.Allreduce(MPI.IN_PLACE, largest, op=MPI.MAX)
    steps = np.where(largest > 0, largest, 1.0) / _LEVELS
    return EmbeddingReduction(found.mean, found.components, steps, captured, found.residual_norms)


def _dimensions(rows: Any) -> int:
    """Return the number of columns of rows of an array or of files."""
    if hasattr(rows, "n_features"):
        return int(rows.n_features)
    shape = np.shape(rows)
    if len(shape) != 2:
        raise InputError(f"embeddings of shape {shape}: give an array of shape (n, d)")
    return int(shape[1])


def _blocks(rows: Any) -> Iterator[NDArray[Any]]:
    """Yield the rows of an array or of files in blocks."""
    if hasattr(rows, "blocks"):
        for _, block in rows.blocks():
            yield block
        return
    rows = np.asarray(rows)
    for start in range(0, len(rows), _BLOCK_ROWS):
        yield rows[start : start + _BLOCK_ROWS]
