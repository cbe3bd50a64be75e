"""Comparison of PCAs: which methods are timed, what is written, and fits in their own process."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from hpcembed.bench.data_sets import parse
from hpcembed.bench.figures import draw
from hpcembed.bench.methods import PcaAnswer, PcaMethod
from hpcembed.bench.pca_comparison import PcaSettings, compare_on_rows
from hpcembed.bench.pca_record import PcaRecord
from hpcembed.bench.reference import Covariance, reference_of
from hpcembed.bench.separate_fit import fit_separately
from hpcembed.bench.tables import fastest_exact_peer, markdown
from miramns.bench.harness.records import append_json_lines, write_csv


class Fake(PcaMethod):
    """PcaMethod with its code in this test."""

    def load(self):
        return FAKES[self.name]


def optimal(task):
    reference = reference_of(Covariance(task.rows), task.k)
    mean, V = task.rows.mean(axis=0), reference.vectors
    return PcaAnswer(V.T, reference.values, lambda rows: (rows - mean) @ V, detail="by LAPACK")


def coarse(task):
    good = optimal(task)
    V = np.linalg.qr(good.components.T + 1e-2)[0]
    mean = task.rows.mean(axis=0)
    return PcaAnswer(V.T, transform=lambda rows: (rows - mean) @ V)


def doubled(task):
    good = optimal(task)
    return replace(good, variances=2 * good.variances)


def broken(_task):
    raise ValueError("no\n  solution")


FAKES = {
    "good": optimal,
    "coarse": coarse,
    "doubled": doubled,
    "broken": broken,
    "bare": lambda task: PcaAnswer(None),
}
GROUPS = {"good": "hpcembed", "bare": "bound"}


@pytest.fixture
def records():
    fakes = [Fake(name, "", "nowhere", group=GROUPS.get(name, "peer")) for name in FAKES]
    fakes.append(Fake("fits-not", "", "nowhere", needs="", doubles=10**9))
    announced, reported = [], []
    settings = PcaSettings(ks=[2, 3], threads=1, repeats=2, limit=60, memory=False, pause=0)
    found = compare_on_rows(
        parse("generated:60x20:float64"), fakes, settings, reported.append, announced.append
    )
    assert announced
    assert {id(one) for one in reported} == {id(one) for one in found}
    return found


def test_every_answer_is_measured_and_right_ones_are_timed(records):
    assert [one.k for one in records] == [2] * 6 + [3] * 6
    by_name = {one.method: one for one in records if one.k == 3}
    status = {name: one.status for name, one in by_name.items()}
    assert status == {
        "good": "exact", "coarse": "approximate", "doubled": "wrong", "broken": "refused",
        "bare": "bound", "fits-not": "unfit",
    }  # fmt: skip
    assert by_name["broken"].why == "solution"
    assert by_name["coarse"].why == "reports no variances"
    assert by_name["good"].detail == "by LAPACK"
    assert (by_name["good"].n, by_name["good"].d, by_name["good"].data_bytes) == (60, 20, 9600)
    for name, one in by_name.items():
        timed = name in ("good", "coarse", "bare")
        assert (one.seconds is not None) is timed
        assert len(one.repeats_s) == (2 if timed else 0)
        assert (one.transform_s is not None) is (name in ("good", "coarse"))


def test_a_method_over_the_limit_is_not_repeated():
    settings = PcaSettings(ks=[2], threads=1, repeats=1, limit=1e-9, memory=False, pause=0)
    quiet = [].append
    (one,) = compare_on_rows(
        parse("generated:60x20"), [Fake("good", "", "nowhere")], settings, quiet, quiet
    )
    assert one.status == "limit"
    assert one.seconds is None
    assert "more than 1e-09 s" in one.why


def test_files_agree(records, tmp_path):
    append_json_lines(tmp_path / "records.jsonl", records)
    write_csv(tmp_path / "records.csv", records)
    text = markdown(records, {"cores": 2})
    lines = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    with (tmp_path / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(lines) == len(rows) == len(records)
    for line, row, one in zip(lines, rows, records, strict=True):
        assert line["method"] == row["method"] == one.method
        assert line["status"] == row["status"] == one.status
        assert line["seconds"] == one.seconds
        assert row["seconds"] == ("" if one.seconds is None else str(one.seconds))
        assert line["repeats_s"] == one.repeats_s
        if one.status == "unfit":
            assert f"{one.method} ({one.why})" in text
            continue
        shown = next(cells for cells in table_rows(text, one.k) if cells[0] == one.method)
        assert shown[1] == ("-" if one.seconds is None else f"{one.seconds:.3g}")
        finite = one.deficit is not None and np.isfinite(one.deficit)
        assert shown[3] == (f"{one.deficit:.1e}" if finite else "-")
        assert shown[-1].startswith(one.status)
    assert "* cores: 2" in text


def table_rows(text, k):
    section = text.split(f", k = {k}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in section.splitlines()
        if line.startswith("| ")
    ]


def test_ratios_are_to_the_fastest_exact_peer():
    common = {"problem": "x", "n": 9, "d": 5, "dtype": "float32", "nonzeros": None, "threads": 1}
    common |= {"data_bytes": 180, "k": 2}
    timed = [
        ("hpcembed", "hpcembed", "exact", 3.0),
        ("quick", "peer", "approximate", 1.0),
        ("wrong", "peer", "wrong", None),
        ("slow", "peer", "exact", 6.0),
        ("slower", "peer", "exact", 12.0),
        ("xtx", "bound", "bound", 2.0),
    ]
    records = [
        PcaRecord(**common, method=name, group=group, status=status, seconds=seconds)
        for name, group, status, seconds in timed
    ]
    peer = fastest_exact_peer(records)
    assert peer is not None
    assert peer.method == "slow"
    assert "| x | 2 | 3 | slow | 6 | 0.50 | 1.50 |" in markdown(records, {})
    records[0].status = "approximate"  # is not compared with exact ones
    assert "| x | 2 | 3 | slow | 6 | - | - |" in markdown(records, {})


@pytest.mark.slow
def test_no_figure_without_timed_methods(tmp_path, records):
    assert not draw(tmp_path, [one for one in records if not one.is_right])
    assert draw(tmp_path, records)
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "fit.svg").read_text()


def order(**changes):
    usual = {"data": "generated:400x50", "data_dir": ".", "method": "hpcembed", "k": 3}
    return usual | {"threads": 1, "seed": 0} | changes


def test_memory_is_measured_separately():
    # the method makes two copies of 3 MB in double precision
    big = order(data="generated:4000x100", method="slepc-svd-cross")
    outcome = fit_separately(big, 60)
    assert outcome.status == "ok", outcome
    assert outcome.peak_bytes is None or 3e6 < outcome.peak_bytes < 3e8


@pytest.mark.slow
def test_a_process_over_the_limit_is_killed():
    long = order(data="generated:3000x300", method="hpcembed-matrix-free", k=40)
    assert fit_separately(long, 0.001).why == "more than 0.001 s"


@pytest.mark.slow
def test_a_process_without_an_answer_gives_its_reason():
    outcome = fit_separately(order(k=51), 60)
    assert outcome.status == "refused"
    assert "50 features" in outcome.why
    outcome = fit_separately(order(data="nothing"), 60)
    assert outcome.status == "refused"
    assert "--data nothing" in outcome.why
