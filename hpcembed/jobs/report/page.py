"""Reports as one HTML file: figures are embedded, there is no script and no font.

The page follows the reader's light or dark setting (figures are inverted with their hues kept) and
prints in black on white. Wide tables and figures scroll inside their frames on a narrow screen.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from hpcembed.jobs.report.rendering import render_template
from hpcembed.jobs.report.tables import TextTable

__all__ = ["PageFigure", "PageSection", "PageTable", "render_page"]


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table with its caption.

    Attributes
    ----------
    summary : str
        Line that a reader clicks to open a long table; empty for a table that is always open.
    """

    table: TextTable
    caption: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True)
class PageFigure:
    """An SVG figure with its caption and the name of the file that holds its numbers."""

    svg: bytes
    caption: str
    data: str

    @property
    def base64(self) -> str:
        """The SVG file for a data URL."""
        return base64.b64encode(self.svg).decode("ascii")


@dataclass(frozen=True, slots=True)
class PageSection:
    """A heading and the blocks below it; a block that is a string is a paragraph."""

    title: str
    blocks: Sequence[str | PageTable | PageFigure] = ()


def render_page(title: str, lead: Sequence[str], sections: Sequence[PageSection]) -> str:
    """Render the page.

    Parameters
    ----------
    title : str
    lead : sequence of str
        Paragraphs below the title: the experiment and its main result.
    sections : sequence of PageSection
        Sections without blocks are left out.
    """
    return render_template("page.html.j2", title=title, lead=lead, sections=sections)
