"""Tables of the benchmark of PCAs, each with a name.

``mnist``, ``cifar10``
    Training rows of the public files under ``--data-dir``, float32, divided by 255.
``digits``
    scikit-learn's 1797 images of 8 x 8 pixels, float32, divided by 16; no file needed.
``generated:NxD[:float32|float64][:powerA|geometricR]``
    ``1 m' + G diag(s) Q' + E``: G is N x r standard normal, Q is D x r with orthonormal columns,
    r = min(200, N/2, D/2); the variances s_j^2 are j^-A (power, A = 1 by default) or R^(j-1)
    (geometric, 0 < R < 1). E is normal noise whose D variances add up to a tenth of those of the
    r directions; the means m are normal. The spectrum of the sample has a tail like that of
    images, and centring matters.
``sparse:NxD:NNZ[:float32|float64]``
    NNZ entries drawn in each row, column j with a probability proportional to 1/(j + 10), values
    uniform in (0.5, 1.5); entries at the same place are added. The order of the columns is random.
    The rows are never centred explicitly.

The same name and seed give the same numbers.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.reading import read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.runtime.errors import ConfigError

FORMS = (
    "mnist",
    "cifar10",
    "digits",
    "generated:NxD[:float32|float64][:powerA|geometricR]",
    "sparse:NxD:NNZ[:float32|float64]",
)

_DIRECTIONS = 200
_NOISE_SHARE = 0.1
_ROWS_PER_BLOCK = 8192
_TYPES: dict[str, type[np.floating[Any]]] = {"float32": np.float32, "float64": np.float64}

_FILES = {
    "mnist": DataSettings(
        name="mnist",
        format="idx",
        train=("mnist/train-images-idx3-ubyte.gz",),
        train_labels="mnist/train-labels-idx1-ubyte.gz",
        test=("mnist/t10k-images-idx3-ubyte.gz",),
        test_labels="mnist/t10k-labels-idx1-ubyte.gz",
    ),
    "cifar10": DataSettings(
        name="cifar10",
        format="cifar10",
        train=tuple(f"cifar10/data_batch_{i}.bin" for i in range(1, 6)),
        test=("cifar10/test_batch.bin",),
    ),
}


@dataclass(frozen=True)
class DataSet:
    """Description of a table.

    Attributes
    ----------
    name : str
    kind : {"mnist", "cifar10", "digits", "generated", "sparse"}
    shape : tuple of int, or None for files
    dtype : type
    decay : tuple of str and float
        Decay of the generated spectrum: ``("power", A)`` or ``("geometric", R)``.
    per_row : int
        Number of entries drawn in each sparse row.
    """

    name: str
    kind: str
    shape: tuple[int, int] | None = None
    dtype: type[np.floating[Any]] = np.float32
    decay: tuple[str, float] = ("power", 1.0)
    per_row: int = 0


def parse(word: str) -> DataSet:
    """Parse the name of a table.

    Raises
    ------
    ConfigError
        If the name has no such form.

    Examples
    --------
    >>> parse("generated:1000x20:float64:power2").decay
    ('power', 2.0)
    """
    kind, *parts = word.split(":")
    if kind in ("mnist", "cifar10", "digits") and not parts:
        return DataSet(word, kind)
    if kind not in ("generated", "sparse") or not parts:
        raise ConfigError(f"--data {word}: not one of {', '.join(FORMS)}")
    size = re.fullmatch(r"([1-9]\d{0,11})x([1-9]\d{0,8})", parts.pop(0))
    if size is None:
        raise ConfigError(f"--data {word}: need a shape NxD, as in 1000x100")
    shape = (int(size[1]), int(size[2]))
    if shape[0] < 2:
        raise ConfigError(f"--data {word}: a covariance needs at least 2 rows")
    per_row = 0
    if kind == "sparse":
        if not parts or not re.fullmatch(r"[1-9]\d{0,8}", parts[0]):
            raise ConfigError(
                f"--data {word}: need the number of entries in a row, as in 1000x500:20"
            )
        per_row = int(parts.pop(0))
    dtype: type[np.floating[Any]] = np.float32
    decay = ("power", 1.0)
    for part in parts:
        spectrum = re.fullmatch(r"(power|geometric)(\d*\.?\d+)", part)
        if part in _TYPES:
            dtype = _TYPES[part]
        elif spectrum and kind == "generated" and _is_decay(spectrum[1], float(spectrum[2])):
            decay = (spectrum[1], float(spectrum[2]))
        else:
            raise ConfigError(f"--data {word}: {part!r} is not part of {FORMS[3]} or {FORMS[4]}")
    return DataSet(word, kind, shape, dtype, decay, per_row)


def _is_decay(name: str, value: float) -> bool:
    return 0 < value < 1 if name == "geometric" else 0 < value <= 10


def load(data: DataSet, data_dir: Path, seed: int) -> Any:
    """Generate or read the rows: a row-major ndarray or a csr_matrix.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    if data.kind == "generated":
        return _generated(data, seed)
    if data.kind == "sparse":
        return _sparse(data, seed)
    if data.kind == "digits":
        from sklearn.datasets import load_digits

        return np.ascontiguousarray(load_digits().data / 16, dtype=np.float32)
    rows = read_dataset(_FILES[data.kind], data_dir, MPI.COMM_SELF).train.rows
    found = np.empty(rows.shape, dtype=np.float32)
    for first in range(0, len(rows), _ROWS_PER_BLOCK):
        part = slice(first, first + _ROWS_PER_BLOCK)
        np.divide(rows[part], np.float32(255), out=found[part], dtype=np.float32)
    return found


def variances(data: DataSet, rank: int) -> NDArray[np.float64]:
    """Return the variances of a generated table along its r directions, without the noise."""
    name, value = data.decay
    j = np.arange(1, rank + 1, dtype=np.float64)
    return np.power(j, -value) if name == "power" else np.power(value, j - 1)


def _generated(data: DataSet, seed: int) -> NDArray[Any]:
    assert data.shape is not None  # as parsed
    n, d = data.shape
    rng = np.random.default_rng(seed)
    rank = max(1, min(_DIRECTIONS, n // 2, d // 2))
    spectrum = variances(data, rank)
    Q = np.linalg.qr(rng.standard_normal((d, rank)))[0]
    planted = (Q * np.sqrt(spectrum)).T.astype(data.dtype)
    noise = data.dtype(math.sqrt(_NOISE_SHARE * float(spectrum.sum()) / d))
    means = rng.standard_normal(d).astype(data.dtype)
    means *= data.dtype(math.sqrt(float(spectrum.sum()) / d))
    rows = np.empty((n, d), dtype=data.dtype)
    for first in range(0, n, _ROWS_PER_BLOCK):
        block = rows[first : first + _ROWS_PER_BLOCK]
        rng.standard_normal(out=block, dtype=data.dtype)
        block *= noise
        block += means
        block += rng.standard_normal((len(block), rank), dtype=data.dtype) @ planted
    return rows


def _sparse(data: DataSet, seed: int) -> Any:
    assert data.shape is not None  # as parsed
    n, d = data.shape
    rng = np.random.default_rng(seed)
    reached = np.cumsum(1.0 / (np.arange(d) + 10.0))
    order = rng.permutation(d).astype(np.int32)
    count = n * data.per_row
    drawn = np.searchsorted(reached, rng.random(count) * reached[-1])
    columns = order[np.minimum(drawn, d - 1)]
    values = rng.random(count, dtype=np.float32).astype(data.dtype) + data.dtype(0.5)
    index = np.int32 if count < 2**31 else np.int64
    starts = np.arange(0, count + 1, data.per_row, dtype=index)
    rows = scipy.sparse.csr_matrix((values, columns, starts), shape=(n, d))
    rows.sum_duplicates()
    return rows
