"""Tables of text: the same facts for the terminal, Markdown and CSV."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

import pytest

from hpcembed.jobs.report.tables import TextTable, csv_text, network_table

N_INPUTS = {"full": 784, "embedded": 50}


def report(kind, hidden, parameters, seconds, validation, test):
    return SimpleNamespace(
        input=kind,
        hidden=hidden,
        parameters=parameters,
        train_seconds=seconds,
        validation_score=validation,
        test_score=test,
        task="classification",
    )


FULL = report("full", (512, 512), 669_706, 123.4, 0.98217, 0.9819)
EMBEDDED = report("embedded", (512, 512), 293_898, 42.04, 0.9867, 0.98670)


def lines(*networks, **n_inputs):
    return network_table(networks, N_INPUTS | n_inputs).plain().split("\n")


def test_baseline_and_embedding_stand_in_the_same_columns():
    assert lines(FULL, EMBEDDED) == [
        "input     inputs  hidden   parameters  of network  train s  validation %  test %",
        "--------  ------  -------  ----------  ----------  -------  ------------  ------",
        "full         784  512-512     669,706     669,706      123         98.22   98.19",
        "embedded      50  512-512     333,098     293,898     42.0         98.67   98.67",
    ]


def test_an_embedding_that_is_no_projection_has_no_numbers():
    row = network_table([EMBEDDED], N_INPUTS, is_linear=False).plain().split("\n")[-1]
    assert row.split()[2:5] == ["512-512", "-", "293,898"]


def test_the_widest_row_fits_100_columns():
    wide = report("embedded", (512,) * 5 + (10**6,) * 9, 9 * 10**6, 1e6, 1.0, 1.0)
    found = lines(FULL, wide, embedded=10**3, full=10**3)
    assert max(map(len, found)) <= 100
    assert "512-...-1000000 (14 layers)" in found[-1]


def test_five_layers_are_written_out():
    row = lines(report("full", (512, 512, 512, 512, 256), 1, 1.0, 0.5, 0.5), full=34)[-1]
    assert "512-512-512-512-256" in row


def test_no_test_rows_and_no_hidden_layers():
    row = lines(report("full", (), 15, 0.5, 0.5, math.nan), full=4)[-1]
    assert row.split() == ["full", "4", "none", "15", "15", "0.50", "50.00", "-"]


def test_an_empty_table_is_its_heading():
    assert len(lines()) == 2


def test_a_report_gives_its_row():
    row = lines(report("embedded", (32, 16), 11, 2.0, 0.5, 0.25), embedded=7)[-1]
    assert row.split() == ["embedded", "7", "32-16", "5,499", "11", "2.00", "50.00", "25.00"]


def test_a_table_lines_up():
    table = TextTable(("name", "value"), [("a", "1.00"), ("long name", "-12.25")])
    assert table.markdown().splitlines() == [
        "| name      |  value |",
        "|:----------|-------:|",
        "| a         |   1.00 |",
        "| long name | -12.25 |",
    ]


def test_text_that_looks_like_a_number_is_kept():
    table = TextTable(("k", "share"), [("1e5", "0.10"), ("nan", "1,000")], text_columns=())
    assert table.plain().splitlines()[2:] == ["1e5   0.10", "nan  1,000"]


def test_csv_columns_of_different_lengths_are_named():
    with pytest.raises(ValueError, match="'a': 2, 'b': 3"):
        csv_text({"a": [1, 2], "b": [1, 2, 3]})


def test_wide_tables_become_blocks_that_fit(monkeypatch):
    headings = ("network", "validation difference", "test %")
    table = TextTable(headings, [("64-64", "-0.28 [-1.72, +1.17]", "97.5"), ("x\ny", "1", "2")])
    assert table.terminal(60) == table.plain()
    folded = table.terminal(45)
    assert max(map(len, folded.splitlines())) <= 45
    for word in (*headings, "-0.28 [-1.72, +1.17]", "x\\ny"):
        assert word in folded
    monkeypatch.setenv("COLUMNS", "45")
    assert table.terminal() == folded
    monkeypatch.setenv("COLUMNS", "60")
    assert table.terminal() == table.plain()


@pytest.mark.parametrize(("columns", "rows"), [(0, 1), (200, 1), (10, 2)])
def test_a_terminal_of_no_known_width_has_a_table(monkeypatch, columns, rows):
    """The mpiexec of Open MPI gives each rank a terminal of 0 columns."""
    monkeypatch.delenv("COLUMNS", raising=False)
    size = os.terminal_size((columns, 0))
    monkeypatch.setattr("os.get_terminal_size", lambda number: size)
    monkeypatch.setattr("sys.__stdout__", SimpleNamespace(fileno=lambda: 1))
    lines = TextTable(("network", "test %"), [("64-64", "97.5")]).terminal().splitlines()
    assert lines[0].split() == (["network", "test", "%"] if rows == 1 else ["network", "64-64"])
