"""scikit-learn's diabetes data: 442 patients, 10 measurements, progression of the disease.

A data set without files, for demonstrations and tests of regression. The target is an integer from
25 to 346; the features are not scaled. Each rank keeps its own rows.

References
----------
Efron, Hastie, Johnstone and Tibshirani, 2004, Least angle regression, Annals of Statistics 32.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from hpcembed.data.labels import labels_from_array
from hpcembed.data.table import Summary, Table
from hpcembed.runtime.ranks import ownership_range

__all__ = ["DiabetesSource"]

_N_ROWS, _N_FEATURES = 442, 10


class DiabetesSource:
    """The diabetes data as a :class:`~hpcembed.data.table.Source`."""

    @property
    def summary(self) -> Summary:
        """Shape and type. Not collective."""
        return Summary(_N_ROWS, _N_FEATURES, np.dtype(np.float64))

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes that reading needs. Not collective."""
        return 16 * _N_ROWS * (_N_FEATURES + 1)

    def read(self, comm: MPI.Comm) -> Table:
        """Return this rank's rows. Not collective."""
        from sklearn.datasets import load_diabetes

        data = load_diabetes(scaled=False)
        start, stop = ownership_range(_N_ROWS, comm)
        rows = np.ascontiguousarray(data.data[start:stop])
        labels = labels_from_array(data.target[start:stop], "diabetes", start)
        return Table(rows, labels, start, _N_ROWS, tuple(data.feature_names), "diabetes")
