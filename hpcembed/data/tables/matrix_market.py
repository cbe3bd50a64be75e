"""Matrix Market files: sparse (coordinate) or dense (array) features, and whole matrices.

Entries may be in any order, so every rank reads the whole file in bounded blocks and keeps the
entries of its rows. Symmetric files list one triangle; the other one is filled in. Duplicate
entries are added. :mod:`hpcembed.data.tables.matrix_market_header` lists the supported kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.file_validation import BLOCK_BYTES
from hpcembed.data.labels import LabelFile, read_labels
from hpcembed.data.line_ranges import line_blocks
from hpcembed.data.table import Summary, Table
from hpcembed.data.tables.arrow_columns import BadBlockError, parse_block, single_blanks
from hpcembed.data.tables.bad_lines import first_bad_line, is_finite_number
from hpcembed.data.tables.matrix_market_header import MatrixHeader, read_matrix_header
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.machine.memory import available_per_rank, check_fits
from hpcembed.runtime.ranks import communicator, ownership_range

__all__ = [
    "NO_ENTRIES",
    "Entries",
    "MatrixMarketSource",
    "block_entries",
    "read_matrix",
    "read_rows",
]

#: Rows, columns and values of entries.
Entries = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

NO_ENTRIES: Entries = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

_BYTES_PER_ENTRY = 3 * (8 + 8 + 8)  # triplet in pieces, joined, and as compressed rows


class MatrixMarketSource:
    """The rows of a Matrix Market file as a table; labels are in a file of their own, or absent.

    Rows and columns of bare triplets begin with `index_base`; auto: with 1, as in files with a
    banner.

    Raises
    ------
    InputError
        The file is missing, of an unsupported kind, or declares more entries than it can contain.
    """

    def __init__(
        self, path: Path, labels: LabelFile | None, index_base: Literal["auto", 0, 1] = "auto"
    ) -> None:
        self.header = read_matrix_header(path)
        if index_base == 0 and not self.header.has_banner:
            self.header = replace(self.header, index_base=0)
        self.labels = labels
        self.source = str(path)

    @property
    def summary(self) -> Summary:
        """Shape and number of entries of the header. Not collective."""
        header = self.header
        return Summary(
            header.n_rows,
            header.n_columns,
            np.dtype(np.float64),
            is_sparse=header.is_coordinate,
            nnz=header.n_entries if header.is_coordinate else None,
        )

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes for a rank with an equal share of the entries. Not collective."""
        return _needed_bytes(self.header, -(-self.header.n_rows // comm.size))

    def read(self, comm: MPI.Comm) -> Table:
        """Read this rank's rows. Collective."""
        n_rows = self.header.n_rows
        start, stop = ownership_range(n_rows, comm)
        with agreement(comm):
            labels = read_labels(self.labels, start, stop, n_rows, self.source)
            rows = read_rows(self.header, start, stop)
        return Table(rows, labels, start, n_rows, (), self.source)


def read_matrix(path: Path, comm: MPI.Comm | None = None) -> Any:
    r"""Read a whole Matrix Market file or a file of bare triplets on each rank.

    Collective on `comm` if it is given: an error is raised on all ranks.

    Parameters
    ----------
    path : Path
        Plain or gzipped.
    comm : MPI.Comm, optional

    Returns
    -------
    ndarray or scipy.sparse.csr_array of float64, shape (m, n)
        Dense for the array layout and for coordinates that list every entry, else sparse.

    Raises
    ------
    InputError
        The file is missing, damaged or of an unsupported kind, or an entry is not finite.
    MemoryLimitError
        The matrix does not fit.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "m.mtx")
    ...     _ = path.write_text("2 3 2\n1 1 4.0\n2 3 5.0\n")
    ...     matrix = read_matrix(path)
    >>> matrix.toarray()
    array([[4., 0., 0.],
           [0., 0., 5.]])
    """
    comm = communicator(comm)
    available = available_per_rank(comm)
    with agreement(comm):
        header = replace(read_matrix_header(Path(path)), has_banner=True)
        needed = _needed_bytes(header, header.n_rows)
        check_fits(needed, available, f"reading {path}", "use a machine with more memory")
        matrix = read_rows(header, 0, header.n_rows)
        if header.is_coordinate and header.is_full:
            matrix = matrix.toarray()
    return matrix


def _needed_bytes(header: MatrixHeader, n_local: int) -> int:
    blocks = 8 * BLOCK_BYTES
    if not header.is_coordinate:
        return 8 * n_local * header.n_columns + 8 * header.n_columns + blocks
    entries = header.n_entries * (1 if header.symmetry == "general" else 2)
    share = -(-entries * n_local // header.n_rows)
    return share * _BYTES_PER_ENTRY + 16 * n_local + blocks


def read_rows(header: MatrixHeader, start: int, stop: int) -> Any:
    """Read rows start..stop-1: dense or CSR, as in the file."""
    if header.is_coordinate:
        return _read_coordinates(header, start, stop)
    return _read_array(header, start, stop)


def _read_coordinates(header: MatrixHeader, start: int, stop: int) -> Any:
    pieces = [NO_ENTRIES]
    for columns in _columns(header):
        i, j, values = _entries(header, columns)
        own = (i >= start) & (i < stop)
        pieces.append((i[own] - start, j[own], values[own]))
    i, j, values = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    shape = (stop - start, header.n_columns)
    return scipy.sparse.csr_array((values, (i, j)), shape=shape)


def _entries(header: MatrixHeader, columns: list[NDArray[Any]]) -> Entries:
    """Entries of columns of coordinates; for symmetric matrices both triangles."""
    i, j = columns[0] - header.index_base, columns[1] - header.index_base
    values = np.ones(len(i)) if header.is_pattern else columns[2]
    if header.symmetry == "general":
        return i, j, values
    off = i != j
    mirrored = -values[off] if header.symmetry == "skew-symmetric" else values[off]
    rows, places = np.concatenate([i, j[off]]), np.concatenate([j, i[off]])
    return rows, places, np.concatenate([values, mirrored])


def _read_array(header: MatrixHeader, start: int, stop: int) -> NDArray[np.float64]:
    matrix = np.zeros((stop - start, header.n_columns))
    # Values are listed by columns: of a symmetric matrix those on and below the diagonal, of a
    # skew-symmetric matrix those below the diagonal.
    skip = {"general": 0, "symmetric": 0, "skew-symmetric": 1}[header.symmetry]
    columns = np.arange(header.n_columns)
    tops = np.zeros_like(columns) if header.symmetry == "general" else columns + skip
    ends = np.cumsum(header.n_rows - tops)
    position = 0
    for (values,) in _columns(header):
        places = np.arange(position, position + len(values))
        j = np.searchsorted(ends, places, side="right")
        i = places - (ends[j] - (header.n_rows - tops[j])) + tops[j]
        own = (i >= start) & (i < stop)
        matrix[i[own] - start, j[own]] = values[own]
        if header.symmetry != "general":
            own = (j >= start) & (j < stop)
            matrix[j[own] - start, i[own]] = -values[own] if skip else values[own]
        position += len(values)
    return matrix


def _columns(header: MatrixHeader) -> Iterator[list[NDArray[Any]]]:
    """Columns of numbers, block by block; every line is checked."""
    path, line, count = header.file.path, header.file.first_line, 0
    for block in line_blocks(header.file, header.file.first_byte, 2**63 - 1):
        columns = _checked_columns(header, block, line)
        if columns:
            count += len(columns[0])
            if count > header.n_entries:
                break
            yield columns
        line += block.count(b"\n")
    if count != header.n_entries:
        what = "truncated: fewer" if count < header.n_entries else "more"
        raise InputError(
            f"{path}: {what} entries than the {header.n_entries} that its header declares: "
            "copy or write it again"
        )


def block_entries(header: MatrixHeader, block: bytes, first_line: int) -> tuple[int, Entries]:
    """Parse whole lines of coordinates.

    Returns
    -------
    count : int
        Number of lines with an entry.
    entries : tuple of ndarray
        Rows and columns from 0, and values; for symmetric matrices both triangles.

    Raises
    ------
    InputError
        A line has a wrong number of fields, a field that is not a number, or an index out of range.
        The message names the line.
    """
    columns = _checked_columns(header, block, first_line)
    return (len(columns[0]), _entries(header, columns)) if columns else (0, NO_ENTRIES)


def _checked_columns(header: MatrixHeader, block: bytes, first_line: int) -> list[NDArray[Any]]:
    """Columns of a block of whole lines; an empty list if it has comments only."""
    types = {"i": "int64", "j": "int64"} if header.is_coordinate else {}
    if not header.is_pattern:
        types["value"] = "float64"
    text = single_blanks(b"".join(_data_lines(block)) if b"%" in block else block)
    if not text.strip():
        return []
    try:
        table = parse_block(text, " ", types, has_quotes=False)
        columns = [column.to_numpy() for column in table.columns]
        if not _are_valid(header, columns):
            raise BadBlockError("an entry out of range")
    except BadBlockError as error:
        problem = partial(_problem, header, len(types))
        raise first_bad_line(block, header.file.path, first_line, problem, str(error)) from error
    return columns


def _data_lines(block: bytes) -> Iterator[bytes]:
    for line in block.splitlines(keepends=True):
        if not line.lstrip().startswith(b"%"):
            yield line


def _are_valid(header: MatrixHeader, columns: list[NDArray[Any]]) -> bool:
    if columns[-1].dtype == np.float64 and not np.isfinite(columns[-1]).all():
        return False
    if not header.is_coordinate or not len(columns[0]):
        return True
    i, j = (column - header.index_base for column in columns[:2])
    return bool(
        i.min() >= 0 and j.min() >= 0 and i.max() < header.n_rows and j.max() < header.n_columns
    )


def _problem(header: MatrixHeader, n_fields: int, raw: bytes) -> str:
    fields = raw.decode("latin-1").split()
    if not fields or fields[0].startswith("%"):
        return ""
    shown = " ".join(fields)[:60]
    if len(fields) != n_fields:
        return f"{shown!r} has {len(fields)} fields where {n_fields} are needed: correct the file"
    limits = (header.n_rows, header.n_columns) if header.is_coordinate else ()
    base = header.index_base
    for field, size in zip(fields, limits, strict=False):
        # isdigit also accepts digits of other scripts.
        if not (field.isascii() and field.isdigit() and 0 <= int(field[:20]) - base < size):
            remedy = "correct the file"
            if field == "0" and not header.has_banner:
                remedy = "set data.index_base = 0 if the file counts from 0"
            last = size - 1 + base
            return f"{shown!r}: index {field[:30]} is not one of {base} to {last}: {remedy}"
    if len(fields) > len(limits) and not is_finite_number(fields[-1]):
        return f"{shown!r}: {fields[-1][:30]} is not a finite number: correct the file"
    return ""
