"""Tables of text for the terminal, Markdown, HTML and CSV.

A :class:`TextTable` holds headings and cells that are formatted already. tabulate aligns them for
the terminal and for Markdown; :mod:`hpcembed.jobs.report.page` renders the same table as HTML.
Tables of numbers for programs are written by :func:`csv_text`.
"""

from __future__ import annotations

import csv
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.report.scores import score_of
from hpcembed.jobs.report.wording import hidden_layers, seconds_text
from hpcembed.runtime.printable_text import one_line

if TYPE_CHECKING:
    from hpcembed.networks.training.report import ClassifierReport

__all__ = [
    "TextTable",
    "columns_of",
    "csv_text",
    "error_text",
    "markdown_text",
    "network_table",
    "spreadsheet_safe",
    "spreadsheet_text",
    "terminal_width",
]

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-](inf|nan)")


@dataclass(frozen=True, slots=True)
class TextTable:
    """Headings and rows of text cells.

    Attributes
    ----------
    headings : sequence of str
    rows : sequence of sequence of str
    text_columns : tuple of int
        Positions of the columns of words, which are aligned to the left; the other columns hold
        numbers and are aligned to the right.

    Examples
    --------
    >>> table = TextTable(("network", "test %"), [("64-64", "97.5"), ("linear", "9.25")])
    >>> print(table.plain())
    network  test %
    -------  ------
    64-64      97.5
    linear     9.25
    >>> print(table.markdown())
    | network | test % |
    |:--------|-------:|
    | 64-64   |   97.5 |
    | linear  |   9.25 |
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: tuple[int, ...] = (0,)

    def plain(self) -> str:
        """Aligned columns for a terminal, without a newline at the end."""
        return self._aligned("simple", one_line)

    def markdown(self) -> str:
        """A Markdown table that reads as plain text too, without a newline at the end."""
        return self._aligned("pipe", markdown_text)

    def terminal(self, width: int | None = None) -> str:
        """Aligned columns, or a block of lines for each row if the columns are too wide.

        Parameters
        ----------
        width : int, optional
            Columns of the terminal; default: those of the terminal that prints, or of ``COLUMNS``;
            without both any width fits.

        Examples
        --------
        >>> table = TextTable(("network", "test %"), [("64-64", "97.5"), ("linear", "9.25")])
        >>> print(table.terminal(12))
        network  64-64
        test %   97.5
        <BLANKLINE>
        network  linear
        test %   9.25
        """
        text = self.plain()
        width = terminal_width() if width is None else width
        if width is None or max(map(len, text.splitlines()), default=0) <= width:
            return text
        names = [one_line(heading) for heading in self.headings]
        longest = max(map(len, names))
        blocks = [
            "\n".join(
                f"{name:{longest}}  {one_line(str(cell))}".rstrip()
                for name, cell in zip(names, row, strict=True)
            )
            for row in self.rows
        ]
        return "\n\n".join(blocks)

    def _aligned(self, style: str, escape: Callable[[str], str]) -> str:
        import tabulate  # here: predictions are written without it

        # It widens each heading by two characters otherwise, and wide tables would be cut.
        tabulate.MIN_PADDING = 0
        sides = ["left" if i in self.text_columns else "right" for i in range(len(self.headings))]
        return tabulate.tabulate(
            [[escape(str(cell)) for cell in row] for row in self.rows],
            [escape(heading) for heading in self.headings],
            tablefmt=style,
            disable_numparse=True,
            # Without rows tabulate has no columns to align.
            colalign=sides if self.rows else None,
        )


def terminal_width() -> int | None:
    """Return the number of columns of the terminal, None if standard output is not one.

    The mpiexec of Open MPI gives each rank a terminal of 0 columns: its width is unknown.
    """
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        known = os.get_terminal_size(sys.__stdout__.fileno()).columns if sys.__stdout__ else 0
    except (OSError, ValueError):
        return None
    return known or None


def columns_of(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    """Turn rows into named columns."""
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def markdown_text(text: str) -> str:
    r"""Escape text for Markdown, in a table or in a line: bars, mathematics, HTML, links, lines.

    Examples
    --------
    >>> print(markdown_text("$x$ | <b> ![a](http://b)"))
    \$x\$ \| &lt;b> ![a\](http://b)
    """
    text = re.sub(r"\\(?=[!-/:-@\[-`{-~])", r"\\\\", one_line(text))  # a backslash escapes these
    text = re.sub(r"[|$`]|\](?=[(\[:])", r"\\\g<0>", text)
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def spreadsheet_safe(text: str) -> str:
    r"""Put an apostrophe before text that a spreadsheet would execute as a formula.

    This is text that begins with = + - @, tab or carriage return; numbers are unchanged. Text that
    begins with apostrophes before such a character gets one more, so that
    :func:`spreadsheet_text` restores every text.

    Examples
    --------
    >>> [spreadsheet_safe(text) for text in ("=1+1", "-1.5e3", "cat", "'=x")]
    ["'=1+1", '-1.5e3', 'cat', "''=x"]
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def spreadsheet_text(cell: str) -> str:
    """Return the text that :func:`spreadsheet_safe` made this cell of.

    Examples
    --------
    >>> spreadsheet_text("'=1+1")
    '=1+1'
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_text(columns: Mapping[str, Sequence[object] | NDArray[Any]]) -> str:
    r"""Write columns of equal length as CSV, under their names; numbers keep all their digits.

    Text is made safe for spreadsheets by :func:`spreadsheet_safe`.

    Raises
    ------
    ValueError
        The columns have different lengths.

    Examples
    --------
    >>> csv_text({"k": [1, 2], "share": [0.5, 0.25]})
    'k,share\n1,0.5\n2,0.25\n'
    """
    lists = [c.tolist() if isinstance(c, np.ndarray) else list(c) for c in columns.values()]
    if len({len(column) for column in lists}) > 1:
        lengths = {key: len(column) for key, column in zip(columns, lists, strict=True)}
        raise ValueError(f"columns of different lengths: {lengths}")
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow([spreadsheet_safe(name) for name in columns])
    writer.writerows([_cell(value) for value in row] for row in zip(*lists, strict=True))
    return "".join(lines)


class _Lines(list[str]):
    r"""Lines of a CSV writer, ended by \n; for \r\n the writer quotes cells with either."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def _cell(value: object) -> object:
    return spreadsheet_safe(value) if isinstance(value, str) else value


def error_text(error: float) -> str:
    """Format an error in the unit of the target with four digits; a dash for NaN."""
    return f"{error:.4g}" if math.isfinite(error) else "-"


def network_table(
    networks: Iterable[ClassifierReport], n_inputs: Mapping[str, int], *, is_linear: bool = True
) -> TextTable:
    """Make the table of the networks that a run trained, one row for each, in the given order.

    Parameters are counted with the projection first, and those of the network alone second.

    Parameters
    ----------
    networks : iterable of ClassifierReport
        Of one task; scores are NaN if there were no rows to measure them on.
    n_inputs : mapping of str to int
        Number of inputs of networks on ``"full"`` and ``"embedded"`` rows.
    is_linear : bool
        Whether the embedding is a projection, whose numbers can be counted.
    """
    networks = list(networks)
    is_regression = any(one.task == "regression" for one in networks)
    score = score_of("regression" if is_regression else "classification")
    headings = (
        "input", "inputs", "hidden", "parameters", "of network", "train s",
        score.heading("validation"), score.heading("test"),
        *(("test RMSE", "test MAE") if is_regression else ()),
    )  # fmt: skip
    rows = [
        (
            one.input,
            f"{n_inputs[one.input]:,}",
            hidden_layers(one.hidden),
            _stored(one, n_inputs, is_linear),
            f"{one.parameters:,}",
            seconds_text(one.train_seconds),
            score.text(one.validation_score),
            score.text(one.test_score),
            *((error_text(one.test_rmse), error_text(one.test_mae)) if is_regression else ()),
        )
        for one in networks
    ]
    return TextTable(headings, rows, text_columns=(0, 2))


def _stored(one: ClassifierReport, n_inputs: Mapping[str, int], is_linear: bool) -> str:
    """Format the number of parameters with those of the projection."""
    if one.input == "full":
        return f"{one.parameters:,}"
    if not is_linear or "full" not in n_inputs:
        return "-"
    return f"{one.parameters + n_inputs['embedded'] * n_inputs['full']:,}"
