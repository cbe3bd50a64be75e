"""Data sets of scikit-learn that need no files, for demonstrations and tests.

``digits``: 1797 handwritten digits of 8 x 8 pixels, values 0 to 16. ``diabetes``: 442 patients with
10 measurements, which are not scaled, and the progression of the disease, an integer from 25 to 346
(Efron, Hastie, Johnstone and Tibshirani, Least angle regression, Annals of Statistics 32, 2004).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.labels import labels_from_array
from hpcembed.data.table import Summary, Table
from hpcembed.runtime.ranks import ownership_range

__all__ = ["BUNDLED", "BundledSource"]


def _digits() -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]:
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    names = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    return images, digits, names


def _diabetes() -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]:
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    return data.data, data.target, tuple(data.feature_names)


@dataclass(frozen=True, slots=True)
class _DataSet:
    """Shape and type of a data set, and the function that loads rows, labels and names."""

    n_rows: int
    n_features: int
    dtype: str
    load: Callable[[], tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]]


_DATA_SETS = {
    "digits": _DataSet(1797, 64, "uint8", _digits),
    "diabetes": _DataSet(442, 10, "float64", _diabetes),
}

#: Names of the data sets.
BUNDLED = tuple(_DATA_SETS)


class BundledSource:
    """A data set of scikit-learn as a :class:`~hpcembed.data.table.Source`.

    Each rank keeps its own rows.

    Parameters
    ----------
    name : {"digits", "diabetes"}

    Examples
    --------
    >>> table = BundledSource("diabetes").read(MPI.COMM_SELF)
    >>> table.rows.shape, table.feature_names[:3]
    ((442, 10), ('age', 'sex', 'bmi'))
    """

    def __init__(self, name: str) -> None:
        self._name, self._data = name, _DATA_SETS[name]

    @property
    def summary(self) -> Summary:
        """Shape and type. Not collective."""
        return Summary(self._data.n_rows, self._data.n_features, np.dtype(self._data.dtype))

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes that reading needs. Not collective."""
        return 16 * self._data.n_rows * (self._data.n_features + 1)

    def read(self, comm: MPI.Comm) -> Table:
        """Return this rank's rows. Not collective."""
        data = self._data
        rows, labels, names = data.load()
        start, stop = ownership_range(data.n_rows, comm)
        mine = np.ascontiguousarray(rows[start:stop].astype(data.dtype))
        own_labels = labels_from_array(labels[start:stop], self._name, start)
        return Table(mine, own_labels, start, data.n_rows, names, self._name)
