"""Documents that are lines or CSV records of a file; each rank reads those of its byte range.

:class:`LineDocuments`: each line is a label, a blank or tab, and the text; without labels the whole
line is the text. Blank lines are skipped. :class:`CsvDocuments`: a header names the columns, one of
which is the text. Quoted texts may contain line breaks, so a line alone does not show where a
record begins: each rank counts the quotes in its range, and a line begins inside a text if and only
if an odd number of quotes precedes it (RFC 4180: a quote inside a text is doubled). A record with a
misplaced quote is refused with its line number.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from mpi4py import MPI

from hpcembed.data.file_validation import check_compression, check_line_ends, file_size
from hpcembed.data.labels import RowLabels, labels_from_text, no_labels, unusable
from hpcembed.data.line_ranges import LineRange, TextFile, estimate_rows, line_blocks, share_lines
from hpcembed.data.tables.csv_header import CsvHeader, read_headers
from hpcembed.data.text.cleaning import Cleaner
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["CsvDocuments", "LineDocuments"]

_LONGEST_RECORD = 64 * 2**20
_BLANK = re.compile(r"[ \t]")


class LineDocuments:
    """A document on every line.

    Raises
    ------
    InputError
        A file that is missing, empty, compressed with a program other than gzip, or without line
        feeds.
    """

    def __init__(self, paths: Sequence[Path], *, labelled: bool) -> None:
        for path in paths:
            file_size(path)
            check_compression(path)
            check_line_ends(path)
        self._files = [TextFile(path) for path in paths]
        self._labelled = labelled
        self._name = ", ".join(map(str, paths))
        self._ranges: list[LineRange] = []

    def n_rows_expected(self) -> tuple[int | None, bool]:
        """Return the number of lines, estimated from the beginning of each file."""
        return estimate_rows(self._files, "blank")

    def share(self, comm: MPI.Comm) -> int:
        """Assign lines to ranks; return the bytes of this rank's. Collective."""
        self._ranges, n_rows = share_lines(self._files, comm, skipped="blank")
        if n_rows == 0:
            raise InputError(f"{self._name}: no documents: all lines are blank")
        return sum(lines.end - lines.begin + 128 * lines.n_rows for lines in self._ranges)

    def read(self, cleaner: Cleaner) -> tuple[list[str], RowLabels]:
        """Read this rank's texts and labels, after :meth:`share`. Not collective."""
        texts: list[str] = []
        labels: list[str] = []
        for lines in self._ranges:
            for first, block in lines.blocks():
                for number, raw in enumerate(io.BytesIO(block), first):
                    if not raw.strip(b" \t\r\n"):
                        continue
                    name = f"{lines.file.path}: line {number}"
                    text = cleaner.decode(raw.removesuffix(b"\n").removesuffix(b"\r"), name)
                    if self._labelled:
                        label, *rest = _BLANK.split(text.strip(" \t"), maxsplit=1)
                        text = rest[0] if rest else ""
                        labels.append(_checked_label(label, name))
                    texts.append(cleaner.clean(text))
        if self._labelled:
            return texts, labels_from_text(labels, self._name, 0)
        return texts, no_labels(len(texts))


class CsvDocuments:
    """A document in one column of every record.

    Parameters
    ----------
    text_column : str
    label_column : str or None
        None if documents have no labels.
    delimiter : str
        A character, ``tab``, ``blank`` or ``auto``.

    Raises
    ------
    InputError, ConfigError
        A file that is missing, empty or without these columns; files with different columns.
    """

    def __init__(
        self, paths: Sequence[Path], text_column: str, label_column: str | None, delimiter: str
    ) -> None:
        self._header, self._files = read_headers(paths, label_column, delimiter)
        self._text = _text_index(self._header, text_column)
        if self._header.label == self._text:
            raise ConfigError(f"data.text_column and data.label_column are both {text_column!r}")
        self._name = ", ".join(map(str, paths))
        # A header of one column contains no separator, which `auto` reads as a blank.
        guessed = self._header.delimiter == " " and delimiter == "auto"
        self._delimiter = "," if guessed else self._header.delimiter
        self._ranges: list[LineRange] = []
        self._open: list[bool] = []

    def n_rows_expected(self) -> tuple[int | None, bool]:
        """Return the number of lines, estimated likewise; records may be fewer."""
        return estimate_rows(self._files)[0], True

    def share(self, comm: MPI.Comm) -> int:
        """Assign lines to ranks; return the bytes of this rank's. Collective."""
        self._ranges, n_rows = share_lines(self._files, comm, mark=b'"')
        if n_rows == 0:
            raise InputError(f"{self._name}: no documents below the header")
        marks = [0] * len(self._files)
        for lines in self._ranges:
            marks[self._files.index(lines.file)] += lines.marks
        before = np.array(comm.allgather(marks))[: comm.rank].sum(axis=0)
        self._open = [bool(before[self._files.index(lines.file)] % 2) for lines in self._ranges]
        return sum(lines.end - lines.begin + 128 * lines.n_rows for lines in self._ranges)

    def read(self, cleaner: Cleaner) -> tuple[list[str], RowLabels]:
        """Read this rank's texts and labels, after :meth:`share`. Not collective."""
        texts: list[str] = []
        labels: list[str] = []
        header = self._header
        with _long_fields():
            for lines, is_open in zip(self._ranges, self._open, strict=True):
                for number, raw in _records(lines, is_open):
                    name = f"{lines.file.path}: line {number}"
                    fields = self._fields(cleaner.decode(raw, name), name)
                    texts.append(cleaner.clean(fields[self._text]))
                    if header.label is not None:
                        labels.append(_checked_label(fields[header.label], name))
        if header.label is None:
            return texts, no_labels(len(texts))
        source = f"{self._name}, column {header.names[header.label]}"
        return texts, labels_from_text(labels, source, 0)

    def _fields(self, record: str, name: str) -> list[str]:
        """Fields of one record; `name` is for messages."""
        try:
            # One string with its line breaks: a misplaced quote cannot split it into two records.
            fields = next(csv.reader([record], delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            reason = str(error)
            if reason.startswith("new-line"):  # the record extends past a misplaced quote
                reason = "a quote is inside a text that is not in quotes"
            raise InputError(
                f"{name}: the quotes of this record are broken ({reason}): put a text with quotes "
                "in quotes and double the inner ones"
            ) from error
        expected = len(self._header.names)
        if len(fields) != expected:
            raise InputError(
                f"{name}: {len(fields)} fields where the header has {expected}: correct the record"
            )
        return fields


def _text_index(header: CsvHeader, text_column: str) -> int:
    shown = ", ".join(header.names[:40])
    if not text_column:
        raise ConfigError(
            f"set data.text_column to the column of the text ({header.file.path} has: {shown})"
        )
    count = header.names.count(text_column)
    if count != 1:
        what = f"{count} columns" if count else "no column"
        raise InputError(
            f"{header.file.path}: {what} {text_column!r} (data.text_column); it has: {shown}"
        )
    return header.names.index(text_column)


def _records(lines: LineRange, is_open: bool) -> Iterator[tuple[int, bytes]]:
    """Yield the records that begin in a range of lines, each with the number of its first line.

    Parameters
    ----------
    is_open : bool
        Whether the first line belongs to a record that begins before the range.
    """
    record: list[bytes] = []
    begin, n_bytes = 0, 0
    skipping = is_open
    for number, is_beyond, raw in _lines(lines):
        if is_beyond and (skipping or not is_open):
            return
        if not is_open and not skipping and not raw.strip(b"\r\n"):
            continue
        if not record:
            begin, n_bytes = number, 0
        is_open ^= bool(raw.count(b'"') % 2)
        if skipping:  # the end of a record that another rank reads
            skipping = is_open
            continue
        record.append(raw)
        n_bytes += len(raw)
        if n_bytes > _LONGEST_RECORD:
            raise InputError(
                f"{lines.file.path}: line {begin}: a record of more than 64 MiB: check that its "
                "quotes are closed"
            )
        if not is_open:
            yield begin, b"".join(record)
            record = []
    if record:
        raise InputError(f"{lines.file.path}: line {begin}: a quote is not closed: close it")


def _lines(lines: LineRange) -> Iterator[tuple[int, bool, bytes]]:
    """Yield the lines of a range, then those after it: number, whether after it, bytes."""
    number = lines.first_line
    for is_beyond, begin, end in ((False, lines.begin, lines.end), (True, lines.end, 2**62)):
        for block in line_blocks(lines.file, begin, end):
            for raw in io.BytesIO(block):
                yield number, is_beyond, raw
                number += 1


def _checked_label(label: str, name: str) -> str:
    reason = unusable(label.strip())
    if reason:
        raise InputError(f"{name}: the label is {reason}: remove such documents")
    return label


@contextmanager
def _long_fields() -> Iterator[None]:
    """Raise the limit of the csv module, which holds for the whole process, to 64 MiB a text."""
    before = csv.field_size_limit(_LONGEST_RECORD)
    try:
        yield
    finally:
        csv.field_size_limit(before)
