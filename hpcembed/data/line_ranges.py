"""Text files of any size, divided among the ranks by byte ranges.

The data bytes of all files (without headers) are divided into equal ranges, one per rank. A line
belongs to the rank whose range contains its first byte. Each rank first counts the lines of its
range, so all ranks can compute row numbers, and memory is checked before it is allocated. Then it
reads the lines in blocks of whole lines. Reading of a gzipped file cannot begin in the middle:
every rank decompresses it from the start and uses its range of the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from hpcembed.data.file_validation import BLOCK_BYTES, file_size, is_gzip, named_errors, open_stream
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.input_limits import MAX_LINE_MIB, limit_of
from hpcembed.runtime.ranks import ownership_range

if TYPE_CHECKING:  # functions that communicate need MPI; the others do without it
    from mpi4py import MPI

__all__ = [
    "LineRange",
    "Skipped",
    "TextFile",
    "count_skipped",
    "estimate_rows",
    "line_blocks",
    "share_lines",
]

_LONGEST_LINE_MIB = 64
_SAMPLE_BYTES = 2**20

#: Lines that are not rows: empty ones; also those of blanks only; also those of a comment, which
#: begins with ``#``.
Skipped = Literal["empty", "blank", "comment"]

_HINTS = (b"\n\n", b"\n\r", b"\n ", b"\n\t")
#: Pattern of these lines. A block with such a line contains one of the byte strings, unless it is
#: the first line.
_SKIPPED: dict[Skipped, tuple[re.Pattern[bytes], tuple[bytes, ...]]] = {
    "empty": (re.compile(rb"(?m)^\r?\n"), _HINTS[:2]),
    "blank": (re.compile(rb"(?m)^[ \t]*\r?(?:\n|\Z)"), _HINTS),
    "comment": (re.compile(rb"(?m)^[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)"), (b"#", *_HINTS)),
}


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of lines.

    Attributes
    ----------
    first_byte : int
        Position of the first byte of data, after a header.
    first_line : int
        Number of the first line of data, from 1.
    """

    path: Path
    first_byte: int = 0
    first_line: int = 1


@dataclass(frozen=True, slots=True)
class LineRange:
    """The lines of one file that this rank reads.

    Attributes
    ----------
    begin, end : int
        Byte range that contains the first byte of each line.
    first_line : int
        Number of the first line in the file, from 1.
    first_row : int
        Global index of the first data row, counted over all files and ranks without blank lines.
    n_rows : int
        Lines that are not blank.
    marks : int
        Occurrences of the byte that :func:`share_lines` counts.
    """

    file: TextFile
    begin: int
    end: int
    first_line: int
    first_row: int
    n_rows: int
    marks: int

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Read the lines in blocks of whole lines, each with the number of its first line.

        Raises
        ------
        InputError
            As :func:`line_blocks`.
        """
        line = self.first_line
        for block in line_blocks(self.file, self.begin, self.end):
            yield line, block
            line += block.count(b"\n")


def share_lines(
    files: Sequence[TextFile],
    comm: MPI.Comm,
    *,
    mark: bytes = b"\n",
    skipped: Skipped = "empty",
) -> tuple[list[LineRange], int]:
    """Divide the lines of files among the ranks. Collective: every rank counts its own range.

    Parameters
    ----------
    mark : bytes
        A byte whose occurrences are counted too, to estimate memory.
    skipped : {"empty", "blank", "comment"}
        Lines that are not rows.

    Returns
    -------
    ranges : list of LineRange
        Ranges of this rank in the order of the files; empty for ranks without lines.
    n_rows : int
        Lines that are not blank, on all ranks.

    Raises
    ------
    InputError
        A file is missing or damaged, has a line of more than 64 MiB, or has another size on rank 0.
    """
    with agreement(comm):
        stored = [file_size(file.path) for file in files]
        # One rank alone decompresses files to determine their size.
        sizes = [
            _unpacked_size(file.path)
            if comm.rank == 0 and is_gzip(file.path)
            else file_size(file.path)
            for file in files
        ]
    sizes, stored_there = comm.bcast((sizes, stored))
    with agreement(comm):
        for file, here, there in zip(files, stored, stored_there, strict=True):
            if here != there:
                raise InputError(
                    f"{file.path}: {here} bytes, and {there} on rank 0: give all compute nodes the "
                    "same files"
                )
    ranges = _byte_ranges(files, sizes, comm)
    counts: list[tuple[int, int, int, int]] = []
    with agreement(comm):
        for index, begin, end in ranges:
            lines = n_rows = marks = 0
            for block in line_blocks(files[index], begin, end):
                in_block = block.count(b"\n") + (not block.endswith(b"\n"))
                lines += in_block
                n_rows += in_block - count_skipped(block, skipped)
                marks += block.count(mark)
            counts.append((index, lines, n_rows, marks))
    everywhere = comm.allgather([entry[:3] for entry in counts])
    before = [entry for entries in everywhere[: comm.rank] for entry in entries]
    row = sum(n_rows for _, _, n_rows in before)
    shares = []
    for (index, begin, end), (_, _, n_rows, marks) in zip(ranges, counts, strict=True):
        # Ranges are consecutive, so earlier lines of the same file are on other ranks.
        line = files[index].first_line + sum(lines for i, lines, _ in before if i == index)
        shares.append(LineRange(files[index], begin, end, line, row, n_rows, marks))
        row += n_rows
    return shares, sum(n_rows for entries in everywhere for _, _, n_rows in entries)


def line_blocks(
    file: TextFile, begin: int, end: int, block_bytes: int = BLOCK_BYTES
) -> Iterator[bytes]:
    """Read the lines whose first byte is in begin..end-1, in blocks of whole lines.

    Raises
    ------
    InputError
        The file is damaged or has a line of more than 64 MiB.
    """
    if begin >= end:
        return
    with named_errors(file.path), open_stream(file.path) as stream:
        position = begin
        if begin > file.first_byte:
            stream.seek(begin - 1)
            position += len(_to_line_end(stream, file.path)) - 1
        else:
            stream.seek(begin)
        while position < end:
            block = stream.read(min(block_bytes, end - position))
            if not block:
                break
            if not block.endswith(b"\n"):
                block += _to_line_end(stream, file.path)
            position += len(block)
            yield block


def count_skipped(block: bytes, skipped: Skipped = "empty") -> int:
    r"""Return the number of lines without data in a block of whole lines.

    Examples
    --------
    >>> count_skipped(b"1,2\n\n3,4\n")
    1
    """
    pattern, hints = _SKIPPED[skipped]
    if block[:1] not in b" \t\r\n" and not any(hint in block for hint in hints):
        return 0
    return sum(1 for match in pattern.finditer(block) if match.group())


def estimate_rows(files: Sequence[TextFile], skipped: Skipped = "empty") -> tuple[int | None, bool]:
    """Estimate the number of data rows by the beginning of each file.

    Returns
    -------
    n_rows : int or None
        None for compressed files, whose length is unknown until they are read.
    is_estimate : bool
        False if the rows of all files were counted.
    """
    total, is_estimate = 0, False
    for file in files:
        if is_gzip(file.path):
            return None, True
        length = file_size(file.path) - file.first_byte
        with file.path.open("rb") as stream:
            stream.seek(file.first_byte)
            sample = stream.read(_SAMPLE_BYTES)
        lines = sample.count(b"\n") + (len(sample) == length and not sample.endswith(b"\n"))
        lines -= count_skipped(sample, skipped)
        if len(sample) < length:
            is_estimate = True
            lines = round(lines * length / len(sample))
        total += lines
    return total, is_estimate


def _to_line_end(stream: BinaryIO, path: Path) -> bytes:
    longest = limit_of(MAX_LINE_MIB, _LONGEST_LINE_MIB)
    rest = stream.readline(longest * 2**20)
    if len(rest) == longest * 2**20 and not rest.endswith(b"\n"):
        raise InputError(
            f"{path}: a line of more than {longest} MiB: this is not a text table; the environment "
            f"variable {MAX_LINE_MIB} raises the limit"
        )
    return rest


def _byte_ranges(
    files: Sequence[TextFile], sizes: Sequence[int], comm: MPI.Comm
) -> list[tuple[int, int, int]]:
    lengths = [max(0, size - file.first_byte) for size, file in zip(sizes, files, strict=True)]
    start, stop = ownership_range(sum(lengths), comm)
    ranges = []
    offset = 0
    for index, (file, length) in enumerate(zip(files, lengths, strict=True)):
        first, last = max(start - offset, 0), min(stop - offset, length)
        if first < last:
            ranges.append((index, file.first_byte + first, file.first_byte + last))
        offset += length
    return ranges


def _unpacked_size(path: Path) -> int:
    size = 0
    with named_errors(path), open_stream(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            size += len(block)
    return size
