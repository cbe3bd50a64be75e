"""Harness of the benchmarks: order of the runs, records, tables, figures, selection."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field

import pytest

from miramns.bench.harness.arguments import Parser
from miramns.bench.harness.comparison import Case, Comparison, last_line
from miramns.bench.harness.figures import figure_in
from miramns.bench.harness.methods import Method, select_by_name
from miramns.bench.harness.records import (
    Record,
    append_json_lines,
    by_case,
    fastest,
    write_csv,
)
from miramns.bench.harness.root_rank import BenchError
from miramns.bench.harness.tables import markdown_table


class Values(Comparison[Case]):
    """Methods whose answers are their names; the reference or the consensus is right."""

    def __init__(self, reference, **settings):
        super().__init__(reference, **settings)
        self.runs = []

    def unfit(self, case):
        return "too short" if len(case.method.name) < 2 else ""

    def first_run(self, case):
        self.runs.append(case.method.name)
        case.record.status = "answered"

    def evaluate(self, case):
        if case.record.status == "answered":
            case.record.status = "ok" if case.method.name[0] == self.reference else "wrong"

    def timed_run(self, case):
        self.runs.append(case.method.name)
        case.record.add_run(float(len(self.runs)))

    def consensus(self, cases):
        return max(case.method.name[0] for case in cases)


def compared(reference, *names, turns=3):
    cases = [Case(Method(name, ""), Record(problem="p", n=1, k=1, method=name)) for name in names]
    comparison, reported = Values(reference, turns=turns), []
    comparison.compare(cases, lambda record: reported.append((record.method, record.status)))
    return comparison, [case.record for case in cases], reported


def test_right_methods_take_turns_in_an_order_that_rotates():
    comparison, records, reported = compared("a", "a1", "b1", "a2", "c", "a3")
    assert comparison.runs[:4] == ["a1", "b1", "a2", "a3"]
    turns = [comparison.runs[i : i + 3] for i in (4, 7, 10)]
    assert turns == [["a1", "a2", "a3"], ["a2", "a3", "a1"], ["a3", "a1", "a2"]]
    statuses = {one.method: (one.status, one.why) for one in records}
    assert statuses["b1"] == ("wrong", "")
    assert statuses["c"] == ("unfit", "too short")
    assert reported == [(one.method, one.status) for one in records]
    assert records[0].repeats_s == [5.0, 10.0, 12.0]
    assert records[0].seconds == 10.0
    assert records[1].seconds is None
    assert fastest(records).method == "a2"


def test_answers_may_supply_the_reference():
    comparison, records, _ = compared(None, "a1", "b1", turns=1)
    assert comparison.reference == "b"
    assert [one.status for one in records] == ["wrong", "ok"]
    assert comparison.runs == ["a1", "b1", "b1"]


@dataclass(kw_only=True)
class Extended(Record):
    size: float = float("nan")
    parts: list[float] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)


def test_records_as_json_lines_and_csv(tmp_path):
    records = [
        Extended(problem="p", n=2, k=k, method=method, parts=[float("inf")], size=3.0 * k - 3.0)
        for k in (1, 2)
        for method in ("a", "b")
    ]
    records[0].size = float("nan")
    append_json_lines(tmp_path / "records.jsonl", records[:3])
    append_json_lines(tmp_path / "records.jsonl", records[3:])
    lines = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [line["size"] for line in lines] == [None, 0.0, 3.0, 3.0]
    assert lines[0]["parts"] == [None]
    write_csv(tmp_path / "records.csv", records)
    with (tmp_path / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "problem", "n", "k", "method", "status", "why", "reference", "seconds", "size",
    ]  # fmt: skip
    assert [row["size"] for row in rows] == ["", "0.0", "3.0", "3.0"]
    assert {case: len(members) for case, members in by_case(records).items()} == {
        ("p", 1): 2, ("p", 2): 2,
    }  # fmt: skip


def test_tables_align_numbers_at_the_right():
    lines = markdown_table(["method", "s"], [("a|b", 1.5)], numbers_from=1)
    assert lines == ["| method | s |", "|---|--:|", "| a\\|b | 1.5 |"]


def test_figures_leave_the_settings_of_others(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    paths = tmp_path / "figure.png", tmp_path / "figure.svg"
    with figure_in(*paths, width=2.0, height=1.0, dpi=50, font_size=7.0) as figure:
        assert matplotlib.rcParams["font.size"] == 7.0
        figure.subplots()
    assert dict(matplotlib.rcParams) == before
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in paths[1].read_text()


def test_methods_are_selected_by_patterns():
    methods = [Method(name, "") for name in ("ks", "ks-2k", "scipy")]
    assert select_by_name(methods, []) == methods
    assert [one.name for one in select_by_name(methods, ["scipy", "ks*"])] == [
        "ks", "ks-2k", "scipy",
    ]  # fmt: skip
    with pytest.raises(BenchError, match="method 'k' is not one of ks, ks-2k, scipy"):
        select_by_name(methods, ["ks", "k"])


def test_a_number_given_twice_counts_once():
    parser = Parser("p", "", limit=1.0, folder="out", k="", seed="", quick="")
    arguments = parser.parse_args(["--k", "5,3,5", "--seed", "0"])
    assert arguments.k == [5, 3]
    assert arguments.seed == 0


def test_the_last_line_of_an_error():
    assert last_line(ValueError("first\n\n [0] second \n")) == "second"
    assert last_line(MemoryError()) == "MemoryError"
    assert len(last_line(ValueError("x" * 500))) == 160
