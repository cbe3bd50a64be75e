"""Studies with a search in random subspaces: ranks, resumption, regression, errors."""

import json

import numpy as np
import pytest

from hpcembed.jobs.report.scores import ACCURACY, R2
from hpcembed.jobs.study.intrinsic.record import SubspacePoint, SubspaceSearch
from hpcembed.jobs.study.intrinsic.search import middle
from hpcembed.jobs.study.intrinsic.wording import (
    intrinsic_caption,
    intrinsic_record,
    intrinsic_table,
    intrinsic_text,
)
from hpcembed.jobs.study.settings import load_study
from hpcembed.jobs.study.trials import Trial, digest
from hpcembed.networks.training.recipe import Recipe
from hpcembed.runtime.errors import ConfigError
from job_files import settings

SMALL = """
[data]
name = "digits"
format = "digits"
scaling = "divide"
divisor = 16.0

[study]
dimensions = [4, 12]
networks = [[8]]
seeds = 2
margin = 50.0
intrinsic_tolerance = 0.4

[training]
epochs = 4
batch_size = 64

[output]
figures = false
"""


def stored(out):
    return [
        json.loads(line)
        for path in sorted((out / "trials").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def small_study(folder, ranks):
    (folder / "small.toml").write_text(SMALL)
    study = ["study", folder / "small.toml", "--out", str(ranks)]
    return [
        [*study, "--intrinsic"],
        [*study, *settings("study.intrinsic=true", "output.figures=true")],
        [*study, "--report-only", *settings("study.intrinsic=true", "study.intrinsic_share=0.5")],
        study,
    ]


@pytest.mark.launch(small_study, ranks=(1, 2, 3))
def test_the_same_answers_on_any_number_of_ranks(launched):
    found = []
    for ranks in (1, 2, 3):
        out = launched.folder / str(ranks)
        done, again, unfinished, without = launched[ranks]
        assert done.status == 0, done.err
        assert again.status == 0, again.err
        assert "6 trials, 0 of them finished" in done.err
        assert "random subspace of" not in again.err  # nothing is trained again
        assert "in a random subspace of dimension" in done.out
        assert "Random subspaces of the parameters" in (out / "report.html").read_text()
        assert unfinished.status == 0, unfinished.err
        assert "not finished" in unfinished.out
        assert "random subspace" not in without.out
        assert json.loads((out / "study.json").read_text())["intrinsic"] is None
        lines = stored(out)
        subspaces = {
            (one["cell"]["input"], one["cell"]["subspace"]): one
            for one in lines
            if "subspace" in one["cell"]
        }
        assert len(lines) == len({one["digest"] for one in lines})
        found.append((done.out, subspaces))
    for _, other in found[1:]:
        # the same dimensions are tested, unless a score is within rounding of the threshold
        assert other.keys() & found[0][1].keys()
        for key in other.keys() & found[0][1].keys():
            for name in ("validation_score", "test_score"):
                assert other[key][name] == pytest.approx(found[0][1][key][name], abs=0.15)


def one_study(folder):
    (folder / "small.toml").write_text(SMALL)
    return [["study", folder / "small.toml", "--out", "out", "--intrinsic"]]


@pytest.mark.launch(one_study, ranks=1)
def test_an_answer_follows_from_validation_rows(launched):
    (done,) = launched.all
    assert done.status == 0, done.err
    out = launched.folder / "out"
    study = json.loads((out / "study.json").read_text())
    full, own = study["intrinsic"]
    points = {(p["input"], p["n_inputs"]): p for p in study["points"]}
    for one in (full, own):
        point = points[one["input"], one["n_inputs"]]
        assert one["baseline"] == pytest.approx(point["validation_mean"])
        assert one["threshold"] == pytest.approx(0.9 * one["baseline"])
        assert one["parameters"] == point["parameters"]
        assert (one["hidden"], one["seeds"], one["share"]) == ("8", [0, 1], 0.9)
        assert (one["finished"], one["fault"]) == (True, "")
        assert one["answer"] in done.out
        assert one["below"] < one["dimension"] <= max(one["below"] * 1.4, one["below"] + 1)
        for tested in one["points"]:
            assert tested["reaches"] == (tested["validation_mean"] >= one["threshold"])
            assert tested["reaches"] == (tested["dimension"] >= one["dimension"])
            trials = [
                trial
                for trial in stored(out)
                if trial["cell"]["input"] == one["input"]
                and trial["cell"].get("subspace") == tested["dimension"]
            ]
            assert len(trials) == 2
            for part in ("validation", "test"):
                scores = [trial[f"{part}_score"] for trial in trials]
                assert tested[f"{part}_mean"] == pytest.approx(np.mean(scores))
                if part == "validation":
                    assert tested["validation_deviation"] == pytest.approx(np.std(scores, ddof=1))
    assert (full["input"], full["n_inputs"], full["parameters"]) == ("full", 64, 610)
    assert own["input"] == "spectral"


@pytest.mark.launch
def test_an_interrupted_search_continues(run_each, tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    out, command = tmp_path / "out", ["study", tmp_path / "small.toml", "--out", "out"]
    (first,) = run_each(1, [[*command, "--intrinsic"]])
    assert first.status == 0, first.err
    (path,) = (out / "trials").glob("*.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:9]) + "\n")  # all 6 of the study, and 3 in subspaces
    found = json.loads((out / "study.json").read_text())["intrinsic"]
    (second,) = run_each(1, [[*command, "--intrinsic"]])
    assert second.status == 0, second.err
    assert "6 trials, 6 of them finished" in second.err
    assert len(stored(out)) == len(lines)
    assert json.loads((out / "study.json").read_text())["intrinsic"] == found


REGRESSION = """
[data]
name = "small"
train = ["small.csv"]
label_column = "y"
test_fraction = 0.3
task = "regression"

[study]
dimensions = [2]
networks = [[4]]
seeds = 2
intrinsic = true
intrinsic_tolerance = 0.5

[training]
epochs = 30
validation_fraction = 0.3

[output]
figures = false
"""


def regression_study(folder):
    rows = np.random.default_rng(0).standard_normal((90, 3))
    lines = [f"{a:.5f},{b:.5f},{c:.5f},{a - 2 * b:.5f}" for a, b, c in rows]
    (folder / "small.csv").write_text("\n".join(["a,b,c,y", *lines]) + "\n")
    (folder / "study.toml").write_text(REGRESSION)
    lines = [f"{a:.5f},{b:.5f},{'most' if i % 10 else 'few'}" for i, (a, b, _) in enumerate(rows)]
    (folder / "classes.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    study = ["study", folder / "study.toml"]
    classes = settings('data.train=["classes.csv"]', 'data.task="classification"')
    return [
        [*study, "--out", "out"],
        [*study, "--out", "constant", *settings("training.learning_rate=1e-9")],
        [*study, "--out", "classes", *classes],
    ]


@pytest.mark.launch(regression_study, ranks=2)
def test_a_regression_and_thresholds_without_meaning(launched):
    done, constant, classes = launched.all
    for one in (done, constant, classes):
        assert one.status == 0, one.err
    full, _ = json.loads((launched.folder / "out/study.json").read_text())["intrinsic"]
    assert full["answer"] in done.out
    assert full["fault"] == ""
    assert "90 % of its validation R2" in full["answer"]
    assert 0 < full["dimension"] <= full["parameters"] == 21
    assert "is not positive: a share of it has no meaning" in constant.out
    assert "a constant prediction reaches the threshold" in classes.out
    assert "raise study.intrinsic_share" in classes.out
    for folder in ("constant", "classes"):
        found = json.loads((launched.folder / folder / "study.json").read_text())["intrinsic"]
        assert all(one["fault"] and not one["points"] for one in found)


def test_a_bisection_ends_within_the_tolerance():
    for parameters in (1, 2, 17, 669_706):
        for least in {1, 2, 13, 300, parameters}:
            if least > parameters:
                continue
            below, dimension, steps = 0, parameters, 0
            while (d := middle(below, dimension, 0.1)) is not None:
                assert below < d < dimension
                below, dimension = (below, d) if d >= least else (d, dimension)
                steps += 1
            assert below < least <= dimension
            assert dimension <= max(below + 1, 1.1 * below)
            assert steps <= 13


def search(**changes):
    points = (SubspacePoint(11, 0.85, 0.01, 0.84, False), SubspacePoint(12, 0.91, 0.02, 0.9, True))
    given = {
        "input": "full", "hidden": (8,), "n_inputs": 64, "parameters": 1200, "seeds": (0, 1),
        "baseline": 0.98, "share": 0.9, "threshold": 0.882, "below": 11, "dimension": 12,
        "finished": True, "points": points,
    }  # fmt: skip
    return SubspaceSearch(**given | changes)


def test_words():
    assert intrinsic_text([search()], ACCURACY) == (
        "8 on all features reaches 90 % of its validation accuracy in a random subspace of "
        "dimension 12 of 1,200 parameters (1 %); dimension 11 misses it."
    )
    own = search(input="spectral", n_inputs=1, below=0, dimension=1, points=())
    assert "8 on 1 coordinate (spectral) reaches" in intrinsic_text([own], R2)
    assert "misses" not in intrinsic_text([own], R2)
    everything = search(below=1100, dimension=1200)
    assert "in no random subspace of fewer dimensions" in intrinsic_text([everything], ACCURACY)
    assert "between 11 and 12 of 1,200" in intrinsic_text([search(finished=False)], ACCURACY)
    fault = search(fault="a reason")
    assert intrinsic_text([fault], ACCURACY).endswith("for 8 on all features: a reason.")
    table = intrinsic_table([search(), fault, own], ACCURACY)
    assert table.rows[0][4:] == (
        "98.00", "88.20", "12", "1 %", "91.00 ± 2.00", "11", "85.00 ± 1.00",
    )  # fmt: skip
    assert table.rows[1][6:] == ("-", "-", "91.00 ± 2.00", "-", "85.00 ± 1.00")
    assert table.rows[2][-1] == "-"
    assert "means over 2 seeds" in intrinsic_caption([search()], ACCURACY)
    assert intrinsic_record([], ACCURACY) is None


def test_settings(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text("[study]\nintrinsic = true\nbaseline = false\n")
    with pytest.raises(ConfigError, match=r"set study\.baseline = true"):
        load_study(path)
    path.write_text("[study]\nintrinsic_share = 1.5\n")
    with pytest.raises(ConfigError, match=r"study\.intrinsic_share"):
        load_study(path)


def test_digests_of_other_trials_are_unchanged():
    # of a version without subspaces
    name = digest(Trial("spectral", (32, 32), 5, 0), Recipe(), {"n_rows": [10, 5]})
    assert name == "a8b75966a71a15badca6b1a0f8987100"
    assert digest(Trial("spectral", (32, 32), 5, 0, 7), Recipe(), {"n_rows": [10, 5]}) != name
