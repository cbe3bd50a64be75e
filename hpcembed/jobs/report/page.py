"""A report as one HTML file that needs nothing beside it: figures are inside, no script, no font.

It follows the reader's light or dark setting (line figures are inverted with their hues kept), and
prints in black on white. Wide tables and figures scroll inside their frames on a narrow screen.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Figure", "Paragraph", "Section", "Sheet", "render_page"]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of text cells.

    Attributes
    ----------
    n_left : int
        Columns of text at the left; the others are numbers.
    folded : str
        What a reader clicks on to see a long table; shown at once when empty.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    n_left: int = 1
    folded: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """An SVG figure with its caption and the file that holds its numbers."""

    svg: bytes
    caption: str
    data: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Paragraph | Sheet | Figure] = field(default_factory=tuple)


def render_page(
    title: str, lead: Sequence[str], sections: Sequence[Section], language: str = "en"
) -> str:
    """Make the page.

    Not collective.

    Parameters
    ----------
    title : str
    lead : sequence of str
        Paragraphs under the title: what was done, and what came out.
    sections : sequence of Section
        Those without blocks are left out.
    """
    shown = [section for section in sections if section.blocks]
    parts = [
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
        f"<h1>{html.escape(title)}</h1>",
        *(f'<p class="lead">{html.escape(text)}</p>' for text in lead),
    ]
    for section in shown:
        parts.append(f"<section>\n<h2>{html.escape(section.title)}</h2>")
        parts += [_block(block) for block in section.blocks]
        parts.append("</section>")
    parts.append("</main>\n</body>\n</html>\n")
    return "\n".join(parts)


def _block(block: Paragraph | Sheet | Figure) -> str:
    if isinstance(block, Paragraph):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Figure):
        data = base64.b64encode(block.svg).decode("ascii")
        caption, file = html.escape(block.caption), html.escape(block.data)
        return (
            f'<figure><div class="wide"><img alt="{caption}" '
            f'src="data:image/svg+xml;base64,{data}"></div>'
            f"<figcaption>{caption} <small>Data: {file}</small></figcaption></figure>"
        )
    return _table(block)


def _table(sheet: Sheet) -> str:
    head = _row("th", sheet.headings, sheet.n_left)
    body = "\n".join(_row("td", row, sheet.n_left) for row in sheet.rows)
    caption = f"<p>{html.escape(sheet.caption)}</p>\n" if sheet.caption else ""
    table = (
        f'{caption}<div class="wide"><table>\n<thead>{head}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
    if sheet.folded:
        return f"<details><summary>{html.escape(sheet.folded)}</summary>\n{table}</details>"
    return table


def _row(tag: str, cells: Sequence[str], n_left: int) -> str:
    texts = (
        f"<{tag}{' class=text' if i < n_left else ''}>{html.escape(cell)}</{tag}>"
        for i, cell in enumerate(cells)
    )
    return f"<tr>{''.join(texts)}</tr>"


_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --quiet: #5a5a5a;
  --rule: #d8d8d8; --band: #f5f5f3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #141414; --quiet: #a0a0a0; --rule: #3a3a3a; --band: #1e1e1e; }
  figure img { filter: invert(0.92) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Liberation Sans", Arial, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 0.8rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 0.6rem; border-top: 1px solid var(--rule);
  padding-top: 1rem; }
p { max-width: 48rem; margin: 0.5rem 0; overflow-wrap: anywhere; }
p.lead { font-size: 1.05rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.88rem; margin: 0.6rem 0;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th.text, td.text { text-align: left; }
th { font-weight: 600; white-space: normal; vertical-align: bottom; }
tbody tr:nth-child(even) { background: var(--band); }
figure { margin: 0.8rem 0 1.2rem; }
figure img { width: 100%; max-width: 54rem; min-width: 34rem; height: auto; display: block; }
figcaption { color: var(--quiet); font-size: 0.9rem; max-width: 48rem; margin-top: 0.3rem; }
details { margin: 0.6rem 0; }
summary { cursor: pointer; }
@media print {
  :root { --ink: #000; --paper: #fff; --quiet: #333; --rule: #bbb; --band: #f5f5f3; }
  figure img { filter: none; min-width: 0; }
  figure, tr { break-inside: avoid; }
  main { max-width: none; padding: 0; }
  .wide { overflow: visible; }
}
"""
