"""Markdown tables of a benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence


def markdown_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, numbers_from: int | None = None
) -> list[str]:
    r"""Return the lines of a Markdown table.

    Parameters
    ----------
    numbers_from : int, optional
        First column of numbers, which are aligned at the right.

    Examples
    --------
    >>> print("\n".join(markdown_table(["method", "s"], [("eigsh", 1.5)])))
    | method | s |
    |---|---|
    | eigsh | 1.5 |
    """
    n_text = len(headings) if numbers_from is None else numbers_from
    rule = "|" + "---|" * n_text + "--:|" * (len(headings) - n_text)
    return [markdown_row(headings), rule, *map(markdown_row, rows)]


def markdown_row(cells: Iterable[object]) -> str:
    """Return one line of a Markdown table."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def fact_list(facts: Mapping[str, object]) -> list[str]:
    """Return the lines of a Markdown list of facts."""
    return [f"* {name}: {value}" for name, value in facts.items()]


def number(value: float | None, form: str = "") -> str:
    """Format a number, such as with ``".3g"``; a dash if there is none.

    Examples
    --------
    >>> number(0.12345, ".3g"), number(None), number(float("nan"), ".1e")
    ('0.123', '-', '-')
    """
    return "-" if value is None or not math.isfinite(value) else format(value, form)
