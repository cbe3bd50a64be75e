"""SVMlight / LIBSVM files: ``label index:value index:value ... # comment`` on each line.

Each rank parses the lines of its own byte range with scikit-learn's parser, block by block.
``qid`` fields are ignored. :mod:`hpcembed.data.tables.sparse_columns` determines over all files and
ranks whether feature numbers begin at 0 or 1.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.file_validation import BLOCK_BYTES, file_size
from hpcembed.data.labels import labels_from_array
from hpcembed.data.line_ranges import LineRange, TextFile, estimate_rows, share_lines
from hpcembed.data.table import Summary, Table
from hpcembed.data.tables.bad_lines import first_bad_line, is_finite_number
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import place_rows

__all__ = ["SvmlightSource"]

_LARGEST_INDEX = 2**31 - 2
_BYTES_PER_ENTRY = 2 * (8 + 8)  # value and index, in pieces and joined


class SvmlightSource:
    """Some SVMlight files as one table of sparse rows.

    Raises
    ------
    InputError
        A file is missing or empty.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            file_size(path)
        self.files = [TextFile(path) for path in paths]
        self.source = ", ".join(map(str, paths))
        self._ranges: list[LineRange] = []
        self._n_rows = 0

    @property
    def summary(self) -> Summary:
        """Estimated number of rows, and type. Not collective."""
        n_rows, is_estimate = estimate_rows(self.files)
        return Summary(n_rows, None, np.dtype(np.float64), is_sparse=True, is_estimate=is_estimate)

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes that reading needs on the rank that needs most; count the lines.

        Collective.
        """
        self._ranges, self._n_rows = share_lines(self.files, comm, mark=b":", skipped="comment")
        if self._n_rows == 0:
            raise InputError(f"{self.source}: no data rows: check data.format")
        entries = sum(lines.marks for lines in self._ranges)
        rows = sum(lines.n_rows for lines in self._ranges)
        needed = entries * _BYTES_PER_ENTRY + rows * 32 + 6 * BLOCK_BYTES
        return int(comm.allreduce(needed, op=MPI.MAX))

    def read(self, comm: MPI.Comm) -> Table:
        """Read this rank's rows, columns numbered as in the file. Collective."""
        n_local = sum(lines.n_rows for lines in self._ranges)
        start = place_rows(n_local, comm)[0]
        with agreement(comm):
            pieces = [piece for lines in self._ranges for piece in _read_range(lines)]
            width = max((rows.shape[1] for rows, _ in pieces), default=1)
            joined = scipy.sparse.csr_array((0, width), dtype=np.float64)
            targets = np.empty(0)
            if pieces:
                for rows, _ in pieces:
                    rows.resize(rows.shape[0], width)
                joined = scipy.sparse.vstack([rows for rows, _ in pieces], format="csr")
                targets = np.concatenate([target for _, target in pieces])
            labels = labels_from_array(targets, self.source, start)
        return Table(joined, labels, start, self._n_rows, (), self.source, has_file_indices=True)


def _read_range(lines: LineRange) -> list[tuple[Any, NDArray[np.float64]]]:
    from sklearn.datasets import load_svmlight_file

    pieces, row = [], 0
    for line, block in lines.blocks():
        try:
            rows, targets = load_svmlight_file(io.BytesIO(block), zero_based=True)
        except (ValueError, OverflowError, IndexError, MemoryError) as error:
            raise _bad_line(block, lines.file.path, line, str(error)) from error
        if not (np.isfinite(rows.data).all() and np.isfinite(targets).all()):
            raise _bad_line(block, lines.file.path, line, "a number that is not finite")
        pieces.append((rows, targets))
        row += len(targets)
    if row != lines.n_rows:
        raise InputError(
            f"{lines.file.path}: {row} rows in {lines.n_rows} lines from line {lines.first_line} "
            "on: carriage returns inside lines?"
        )
    return pieces


def _bad_line(block: bytes, path: Path, first_line: int, reason: str) -> InputError:
    return first_bad_line(block, path, first_line, _problem, reason)


def _problem(raw: bytes) -> str:
    fields = raw.partition(b"#")[0].decode("utf-8", errors="replace").split()
    if not fields:
        return ""
    if "," in fields[0]:
        return (
            f"the label {fields[0][:40]!r} has several values: several labels or targets for each "
            "row are not supported: write one file and train one model for each"
        )
    if not is_finite_number(fields[0]):
        return f"the label {fields[0][:40]!r} is not a finite number: number the classes"
    last = -1
    for field in fields[1:]:
        index, colon, value = field.partition(":")
        if index == "qid" and colon:
            continue
        if not colon or not index.isdecimal() or int(index[:20]) > _LARGEST_INDEX:
            return f"{field[:40]!r} is not index:value: correct the line"
        if not is_finite_number(value):
            return f"feature {index}: {value[:40]!r} is not a finite number: remove or replace it"
        if int(index) <= last:
            return f"feature {index} follows feature {last}: sort the features of each line"
        last = int(index)
    return ""
