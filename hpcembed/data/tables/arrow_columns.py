"""Columns of numbers and text from a block of lines, by Arrow's CSV parser.

Arrow is fast and strict, but its message about a bad cell depends on its release and names no file.
Callers therefore search a block that Arrow does not parse for the first bad line themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["BadBlockError", "parse_block", "single_blanks"]

_IRREGULAR_BLANKS = (b"  ", b"\t", b"\n ", b" \n", b" \r")


class BadBlockError(Exception):
    """A block of lines does not have the expected columns."""


def parse_block(
    block: bytes,
    delimiter: str,
    column_types: Mapping[str, str],
    *,
    has_quotes: bool,
    taken: Sequence[str] | None = None,
) -> Any:
    """Parse whole lines of text into typed columns.

    Parameters
    ----------
    block : bytes
        Whole lines; empty ones are skipped.
    delimiter : str
        One ASCII character.
    column_types : mapping of str to str
        Arrow's type name of each column, in order.
    taken : sequence of str, optional
        The columns that are parsed and returned, in this order; default: all.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    BadBlockError
        The number of fields is wrong, a cell is not a number, or text is not UTF-8.
    """
    import pyarrow
    from pyarrow import csv

    try:
        table = csv.read_csv(
            pyarrow.BufferReader(block),
            # The ranks use all cores already; one chunk per block.
            csv.ReadOptions(
                use_threads=False, block_size=len(block) + 1, column_names=list(column_types)
            ),
            csv.ParseOptions(delimiter=delimiter, quote_char='"' if has_quotes else False),
            csv.ConvertOptions(
                column_types={
                    name: pyarrow.type_for_alias(alias) for name, alias in column_types.items()
                },
                include_columns=None if taken is None else list(taken),
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except (pyarrow.ArrowException, ValueError) as error:
        raise BadBlockError(str(error)) from error
    if any(column.null_count for column in table.columns):
        raise BadBlockError("an empty cell")
    return table


def single_blanks(block: bytes) -> bytes:
    r"""Return lines with one blank between fields and none at their ends.

    Examples
    --------
    >>> single_blanks(b" 1   2\n3\t4\n")
    b'1 2\n3 4\n'
    """
    if not block.startswith(b" ") and not any(blanks in block for blanks in _IRREGULAR_BLANKS):
        return block
    block = re.sub(rb"[ \t]+", b" ", block)
    return re.sub(rb"(?m)^ | (?=\r?$)", b"", block)
