"""Names of any characters in every output: no name becomes markup, a formula or a command."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import logging
import re
import tempfile
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcembed.jobs.export.prediction_text import prediction_csv
from hpcembed.jobs.network_compression.wording import one_line as one_line_of_layers
from hpcembed.jobs.report.figures import style
from hpcembed.jobs.report.figures.confusion import draw_confusion
from hpcembed.jobs.report.page import PageFigure, PageSection, PageTable, render_page
from hpcembed.jobs.report.rendering import render_template
from hpcembed.jobs.report.run_folder import json_bytes
from hpcembed.jobs.report.run_json import DatasetRecord
from hpcembed.jobs.report.tables import TextTable, csv_text, markdown_text
from hpcembed.runtime import logging as log
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.printable_text import one_line, printable

#: Pieces that are markup, formulas, commands of terminals or ends of lines somewhere.
PIECES = [
    "<", ">", "&", '"', "'", "<script>", "</td>", "<img src=x onerror=y>", "<!--", "]]>", "<b",
    "&lt;",
    "=", "+", "-", "@", "\t", "\r", "\n", "=HYPERLINK(1)", "'", "\x1b[31m", "\x1b]0;t\x07",
    "\x9b31m",
    "\x00", "\x7f", "\u202e", "\u2028", "\ud800", "|", "$", "`", "```", "](http://x)", "![", "[a]",
    "[a]: http://x", "# ", "---", "{{ x }}", "{% x %}", "%s", "\\", "cat", "1", "-1.5", ",", ";",
    " ",
]  # fmt: skip
NAMES = st.one_of(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join),
    st.text(st.characters(), min_size=1, max_size=12),
)
FIXED = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SLOW = settings(FIXED, max_examples=8)

#: Commands of a terminal, and characters that change the order of a line.
CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]"
)


class Elements(html.parser.HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append(f"{tag} {sorted(name for name, _ in attributes)}")

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.elements.append("comment")


def page_of(name: str) -> str:
    table = PageTable(TextTable(("class", name), [(name, "1")]), name, name)
    figure = PageFigure(b"<svg/>", name, name)
    return render_page(name, [name], [PageSection(name, [name, table, figure])])


PLAIN = Elements(page_of("name")).elements


@FIXED
@given(NAMES)
def test_no_element_of_a_page_is_made_of_a_name(name):
    page = Elements(page_of(name))
    assert page.elements == PLAIN
    assert not CONTROLS.search(page.text)
    page_of(name).encode("utf-8")


@FIXED
@given(NAMES)
def test_html_of_notebooks(name):
    block = {"headings": (name,), "rows": [(name,)]}
    plain = {"headings": ("a",), "rows": [("a",)]}
    pages = [
        Elements(
            render_template(
                "markdown_report.html.j2", blocks=[one, {"lines": [text], "heading": False}]
            )
        )
        for one, text in ((block, name), (plain, "a"))
    ]
    assert pages[0].elements == pages[1].elements


@SLOW
@given(st.lists(NAMES, min_size=2, max_size=3, unique_by=one_line))
def test_figures_are_xml(names):
    figure = draw_confusion(np.eye(len(names), dtype=int), names, names[0])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # that no font has
        path = Path(folder, "a.svg")
        style.save_figure(figure, path)
        tree = ElementTree.parse(path)
    kinds = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert not kinds & {"script", "img", "foreignObject", "b"}


def is_safe_cell(cell: str) -> bool:
    is_number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-](inf|nan)", cell)
    return not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or bool(is_number)


@FIXED
@given(st.lists(NAMES, min_size=1, max_size=4))
def test_no_cell_of_csv_is_a_formula(names):
    columns = {f"{name}{place}": names for place, name in enumerate(names)}
    text = csv_text({**columns, names[0]: names})
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == 1 + len(names)
    assert all(map(is_safe_cell, (cell for row in rows for cell in row)))


@FIXED
@given(st.lists(NAMES, min_size=2, max_size=3))
def test_no_cell_of_predictions_is_a_formula(names):
    text = prediction_csv(names, np.array([0, 1]), np.array([0.5, 0.25]))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == 3
    assert all(map(is_safe_cell, (cell for row in rows for cell in row)))


@FIXED
@given(NAMES)
def test_terminals_and_logs_get_no_commands(capsys, name):
    log.configure(0, 1)
    logging.getLogger("hpcembed.test").warning("column %s", name)
    log.show(f"class {name}")
    log.show(TextTable(("class",), [(name,)]).terminal())
    out, err = capsys.readouterr()
    assert not CONTROLS.search(out + err)
    assert str(InputError(name)) == one_line(str(InputError(name)))
    assert "\n" not in one_line_of_layers(name)


@FIXED
@given(NAMES)
def test_markdown_makes_no_link_image_or_element_of_a_name(name):
    text = markdown_text(name)
    assert "\n" not in text
    assert not re.search(r"<[A-Za-z/!?]", text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[|$`]", text)
    assert not re.search(r"(?<!\\)(?:\\\\)*\](?=[(\[:])", text)
    table = TextTable((name,), [(name,)]).markdown().splitlines()
    assert len(table) == 3


@FIXED
@given(NAMES.filter(lambda name: not re.search("[\ud800-\udfff]", name)))
def test_run_json_gives_names_back(name):
    record = DatasetRecord(name, 1, 1, 1, 1, columns=[{"column": name}])
    content = msgspec.json.format(json_bytes(record), indent=2)
    assert json.loads(content)["name"] == name
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", content)


@pytest.mark.parametrize("name", ["x", "-1", "a,b", "height [cm]", "50 % of 3"])
def test_usual_names_are_unchanged(name):
    assert markdown_text(name) == name == printable(name)
