"""Layout of a text file whose lines begin with a pair: two node ids, or a node id and a label.

Fields are separated by blanks or by commas. The first lines decide about separators, a header, and
whether node ids are numbers or words. A first line without numbers is a header if numbers follow;
where words follow, it is one only if it consists of usual names of columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpcembed.data.file_validation import file_size, named_errors, open_stream
from hpcembed.data.line_ranges import TextFile
from hpcembed.runtime.errors import InputError

__all__ = [
    "Header",
    "Ids",
    "PairColumns",
    "counts_error",
    "is_utf8",
    "numbered_lines",
    "pair_columns",
]

Header = Literal["auto", "none", "names", "counts"]
Ids = Literal["auto", "numbers", "words"]

_LONGEST_LINE = 2**16
_WHOLE = re.compile(r"\d{1,19}", re.ASCII)
_COLUMN_NAMES = frozenset(
    [
        "source",
        "target",
        "from",
        "to",
        "src",
        "dst",
        "dest",
        "node",
        "nodes",
        "node1",
        "node2",
        "node_1",
        "node_2",
        "u",
        "v",
        "i",
        "j",
        "id",
        "id1",
        "id2",
        "id_1",
        "id_2",
        "name",
        "name1",
        "name2",
        "fromnode",
        "tonode",
        "fromnodeid",
        "tonodeid",
        "from_id",
        "to_id",
        "from_node",
        "to_node",
        "node_id",
        "nodeid",
        "label",
        "class",
        "group",
        "community",
        "category",
        "department",
        "weight",
        "user",
        "friend",
        "protein1",
        "protein2",
        "vertex",
        "vertex1",
        "vertex2",
        "head",
        "tail",
    ]
)


@dataclass(frozen=True, slots=True)
class PairColumns:
    """Layout of a file whose lines begin with a pair of columns.

    Attributes
    ----------
    file : TextFile
        Begins after the comments and the header at the top.
    delimiter : str
        A blank or a comma.
    n_columns : int
    header : str
        The header line, if there is one.
    first : tuple of str
        Fields of the first line of data.
    has_words : bool
        Whether node ids are words.
    """

    file: TextFile
    delimiter: str
    n_columns: int
    header: str
    first: tuple[str, ...]
    has_words: bool


@dataclass(frozen=True, slots=True)
class _Line:
    offset: int
    number: int
    fields: tuple[str, ...]
    delimiter: str

    @property
    def has_number(self) -> bool:
        return any(map(_is_number_like, self.fields))

    @property
    def starts_with_words(self) -> bool:
        return not any(map(_is_number_like, self.fields[:2]))


def pair_columns(
    path: Path, pair: str, header: Header = "auto", ids: Ids = "auto", *, n_ids: int = 2
) -> PairColumns:
    """Determine the layout of a file from its first lines. Not collective.

    Parameters
    ----------
    path : Path
    pair : str
        Name of the pair of columns, for messages.
    header : {"auto", "none", "names", "counts"}
        Whether the first line is data, names of columns, or counts of nodes and edges.
    ids : {"auto", "numbers", "words"}
    n_ids : int
        Number of columns of a pair that are node ids.

    Raises
    ------
    InputError
        A file that is missing, empty, or without a line of two columns; a first line with fewer
        whole numbers than the next one has columns, which may be a line of counts.
    """
    file_size(path)
    first, second = _first_lines(path, pair)
    if first is None or (second is None and header in ("names", "counts")):
        raise InputError(f"{path}: no line with {pair}: check data.format")
    is_header = header in ("names", "counts")
    if header == "auto" and not first.has_number:
        is_header = ids != "words" and (second is None or not second.starts_with_words)
        if second is None or second.starts_with_words:
            is_header = is_header or all(
                name.lower() in _COLUMN_NAMES for name in first.fields[:n_ids]
            )
        if second is None and ids != "numbers":
            is_header = False
    data = second if is_header and second is not None else first
    if is_header and second is None:
        raise InputError(f"{path}: no line with {pair}: check data.format")
    if len(data.fields) < 2:
        raise InputError(f"{path}: line {data.number}: one column where {pair} are needed")
    if header == "auto" and n_ids == 2 and second is not None and not is_header:
        whole = all(map(_WHOLE.fullmatch, first.fields))
        if whole and len(second.fields) > len(first.fields):
            raise counts_error(path, first.number, first.fields, "the next line has more columns")
    has_words = ids == "words" or (ids == "auto" and data.starts_with_words)
    return PairColumns(
        TextFile(path, data.offset, data.number),
        data.delimiter,
        len(data.fields),
        " ".join(first.fields)[:80] if is_header else "",
        data.fields,
        has_words,
    )


def counts_error(path: Path, line: int, fields: tuple[str, ...], reason: str) -> InputError:
    """Return the error of a first line that may hold counts of nodes and edges."""
    return InputError(
        f"{path}: line {line}: {' '.join(fields)[:60]!r} may be counts of nodes and edges, for "
        f"{reason}: set graph.header = counts to skip it, or graph.header = none if it is an edge"
    )


def numbered_lines(
    block: bytes, first_line: int, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of every line with data. Not collective.

    Bytes that are not UTF-8 become surrogates; see :func:`is_utf8`.
    """
    for number, line in enumerate(block.split(b"\n"), first_line):
        fields = _fields(line, delimiter)
        if fields:
            yield number, fields


def is_utf8(text: str) -> bool:
    """Return whether a field of :func:`numbered_lines` was valid UTF-8."""
    return not any("\udc80" <= character <= "\udcff" for character in text)


def _first_lines(path: Path, pair: str) -> tuple[_Line | None, _Line | None]:
    """Return the first two lines that are not comments."""
    found: list[_Line] = []
    offset, number = 0, 0
    with named_errors(path), open_stream(path) as stream:
        while len(found) < 2 and (line := stream.readline(_LONGEST_LINE)):
            number += 1
            if len(line) == _LONGEST_LINE:
                raise InputError(f"{path}: line {number}: longer than 64 KiB: no {pair}")
            delimiter = "," if b"," in line else " "
            fields = _fields(line, delimiter)
            if fields:
                found.append(_Line(offset, number, tuple(fields), delimiter))
            offset += len(line)
    lines = [*found, None, None]
    return lines[0], lines[1]


def _fields(line: bytes, delimiter: str) -> list[str]:
    # Blanks of ASCII alone separate fields: other ones are parts of UTF-8 characters.
    line = line.strip()
    if not line or line[:1] in b"#%":
        return []
    parts = [part.strip() for part in line.split(b",")] if delimiter == "," else line.split()
    return [part.decode("utf-8", "surrogateescape") for part in parts]


def _is_number_like(field: str) -> bool:
    return field.lstrip("+-")[:1].isdigit()
