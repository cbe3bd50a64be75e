"""The pages of the studies, made from records of small studies that are computed by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.study.report import _record
from hpcembed.jobs.study.settings import StudyConfig, SweepConfig
from hpcembed.jobs.study.summary import StudySummary
from hpcembed.jobs.study.trials import Trial, TrialResult

FOLDER = Path(__file__).parents[2] / "benchmarks"
#: Validation and test scores of two seeds, by input, hidden layers, k and parameters.
SCORES = {
    ("full", (64, 64), 50, 4000): ((0.95, 0.96), (0.93, 0.93)),
    ("full", (8,), 50, 500): ((0.94, 0.95), (0.92, 0.92)),
    ("spectral", (8,), 5, 150): ((0.95, 0.96), (0.925, 0.925)),
}
PUBLISHED = {
    "sets": {
        "mnist": {
            "protocol": {"hidden": {"low": [64, 64], "tiny": [8]}},
            "baseline_accuracy": {"low": 0.9, "tiny": 0.5},
            "embedded_accuracy": {"low": [0.5] * 5, "tiny": [0.1, 0.2, 0.5, 0.6, 0.7]},
        }
    },
    "poster_radar": {
        "baseline": {
            "input_dim": 175, "parameters": 1143815, "train_seconds": 1180,
            "test_accuracy": 0.98772, "network": "174-512-512-7",
        },
        "embedding": {
            "input_dim": 10, "parameters": 233991, "train_seconds": 727,
            "test_accuracy": 0.9839, "network": "10-256-128-7",
        },
    },
}  # fmt: skip


@pytest.fixture
def study_page(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import study_page

    yield study_page
    sys.modules.pop("study_page")


@pytest.fixture
def results(tmp_path):
    trials = [
        TrialResult(f"{key}{seed}", Trial(kind, hidden, k, seed), n, 1.0, 0.1, v, t, 1, ())
        for key, (validation, test) in SCORES.items()
        for (kind, hidden, k, n) in [key]
        for seed, (v, t) in enumerate(zip(validation, test, strict=True))
    ]
    summary = StudySummary(
        StudyConfig(study=SweepConfig(seeds=2, margin=1.0, dimensions=(5,))), trials, 50
    )
    facts = {"dataset": {"n_features": 50}, "seconds": {"operator": 0.5, "solve": 0.5}}
    folder = tmp_path / "results" / "mnist-default"
    folder.mkdir(parents=True)
    RunFolder(folder).write_json("study.json", _record(summary, facts))
    (folder / "figures").mkdir()
    (folder / "figures" / "accuracy.svg").write_text("<svg/>")
    data = tmp_path / "data" / "reference"
    data.mkdir(parents=True)
    (data / "published_accuracy.json").write_text(json.dumps(PUBLISHED))
    (tmp_path / "docs").mkdir()
    return tmp_path


def run(study_page, monkeypatch, folder, results="results"):
    words = [str(folder / results), "--data-dir", str(folder / "data"), "--out"]
    monkeypatch.setattr(sys, "argv", ["study_page.py", *words, str(folder / "docs")])
    study_page.main()


def test_headlines_and_rows_of_the_default_recipe(study_page, monkeypatch, results):
    run(study_page, monkeypatch, results)
    text = (results / "docs" / "study.md").read_text(encoding="utf-8")
    assert "Not measured for this version of the page: cifar10, date_fruit, fetal_health." in text
    assert "**mnist**\n\n- 8 on 5 components of 50 features keeps the accuracy within 1 " in text
    assert "- Parameters: 4,000 -> 400 with the projection, 10.0 times fewer: a factor of" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| mnist") and "->" in line]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "mnist", "50 -> 5 (10.0x)", "64-64 -> 8", "4,000 -> 400 (10.0x)", "8.00 x 1.25",
        "150 (26.7x)", "1.00 -> 2.00 (0.5x)", "93.00 ± 0.00 -> 92.50 ± 0.00",
        "-0.50 [-0.50, -0.50]", "92.00 ± 0.00", "+0.50 [+0.50, +0.50]", "1", "yes",
    ]  # fmt: skip
    assert "1,143,815 -> 235,741 (4.9x)" in text
    (smallest,) = [line for line in text.splitlines() if line.endswith("|           3 |")]
    assert [cell.strip() for cell in smallest.strip("|").split("|")][1:4] == ["8", "5", "5"]
    assert "![mnist, recipe default](study/mnist-default.svg)" in text
    assert (results / "docs" / "study" / "mnist-default.svg").exists()


def test_a_page_without_its_studies_stays_as_it_is(study_page, monkeypatch, results):
    other = results / "docs" / "study_published.md"
    other.write_text("earlier")
    run(study_page, monkeypatch, results)
    assert other.read_text() == "earlier"
    with pytest.raises(SystemExit, match="no finished study of mnist, cifar10"):
        run(study_page, monkeypatch, results, "docs")
