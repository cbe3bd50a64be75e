"""The header line of a CSV file: separator, names of columns, and the column of the class."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcembed.data.file_validation import file_size, named_errors, open_stream
from hpcembed.data.line_ranges import TextFile
from hpcembed.runtime.errors import InputError

__all__ = ["CsvHeader", "read_header", "read_headers", "split_fields", "split_widest"]

_CANDIDATES = (",", ";", "\t", "|")
_NAMED = {"tab": "\t", "blank": " "}
_LONGEST_HEADER = 16 * 2**20


@dataclass(frozen=True, slots=True)
class CsvHeader:
    """Columns of a CSV file.

    Attributes
    ----------
    names : tuple of str
        All columns.
    label : int or None
        Index of the column of the class; None if every column is a feature.
    """

    file: TextFile
    delimiter: str
    names: tuple[str, ...]
    label: int | None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of all columns but the label's."""
        if self.label is None:
            return self.names
        return self.names[: self.label] + self.names[self.label + 1 :]

    def split(self, line: str) -> list[str]:
        """Return the fields of one line."""
        return split_fields(line, self.delimiter)


def read_header(path: Path, label_column: str | None, delimiter: str) -> CsvHeader:
    r"""Read the first line of a CSV file.

    Parameters
    ----------
    path : Path
    label_column : str or None
        Name of the column of the class; None if every column is a feature.
    delimiter : str
        A character, ``tab``, ``blank`` or ``auto``: the separator that gives most columns.

    Raises
    ------
    InputError
        The file is missing or has no header, or the header lacks the label column.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "fruit.csv")
    ...     _ = path.write_text("mass;kind;width\n1;fig;2\n")
    ...     header = read_header(path, "kind", "auto")
    >>> header.delimiter, header.feature_names
    (';', ('mass', 'width'))
    """
    file_size(path)
    with named_errors(path), open_stream(path) as stream:
        raw = stream.readline(_LONGEST_HEADER)
    _check_text(path, raw)
    line = raw.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: line 1: not UTF-8 text: convert the file to UTF-8, or check data.format"
        ) from error
    if not text.strip() or "\0" in text or "\r" in text or text.count('"') % 2:
        raise InputError(f"{path}: line 1 is not a header of column names: check data.format")
    separator = _separator(text, delimiter, path)
    names = tuple(name.strip() for name in split_fields(text, separator))
    label = None if label_column is None else _find_label(path, names, label_column)
    if len(names) < 2 and label is not None:
        raise InputError(f"{path}: no column besides the label: check data.delimiter")
    return CsvHeader(TextFile(path, len(raw), 2), separator, names, label)


def _check_text(path: Path, first_line: bytes) -> None:
    """Raise InputError for files of other programs and encodings, by their first bytes."""
    if first_line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path}: UTF-16 text: convert the file to UTF-8")
    if first_line.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise InputError(f"{path}: a spreadsheet or an archive, not text: save it as CSV")
    if b"\r" in first_line.rstrip(b"\r\n"):
        raise InputError(f"{path}: its lines end with carriage returns: save it with newlines")


def read_headers(
    paths: Sequence[Path], label_column: str | None, delimiter: str
) -> tuple[CsvHeader, list[TextFile]]:
    """Read the headers of CSV files with the same columns; return the first one and all files.

    Parameters and errors as for :func:`read_header`.

    Raises
    ------
    InputError
        The columns of a file differ from those of the first file.
    """
    first, *others = headers = [read_header(path, label_column, delimiter) for path in paths]
    for header in others:
        if header.names != first.names:
            raise InputError(
                f"{header.file.path}: its columns differ from those of {first.file.path}"
            )
    return first, [header.file for header in headers]


def _separator(text: str, delimiter: str, path: Path) -> str:
    if delimiter != "auto":
        separator = _NAMED.get(delimiter, delimiter)
        if len(separator) != 1 or not separator.isascii() or separator in '"\r\n':
            raise InputError(
                f"data.delimiter: {delimiter!r}: give one character, tab, blank or auto ({path})"
            )
        return separator
    return split_widest(text)[0]


def split_widest(line: str) -> tuple[str, list[str]]:
    """Return the separator of a line that gives most fields, and the fields; else blanks.

    Examples
    --------
    >>> split_widest("a;b,c;d")
    (';', ['a', 'b,c', 'd'])
    """
    found = {candidate: split_fields(line, candidate) for candidate in _CANDIDATES}
    best = max(found, key=lambda candidate: len(found[candidate]))
    return (best, found[best]) if len(found[best]) > 1 else (" ", split_fields(line, " "))


def split_fields(line: str, delimiter: str) -> list[str]:
    """Return the fields of one line; a delimiter of one blank is any number of blanks."""
    if delimiter == " ":
        line = " ".join(line.split())
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a field longer than the limit of the module
        return line.split(delimiter)


def _find_label(path: Path, names: tuple[str, ...], label_column: str) -> int:
    shown = ", ".join(names[:40]) + (f", ... ({len(names)} in all)" if len(names) > 40 else "")
    if not label_column:
        raise InputError(
            f"{path}: set data.label_column to the column of the class, one of: {shown}"
        )
    count = names.count(label_column)
    if count == 0:
        raise InputError(f"{path}: no column {label_column!r} (data.label_column); it has: {shown}")
    if count > 1:
        raise InputError(f"{path}: {count} columns are called {label_column!r}: rename all but one")
    return names.index(label_column)
