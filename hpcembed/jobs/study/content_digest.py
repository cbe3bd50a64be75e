"""Digest of the rows of a data set, the same on any number of ranks.

Each row, with its global number, has a hash of 128 bits; the digest is their sum modulo 2^128 over
all ranks. A sum does not depend on the order of its terms, so the division of the rows does not
matter. The digest detects changes of data, not deliberate forgery.

Reference: M. Bellare, D. Micciancio, A new paradigm for collision-free hashing: incrementality at
reduced cost, EUROCRYPT 1997.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI

from hpcembed.data.row_validation import canonical_csr

__all__ = ["rows_digest"]

#: Bytes of a hash.
_SIZE = 16
#: Rows that are converted to double precision at once.
_BLOCK = 1024


def rows_digest(rows: Any, start: int, comm: MPI.Comm) -> str:
    """Compute the digest of rows of numbers, as double precision.

    Collective.

    Parameters
    ----------
    rows : ndarray or scipy.sparse.csr_array of shape (n_local, d)
        This rank's rows. Dense and sparse rows have different digests.
    start : int
        Global number of the first local row, from 0.

    Returns
    -------
    str
        32 hexadecimal digits, on all ranks.

    Examples
    --------
    >>> rows = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> digest = rows_digest(rows, 0, MPI.COMM_SELF)
    >>> digest == rows_digest(rows.astype(np.uint8), 0, MPI.COMM_SELF)
    True
    >>> digest == rows_digest(rows[::-1], 0, MPI.COMM_SELF)
    False
    """
    total = 0
    for number, content in enumerate(_row_bytes(rows), start):
        one = hashlib.blake2b(content, digest_size=_SIZE, salt=number.to_bytes(16, "little"))
        total += int.from_bytes(one.digest(), "little")
    total = comm.allreduce(total) % (1 << 8 * _SIZE)
    return f"{total:0{2 * _SIZE}x}"


def _row_bytes(rows: Any) -> Iterator[bytes]:
    """Yield the content of every row."""
    if not scipy.sparse.issparse(rows):
        for first in range(0, len(rows), _BLOCK):
            block = np.ascontiguousarray(rows[first : first + _BLOCK], dtype="<f8")
            yield from (row.tobytes() for row in block)
        return
    matrix = canonical_csr(rows)
    for begin, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        yield (
            matrix.indices[begin:end].astype("<i8").tobytes()
            + matrix.data[begin:end].astype("<f8").tobytes()
        )
