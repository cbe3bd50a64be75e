"""The shares of the largest class are those of the rows of all ranks."""

import numpy as np
import pytest

from hpcembed.data.matrix import DataMatrix
from hpcembed.jobs.majority import majority_shares


@pytest.mark.mpi
def test_shares_of_all_ranks(comm):
    train = np.array([2, 2, 1, 0, 1, 2, 0, 2, 2, 1])
    test = np.array([0, 2, 1, 1, 1])
    matrices = [
        DataMatrix(
            np.ones((mine.size, 2)), mine, comm, class_names=("a", "b", "c"), storage="dense"
        )
        for mine in (np.array_split(part, comm.size)[comm.rank] for part in (train, test))
    ]
    # The largest class is that of the training rows.
    assert majority_shares(*matrices) == (0.5, 0.2)
    for matrix in matrices:
        matrix.destroy()
