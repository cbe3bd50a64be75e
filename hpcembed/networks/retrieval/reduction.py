"""Reduction of embeddings to k principal coordinates, stored as floats or as bytes.

Neighbours are compared by cosines, so rows have length 1 after the projection. Whitened coordinates
are divided by their standard deviations before. A byte holds a coordinate as an integer (int8), in
steps of a 127th of the largest modulus that the coordinate has in the fitted rows, or as a number
with an exponent (float8), scaled so that this modulus is the largest of the format.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.embedding import PCA
from hpcembed.networks.retrieval.float8 import LARGEST, decode_float8, encode_float8
from hpcembed.networks.retrieval.neighbours import unit_rows
from hpcembed.networks.retrieval.row_blocks import blocks_of, check_width, dimensions_of
from hpcembed.runtime.agreement import agreement, same_on_all_ranks
from hpcembed.runtime.arguments import as_array, check_choice, check_count, check_flag
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import communicator

__all__ = ["ByteStorage", "EmbeddingReduction", "fit_reduction"]

ByteStorage = Literal["int8", "float8"]

_LEVELS = 127


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingReduction:
    """A projection on k coordinates of length 1.

    Attributes
    ----------
    mean : ndarray of shape (d,)
    components : ndarray of shape (k, d)
        Orthonormal rows.
    steps : ndarray of shape (k,)
        Difference of two neighbouring codes of int8 of each coordinate.
    captured : float
        Share of the variance of the fitted rows in the k coordinates.
    residual_norms : ndarray of shape (k,)
        True residuals of the eigenpairs.
    scales : ndarray of shape (k,)
        Divisors of the coordinates before rows are scaled to length 1: their standard deviations in
        the fitted rows if the reduction is whitened, else 1.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    steps: NDArray[np.float64]
    captured: float
    residual_norms: NDArray[np.float64]
    scales: NDArray[np.float64]

    def __repr__(self) -> str:
        k, d = self.components.shape
        kind = "whitened coordinates" if np.any(self.scales != 1) else "coordinates"
        return (
            f"<EmbeddingReduction: {d} -> {k} {kind}, {self.captured:.1%} of the variance, "
            f"{4 * k} or {k} bytes a row>"
        )

    @property
    def projection(self) -> NDArray[np.float64]:
        """Components divided by the scales, shape (k, d)."""
        return self.components / self.scales[:, None]

    @property
    def bytes_per_row(self) -> tuple[int, int]:
        """Bytes of one row as float32 coordinates and as codes."""
        return 4 * len(self.components), len(self.components)

    def transform(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Return coordinates, shape (n, k), in rows of length 1."""
        rows = check_width(rows, len(self.mean))
        found = (rows - self.mean) @ self.projection.T
        return unit_rows(found, np.float64).astype(np.float32)

    def codes(
        self, rows: NDArray[Any], storage: ByteStorage = "int8"
    ) -> NDArray[np.int8] | NDArray[np.uint8]:
        """Return the coordinates as bytes, shape (n, k): int8, or the bytes of float8 as uint8.

        Larger moduli than those of the fitted rows become the largest code.

        Raises
        ------
        ConfigError
            If `storage` is unknown.
        InputError
            If rows have another number of columns, or entries that are not finite.
        """
        check_choice("storage", storage, get_args(ByteStorage))
        found = self.transform(rows)
        if not np.isfinite(found).all():
            row = int(np.argmin(np.isfinite(found).all(axis=1)))
            raise InputError(f"embedding {row} (counted from 0) is not finite: remove the row")
        if storage == "float8":
            return encode_float8(found / self._float8_scales)
        return np.clip(np.rint(found / self.steps), -_LEVELS, _LEVELS).astype(np.int8)

    def decode(self, codes: NDArray[np.int8] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the coordinates of codes, shape (n, k): int8, or float8 as uint8.

        Raises
        ------
        InputError
            If codes have another type or another number of columns.
        """
        codes = as_array("codes", codes)
        if codes.ndim != 2 or codes.shape[1] != len(self.steps):
            raise InputError(f"codes of shape (n, {len(self.steps)}) are needed, not {codes.shape}")
        if codes.dtype == np.uint8:
            return (decode_float8(codes.astype(np.uint8, copy=False)) * self._float8_scales).astype(
                np.float32
            )
        if codes.dtype != np.int8:
            raise InputError(f"codes of type {codes.dtype}: give those of codes(), int8 or uint8")
        return (codes * self.steps).astype(np.float32)

    @property
    def _float8_scales(self) -> NDArray[np.float64]:
        return self.steps * (_LEVELS / LARGEST)


def fit_reduction(
    rows: Any, k: int, *, whiten: bool = False, comm: MPI.Intracomm | None = None
) -> EmbeddingReduction:
    """Find the k principal coordinates of embeddings.

    Collective on `comm`, or on the communicator of :func:`hpcembed.open_rows`.

    Parameters
    ----------
    rows : ndarray, or rows of :func:`hpcembed.open_rows`
        Embeddings, shape (n, d); with `comm` those of this rank.
    k : int
        Number of coordinates, from 1 to d.
    whiten : bool, default False
        Divide the coordinates by their standard deviations. Cosines then weight all coordinates
        equally, so the exact neighbours are usually lost: test the reduction with
        :func:`~hpcembed.networks.retrieval.retrieval_table`.
    comm : MPI.Intracomm, optional
        If `rows` is an array: the ranks that hold the other rows.

    Raises
    ------
    InputError
        If k is larger than d, rows are not finite, or a coordinate to be whitened is constant.
    ConfigError
        If k is not a positive integer, or `whiten` is not True or False.
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
        check_flag("whiten", whiten)
        d = dimensions_of(rows)
        if k > d:
            raise InputError(f"k = {k} exceeds the {d} dimensions of the embeddings: reduce it")
    same_on_all_ranks(ranks, whiten=bool(whiten))
    pca = PCA(k).fit(rows, comm=comm)
    captured = float(np.sum(pca.explained_variance_ratio_))
    scales = _deviations(np.asarray(pca.explained_variance_)) if whiten else np.ones(k)
    found = EmbeddingReduction(
        np.asarray(pca.mean_), np.asarray(pca.components_), np.ones(k), captured,
        np.asarray(pca.residual_norms_), scales,
    )  # fmt: skip
    largest = np.zeros(k)
    with agreement(ranks):  # files are read again
        for block in blocks_of(rows):
            moduli = np.abs(found.transform(block))
            largest = np.maximum(largest, moduli.max(axis=0, initial=0.0))
    ranks.Allreduce(MPI.IN_PLACE, largest, op=MPI.MAX)
    steps = np.where(largest > 0, largest, 1.0) / _LEVELS
    return replace(found, steps=steps)


def _deviations(variances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviations of coordinates, none of which is constant."""
    constant = variances <= len(variances) * np.finfo(np.float32).eps * variances[0]
    if constant.any():
        usable = int(np.argmax(constant))
        raise InputError(
            f"coordinate {usable + 1} of {len(variances)} has no variance and cannot be whitened: "
            + (f"reduce k to {usable}" if usable else "all embeddings are equal")
        )
    return np.sqrt(variances)
