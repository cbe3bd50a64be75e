"""Rows of a CSV, NPY or NPZ file for a deployed model, read by one process with numpy alone.

The parallel readers of :mod:`hpcembed.data` need MPI, Arrow and SciPy. This one reads the columns
that a model uses, with the same rules and to the same numbers. Cells of the other columns may hold
anything.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.arrays.numpy_files import npz_names, open_npy, open_npz
from hpcembed.data.arrays.stored_array import StoredArray, features_of
from hpcembed.data.columns.raw_columns import RawColumns, RowPiece, TextColumn
from hpcembed.data.file_validation import named_errors, open_stream
from hpcembed.data.labels import RowLabels, check_lengths, labels_from_array, labels_from_text
from hpcembed.data.tables.csv_header import CsvHeader, read_header
from hpcembed.runtime.errors import ConfigError, InputError, MissingPackageError
from hpcembed.runtime.optional import install_command

__all__ = ["READ_KEYS", "FileRows", "check_label_overrides", "read_label_file", "read_rows"]

#: Keys of [data] that have an effect here.
READ_KEYS = (
    *("format", "delimiter", "label_column", "features_key", "labels_key", "target_numbers"),
)
_ENDINGS = {".npy": "npy", ".npz": "npz"} | dict.fromkeys((".csv", ".tsv", ".txt", ".data"), "csv")
_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class FileRows:
    """Rows of a file.

    Attributes
    ----------
    rows : ndarray of shape (n, d) or RawColumns
        The features of the model, in its order.
    labels : LocalLabels, LocalTargets or None
    unused : tuple of str
        Names of columns that the model does not use.
    """

    rows: NDArray[Any] | RawColumns
    labels: RowLabels | None
    unused: tuple[str, ...] = ()


def check_label_overrides(overrides: Sequence[str], path: Path, *, has_labels: bool) -> None:
    """Refuse a setting of the labels for a file without them.

    Parameters
    ----------
    overrides : sequence of str
        ``data.key=value``, of ``--set``.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> check_label_overrides(["data.delimiter=;"], Path("new.csv"), has_labels=False)
    >>> check_label_overrides(["data.label_column=y"], Path("n.csv"), has_labels=False)
    Traceback (most recent call last):
    hpcembed.runtime.errors.ConfigError: --set data.label_column=y: n.csv has no labels of that name
    """
    keys = [one for one in overrides if one.replace(" ", "").startswith("data.label")]
    if keys and not has_labels:
        raise ConfigError(f"--set {keys[0]}: {path} has no labels of that name")


def read_rows(
    path: Path,
    reading: Mapping[str, str],
    names: Sequence[str],
    width: int,
    *,
    takes_columns: bool = False,
) -> FileRows:
    r"""Read the features of a model, and labels if the file has them.

    Parameters
    ----------
    path : Path
    reading : mapping
        Settings of the reader: values of :data:`READ_KEYS`.
    names : sequence of str
        Features of the model; empty if they have no names.
    width : int
        Number of features of the model.
    takes_columns : bool
        Whether the model takes raw columns, whose names are `names`: cells are kept as texts.

    Raises
    ------
    InputError
        The file cannot be used: one line with the place and the remedy.
    MissingPackageError
        The format needs a reader that is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "new.csv")
    ...     _ = path.write_text("name,height,width\nfig,1,2\n")
    ...     read_rows(path, {}, ["width", "height"], 2).rows.tolist()
    [[2.0, 1.0]]
    """
    kind = reading.get("format", "auto")
    if kind == "auto":
        kind = _ENDINGS.get(Path(path.name.lower().removesuffix(".gz")).suffix, "")
    if kind == "csv":
        return _read_csv(path, reading, names, width, takes_columns=takes_columns)
    if takes_columns and kind in ("npy", "npz"):
        raise InputError(f"{path}: the model takes columns with names: give a CSV file")
    if kind == "npy":
        return FileRows(_read_array(open_npy(path), width), None)
    if kind == "npz":
        key = reading.get("labels_key", "y")
        rows = _read_array(open_npz(path, reading.get("features_key", "x")), width)
        labels = None
        if key in npz_names(path):
            labels = _read_labels(open_npz(path, key))
            check_lengths(len(rows), labels.n_rows, str(path), labels.source)
        return FileRows(rows, labels)
    raise MissingPackageError(
        f"{path}: without the reading part of hpcembed, files of type CSV, NPY and NPZ are read: "
        + install_command("train")
    )


def read_label_file(path: Path, label_column: str, n_rows: int, rows: Path) -> RowLabels:
    """Read labels from an NPY file, or from a text file with one label on each line.

    Parameters
    ----------
    path : Path
    label_column : str
        Column of a text file with a header; empty for lines of one label.
    n_rows : int
        Expected number of labels.
    rows : Path
        File of the rows, for messages.

    Raises
    ------
    InputError
        The labels cannot be used, or there are not as many labels as rows.
    """
    if path.suffix.lower() == ".npy":
        labels = _read_labels(open_npy(path))
    else:
        labels = labels_from_text(_label_lines(path, label_column), str(path), 0)
    check_lengths(n_rows, labels.n_rows, str(rows), str(path))
    return labels


def _label_lines(path: Path, label_column: str) -> list[str]:
    with named_errors(path), open_stream(path) as stream:
        lines = [line.decode("utf-8", "replace").strip() for line in stream]
    lines = [line for line in lines if line]
    if not label_column:
        return lines
    if lines and lines[0] == label_column:
        return lines[1:]
    header = read_header(path, label_column, "auto")
    assert header.label is not None  # the column is in the header
    return [cells[header.label] for _, _, cells in _lines(path, header)]


def _read_array(array: StoredArray, width: int) -> NDArray[Any]:
    d, dtype = features_of([array])
    if d != width:
        raise InputError(f"{array.name}: {d} features where the model takes {width}")
    rows = np.empty((array.shape[0], d), dtype=dtype)
    place = 0
    for block in array.blocks(0, array.shape[0]):
        rows[place : place + len(block)] = block
        place += len(block)
    return rows


def _read_labels(array: StoredArray) -> RowLabels:
    if math.prod(array.shape[1:]) != 1 or not array.shape:
        raise InputError(f"{array.name}: labels of shape {array.shape}: give one label for a row")
    blocks = [block.reshape(-1) for block in array.blocks(0, array.shape[0])]
    return labels_from_array(np.concatenate(blocks), array.name, 0)


# ------------------------------------------------------------------------------------------- CSV


def _read_csv(
    path: Path,
    reading: Mapping[str, str],
    names: Sequence[str],
    width: int,
    *,
    takes_columns: bool,
) -> FileRows:
    delimiter = reading.get("delimiter", "auto")
    header = read_header(path, None, delimiter)
    label_column = reading.get("label_column", "")
    if label_column in header.names:
        header = read_header(path, label_column, delimiter)
    places = _places(path, header, names, width)
    lines = _lines(path, header)
    blocks, texts = [], []
    columns = _Columns(path, header, places)
    while block := list(itertools.islice(lines, _BLOCK_ROWS)):
        if takes_columns:
            columns.append(block)
        else:
            blocks.append(_numbers(path, header, places, block))
        if header.label is not None:
            texts += [cells[header.label] for _, _, cells in block]
    if not blocks and not columns.n_rows:
        raise InputError(f"{path}: no data rows below the header")
    labels = None if header.label is None else labels_from_text(texts, str(path), 0)
    used = {*places, header.label}
    unused = tuple(name for place, name in enumerate(header.names) if place not in used)
    rows = columns.raw_columns() if takes_columns else np.concatenate(blocks)
    return FileRows(rows, labels, unused)


class _Columns:
    """Some columns of a file as texts, each different text once."""

    def __init__(self, path: Path, header: CsvHeader, places: Sequence[int]) -> None:
        self._path, self._header, self._places = path, header, places
        self._codes: list[list[int]] = [[] for _ in places]
        self._code_of: list[dict[str, int]] = [{} for _ in places]
        self._lines: list[int] = []

    @property
    def n_rows(self) -> int:
        return len(self._lines)

    def append(self, block: Sequence[Line]) -> None:
        self._lines += [number for _, number, _ in block]
        for place, codes, code_of in zip(self._places, self._codes, self._code_of, strict=True):
            for _, _, cells in block:
                codes.append(code_of.setdefault(cells[place].strip(), len(code_of)))

    def raw_columns(self) -> RawColumns:
        names = tuple(self._header.names[place] for place in self._places)
        piece = RowPiece(str(self._path), 0, 0, np.array(self._lines, dtype=np.int64))
        columns = tuple(
            TextColumn(np.array(codes, dtype=np.int32), tuple(code_of))
            for codes, code_of in zip(self._codes, self._code_of, strict=True)
        )
        numbers = {name: place + 1 for name, place in zip(names, self._places, strict=True)}
        return RawColumns(names, columns, self.n_rows, (piece,), numbers)


def _places(path: Path, header: CsvHeader, names: Sequence[str], width: int) -> list[int]:
    """Return the position of each feature of the model among the columns of the file."""
    if not names:
        places = [place for place in range(len(header.names)) if place != header.label]
        if len(places) != width:
            raise InputError(f"{path}: {len(places)} features where the model takes {width}")
        return places
    lacking = [name for name in names if name not in header.names]
    if lacking:
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        raise InputError(f"{path}: lacks columns of the model: {', '.join(lacking[:5])}{more}")
    repeated = [name for name in names if header.names.count(name) > 1]
    if repeated:
        count = header.names.count(repeated[0])
        raise InputError(f"{path}: {count} columns are named {repeated[0]!r}")
    place_of = {name: place for place, name in enumerate(header.names)}
    return [place_of[name] for name in names]


Line = tuple[int, int, list[str]]  #: number of the data row and of the line, from 1; cells


def _lines(path: Path, header: CsvHeader) -> Iterator[Line]:
    """Read the cells of each line that is not empty."""
    row = 0
    with named_errors(path), open_stream(path) as stream:
        stream.seek(header.file.first_byte)
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="\n")
        for number, line in enumerate(text, header.file.first_line):
            line = line.rstrip("\r\n")
            if not (line.strip(" \t") if header.delimiter == " " else line):
                continue
            row += 1
            where = f"{path}: data row {row} (line {number})"
            if not line.isascii() and any("\udc80" <= sign <= "\udcff" for sign in line):
                raise InputError(f"{where}: not UTF-8 text: convert the file")
            if line.count('"') % 2:
                raise InputError(
                    f"{path}: line {number}: a quote is not closed on its line: line breaks inside "
                    "quotes are not read; replace them"
                )
            cells = header.split(line) if '"' in line else _split(line, header.delimiter)
            if len(cells) != len(header.names):
                expected = len(header.names)
                message = f"{len(cells)} fields where the header has {expected}: correct it"
                raise InputError(f"{where}: {message}")
            yield row, number, cells


def _split(line: str, delimiter: str) -> list[str]:
    return line.split() if delimiter == " " else line.split(delimiter)


def _numbers(
    path: Path, header: CsvHeader, places: Sequence[int], block: Sequence[Line]
) -> NDArray[np.float64]:
    """Return some columns of some lines as numbers."""
    cells = [[line[place] for place in places] for _, _, line in block]
    try:
        numbers = np.array([[float(cell) for cell in row] for row in cells], dtype=np.float64)
    except ValueError:
        numbers = np.full((len(cells), len(places)), np.nan)
    # float() reads 1_000 as 1000, which is no number in a file
    if np.isfinite(numbers).all() and not any("_" in cell for row in cells for cell in row):
        return numbers
    for row, number, line in block:
        for place in places:
            problem = _problem(line[place].strip())
            if problem:
                column = f"column {place + 1} ({header.names[place]})"
                raise InputError(f"{path}: data row {row} (line {number}): {column}: {problem}")
    raise ConfigError(f"{path}: from line {block[0][1]} on: cannot be read as numbers")


def _problem(cell: str) -> str:
    """Return why a cell is not a finite number, or an empty text."""
    if not cell:
        return "the cell is empty: fill in a number or remove the row"
    try:
        number = float("x" if "_" in cell else cell)
    except ValueError:
        return f"{cell[:40]!r} is not a number: leave such columns out or encode them"
    if not math.isfinite(number):
        return f"{cell[:40]!r} is not a finite number: remove or replace such values"
    return ""
