"""Positions of rows in the plane: UMAP on their coordinates.

UMAP (McInnes, Healy, Melville, arXiv 1802.03426) places each row near its neighbours. Three
settings differ from those of umap-learn: neighbours are exact, since the coordinates are few; the
optimisation begins at the two leading coordinates (Kobak and Linderman, Nature Biotechnology 39
(2021)) and has 200 epochs, as umap-learn itself takes for more than 10,000 rows. The result is a
function of the coordinates and the seed: one thread computes it. The last digits of coordinates,
which depend on the number of ranks, are rounded off, since the optimisation amplifies them.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from hpcembed.runtime.errors import InputError

__all__ = ["N_EPOCHS", "N_NEIGHBORS", "map_positions"]

N_NEIGHBORS = 15
N_EPOCHS = 200
#: Rows below which there is nothing to arrange.
_LEAST_ROWS = 4


def map_positions(coordinates: NDArray[Any], seed: int = 0) -> NDArray[np.float64]:
    """Return a position in the plane for each row.

    Parameters
    ----------
    coordinates : ndarray of shape (n, k)
        The leading coordinates first; k is at least 2.
    seed : int
        Of the optimisation, between 0 and 2^32 - 1.

    Returns
    -------
    ndarray of shape (n, 2)
        In no unit: neighbourhoods have a meaning, directions and long distances have none.

    Raises
    ------
    InputError
        There are fewer than 4 rows or 2 coordinates.
    MissingPackageError
        umap-learn is not installed; raised at the entry point of the command.
    """
    n, k = coordinates.shape
    if n < _LEAST_ROWS or k < 2:
        raise InputError(
            f"a map needs at least {_LEAST_ROWS} rows and 2 coordinates, not {n} and {k}"
        )
    points = _rounded(coordinates).astype(np.float32)
    n_neighbors = min(N_NEIGHBORS, n - 1)
    search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(points)
    distances, neighbours = search.kneighbors(points)
    start = points[:, :2]
    with warnings.catch_warnings():
        # of umap-learn about parts that are not used here: tensorflow, a search of new rows
        warnings.simplefilter("ignore")
        from umap import UMAP

        positions = UMAP(
            n_neighbors=n_neighbors,
            n_epochs=N_EPOCHS,
            precomputed_knn=(neighbours, distances.astype(np.float32), None),
            init=start if np.ptp(start, axis=0).all() else "random",
            random_state=seed,
            n_jobs=1,
        ).fit_transform(points)
    return np.asarray(positions, dtype=np.float64)


def _rounded(coordinates: NDArray[Any]) -> NDArray[np.float64]:
    """Round to six decimals of the largest coordinate."""
    largest = float(np.max(np.abs(coordinates))) or 1.0
    return np.asarray(np.round(np.asarray(coordinates, dtype=np.float64) / largest, 6) * largest)
