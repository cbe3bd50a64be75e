"""Whole studies from the command line: results on 1, 2 and 3 ranks, resumption, errors."""

import csv
import json

import pytest

from job_files import JOBS, settings

RUN = ["-m", "hpcembed", "study"]

SMALL = """
[data]
name = "digits"
format = "digits"
scaling = "divide"
divisor = 16.0

[study]
dimensions = [2, 6]
networks = [[8]]
embeddings = ["spectral", "gaussian"]
seeds = 2
margin = 50.0

[training]
epochs = 3
batch_size = 64

[output]
figures = false
"""


def write_small(folder):
    path = folder / "small.toml"
    path.write_text(SMALL)
    return path


def trials(out, name="trials.csv"):
    with (out / name).open() as file:
        rows = list(csv.DictReader(file))
    return {
        (row["input"], row["n_inputs"], row["seed"]): {
            key: value for key, value in row.items() if key != "train_seconds"
        }
        for row in rows
    }


def small_study(folder, ranks):
    return [["study", write_small(folder), "--out", str(ranks)]]


@pytest.mark.launch(small_study, ranks=(1, 2, 3))
def test_same_results_on_any_number_of_ranks(launched):
    found = []
    for ranks in (1, 2, 3):
        (done,) = launched[ranks]
        assert done.status == 0, done.err
        found.append(trials(launched.folder / str(ranks)))
        assert len(found[-1]) == 2 * (2 * 2 + 1)
        assert "10 trials, 0 of them finished" in done.err
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for key, trial in found[0].items():
            assert other[key]["digest"] == trial["digest"]
            for name in ("validation_accuracy", "test_accuracy"):
                # The components of other ranks differ in their last digits.
                assert float(other[key][name]) == pytest.approx(float(trial[name]), abs=0.01)


def reproducible_study(folder, ranks):
    return [["study", write_small(folder), "--reproducible", "--out", str(ranks)]]


@pytest.mark.launch(reproducible_study, ranks=(1, 3))
def test_the_same_bits_in_the_reproducible_mode(launched):
    found = []
    for ranks in (1, 3):
        (done,) = launched[ranks]
        assert done.status == 0, done.err
        out = launched.folder / str(ranks)
        files = [
            (out / name).read_bytes() for name in ("eigenvalues.csv", "projection.safetensors")
        ]
        found.append((trials(out), files))
        assert len(found[-1][0]) == 2 * (2 * 2 + 1)
    assert found[0] == found[1]


@pytest.mark.launch
def test_results_and_resumption(run_mpi, run_each, tmp_path):
    small, out = write_small(tmp_path), tmp_path / "out"
    published = {
        "sets": {
            "digits": {
                "protocol": {"hidden": {"tiny": [8]}},
                "embedded_accuracy": {"tiny": [0.2, 0.99]},
                "baseline_accuracy": {"tiny": 0.1},
            }
        }
    }
    (tmp_path / "published.json").write_text(json.dumps(published))
    options = ["--set", "study.published=published.json", "--set", "output.figures=true"]
    done = run_mpi(2, *RUN, small, "--out", out, *options)
    assert done.status == 0, done.err
    assert "smallest k without loss" in done.out
    assert "at least 5 are needed" in done.out
    for name in (
        "study.toml", "study.md", "study.json", "trials.csv", "accuracy.csv", "accuracy/8.csv",
        "eigenvalues.csv", "projection.safetensors", "report.html", "figures/scatter.csv",
        "figures/accuracy.png",
        "figures/accuracy.svg", "figures/accuracy.csv", "figures/embeddings.png",
        "figures/embeddings.svg", "figures/embeddings.csv",
    ):  # fmt: skip
        assert (out / name).stat().st_size > 50, name
    assert not list(out.glob("**/.partial*"))

    study = json.loads((out / "study.json").read_text())
    assert study["study"]["dimensions"] == [2, 6]
    assert study["study"]["seeds"] == [0, 1]
    assert study["training"]["epochs"] == 3
    assert study["dataset"]["n_features"] == 64
    assert len(study["embedding"]["eigenvalues"]) == 6
    points = {(row["input"], row["n_inputs"]): row for row in study["points"]}
    assert set(points) == {
        ("full", 64),
        *((i, k) for i in ("spectral", "gaussian") for k in (2, 6)),
    }
    six, full = points["spectral", 6], points["full", 64]
    assert six["parameters"] == 6 * 8 + 8 + 8 * 10 + 10
    assert six["parameters_with_projection"] == six["parameters"] + 6 * 64
    assert full["parameters_with_projection"] == full["parameters"] == 64 * 8 + 8 + 90
    assert six["published"] is None
    assert points["spectral", 2]["published"] == 0.99
    assert full["published"] == 0.1
    assert six["n_seeds"] == 2
    assert six["test_lowest"] <= six["test_mean"] <= six["test_highest"]
    mean = six["test_mean"] - full["test_mean"]
    assert six["test_difference"] == pytest.approx(mean)
    assert six["test_difference_low"] < mean < six["test_difference_high"]
    assert "Not reached: 8 spectral k = 2" in (out / "study.md").read_text()
    rows = (out / "figures/scatter.csv").read_text().splitlines()
    assert rows[0] == "component1,component2,component3,class"
    assert len(rows) == 1 + 359

    # Nothing is trained again; what is new is trained alone.
    before = trials(out)
    path = out / "trials" / "rank-0.jsonl"
    path.write_bytes(path.read_bytes() + b'{"digest": "cut o')
    again = run_mpi(1, *RUN, small, "--out", out)
    assert again.status == 0, again.err
    assert "10 trials, 10 of them finished" in again.err
    assert trials(out) == before

    wider = ["--set", "study.dimensions=[2,4,6,8]", "--report-only"]
    more, _, part, none = run_each(
        2,
        [
            ["study", small, "--out", "out", "--set", "study.dimensions=[2,4,6]"],
            ["copy", "out/trials.csv", "out/after.csv"],
            ["study", small, "--out", "out", *wider],
            ["study", small, "--out", "none", *wider],
        ],
    )
    assert more.status == 0, more.err
    assert "14 trials, 10 of them finished" in more.err
    after = trials(out, "after.csv")
    assert len(after) == 14
    for key, trial in before.items():
        # The projection on more components has the same first ones, to rounding.
        assert after[key] == trial

    # A study that is not finished reports its results so far.
    assert part.status == 0, part.err
    assert "18 trials, 14 of them finished" in part.err
    assert trials(out) == after
    assert none.status == 2
    assert "no network of this study is finished there" in none.err
    assert not (tmp_path / "none").exists()


def digits_study():
    return [["study", JOBS / "study_digits.toml", "--out", "out"]]


@pytest.mark.launch(digits_study, ranks=2)
def test_the_study_of_digits(launched):
    done, out = launched.done, launched.folder / "out"
    assert done.status == 0, done.err
    study = json.loads((out / "study.json").read_text())
    points = {(row["input"], row["hidden"], row["n_inputs"]): row for row in study["points"]}
    for network in ("64-64", "32-32"):
        assert points["full", network, 64]["test_mean"] > 0.95
        assert points["spectral", network, 32]["test_mean"] > 0.95
        assert points["spectral", network, 8]["test_mean"] > 0.9
        # Directions of largest variance say more than random ones.
        better = points["spectral", network, 4]["test_mean"]
        assert better > points["gaussian", network, 4]["test_mean"] + 0.1
    smallest = {(one["input"], one["hidden"]): one for one in study["smallest"]}
    assert smallest["spectral", "64-64"]["holds"]
    assert 4 < smallest["spectral", "64-64"]["n_inputs"] < 64
    model, baseline = study["compression"]["model"], study["compression"]["baseline"]
    assert baseline["input"] == "full"
    assert model["n_inputs"] < 64
    confusion = study["compression"]["confusion"]
    assert sum(map(sum, confusion)) == 5 * 359
    assert len(confusion) == 10
    assert "smallest model without loss" in done.out


REFUSED = {
    "65 dimensions of 64 features: lower": settings("study.dimensions=[65]"),
    "broken.json: not a file of published": settings("study.published=broken.json"),
    "lower the learning rate": settings(
        "training.learning_rate=1e30", "training.schedule=constant"
    ),
    "no such folder": ["--data-dir", "nowhere"],
    "not empty; choose another folder": ["--out", "."],
}


def refused_study(folder, words):
    (folder / "broken.json").write_text("{}")
    options = REFUSED[words]
    out = [] if "--out" in options else ["--out", "out"]
    return [["study", write_small(folder), *out, *options]]


@pytest.mark.launch(refused_study, ranks=2)
@pytest.mark.parametrize("words", REFUSED)
def test_refused_studies(launched, words):
    done = launched.done
    assert done.status == 2, done.err
    assert words in done.err
    assert done.err.count("hpcembed: error") == 1
    assert "Traceback" not in done.err


def unconverged_study(folder):
    options = settings("solver.name=krylovschur", "solver.reference=false", "solver.max_it=1")
    options += settings("solver.ncv=7", "solver.tol=1e-14")
    return [["study", write_small(folder), "--out", "out", *options]]


@pytest.mark.launch(unconverged_study, ranks=1)
def test_no_training_on_unconverged_components(launched):
    assert launched.done.status == 3
    assert "did not converge to the tolerance" in launched.done.err
    assert not (launched.folder / "out" / "trials").exists()


CRASH = """
import sys
from mpi4py import MPI
from hpcembed.cli import main
from hpcembed.jobs.study.trial_training import TrialTrainer

original = TrialTrainer.train

def train(self, batch, *rest):
    if MPI.COMM_WORLD.rank == 1:
        raise RuntimeError("boom")
    return original(self, batch, *rest)

TrialTrainer.train = train
sys.exit(main(["study", sys.argv[1], "--out", sys.argv[2]]))
"""


@pytest.mark.launch
def test_a_defect_on_one_rank_ends_the_job(run_mpi, tmp_path):
    script = tmp_path / "crash.py"
    script.write_text(CRASH)
    done = run_mpi(2, script, write_small(tmp_path), tmp_path / "out", timeout=100)
    assert done.status != 0
    assert done.err.count("RuntimeError: boom") == 1
    assert "[rank 1/2] Traceback" in done.err
