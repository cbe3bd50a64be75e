"""Search of a block of lines that a fast parser does not accept for its first bad line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from hpcembed.runtime.errors import InputError

__all__ = ["first_bad_line", "is_finite_number"]


def first_bad_line(
    block: bytes, path: Path, first_line: int, problem: Callable[[bytes], str], reason: str
) -> InputError:
    r"""Return the error of the first bad line of a block.

    Parameters
    ----------
    block : bytes
        Whole lines.
    path : Path
    first_line : int
        Number of the first line, from 1.
    problem : callable
        Returns the problem of a line, "" if there is none.
    reason : str
        Message of the parser, for a block without a bad line.

    Examples
    --------
    >>> first_bad_line(b"1\nx\n", Path("a"), 7, lambda raw: "no number" * (raw == b"x"), "")
    InputError('a: line 8: no number')
    """
    for number, raw in enumerate(block.split(b"\n"), first_line):
        if found := problem(raw):
            return InputError(f"{path}: line {number}: {found}")
    return InputError(f"{path}: from line {first_line} on: cannot be parsed: {reason}")


def is_finite_number(text: str) -> bool:
    """Return whether a text is a finite number.

    Examples
    --------
    >>> [is_finite_number(text) for text in ("1e3", "nan", "x")]
    [True, False, False]
    """
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
