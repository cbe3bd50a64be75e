"""Reports as one HTML file: figures are embedded, there is no script and no font.

The page follows the reader's light or dark setting (figures are inverted with their hues kept) and
prints in black on white. On a narrow screen a figure becomes smaller, until its text has two thirds
of its size; wider figures and tables scroll inside their frames.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hpcembed.jobs.report.rendering import render_template
from hpcembed.jobs.report.tables import TextTable

__all__ = ["PageFigure", "PageSection", "PageTable", "render_page"]


#: Width of an SVG in points, and the part of a file that has it.
_WIDTH = re.compile(rb'<svg[^>]* width="([0-9.]+)pt"')
_HEAD = 2000
#: Pixels of a figure on a screen of 400 pixels.
_NARROW = 368


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

    @property
    def width(self) -> int:
        """Width in pixels at which text has the size of the figure's fonts; 0 if it is unknown."""
        found = _WIDTH.search(self.svg[:_HEAD])
        return round(float(found[1]) * 96 / 72) if found else 0

    @property
    def is_wide(self) -> bool:
        """Whether the figure scrolls on a screen of 400 pixels."""
        return not self.width or 0.66 * self.width > _NARROW


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
