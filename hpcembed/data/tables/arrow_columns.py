"""Columns of numbers and text out of a block of lines, by Arrow's CSV parser.

Arrow is fast and strict, but what it says about a bad cell depends on its release and names no
file. The callers therefore take its refusal as a hint only and look for the culprit themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["BadBlockError", "parse_block", "single_blanks"]

_BLANKS_TO_MEND = (b"  ", b"\t", b"\n ", b" \n", b" \r")


class BadBlockError(Exception):
    """A block of lines does not have the columns it should have."""


def parse_block(
    block: bytes, delimiter: str, column_types: Mapping[str, str], *, has_quotes: bool
) -> Any:
    """Parse whole lines of text into typed columns. Not collective.

    Parameters
    ----------
    block : bytes
        Whole lines; empty ones are skipped.
    delimiter : str
        One ASCII character.
    column_types : mapping of str to str
        Arrow's type name of each column, in order.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    BadBlockError
        Wrong number of fields, a cell that is no number, text that is not UTF-8.
    """
    import pyarrow
    from pyarrow import csv

    try:
        table = csv.read_csv(
            pyarrow.BufferReader(block),
            # Ranks share the cores already; one chunk a block.
            csv.ReadOptions(
                use_threads=False, block_size=len(block) + 1, column_names=list(column_types)
            ),
            csv.ParseOptions(delimiter=delimiter, quote_char='"' if has_quotes else False),
            csv.ConvertOptions(
                column_types={
                    name: pyarrow.type_for_alias(alias) for name, alias in column_types.items()
                },
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
    """Lines with one blank between fields and none around them. Not collective."""
    if not block.startswith(b" ") and not any(blanks in block for blanks in _BLANKS_TO_MEND):
        return block
    block = re.sub(rb"[ \t]+", b" ", block)
    return re.sub(rb"(?m)^ | (?=\r?$)", b"", block)
