"""Labels in a file of their own: IDX, NPY, or text with one label per line.

A text file may have a header and several columns; ``data.label_column`` then names the column of
the labels. Label files are small in comparison to the rows: every rank reads the whole file and
keeps its own labels.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from hpcembed.data.arrays.array_source import ArrayLabels
from hpcembed.data.arrays.idx import open_idx
from hpcembed.data.arrays.numpy_files import open_npy
from hpcembed.data.file_validation import file_size, named_errors, open_stream
from hpcembed.data.labels import LabelFile, RowLabels, labels_from_text
from hpcembed.data.line_ranges import TextFile, line_blocks
from hpcembed.data.tables.csv_header import CsvHeader, read_header
from hpcembed.runtime.errors import InputError

__all__ = ["TextLabels", "open_labels"]


def open_labels(path: Path, label_column: str) -> LabelFile:
    """Open a file of labels; its first bytes determine the format.

    Raises
    ------
    InputError
        The file is missing, empty or damaged.
    """
    file_size(path)
    with named_errors(path), open_stream(path) as stream:
        head = stream.read(6)
    if head == b"\x93NUMPY":
        return ArrayLabels([open_npy(path)])
    if head[:2] == b"\0\0":
        return ArrayLabels([open_idx(path)])
    return TextLabels(path, label_column)


class TextLabels:
    """Labels in a text file, one per line; blank lines are skipped."""

    def __init__(self, path: Path, label_column: str) -> None:
        self.name = str(path)
        self._header: CsvHeader | None = None
        self._file = TextFile(path)
        if label_column:
            with named_errors(path), open_stream(path) as stream:
                first = stream.readline(2**20)
            if first.strip() == label_column.encode("utf-8"):
                self._file = TextFile(path, len(first), 2)
            else:
                self._header = read_header(path, label_column, "auto")
                self._file = self._header.file
        self.n_labels = sum(1 for _ in self._lines())

    def read(self, first: int, last: int) -> RowLabels:
        """Read labels first..last-1."""
        texts = []
        for index, raw in enumerate(self._lines()):
            if index >= last:
                break
            if index >= first:
                texts.append(self._label(raw, index))
        return labels_from_text(texts, self.name, first)

    def _lines(self) -> Iterator[bytes]:
        for block in line_blocks(self._file, self._file.first_byte, sys.maxsize):
            for line in block.split(b"\n"):
                if line.strip():
                    yield line

    def _label(self, raw: bytes, index: int) -> str:
        try:
            text = raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(f"{self.name}: label {index + 1}: not UTF-8 text") from error
        if self._header is None:
            return text
        fields = self._header.split(text)
        if len(fields) != len(self._header.names):
            raise InputError(
                f"{self.name}: label {index + 1}: {len(fields)} fields where the header has "
                f"{len(self._header.names)}"
            )
        assert self._header.label is not None  # read_header was given a label column
        return fields[self._header.label]
