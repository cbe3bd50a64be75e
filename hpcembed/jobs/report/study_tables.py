"""Tables as Markdown, for a study: a heading, rows of text, columns that line up as plain text."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["markdown_table", "percent", "points"]


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], n_left: int = 1) -> str:
    """Make a Markdown table that reads as plain text too; the first `n_left` columns are text.

    Not collective. The text has no newline at its end.
    """
    lines = [tuple(headings), *(tuple(row) for row in rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(headings))]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if i < n_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append(f"| {' | '.join(cells)} |")
    rule = ["-" * w if i < n_left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    text.insert(1, f"| {' | '.join(rule)} |")
    return "\n".join(text)


def percent(mean: float, deviation: float = math.nan) -> str:
    """``97.12 ± 0.08``: an accuracy in percent, with its deviation where there is one."""
    if not math.isfinite(mean):
        return "-"
    spread = f" ± {100.0 * deviation:.2f}" if math.isfinite(deviation) else ""
    return f"{100.0 * mean:.2f}{spread}"


def points(mean: float, low: float = math.nan, high: float = math.nan) -> str:
    """``-0.13 [-0.25, -0.01]``: a difference of accuracies in points, with its interval."""
    interval = f" [{100.0 * low:+.2f}, {100.0 * high:+.2f}]" if math.isfinite(low) else ""
    return f"{100.0 * mean:+.2f}{interval}"
