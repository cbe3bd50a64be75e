r"""Text from files, made safe to print: names of classes, columns and files may hold any character.

Control characters move the cursor of a terminal or change its settings, are not allowed in XML, and
break tables; marks of the direction of writing show a name in another order than it is stored. All
of them are replaced by their escape sequences, as in ``repr``.
"""

from __future__ import annotations

import re

__all__ = ["one_line", "printable"]

#: Controls but tab and line feed, marks of direction, separators of lines, and surrogates.
_NOT_PRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Replace characters that must not reach a terminal; tabs and line feeds are kept.

    Examples
    --------
    >>> printable("red \x1b[31m")
    'red \\x1b[31m'
    """
    return _NOT_PRINTABLE.sub(_escaped, text)


def one_line(text: str) -> str:
    r"""Replace tabs and line feeds as well.

    Examples
    --------
    >>> one_line("two\nlines")
    'two\\nlines'
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode("ascii")
