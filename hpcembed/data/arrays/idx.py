"""The IDX format of the MNIST files: a big-endian n-dimensional array, plain or gzipped.

Bytes 0 and 1 are zero, byte 2 is the type of the elements, byte 3 the number of dimensions. The
dimensions follow as big-endian 32-bit integers, then the elements, last index fastest
(http://yann.lecun.com/exdb/mnist/). Images are flattened to rows.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np

from hpcembed.data.arrays.stored_array import StoredArray
from hpcembed.data.file_validation import (
    check_declared_size,
    file_size,
    is_gzip,
    named_errors,
    open_stream,
)
from hpcembed.runtime.errors import InputError

__all__ = ["open_idx"]

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def open_idx(path: Path) -> StoredArray:
    """Read the header of an IDX file.

    Raises
    ------
    InputError
        The file is not an IDX file, or its declared size differs from its actual size.
    """
    size = file_size(path)
    with named_errors(path), open_stream(path) as stream:
        head = stream.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES or head[3] == 0:
            raise InputError(
                f"{path}: not an IDX file (it starts with {head.hex() or 'nothing'}): "
                "check data.format and the file"
            )
        dimensions = stream.read(4 * head[3])
    if len(dimensions) < 4 * head[3]:
        raise InputError(f"{path}: truncated inside its header: copy or download it again")
    shape = tuple(int(n) for n in np.frombuffer(dimensions, dtype=">u4"))
    dtype = np.dtype(_TYPES[head[2]])
    offset = 4 + 4 * head[3]
    is_compressed = is_gzip(path)
    declared = offset + math.prod(shape) * dtype.itemsize
    check_declared_size(path, declared, size, is_compressed=is_compressed)
    return StoredArray(
        str(path), partial(open_stream, path), offset, shape, dtype, is_compressed=is_compressed
    )
