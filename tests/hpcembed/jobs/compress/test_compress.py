"""The search for the smallest k: few trials, the right answer, and whole searches."""

import json
import math

import numpy as np
import pytest
import safetensors.numpy
from sklearn.datasets import load_digits

import hpcembed
from hpcembed.jobs.compress.search import next_dimension, search
from hpcembed.jobs.study.statistics import Difference
from hpcembed.networks.training.evaluation import predict_logits
from hpcembed.networks.training.serialise import load_classifier

SMALL, LARGE = (8,), (64,)


def decaying(n, ratio):
    """Share of the variance that 0, 1, ..., n components leave."""
    variances = ratio ** np.arange(n)
    return np.maximum(1.0 - np.concatenate([[0.0], np.cumsum(variances / variances.sum())]), 0.0)


class Trials:
    """Networks that lose nothing from some k on."""

    def __init__(self, smallest):
        self.smallest, self.tried = smallest, []

    def __call__(self, hidden, k):
        self.tried.append((hidden, k))
        loss = 0.0 if k >= self.smallest.get(hidden, math.inf) else 0.1
        return Difference(-loss, -loss - 0.001, 0.0)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 50, 784])
def test_the_smallest_k_in_few_trials(n, ratio):
    unexplained = decaying(n, ratio)
    for smallest in {1, 2, n // 3, n // 2, n - 1, n}:
        if not 1 <= smallest <= n:
            continue
        trials = Trials({SMALL: smallest})
        answer = search([SMALL, LARGE], n, unexplained, 0.005, trials)
        assert (answer.hidden, answer.n_inputs) == (SMALL, smallest)
        assert len(trials.tried) <= 3 + 2 * math.ceil(math.log2(n + 1))
        assert len(set(trials.tried)) == len(trials.tried)
        assert [(step.hidden, step.n_inputs) for step in answer.steps] == trials.tried
        for step in answer.steps:
            assert step.holds == (step.n_inputs >= smallest)


def test_a_network_that_always_loses_gives_way():
    trials = Trials({LARGE: 5})
    answer = search([SMALL, LARGE], 20, decaying(20, 0.8), 0.005, trials)
    assert (answer.hidden, answer.n_inputs) == (LARGE, 5)
    assert trials.tried[:2] == [(SMALL, 20), (LARGE, 20)]
    nothing = search([SMALL, LARGE], 20, decaying(20, 0.8), 0.005, Trials({}))
    assert nothing.hidden is None
    assert len(nothing.steps) == 2


def test_the_first_trial_is_where_the_spectrum_says():
    unexplained = decaying(50, 0.8)
    k = next_dimension(0, 50, unexplained, 0)
    assert unexplained[k] <= 0.1 < unexplained[k - 1]
    for turn in range(4):
        assert 10 < next_dimension(10, 12, unexplained, turn) < 12


JOB = """
[data]
name = "digits"
format = "digits"
scaling = "divide"
divisor = 16.0

[embedding]
n_components = 24

[solver]
reference = false

[classifier]
hidden = [[64], [8]]

[training]
epochs = 10
batch_size = 64
learning_rate = 3e-3
"""


def write_digits_job(folder):
    path = folder / "job.toml"
    path.write_text(JOB)
    return path


def digits(folder, ranks):
    options = ["--max-loss", "6", "--seeds", "3", "--out", str(ranks)]
    return [["compress", write_digits_job(folder), *options]]


@pytest.mark.launch(digits, ranks=(1, 2))
def test_digits(launched, run_mpi):
    answers = []
    for ranks in (1, 2):
        (done,) = launched[ranks]
        assert done.status == 0, done.err
        assert "fewer inputs" in done.out
        out = launched.folder / str(ranks)
        answers.append(json.loads((out / "compress.json").read_text()))
    first, second = (one["answer"] for one in answers)
    assert (first["hidden"], first["n_inputs"]) == (second["hidden"], second["n_inputs"])
    k = first["n_inputs"]
    assert 2 <= k <= 24
    holding = [s for s in first["steps"] if s["hidden"] == first["hidden"] and s["holds"]]
    assert min(step["n_inputs"] for step in holding) == k
    assert all(step["difference"]["low"] > -0.06 for step in holding)
    assert len(answers[0]["results"]) == 3

    # Projection and network together do what was promised.
    projection = safetensors.numpy.load_file(out / "projection.safetensors")
    assert projection["components"].shape == (k, 64)
    (path,) = out.glob("classifier-embedded-*.safetensors")
    network = load_classifier(path)
    assert (list(network.hidden), network.n_inputs) == (first["hidden"], k)
    images, labels = load_digits(return_X_y=True)
    rows = (images - projection["scaling_shift"]) * projection["scaling_factor"]
    embedded = (rows - projection["mean"]) @ projection["components"].T
    said = predict_logits(network.model, embedded).argmax(1)
    assert (said == labels).mean() > 0.85

    # The model is that network, and its card has all seeds.
    model = hpcembed.load(out / "model")
    assert (model.predict(images) == said).mean() > 0.999
    facts = model.description
    assert facts["accuracy"]["n_seeds"] == 3
    tests = [one["test_score"] for one in answers[1]["results"]]
    assert facts["accuracy"]["test"] == pytest.approx(np.mean(tests))
    assert facts["accuracy"]["spread"] == pytest.approx(np.std(tests, ddof=1))
    assert facts["uncompressed"]["hidden"] == [64]
    assert facts["uncompressed"]["n_seeds"] == 3
    assert f"n_components = {k}" in facts["provenance"]["job"]
    assert "64 on all features: test" in (out / "model" / "README.md").read_text()

    options = ["--max-loss", "6", "--seeds", "3", "--out", out]
    again = run_mpi(1, "-m", "hpcembed", "compress", launched.folder / "job.toml", *options)
    assert again.status == 0, again.err
    assert "networks" not in again.err  # nothing was trained
    assert json.loads((out / "compress.json").read_text())["answer"] == second


def data_file(folder):
    rng = np.random.default_rng(0)
    kinds = np.arange(300) % 2
    rows = rng.standard_normal((300, 6)) + 4 * kinds[:, None]
    lines = ["a,b,c,d,e,f,kind"]
    lines += [
        ",".join(f"{x:.4f}" for x in row) + f",{'xy'[c]}"
        for row, c in zip(rows, kinds, strict=True)
    ]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    options = ["--label-column", "kind", "--max-loss", "3", "--seeds", "2", "--out", "out"]
    return [["compress", "table.csv", *options]]


@pytest.mark.launch(data_file, ranks=1)
def test_a_data_file(launched):
    done = launched.done
    assert done.status in (0, 4), done.err
    assert "on all 6 features" in done.out
    assert done.out.count("warning: each of 24 held-out rows corresponds to 4.17 points, more") == 1
    assert (launched.folder / "out" / "compress.md").exists()


REFUSED = (
    (["none.csv"], "none.csv: no such job file or data file"),
    (["none.toml"], "none.toml: No such file or directory"),
    (["job.toml", "--max-loss", "0"], "--max-loss 0.0: give points of accuracy above 0"),
    (["job.toml", "--max-loss", "nan"], "--max-loss nan"),
    (["job.toml", "--seeds", "1"], "--seeds 1: give 2 to 1000"),
    (["job.toml", "--confidence", "1"], "--confidence 1.0 must lie between 0 and 1"),
    (["job.toml", "--set", "classifier.hidden=[]"], "classifier.hidden names no network"),
    (["job.toml", "--out", "."], "not empty; choose another folder"),
)


def refused_search(folder, arguments):
    write_digits_job(folder)
    return [["compress", *arguments]]


@pytest.mark.launch(refused_search, ranks=2)
@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_refused_searches(launched, arguments, words):
    done = launched.done
    assert done.status == 2, done.err
    assert words in done.err
    assert done.err.count("hpcembed: error") == 1
