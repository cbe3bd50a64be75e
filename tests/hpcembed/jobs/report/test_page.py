"""The report page: whole, self-contained, and safe with any text."""

import re
from html.parser import HTMLParser

from hpcembed.jobs.report.figures.style import new_figure, save_figure
from hpcembed.jobs.report.page import PageFigure, PageSection, PageTable, render_page
from hpcembed.jobs.report.tables import TextTable

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Checks that tags nest, and keeps what was read."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.texts, self.sources = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_a_page_holds_everything_itself():
    blocks = [
        "first & <second>",
        PageTable(TextTable(("name", "value"), [("a<b", "1"), ("c", "2")]), "what it says"),
        PageTable(TextTable(("name",), [("x",)]), summary="more"),
        PageFigure(b"<svg/>", "a curve", "figures/a.csv"),
    ]
    page = render_page(
        '<b>"t"</b>', ["lead"], [PageSection("one", blocks), PageSection("none", [])]
    )
    found = read(page)
    assert {"first & <second>", "a<b", "what it says", "more", "lead"} <= set(found.texts)
    assert "none" not in found.texts
    assert [tag for tag in found.seen if tag in ("table", "details", "img", "script", "link")] == [
        "table", "details", "table", "img",
    ]  # fmt: skip
    assert found.sources == ["data:image/svg+xml;base64,PHN2Zy8+"]
    assert "<b>" not in page
    assert not re.search(r"https?://|@import|url\(", page)


def test_figures_have_the_size_of_their_text(tmp_path):
    """A page that stretches all figures to one width shrinks the text of wide ones."""
    found = {}
    for inches in (4.0, 12.0):
        save_figure(new_figure(inches, 3.0), tmp_path / "a.svg")
        figure = PageFigure((tmp_path / "a.svg").read_bytes(), "c", "d")
        page = render_page("t", [], [PageSection("s", [figure])])
        assert f'style="--width: {96 * inches:.0f}px"' in page
        found[inches] = ('<figure class="scrolls"' in page, figure.width)
    assert found == {4.0: (False, 384), 12.0: (True, 1152)}
    assert PageFigure(b"<svg/>", "c", "d").width == 0


def test_numbers_stand_right_and_text_left():
    table = TextTable(("a", "b", "c"), [("x", "y", "1")], text_columns=(0, 1))
    page = render_page("t", [], [PageSection("s", [PageTable(table)])])
    assert "<td class=text>x</td><td class=text>y</td><td>1</td>" in page
