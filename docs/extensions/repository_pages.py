"""Pages of the site that show a file of the repository, with links that work at both places.

The files of the repository link to each other by relative paths. On the site, a link to a page of
the site stays a link. A link to another file of the repository becomes its name, because the site
does not contain the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["setup", "site_text"]

ROOT = Path(__file__).resolve().parents[2]

#: A link or an image of Markdown: its text and its target.
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
#: Code, in which nothing is a link.
CODE = re.compile(r"^(```+|~~~+).*?^\1[ ]*$", re.MULTILINE | re.DOTALL)


def site_text(text: str, source: str, page: str, pages: Mapping[str, str]) -> str:
    """Rewrite the relative links of a file for the page of the site that shows it.

    Parameters
    ----------
    text : str
        Markdown.
    source : str
        Path of the file in the repository.
    page : str
        Name of the page, relative to docs/ and without its ending.
    pages : mapping
        Names of pages and the files of the repository that they show.

    Examples
    --------
    >>> pages = {"contributing": "CONTRIBUTING.md"}
    >>> site_text("[how](../CONTRIBUTING.md#layout)", "docs/a.md", "a", pages)
    '[how](contributing.md#layout)'
    >>> site_text("[`cost.py`](../hpcembed/operators/cost.py)", "docs/a.md", "a", pages)
    '`cost.py`'
    """
    shown = {file: name for name, file in pages.items()}
    folder = (ROOT / "docs" / page).parent

    def link(match: re.Match[str]) -> str:
        target, _, anchor = match["target"].partition("#")
        if not target or ":" in target:
            return match[0]
        path = Path(os.path.normpath((ROOT / source).parent / target))
        inside = path.relative_to(ROOT).as_posix()
        if inside in shown:
            path = (ROOT / "docs" / shown[inside]).with_suffix(".md")
        elif not inside.startswith("docs/") or path.is_dir():
            return match["text"]
        there = Path(os.path.relpath(path, folder)).as_posix()
        anchor = f"#{anchor}" if anchor else ""
        return f"{match['image']}[{match['text']}]({there}{anchor})"

    parts, last = [], 0
    for block in CODE.finditer(text):
        parts += [LINK.sub(link, text[last : block.start()]), block[0]]
        last = block.end()
    return "".join([*parts, LINK.sub(link, text[last:])])


def _read(app: Any, page: str, content: list[str]) -> None:
    pages = app.config.repository_pages
    if page in pages:
        source = pages[page]
        content[0] = (ROOT / source).read_text(encoding="utf-8")
        app.env.note_dependency(str(ROOT / source))
    elif Path(app.env.doc2path(page)).suffix == ".md":
        source = f"docs/{page}.md"
    else:
        return
    content[0] = site_text(content[0], source, page, pages)


def setup(app: Any) -> dict[str, bool]:
    """Register the extension."""
    app.add_config_value("repository_pages", {}, "env")
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
