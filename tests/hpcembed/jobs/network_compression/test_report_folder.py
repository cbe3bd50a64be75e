"""Report of a compression: every number in every file, figures, escapes and refusals."""

import csv
import errno
import html
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import fields, replace

import pytest
from mpi4py import MPI

from hpcembed.jobs.network_compression import figures
from hpcembed.jobs.network_compression.report import layer_table, write_report_folder
from hpcembed.jobs.network_compression.wording import before_after, headline
from hpcembed.networks.low_rank.report import CompressionReport, FrontierPoint, LayerReport
from hpcembed.networks.low_rank.shape import Cost, Ranks
from hpcembed.runtime.errors import OutputError, OutputExistsError

NAME = "<b>block</b> & $x_1$ 'q'"


def make_report(**changes):
    """A report whose numbers are all different."""
    layers = [
        LayerReport(
            NAME, "conv", (64, 32, 9, 2), side="both", rank_in=7, rank_out=11,
            shared_with=("block.k", "block.v"), captured=0.98765, error_predicted=0.0123,
            error_measured=0.0234, max_residual=3.4e-15, orthogonality=5.6e-16, solver="lapack",
            parameters=(9280.0, 2468.0), macs=(123456.0, 65432.0), seconds=(0.0171, 0.0093),
        ),
        LayerReport(
            "head", "linear", (10, 64, 1, 1), side="output", rank_out=3, captured=0.75,
            error_predicted=0.25, error_measured=float("nan"), max_residual=7.8e-14,
            orthogonality=1.5e-16, solver="miramns", parameters=(650.0, 232.0),
            macs=(640.0, 222.0),
        ),
        LayerReport(
            "stem", "conv", (16, 3, 9, 1), parameters=(448.0, 448.0), macs=(5000.0, 5000.0),
            reason="depthwise",
        ),
    ]  # fmt: skip
    ranks = {NAME: Ranks(7, 11), "head": Ranks(0, 3), "stem": Ranks()}
    frontier = [
        FrontierPoint(10378.0, 129096.0, 0.0, None, dict.fromkeys(ranks, Ranks())),
        FrontierPoint(9990.0, 128678.0, 0.001, None, {"head": Ranks(0, 4)}),
        FrontierPoint(9960.0, 128670.0, 0.5, 1.75, {"head": Ranks(0, 2)}),
        FrontierPoint(3148.0, 70654.0, 0.02, None, ranks),
        FrontierPoint(3148.0, 70654.0, 0.02, 0.84, ranks),
        FrontierPoint(900.0, 5000.0, 4.5, None, {NAME: Ranks(1, 1), "head": Ranks(0, 1)}),
    ]
    values = {
        "layers": layers,
        "frontier": frontier,
        "before": Cost(10400.0, 129096.0, 0.0211),
        "after": Cost(3148.0, 70654.0, 0.0123),
        "metric": "accuracy",
        "full_score": 91.73,
        "small_score": 90.89,
        "loss": 0.84,
        "test_scores": (91.5, 90.25),
        "settings": {"side": "auto", "seed": 17, "request": {"max_loss": 1.0}},
        "samples": 2345,
        "calibration_hash": "ab12" * 16,
        "folded": ("norm.1", "norm.2"),
        "seconds": {"moments": 1.25, "eigenproblems": 2.5},
        "warnings": ("layer <head>: 12 rows",),
    }
    return CompressionReport(**{**values, **changes})


def tables(page):
    """Rows of all tables of a page, as text."""
    return [
        [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", page, re.S)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "made" / "report"
    assert write_report_folder(make_report(), path, title="Net <1> & $2$") == path
    return path


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_files(folder):
    assert sorted(os.listdir(folder)) == [
        "figures", "frontier.csv", "layers.csv", "report.html", "report.json",
    ]  # fmt: skip
    assert sorted(os.listdir(folder / "figures")) == [
        f"{name}.{form}" for name in ("frontier", "layers") for form in ("csv", "png", "svg")
    ]
    assert os.listdir(folder.parent) == ["report"]


def test_json_has_every_field(folder):
    content = json.loads((folder / "report.json").read_text())
    report = make_report()
    assert set(content) == {one.name for one in fields(CompressionReport)} | {
        "title", "parameters_kept", "macs_kept", "ranks", "chosen",
    }  # fmt: skip
    assert content["title"] == "Net <1> & $2$"
    assert content["parameters_kept"] == 3148 / 10400
    assert content["macs_kept"] == 70654 / 129096
    assert content["ranks"] == {
        NAME: {"inputs": 7, "outputs": 11}, "head": {"inputs": 0, "outputs": 3},
    }  # fmt: skip
    assert content["chosen"] == 4
    for place, layer in enumerate(report.layers):
        found = content["layers"][place]
        assert set(found) == {one.name for one in fields(LayerReport)}
        for name, value in found.items():
            expected = getattr(layer, name)
            if isinstance(expected, tuple):
                expected = list(expected)
            elif isinstance(expected, float) and math.isnan(expected):
                expected = None
            assert value == expected, name
    for place, point in enumerate(report.frontier):
        assert content["frontier"][place] == {
            "parameters": point.parameters,
            "macs": point.macs,
            "predicted_loss": point.predicted_loss,
            "measured_loss": point.measured_loss,
            "ranks": {
                n: {"inputs": r.inputs, "outputs": r.outputs} for n, r in point.ranks.items()
            },
        }
    assert content["before"] == {"parameters": 10400.0, "macs": 129096.0, "seconds": 0.0211}
    assert content["after"] == {"parameters": 3148.0, "macs": 70654.0, "seconds": 0.0123}
    assert (content["metric"], content["full_score"]) == ("accuracy", 91.73)
    assert (content["small_score"], content["loss"]) == (90.89, 0.84)
    assert content["test_scores"] == [91.5, 90.25]
    assert content["settings"] == report.settings
    assert (content["samples"], content["calibration_hash"]) == (2345, "ab12" * 16)
    assert content["folded"] == ["norm.1", "norm.2"]
    assert content["seconds"] == {"moments": 1.25, "eigenproblems": 2.5}
    assert content["warnings"] == ["layer <head>: 12 rows"]


def test_layers_csv(folder):
    rows = read_csv(folder / "layers.csv")
    assert rows[0] == {
        "layer": NAME, "type": "conv", "outputs": "64", "inputs": "32", "kernel": "9",
        "groups": "2", "side": "both", "rank_in": "7", "rank_out": "11", "captured": "0.98765",
        "error_predicted": "0.0123", "error_measured": "0.0234", "max_residual": "3.4e-15",
        "orthogonality": "5.6e-16", "solver": "lapack", "shared_with": "block.k block.v",
        "parameters_before": "9280.0", "parameters_after": "2468.0", "macs_before": "123456.0",
        "macs_after": "65432.0", "seconds_before": "0.0171", "seconds_after": "0.0093",
        "reason": "",
    }  # fmt: skip
    assert [row["reason"] for row in rows] == ["", "", "depthwise"]


def test_frontier_csv(folder):
    rows = read_csv(folder / "frontier.csv")
    assert rows[4] == {
        "parameters": "3148.0", "macs": "70654.0", "predicted_loss": "0.02",
        "measured_loss": "0.84", "layers_cut": "2", "least_over_parameters": "False",
        "least_over_macs": "False", "chosen": "True",
    }  # fmt: skip
    assert [row["chosen"] for row in rows] == ["False"] * 4 + ["True", "False"]
    # Of two equal points the first is on the line; the third point loses more than a cheaper one.
    on_line = ["True", "True", "False", "True", "False", "True"]
    assert [row["least_over_parameters"] for row in rows] == on_line
    assert [row["least_over_macs"] for row in rows] == on_line
    assert [row["measured_loss"] for row in rows] == ["", "", "1.75", "", "0.84", ""]


def test_table_of_layers_in_the_page(folder):
    found = tables((folder / "report.html").read_text())
    start = found.index(list(layer_table(make_report()).headings))
    assert found[start:][:4] == [
        [
            "layer", "type", "outputs x inputs", "side", "rank", "captured %", "error predicted",
            "error measured", "residual", "parameters", "after", "multiply-adds", "after", "ms",
            "after", "note",
        ],
        [
            NAME, "conv", "64 x 32, kernel 9, 2 groups", "both", "input 7, output 11", "98.765",
            "1.23e-02", "2.34e-02", "3.40e-15", "9,280", "2,468", "123,456", "65,432", "17.1",
            "9.3", "reduction shared with block.k, block.v",
        ],
        [
            "head", "linear", "10 x 64", "output", "output 3", "75.000", "2.50e-01", "-",
            "7.80e-14", "650", "232", "640", "222", "-", "-", "",
        ],
        [
            "stem", "conv", "16 x 3, kernel 9", "none", "-", "-", "-", "-", "-", "448", "448",
            "5,000", "5,000", "-", "-", "depthwise",
        ],
    ]  # fmt: skip


def test_other_tables_in_the_page(folder):
    found = tables((folder / "report.html").read_text())
    for row in (
        ["parameters", "10,400", "3,148", "30.3%"],
        ["multiply-adds of one sample", "129,096", "70,654", "54.7%"],
        ["milliseconds of one batch", "21.1", "12.3", "58.3%"],
        ["accuracy, validation", "91.73 %", "90.89 %", ""],
        ["accuracy, test", "91.5 %", "90.25 %", ""],
        ["9,960", "128,670", "5.00e-01", "1.75", "1", ""],
        ["3,148", "70,654", "2.00e-02", "0.84", "2", "result"],
        ["side", "auto"],
        ["seed", "17"],
        ["request.max_loss", "1.0"],
        ["moments", "1.25"],
        ["eigenproblems", "2.50"],
        ["sum", "3.75"],
    ):
        assert found.count(row) == 1, row


def test_sentences_in_the_page(folder):
    page = (folder / "report.html").read_text()
    text = html.unescape(page)
    assert (
        "2 of 3 layers were cut: 10,400 -> 3,148 parameters (30.3%), 129,096 -> 70,654 "
        "multiply-adds of one sample (54.7%), 21.1 -> 12.3 milliseconds of one batch (58.3%). "
        "Accuracy on the validation batches: 91.73 % -> 90.89 %, a loss of 0.84 points. On the "
        "test batches, which were read once: 91.5 % -> 90.25 %."
    ) in text
    assert "of its layer: 7.80e-14. Largest deviation from orthonormality: 5.60e-16" in text
    assert "Eigenproblems were solved by lapack and miramns. Largest true residual" in text
    assert f"2,345 samples. SHA-256 of the calibration batches: {'ab12' * 16}." in text
    assert "folded into the layers before them: norm.1, norm.2." in text
    assert "layer <head>: 12 rows" in text


def test_page_is_one_file_and_escapes_names(folder):
    page = (folder / "report.html").read_text()
    assert "<title>Network compression: Net &lt;1&gt; &amp; $2$</title>" in page
    assert "<b>" not in page
    assert "<head>:" not in page
    assert page.count('src="data:image/svg+xml;base64,') == 2
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page


def test_scores_that_were_not_measured():
    report = make_report(
        metric="", full_score=None, small_score=None, loss=None, test_scores=None,
        before=Cost(10400.0, 0.0), after=Cost(3148.0, 0.0),
    )  # fmt: skip
    assert headline(report) == (
        "2 of 3 layers were cut: 10,400 -> 3,148 parameters (30.3%), 0 -> 0 multiply-adds of one "
        "sample (-). The loss was not measured: there were no validation batches."
    )
    assert before_after(report)[2] == ("milliseconds of one batch", "-", "-", "-")


def test_figures_are_drawn_for_every_kind_of_report(tmp_path):
    cut = make_report()
    whole = [replace(layer, side="none", reason="not selected") for layer in cut.layers]
    for number, report in enumerate(
        (
            make_report(frontier=[], loss=None),
            make_report(layers=whole, frontier=cut.frontier[:1]),
            make_report(layers=[]),
            make_report(loss=None, frontier=cut.frontier[:2], before=Cost(10400.0, 0.0)),
            make_report(layers=[replace(cut.layers[0], name=f"{i}$") for i in range(90)]),
        )
    ):
        write_report_folder(report, tmp_path / str(number))
        drawn = {path.stem for path in (tmp_path / str(number) / "figures").glob("*.png")}
        assert ("frontier" in drawn) == bool(report.frontier)
        assert ("layers" in drawn) == bool(report.layers)
    rows = read_csv(tmp_path / "4" / "figures" / "layers.csv")
    assert len(rows) == figures.MOST_LAYERS
    assert "layers with most parameters are drawn" in (tmp_path / "4/report.html").read_text()


def test_figure_of_the_frontier():
    """Values, mark and units of the panels."""
    drawn = figures.draw_frontier(make_report())
    assert drawn.axes[0].yaxis.get_major_formatter()(0.01, 0) == "0.01"
    predicted, over_macs, measured, _ = drawn.axes
    lines = {line.get_label(): line for line in predicted.lines}
    x, y = lines["least predicted loss"].get_data()
    assert list(y) == [4.5, 0.02, 0.001]
    assert x == pytest.approx([100 * 900 / 10400, 100 * 3148 / 10400, 100 * 9990 / 10400])
    star = [float(v[0]) for v in lines["result"].get_data()]
    assert star == pytest.approx([100 * 3148 / 10400, 0.02])
    star = {line.get_label(): line for line in over_macs.lines}["result"].get_xdata()
    assert star == pytest.approx([100 * 70654 / 129096])
    lines = {line.get_label(): line for line in measured.lines}
    assert list(lines["measured"].get_ydata()) == [1.75, 0.84]
    assert list(lines["result"].get_ydata()) == [0.84]
    assert list(lines["largest loss"].get_ydata()) == [1.0, 1.0]
    assert measured.get_ylabel() == "measured loss (points of accuracy)"


def test_result_that_is_not_on_the_frontier():
    report = make_report(frontier=make_report().frontier[:3], loss=None)
    assert figures.chosen_point(report) is None
    predicted = figures.draw_frontier(report).axes[0]
    line = {line.get_label(): line for line in predicted.lines}["size of the result"]
    assert line.get_xdata() == pytest.approx([100 * 3148 / 10400] * 2)


def test_figure_of_the_layers():
    axes = figures.draw_layers(make_report()).axes[0]
    widths = [bar.get_width() for bars in axes.containers for bar in bars]
    assert widths == pytest.approx([100 * 2468 / 9280, 100 * 232 / 650, 100.0])
    (dots,) = axes.lines
    assert list(dots.get_xdata()) == pytest.approx([98.765, 75.0])
    assert [text.get_text() for text in axes.texts] == ["98.77", "75.00"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        figures.style.shorten(NAME, 32), "head", "stem",
    ]  # fmt: skip


def test_existing_folder_is_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    with pytest.raises(OutputExistsError, match="full: not empty"):
        write_report_folder(make_report(), tmp_path / "full")
    assert os.listdir(tmp_path / "full") == ["file"]
    with pytest.raises(OutputExistsError, match="file: is a file"):
        write_report_folder(make_report(), tmp_path / "full" / "file")
    (tmp_path / "empty").mkdir()
    assert (write_report_folder(make_report(), tmp_path / "empty") / "report.json").exists()


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match=r"^/proc/report: cannot write: [^\n]*$"):
        write_report_folder(make_report(), "/proc/report")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OutputError, match="cannot write: No space left on device; free space"):
        write_report_folder(make_report(), tmp_path / "report")
    assert os.listdir(tmp_path) == []


def test_torch_is_not_imported(tmp_path):
    code = (
        "import sys, hpcembed.jobs.network_compression.report, "
        "hpcembed.jobs.network_compression.model_folder\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.mpi
def test_rank_0_writes_and_all_ranks_agree(tmp_path_factory):
    comm = MPI.COMM_WORLD
    path = comm.bcast(str(tmp_path_factory.mktemp("mpi")) if comm.rank == 0 else None)
    target = os.path.join(path, "report")
    write_report_folder(make_report(), target, comm=comm)
    comm.Barrier()
    assert len(os.listdir(target)) == 5
    with pytest.raises(OutputExistsError, match="report: not empty"):
        write_report_folder(make_report(), target, comm=comm)
