"""Documents from the Jinja2 templates in the folder ``templates``."""

from __future__ import annotations

import functools
from typing import Any

import jinja2

from hpcembed.jobs.report.tables import markdown_text
from hpcembed.jobs.report.wording import network_name
from hpcembed.runtime.printable_text import printable

__all__ = ["markdown_html", "render_template"]


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hpcembed.jobs.report"),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_printable,
    )
    filters: dict[str, Any] = {
        "accuracy": lambda share: "unknown" if share is None else f"{100 * share:.2f} %",
        "markdown": markdown_text,
        "error": lambda value: "unknown" if value is None else f"{value:.6g}",
        "network_name": network_name,
        "score": lambda share: "unknown" if share is None else f"{share:.4f}",
        "thousands": "{:,}".format,
    }
    environment.filters.update(filters)
    return environment


def _printable(value: Any) -> Any:
    return printable(value) if type(value) is str else value


def render_template(template: str, /, **values: Any) -> str:
    """Fill a template with `values`; text in HTML templates is escaped."""
    return _environment().get_template(template).render(**values)


def markdown_html(text: str) -> str:
    r"""Write the paragraphs, headings and tables of a report in Markdown as HTML for a notebook.

    Examples
    --------
    >>> "<th>k</th>" in markdown_html("# Digits\n\n| k |\n|--:|\n| 3 |\n")
    True
    """
    return render_template("markdown_report.html.j2", blocks=_blocks(text))


def _blocks(text: str) -> list[dict[str, Any]]:
    """Divide Markdown into paragraphs and tables."""
    blocks: list[dict[str, Any]] = []
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if lines and all(line.startswith("|") for line in lines):
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            blocks.append({"headings": cells[0], "rows": cells[2:]})
        elif lines:
            heading = lines[0].startswith("#")
            blocks.append({"heading": heading, "lines": [line.lstrip("# ") for line in lines]})
    return blocks
