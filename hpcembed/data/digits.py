"""The handwritten digits of scikit-learn: 1797 images of 8 x 8 pixels, values 0 to 16.

A data set without files, for demonstrations and tests. Rows are uint8; each rank keeps its own.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from hpcembed.data.labels import labels_from_array
from hpcembed.data.table import Summary, Table
from hpcembed.runtime.ranks import ownership_range

__all__ = ["DigitsSource"]

_N_ROWS, _N_FEATURES = 1797, 64


class DigitsSource:
    """scikit-learn's digits as a :class:`~hpcembed.data.table.Source`."""

    @property
    def summary(self) -> Summary:
        """Shape and type. Not collective."""
        return Summary(_N_ROWS, _N_FEATURES, np.dtype(np.uint8))

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes that reading needs. Not collective."""
        return 10 * _N_ROWS * _N_FEATURES

    def read(self, comm: MPI.Comm) -> Table:
        """Return this rank's rows. Not collective."""
        from sklearn.datasets import load_digits

        images, digits = load_digits(return_X_y=True)
        start, stop = ownership_range(_N_ROWS, comm)
        names = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
        rows = np.ascontiguousarray(images[start:stop].astype(np.uint8))
        labels = labels_from_array(digits[start:stop], "digits", start)
        return Table(rows, labels, start, _N_ROWS, names, "digits")
