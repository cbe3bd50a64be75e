"""The digest of rows: equal on any number of ranks, and different for different rows."""

import numpy as np
import pytest
import scipy.sparse
from mpi4py import MPI

from hpcembed.jobs.study.content_digest import rows_digest
from hpcembed.runtime.ranks import ownership_range


@pytest.fixture
def rows():
    rows = np.random.default_rng(0).normal(size=(41, 5))
    rows[rows < 0] = 0
    return rows


@pytest.mark.mpi
@pytest.mark.parametrize("convert", [np.asarray, scipy.sparse.csr_array, np.asfortranarray])
def test_ranks_do_not_matter(comm, rows, convert):
    start, stop = ownership_range(len(rows), comm)
    whole = rows_digest(convert(rows), 0, MPI.COMM_SELF)
    assert rows_digest(convert(rows[start:stop]), start, comm) == whole


@pytest.mark.parametrize("convert", [np.asarray, scipy.sparse.csr_array])
def test_any_change_is_seen(rows, convert):
    digests = {rows_digest(convert(rows), 0, MPI.COMM_SELF)}
    changed = rows.copy()
    changed[17, 3] += 1e-12
    for other in (changed, rows[::-1], rows[:-1], rows[:, ::-1], rows[1:]):
        digests.add(rows_digest(convert(np.ascontiguousarray(other)), 0, MPI.COMM_SELF))
    assert len(digests) == 6


def test_the_form_of_sparse_rows_does_not_matter(rows):
    matrix = scipy.sparse.csr_array(rows)
    ends = matrix.indptr.tolist()
    places = [place for i, end in enumerate(ends[1:]) for place in range(end - 1, ends[i] - 1, -1)]
    reversed_rows = scipy.sparse.csr_array(
        (
            matrix.data[places],
            matrix.indices[places].astype(np.int64),
            matrix.indptr.astype(np.int64),
        ),
        shape=matrix.shape,
    )
    assert not reversed_rows.has_canonical_format
    found = rows_digest(reversed_rows, 0, MPI.COMM_SELF)
    assert found == rows_digest(matrix, 0, MPI.COMM_SELF)
