"""CIFAR-10's binary batches: records of one label byte and 3072 pixel bytes.

A file stores an image as three planes of 32 x 32 (red, green, blue). Features are reordered to
height, width, channel (pixel-interleaved), the order of the eigenvectors that are published for
this data set. The records of all files are one table; each rank reads its own byte range.
Reference: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mpi4py import MPI

from hpcembed.data.arrays.stored_array import StoredArray, blocks_between
from hpcembed.data.file_validation import BLOCK_BYTES, file_size, is_gzip, named_errors
from hpcembed.data.labels import labels_from_array
from hpcembed.data.table import Summary, Table
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range

__all__ = ["Cifar10Source"]

_RECORD = 3073
_N_CLASSES = 10


class Cifar10Source:
    """The records of some CIFAR-10 batches as one table.

    Raises
    ------
    InputError
        A file is missing, or its size is not a multiple of the size of a record.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.batches = [_open_batch(path) for path in paths]
        self.n_rows = sum(batch.shape[0] for batch in self.batches)

    @property
    def summary(self) -> Summary:
        """Shape, from the sizes of the files, and type. Not collective."""
        return Summary(self.n_rows, _RECORD - 1, np.dtype(np.uint8))

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes that reading needs on the rank that needs most. Not collective."""
        return -(-self.n_rows // comm.size) * (_RECORD + 8) + 2 * BLOCK_BYTES

    def read(self, comm: MPI.Comm) -> Table:
        """Read this rank's rows, features in height, width, channel order. Collective."""
        start, stop = ownership_range(self.n_rows, comm)
        source = ", ".join(batch.name for batch in self.batches)
        with agreement(comm):
            rows = np.empty((stop - start, _RECORD - 1), dtype=np.uint8)
            codes = np.empty(stop - start, dtype=np.uint8)
            images = rows.reshape(-1, 32, 32, 3)
            for batch, first, place, block in blocks_between(self.batches, start, stop):
                own = slice(place, place + len(block))
                codes[own] = block[:, 0]
                images[own] = block[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
                wrong = np.flatnonzero(block[:, 0] >= _N_CLASSES)
                if wrong.size:
                    raise InputError(
                        f"{batch.name}: record {first + int(wrong[0]) + 1}: label "
                        f"{block[wrong[0], 0]} is not one of 0 to 9: not a CIFAR-10 batch"
                    )
            labels = labels_from_array(codes, source, start)
        return Table(rows, labels, start, self.n_rows, (), source)


def _open_batch(path: Path) -> StoredArray:
    size = file_size(path)
    with named_errors(path):
        if is_gzip(path):
            raise InputError(f"{path}: a compressed file: unpack it first")
    if size % _RECORD:
        raise InputError(
            f"{path}: {size} bytes are not a whole number of CIFAR-10 records ({_RECORD} bytes "
            "each): truncated, or not the binary version"
        )
    shape = (size // _RECORD, _RECORD)
    return StoredArray(str(path), lambda: path.open("rb"), 0, shape, np.dtype(np.uint8))
