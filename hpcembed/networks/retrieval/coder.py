"""Codes of embeddings: principal coordinates with as many bits as their variances deserve.

All principal coordinates are kept, but with few bits: those of large variance get up to eight,
those of small variance one or none (transform coding). At equal bytes this keeps more neighbours
than fewer coordinates of one byte each. The bits minimise the mean squared error of the products
with queries that are distributed like the rows: the error of a coordinate is weighted by its second
moment. The mean is added again after decoding, so cosines are those of the embeddings themselves,
up to the errors of the quantisers.

Reference: A. Gersho, R. M. Gray, "Vector Quantization and Signal Compression", 1992, chapter 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.embedding import PCA
from hpcembed.networks.retrieval.neighbours import nearest, unit_rows
from hpcembed.networks.retrieval.quantisers import (
    MOST_BITS,
    Histograms,
    allocate_bits,
    fitted_levels,
    normal_levels,
)
from hpcembed.networks.retrieval.row_blocks import (
    blocks_of,
    check_width,
    dimensions_of,
    row_slices,
)
from hpcembed.runtime.agreement import agreement, same_on_all_ranks
from hpcembed.runtime.arguments import as_array, check_count
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import communicator
from hpcembed.runtime.wording import counted

__all__ = ["EmbeddingCoder", "fit_coder"]


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingCoder:
    """Principal coordinates with a quantiser each.

    Attributes
    ----------
    mean : ndarray of shape (d,)
    components : ndarray of shape (k, d)
        Orthonormal rows, of the coordinates that have bits.
    bits : ndarray of int, shape (k,)
        Bits of each coordinate, from 1 to 8.
    levels : tuple of ndarray
        The 2**bits levels of each coordinate, increasing.
    lost : float
        Share of the variance of the fitted rows that their codes lose.
    residual_norms : ndarray of shape (k,)
        True residuals of the eigenpairs.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    bits: NDArray[np.int64]
    levels: tuple[NDArray[np.float64], ...]
    lost: float
    residual_norms: NDArray[np.float64]

    def __repr__(self) -> str:
        k, d = self.components.shape
        return (
            f"<EmbeddingCoder: {d} numbers -> {counted(self.bytes_per_row, 'byte')}, up to "
            f"{counted(int(self.bits.max()), 'bit')} for each of {counted(k, 'coordinate')}, "
            f"{self.lost:.1%} of the variance lost>"
        )

    @property
    def bytes_per_row(self) -> int:
        """Bytes of one row of codes."""
        return -(-int(self.bits.sum()) // 8)

    def codes(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the codes of embeddings of shape (n, d), shape (n, bytes_per_row).

        The bits of a row follow each other in the order of the coordinates; each coordinate has the
        number of its nearest level, highest bit first.

        Raises
        ------
        InputError
            If rows have another number of columns, or entries that are not finite.
        """
        rows = check_width(rows, len(self.mean))
        found = np.empty((len(rows), self.bytes_per_row), dtype=np.uint8)
        for part in row_slices(len(rows)):
            found[part] = self._packed(rows[part], part.start)
        return found

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the coordinates of codes in rows of length 1, shape (n, k).

        Cosines with the queries of :meth:`transform` are approximate cosines of embeddings.

        Raises
        ------
        InputError
            If codes have another shape or type.
        """
        codes = as_array("codes", codes)
        if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != self.bytes_per_row:
            raise InputError(
                f"codes of shape {codes.shape} and type {codes.dtype}: give those of codes(), of "
                f"shape (n, {self.bytes_per_row}) and type uint8"
            )
        shift = self.components @ self.mean
        found = np.empty((len(codes), len(self.bits)), dtype=np.float32)
        for part in row_slices(len(codes)):
            numbers = self._numbers(codes[part])
            coordinates = np.empty(numbers.shape)
            for j, levels in enumerate(self.levels):
                coordinates[:, j] = levels[numbers[:, j]] + shift[j]
            found[part] = unit_rows(coordinates)
        return found

    def transform(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Return the coordinates of embeddings, not coded, in rows of length 1, shape (n, k)."""
        rows = check_width(rows, len(self.mean))
        return unit_rows(rows @ self.components.T)

    def search(
        self, codes: NDArray[np.uint8], queries: NDArray[Any], n_neighbors: int
    ) -> NDArray[np.int64]:
        """Return the rows of codes with the largest cosines to each query, best first.

        The codes are decoded in blocks of rows, so the table is never in memory as a whole.

        Parameters
        ----------
        codes : ndarray of shape (n, bytes_per_row)
        queries : ndarray of shape (m, d)
            Whole embeddings.
        n_neighbors : int

        Returns
        -------
        ndarray of int, shape (m, n_neighbors)

        Raises
        ------
        InputError
            If there are fewer rows than neighbours, or shapes do not match.
        """
        check_count("n_neighbors", n_neighbors)
        wanted = self.transform(queries)
        if n_neighbors > len(codes):
            raise InputError(f"{n_neighbors} neighbours are wanted of {len(codes)} rows")
        numbers = np.empty((len(wanted), 0), dtype=np.int64)
        cosines = np.empty((len(wanted), 0), dtype=np.float32)
        for part in row_slices(len(codes)):
            decoded = self.decode(codes[part])
            near = nearest(decoded, wanted, min(n_neighbors, len(decoded)))
            near_cosines = np.stack(
                [decoded[rows] @ query for rows, query in zip(near, wanted, strict=True)]
            )
            numbers = np.concatenate([numbers, near + part.start], axis=1)
            cosines = np.concatenate([cosines, near_cosines], axis=1)
            best = np.argsort(-cosines, axis=1, kind="stable")[:, :n_neighbors]
            numbers = np.take_along_axis(numbers, best, axis=1)
            cosines = np.take_along_axis(cosines, best, axis=1)
        return numbers

    def _packed(self, rows: NDArray[Any], first: int) -> NDArray[np.uint8]:
        coordinates = (rows - self.mean) @ self.components.T
        if not np.isfinite(coordinates).all():
            row = first + int(np.argmin(np.isfinite(coordinates).all(axis=1)))
            raise InputError(f"embedding {row} (counted from 0) is not finite: remove the row")
        numbers = np.empty(coordinates.shape, dtype=np.uint8)
        for j, levels in enumerate(self.levels):
            numbers[:, j] = np.searchsorted((levels[1:] + levels[:-1]) / 2, coordinates[:, j])
        owners, shifts = self._layout
        return np.packbits((numbers[:, owners] >> shifts) & 1, axis=1)

    def _numbers(self, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the numbers of the levels, shape (n, k)."""
        _, shifts = self._layout
        bits = np.unpackbits(codes, axis=1, count=len(shifts)) << shifts
        starts = np.cumsum(self.bits) - self.bits
        return np.add.reduceat(bits, starts, axis=1, dtype=np.uint8)

    @property
    def _layout(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Coordinate and power of two of each bit of a row."""
        owners = np.repeat(np.arange(len(self.bits)), self.bits)
        ends = np.repeat(np.cumsum(self.bits), self.bits)
        return owners, (ends - np.arange(len(owners)) - 1).astype(np.uint8)


def fit_coder(
    rows: Any, n_bytes: int, *, k: int | None = None, comm: MPI.Intracomm | None = None
) -> EmbeddingCoder:
    """Find principal coordinates of embeddings, and quantisers for codes of `n_bytes` bytes.

    Collective on `comm`, or on the communicator of :func:`hpcembed.open_rows`. The rows are read
    twice: for the eigenvectors, and for histograms of the coordinates, to which the levels are
    fitted.

    Parameters
    ----------
    rows : ndarray, or rows of :func:`hpcembed.open_rows`
        Embeddings, shape (n, d); with `comm` those of this rank.
    n_bytes : int
        Bytes of one row, from 1 to the number of coordinates.
    k : int, optional
        Number of principal coordinates that may have bits; default: all. The others are left out.
    comm : MPI.Intracomm, optional
        If `rows` is an array: the ranks that hold the other rows.

    Raises
    ------
    InputError
        If there are fewer coordinates than bytes, rows are not finite, or all rows are equal.
    ConfigError
        If `n_bytes` or `k` is not a positive integer.
    ConvergenceError
        If an eigenpair is unconverged.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).standard_normal((500, 16)) * 0.7 ** np.arange(16)
    >>> coder = fit_coder(rows, 4)
    >>> coder.bits.tolist(), coder.codes(rows).shape
    ([8, 7, 6, 5, 3, 2, 1], (500, 4))
    >>> coder.search(coder.codes(rows), rows[:2], 1).ravel().tolist()
    [0, 1]
    """
    ranks = getattr(rows, "comm", None) or communicator(comm)
    with agreement(ranks):
        check_count("n_bytes", n_bytes)
        d = dimensions_of(rows)
        if k is not None:
            check_count("k", k)
        most = d if k is None else k
        if most > d:
            raise InputError(f"k = {k} exceeds the {d} dimensions of the embeddings: reduce it")
        if n_bytes > most:
            raise InputError(
                f"n_bytes = {n_bytes} exceeds the {counted(most, 'coordinate')} of at most "
                f"{MOST_BITS} bits each: reduce it"
            )
    same_on_all_ranks(ranks, n_bytes=n_bytes)
    pca = PCA(most).fit(rows, comm=comm)
    variances = np.asarray(pca.explained_variance_)
    # eigenvalues that are rounding errors
    usable = variances > most * np.finfo(np.float32).eps ** 2 * variances[0]
    mean, components = np.asarray(pca.mean_), np.asarray(pca.components_)
    moments = variances + (components @ mean) ** 2
    bits = allocate_bits(np.where(usable, variances, 0.0), 8 * n_bytes, moments)
    kept = np.flatnonzero(bits)
    if not len(kept):
        raise InputError("all embeddings are equal: there is nothing to code")
    components = components[kept]
    histograms = Histograms(np.sqrt(variances[kept]))
    with agreement(ranks):  # files are read again
        for block in blocks_of(rows):
            histograms.add((np.asarray(block, dtype=np.float64) - mean) @ components.T)
    ranks.Allreduce(MPI.IN_PLACE, histograms.totals, op=MPI.SUM)
    levels, errors = [], 0.0
    for j, totals in zip(kept, histograms.totals.transpose(1, 0, 2), strict=True):
        start = normal_levels(int(bits[j]))[0] * np.sqrt(variances[j])
        fitted, error = fitted_levels(totals, start)
        levels.append(fitted)
        errors += error
    captured = float(np.sum(np.asarray(pca.explained_variance_ratio_)[kept]))
    coded = float(histograms.totals[2].sum())
    return EmbeddingCoder(
        mean, components, bits[kept], tuple(levels), 1.0 - captured * (1.0 - errors / coded),
        np.asarray(pca.residual_norms_)[kept],
    )  # fmt: skip
