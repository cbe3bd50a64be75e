"""Synthetic data: rows with a known spectrum, or a file in the format of a public data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.special
from numpy.typing import NDArray

from hpcembed.runtime.counter_random import row_keys, uniform

_WINNIPEG_FEATURES = 174
_WINNIPEG_CLASSES = 7
_LATENT = 12
_ROWS_PER_BLOCK = 4096
# The seeds of directions, classes and means must differ from the seeds of the rows.
_DIRECTIONS, _CLASSES, _MEANS = 0x5EED0001, 0x5EED0002, 0x5EED0003


def planted_directions(n_features: int, n_components: int, seed: int) -> NDArray[np.float64]:
    """Return the eigenvectors of the covariance of :func:`planted_covariance`.

    Returns
    -------
    ndarray of shape (n_features, n_components)
        Orthonormal columns.
    """
    normal = _normal(seed ^ _DIRECTIONS, 0, n_features, n_components)
    directions, triangle = np.linalg.qr(normal)
    # QR does not determine signs; libraries differ in them.
    signed: NDArray[np.float64] = directions * np.sign(np.diag(triangle))
    return signed


def planted_covariance(
    n: int,
    d: int,
    eigenvalues: Sequence[float] | NDArray[np.float64],
    seed: int,
    start: int = 0,
    stop: int | None = None,
) -> NDArray[np.float64]:
    """Return rows of a normal distribution whose covariance has the given eigenvalues.

    Every entry is a function of (seed, global row, column), so every rank can make its own rows.

    Parameters
    ----------
    n, d : int
        Number of all rows, and of features.
    eigenvalues : sequence of float
        Nonnegative, at most `d`; all other eigenvalues are zero. Eigenvectors:
        :func:`planted_directions` (d, len(eigenvalues), seed).
    seed : int
    start, stop : int
        Global range of the rows; by default all rows.

    Returns
    -------
    ndarray of float64, shape (stop - start, d)

    Raises
    ------
    ValueError
        The sizes contradict each other.

    Examples
    --------
    >>> whole = planted_covariance(100, 5, [4.0, 1.0], seed=0)
    >>> part = planted_covariance(100, 5, [4.0, 1.0], seed=0, start=90, stop=100)
    >>> whole.shape, bool((whole[90:] == part).all())
    ((100, 5), True)
    """
    stop = n if stop is None else stop
    spectrum = np.asarray(eigenvalues, dtype=np.float64)
    if not 0 <= start <= stop <= n:
        raise ValueError(f"rows {start} to {stop} of {n}")
    if spectrum.ndim != 1 or not 1 <= len(spectrum) <= d or (spectrum < 0).any():
        raise ValueError(f"1 to {d} nonnegative eigenvalues needed")
    directions = planted_directions(d, len(spectrum), seed)
    scores = _normal(seed, start, stop, len(spectrum))
    rows: NDArray[np.float64] = (scores * np.sqrt(spectrum)) @ directions.T
    return rows


def write_winnipeg_like(path: Path, n_rows: int, seed: int = 0) -> None:
    """Write a file in the format of the crop mapping data set of Winnipeg (UCI data set 525).

    Comma separated, header ``label,f1,...,f174``, classes 1 to 7. The features of a class scatter
    around the mean of the class along a few common directions.

    Parameters
    ----------
    path : Path
        File to write.
    n_rows : int
    seed : int
    """
    names = ",".join(["label", *(f"f{j}" for j in range(1, _WINNIPEG_FEATURES + 1))])
    means = 2.0 * _normal(seed ^ _MEANS, 0, _WINNIPEG_CLASSES, _WINNIPEG_FEATURES)
    with path.open("w", encoding="ascii") as stream:
        stream.write(names + "\n")
        for first in range(0, n_rows, _ROWS_PER_BLOCK):
            last = min(first + _ROWS_PER_BLOCK, n_rows)
            chance = uniform(row_keys(seed ^ _CLASSES, np.arange(first, last)))
            classes = (chance * _WINNIPEG_CLASSES).astype(np.int64)
            spread = np.geomspace(9.0, 0.1, _LATENT)
            features = means[classes] + planted_covariance(
                n_rows, _WINNIPEG_FEATURES, spread, seed, first, last
            )
            for code, values in zip(classes, features, strict=True):
                stream.write(f"{code + 1},{','.join(f'{value:.6g}' for value in values)}\n")


def _normal(seed: int, first: int, last: int, width: int) -> NDArray[np.float64]:
    """Standard normal numbers, one for every (row, column), by inversion of the distribution."""
    rows = np.arange(first, last, dtype=np.uint64)
    counters = rows[:, None] * np.uint64(width) + np.arange(width, dtype=np.uint64)
    return np.asarray(scipy.special.ndtri(uniform(row_keys(seed, counters))))
