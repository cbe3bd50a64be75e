"""Names of classes and columns that hold any character: in files, figures, pages and terminals."""

import csv
import io
import logging
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from hpcembed.jobs.report.figures import style
from hpcembed.jobs.report.figures.components import draw_scatter
from hpcembed.jobs.report.figures.confusion import draw_confusion
from hpcembed.jobs.report.page import PageSection, PageTable, render_page
from hpcembed.jobs.report.rendering import render_template
from hpcembed.jobs.report.tables import TextTable, csv_text, spreadsheet_safe, spreadsheet_text
from hpcembed.runtime import logging as log
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.printable_text import one_line, printable
from hpcembed.runtime.termination import exit_status

NAMES = ("$\\frac{1}$", "$", "red\x1b[31m", "nul\0", "a|b\nc", "\u202eright", "\ud800", "<b>&\x85")
FORMULAS = ("=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK(1)", "''=x", "'@x")


@pytest.mark.parametrize("form", ["svg", "png"])
def test_figures_with_any_names(tmp_path, form):
    n = len(NAMES)
    rows = np.random.default_rng(0).standard_normal((3 * n, 2))
    for number, figure in enumerate(
        (draw_confusion(np.eye(n, dtype=int), NAMES, NAMES[0]), draw_scatter(rows, NAMES * 3, "$"))
    ):
        path = tmp_path / f"{number}.{form}"
        style.save_figure(figure, path)
        if form == "svg":
            ElementTree.parse(path)
            text = path.read_text(encoding="utf-8")
            assert "\\x1b[31m" in text
            assert "\x1b" not in text


def test_pages_and_tables_with_any_names():
    table = TextTable(("class", "$"), [(name, "1") for name in NAMES])
    page = render_page("\x1b", NAMES, [PageSection("x", [PageTable(table)])])
    assert not {"\x1b", "\0", "\x85", "\u202e", "\ud800"} & set(page)
    assert "<b>" not in page
    page.encode("utf-8")
    lines = table.plain().splitlines()
    assert len(lines) == 2 + len(NAMES)
    assert table.plain() == printable(table.plain())
    for line in table.markdown().splitlines():
        assert line.replace("\\|", "").count("|") == 3
        assert "<b" not in line
        assert "$" not in line.replace("\\$", "")


def test_numbers_stay_numbers_and_formulas_become_text():
    numbers = ["-1", "+2.5", "-1e-3", ".5", "-inf", "-.5E+7", "1-1", "x=1"]
    text = csv_text({"=name": [*FORMULAS, *numbers], "value": [-1.5] * 17})
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == ["'=name", "value"]
    cells = [row[0] for row in rows[1:]]
    assert cells == [f"'{name}" for name in FORMULAS] + numbers
    assert {row[1] for row in rows[1:]} == {"-1.5"}


@pytest.mark.parametrize("name", [*FORMULAS, *NAMES, "", "'", "'x", "'-1", "-1", "--1"])
def test_cells_are_read_back(name):
    assert spreadsheet_text(spreadsheet_safe(name)) == name


def test_terminals_get_no_control_characters(capsys, comm):
    log.configure(0, 1)
    logging.getLogger("hpcembed.test").warning("column %s\nnext", NAMES[2])
    log.show(f"class {NAMES[2]}\tx")

    def command():
        raise InputError(f"row 3: {NAMES[2]}")

    assert exit_status(comm, command) == 2
    out, err = capsys.readouterr()
    assert out == "class red\\x1b[31m\tx\n"
    assert err == "column red\\x1b[31m\nnext\nhpcembed: error: row 3: red\\x1b[31m\n"
    log.show("a\x1b", is_data=True)
    assert capsys.readouterr().out == "a\x1b\n"


def test_escapes_are_those_of_repr():
    text = "".join(map(chr, range(0x2100))) + "\ud800\U0001f600"
    for character, escaped in ((c, one_line(c)) for c in text):
        assert escaped in (character, repr(character)[1:-1])
        assert escaped.isprintable() or character in "\xa0\xad" or ord(character) > 0x2F


def test_models_card_with_any_names():
    card = render_template("page.html.j2", title="\x1b", lead=[], sections=[])
    assert "\\x1b" in card
