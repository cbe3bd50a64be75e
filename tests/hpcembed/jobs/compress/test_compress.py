"""The search for the smallest k: few trials, the right answer, and whole searches."""

import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
from sklearn.datasets import load_digits

import hpcembed
from hpcembed.cli import main
from hpcembed.jobs.compress.command import CompressRequest
from hpcembed.jobs.compress.search import next_dimension, search
from hpcembed.jobs.compress.sequential import Decision
from hpcembed.jobs.study.statistics import Difference
from hpcembed.networks.training.evaluation import predict_logits
from hpcembed.networks.training.serialise import load_classifier
from hpcembed.runtime.errors import ConfigError, InputError

SMALL, LARGE = (8,), (64,)


def decaying(n, ratio):
    """Share of the variance that 0, 1, ..., n components leave."""
    variances = ratio ** np.arange(n)
    return np.maximum(1.0 - np.concatenate([[0.0], np.cumsum(variances / variances.sum())]), 0.0)


class Spectrum:
    """Components that are computed in steps; `sizes` are their numbers."""

    def __init__(self, sizes, ratio):
        self.sizes, self.ratio, self.step = list(sizes), ratio, 0

    @property
    def largest(self):
        return self.sizes[self.step]

    @property
    def unexplained(self):
        return decaying(self.sizes[-1], self.ratio)[: self.largest + 1]

    def extend(self):
        if self.step + 1 == len(self.sizes):
            return False
        self.step += 1
        return True


class Trials:
    """Networks that keep the accuracy from some k on, and are undecided from another one on."""

    def __init__(self, smallest, undecided=()):
        self.smallest, self.undecided, self.tried = smallest, dict(undecided), []

    def __call__(self, hidden, k):
        self.tried.append((hidden, k))
        if k >= self.smallest.get(hidden, math.inf):
            return Decision("keeps", Difference(0.0, -0.001, 0.001), 5)
        if k >= self.undecided.get(hidden, math.inf):
            return Decision("undecided", Difference(-0.005, -0.02 + 1e-4 * k, 0.01), 30)
        return Decision("loses", Difference(-0.1, -0.11, -0.09), 5)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 50, 784])
def test_the_smallest_k_in_few_trials(n, ratio):
    for smallest in {1, 2, n // 3, n // 2, n - 1, n}:
        if not 1 <= smallest <= n:
            continue
        trials = Trials({SMALL: smallest})
        answer = search([SMALL, LARGE], Spectrum([n], ratio), trials)
        assert (answer.verdict, answer.hidden, answer.n_inputs) == ("keeps", SMALL, smallest)
        assert answer.n_seeds == 5
        assert len(trials.tried) <= 3 + 2 * math.ceil(math.log2(n + 1))
        assert len(set(trials.tried)) == len(trials.tried)
        assert [(step.hidden, step.n_inputs) for step in answer.steps] == trials.tried
        for step in answer.steps:
            assert (step.verdict == "keeps") == (step.n_inputs >= smallest)


def test_a_network_that_always_loses_gives_way():
    trials = Trials({LARGE: 5})
    answer = search([SMALL, LARGE], Spectrum([20], 0.8), trials)
    assert (answer.verdict, answer.hidden, answer.n_inputs) == ("keeps", LARGE, 5)
    assert trials.tried[:2] == [(SMALL, 20), (LARGE, 20)]
    nothing = search([SMALL, LARGE], Spectrum([20], 0.8), Trials({}))
    assert (nothing.verdict, nothing.n_inputs) == ("loses", 20)
    assert len(nothing.steps) == 2


def test_more_components_are_computed_only_where_they_are_needed():
    spectrum, trials = Spectrum([8, 16, 32], 0.9), Trials({SMALL: 20})
    answer = search([SMALL, LARGE], spectrum, trials)
    assert (answer.verdict, answer.hidden, answer.n_inputs) == ("keeps", SMALL, 20)
    assert trials.tried[:5] == [(SMALL, 8), (LARGE, 8), (SMALL, 16), (LARGE, 16), (SMALL, 32)]
    spectrum = Spectrum([8, 16, 32], 0.9)
    assert search([SMALL, LARGE], spectrum, Trials({LARGE: 7})).hidden == LARGE
    assert spectrum.largest == 8


def test_an_undecided_network_is_the_answer_only_if_none_keeps():
    spectrum = Spectrum([8, 16], 0.9)
    answer = search([SMALL, LARGE], spectrum, Trials({LARGE: 12}, {SMALL: 4, LARGE: 10}))
    assert (answer.verdict, answer.hidden, answer.n_inputs) == ("keeps", LARGE, 12)
    answer = search([SMALL, LARGE], Spectrum([8, 16], 0.9), Trials({}, {LARGE: 4}))
    assert (answer.verdict, answer.hidden, answer.n_inputs) == ("undecided", LARGE, 16)
    assert answer.n_seeds == 30


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
    options = ["--max-loss", "6", "--seeds", "3", "--max-seeds", "6", "--out", str(ranks)]
    return [["compress", write_digits_job(folder), *options]]


def check_comparison(record, k, text):
    """The numbers of parameters and the differences are those of the trials."""
    d, c, (h,) = 64, 10, record["answer"]["hidden"]
    sizes = record["parameters"]
    assert sizes["network"] == (k + 1) * h + (h + 1) * c
    assert sizes["same_network"] == (d + 1) * h + (h + 1) * c
    assert sizes["baseline"] == (d + 1) * 64 + (64 + 1) * c
    assert sizes["with_projection"] == sizes["network"] + k * d
    assert f"{sizes['baseline']:,} -> {sizes['with_projection']:,} with the projection" in text
    means = {
        key: np.mean([one["test_score"] for one in record[key]])
        for key in ("results", "same_network", "baseline")
    }
    for key, minuend, subtrahend in (
        ("test_difference", "results", "baseline"),
        ("test_difference_same_network", "results", "same_network"),
        ("test_difference_of_network", "same_network", "baseline"),
    ):
        found = record[key]
        assert found["mean"] == pytest.approx(means[minuend] - means[subtrahend], abs=1e-9)
        assert found["low"] <= found["mean"] <= found["high"]
    assert f"difference {100 * record['test_difference']['mean']:+.2f} [" in text


def check_diagnostics(records, text, k):
    """They are those of the projected training rows, the same on both numbers of ranks."""
    first, second = (one["dimensions"] for one in records)
    assert (first["spectrum"]["n_known"], first["spectrum"]["n_possible"]) == (24, 64)
    for name in ("effective_rank", "participation_ratio", "stable_rank"):
        assert first["spectrum"][name] == pytest.approx(second["spectrum"][name], rel=1e-9)
    intrinsic = first["intrinsic"]
    assert (intrinsic["n_queries"], intrinsic["n_columns"]) == (1438, 24)
    assert intrinsic["mle"]["value"] == pytest.approx(second["intrinsic"]["mle"]["value"], rel=1e-4)
    panel, _, steps = text.partition("\n\n## Search\n\n")
    assert panel.startswith("# digits\n\n## How many dimensions?\n\n| diagnostic ")
    assert f"| smallest k without loss    | {k} (" in panel
    assert steps.startswith("Comparisons with the baseline")


@pytest.mark.launch(digits, ranks=(1, 2))
def test_digits(launched, run_mpi):
    answers = []
    for ranks in (1, 2):
        (done,) = launched[ranks]
        assert done.status == 0, done.err
        assert "fewer inputs" in done.out
        assert "\n\ndimensions: effective rank " in done.out
        assert " (MLE), " in done.out
        out = launched.folder / str(ranks)
        answers.append(json.loads((out / "compress.json").read_text()))
    first, second = (one["answer"] for one in answers)
    assert (first["hidden"], first["n_inputs"]) == (second["hidden"], second["n_inputs"])
    k = first["n_inputs"]
    assert 2 <= k <= 24
    assert first["verdict"] == "keeps"
    holding = [s for s in first["steps"] if s["hidden"] == first["hidden"]]
    holding = [s for s in holding if s["verdict"] == "keeps"]
    assert min(step["n_inputs"] for step in holding) == k
    assert all(step["difference"]["low"] > -0.06 for step in holding)
    n = first["n_seeds"]
    assert n in (3, 6)
    sizes = [len(answers[0][key]) for key in ("results", "same_network", "baseline")]
    assert sizes == [n] * 3
    check_comparison(answers[0], k, done.out)
    check_diagnostics(answers, (out / "compress.md").read_text(), k)

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
    assert facts["accuracy"]["n_seeds"] == n
    tests = [one["test_score"] for one in answers[1]["results"]]
    assert facts["accuracy"]["test"] == pytest.approx(np.mean(tests))
    assert facts["accuracy"]["spread"] == pytest.approx(np.std(tests, ddof=1))
    assert facts["uncompressed"]["hidden"] == [64]
    assert facts["uncompressed"]["n_seeds"] == n
    assert f"n_components = {k}" in facts["provenance"]["job"]
    assert "64 on all features: test" in (out / "model" / "README.md").read_text()

    options = ["--max-loss", "6", "--seeds", "3", "--max-seeds", "6", "--out", out]
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
    options += ["--max-seeds", "6", "--set", "diagnostics.enabled=false"]
    return [["compress", "table.csv", *options]]


@pytest.mark.launch(data_file, ranks=1)
def test_a_data_file(launched):
    done = launched.done
    # Six seeds of 24 rows: too few predictions for 3 points, unless one network is much better.
    assert done.status == 5, done.err
    assert "on all 6 features" in done.out
    assert "undecided: no network is known to keep the accuracy within 3 points" in done.out
    out = launched.folder / "out"
    record = json.loads((out / "compress.json").read_text())
    assert record["answer"]["verdict"] == "undecided"
    assert all(step["n_seeds"] == 6 for step in record["answer"]["steps"])
    undecided = [step["difference"]["low"] for step in record["answer"]["steps"]]
    assert f"it may lose up to {-100 * max(undecided):.2f} points" in done.out
    assert record["majority"]["train"] == pytest.approx(0.5)
    assert (record["dimensions"], "dimensions:" in done.out) == (None, False)
    text = (out / "compress.md").read_text()
    assert text.startswith("# table\n\nComparisons with the baseline")
    assert hpcembed.load(out / "model").predict(np.zeros((1, 6))).shape == (1,)


BASELINE_OF_NOTHING = JOB.replace("epochs = 10", "epochs = 1").replace("3e-3", "1e-9")


def nothing_learnt(folder):
    (folder / "job.toml").write_text(BASELINE_OF_NOTHING)
    options = ["--max-loss", "30", "--seeds", "2", "--max-seeds", "2", "--out", "out"]
    return [["compress", "job.toml", *options]]


@pytest.mark.launch(nothing_learnt, ranks=1)
def test_a_baseline_that_has_not_learnt_is_no_baseline(launched):
    done = launched.done
    assert "warning: 64 on all 64 features has not learnt: validation " in done.out
    assert "(largest class 10." in done.out
    assert "A comparison with it means nothing." in done.out


def low_rank(folder):
    """A table of rank 3 with 40 columns, and a class that the third component determines."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((400, 3)) * [3.0, 2.0, 1.0]
    rows = hidden @ rng.standard_normal((3, 40))
    kinds = (hidden[:, 2] > 0).astype(int)
    lines = [",".join([f"c{i}" for i in range(40)] + ["kind"])]
    lines += [
        ",".join(f"{x:.17g}" for x in row) + f",{kind}"
        for row, kind in zip(rows, kinds, strict=True)
    ]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    options = ["--label-column", "kind", "--max-loss", "15", "--out", "out", "--scaling", "none"]
    options += ["--seeds", "3", "--max-seeds", "6"]
    return [["compress", "table.csv", *options]]


@pytest.mark.launch(low_rank, ranks=1)
def test_the_largest_k_follows_the_spectrum(launched):
    done = launched.done
    assert done.status == 0, done.err
    record = json.loads((launched.folder / "out" / "compress.json").read_text())
    steps = record["answer"]["steps"]
    assert max(step["n_inputs"] for step in steps) == 3
    assert record["answer"]["n_inputs"] == 3


REFUSED = (
    (["none.csv"], "none.csv: no such job file or data file"),
    (["none.toml"], "none.toml: No such file or directory"),
    (["job.toml", "--max-loss", "0"], "--max-loss 0.0: give points of accuracy above 0"),
    (["job.toml", "--max-loss", "nan"], "--max-loss nan"),
    (["job.toml", "--seeds", "1"], "--seeds 1: give 2 to 1000"),
    (["job.toml", "--seeds", "5", "--max-seeds", "4"], "--max-seeds 4: give 5 (--seeds) to 1000"),
    (["job.toml", "--max-components", "-1"], "--max-components -1: give a k of at least 1"),
    (["job.toml", "--confidence", "1"], "--confidence 1.0 must lie between 0 and 1"),
    (["job.toml", "--set", "classifier.hidden=[]"], "classifier.hidden names no network"),
    (["job.toml", "--out", "."], "not empty; choose another folder"),
    (["job.toml", "--test", "a.csv"], "for a job file use --set data.test=a.csv"),
    (["job.toml", "--test-labels", "a.npy"], "for a job file use --set data.test_labels=a.npy"),
    (["a.npy", "--test-labels", "b.npy"], "--test-labels b.npy: name the test rows with --test"),
    (["a.npy", "--labels", "b.npy", "--test", "c.npy"], "the test rows need --test-labels"),
    (
        ["a.npy", "--test", "c.npy", "--test-labels", "d.npy"],
        "--test-labels d.npy: name the labels of a.npy with --labels",
    ),
    (["job.csv", "--test", "none.csv"], "--test none.csv: no such file or folder"),
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


def test_labels_of_a_data_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    kinds = np.arange(200) % 2
    np.save("data/rows.npy", rng.standard_normal((200, 6)) + 4 * kinds[:, None])
    np.save("kinds.npy", kinds)
    words = ["compress", "data/rows.npy", "--labels", "kinds.npy", "--max-loss", "5"]
    assert main([*words, "--seeds", "2", "--out", "out"]) in (0, 4)
    assert json.loads(Path("out/compress.json").read_text())["n_features"] == 6
    # A table that is too wide for the terminal is folded; the file has Markdown.
    shown = capsys.readouterr().out
    assert "|" not in shown
    assert "\nverdict " in shown
    assert "| verdict" in Path("out/compress.md").read_text()
    rows = rng.standard_normal((30, 6))
    np.save("test.npy", rows)
    np.save("test_kinds.npy", np.zeros(30, dtype=int))
    words += ["--test", "test.npy", "--test-labels", "test_kinds.npy", "--max-seeds", "2"]
    assert main([*words, "--seeds", "2", "--out", "own"]) in (0, 5)
    record = json.loads(Path("own/compress.json").read_text())
    assert record["majority"] == {"train": 0.5, "test": 1.0}  # all rows of data/rows.npy
    request = CompressRequest(write_digits_job(tmp_path), 1.0, labels=Path("kinds.npy"))
    with pytest.raises(ConfigError, match=r"--labels: a job names its labels"):
        request.job()


def test_arrays_of_a_data_file_by_their_names(tmp_path):
    rows, kinds = np.ones((4, 3)), np.arange(4)
    np.savez(tmp_path / "usual.npz", X=rows, y=kinds, kind=kinds)
    np.savez(tmp_path / "cells.npz", kind=kinds, cells=rows)

    def names(file, column=""):
        data = CompressRequest(tmp_path / file, 1.0, label_column=column).job().data
        return data.features_key, data.labels_key

    assert names("usual.npz") == ("", "")
    assert names("usual.npz", "kind") == ("", "kind")
    assert names("cells.npz") == ("cells", "kind")
    assert names("cells.npz", "kind") == ("cells", "kind")
    with pytest.raises(InputError, match=r"--label-column a: \S*cells.npz has cells, kind"):
        names("cells.npz", "a")


def test_labels_of_an_anndata_file(tmp_path):
    with h5py.File(tmp_path / "cells.h5ad", "w") as file:
        file["X"] = np.ones((4, 3))
        file["obs/cell_type/categories"] = np.array([b"T", b"B"])
        file["obs/cell_type/codes"] = np.zeros(4, dtype=np.int8)
    request = CompressRequest(tmp_path / "cells.h5ad", 1.0, label_column="cell_type")
    assert request.job().data.labels_key == "obs/cell_type"


def test_sentences_of_a_data_file(tmp_path):
    lines = [f"this is the sentence of number {n},{n % 2}" for n in range(10)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,mood", *lines]) + "\n")
    (tmp_path / "table.csv").write_text(
        "\n".join(["text,mood,age", *(f"{one},3" for one in lines)])
    )
    data = CompressRequest(tmp_path / "texts.csv", 1.0, label_column="mood").job().data
    assert (data.text_column, data.scaling, data.min_df) == ("text", "none", 2.0)
    data = CompressRequest(tmp_path / "table.csv", 1.0, label_column="mood").job().data
    assert (data.text_column, data.scaling) == ("", "standard")  # a table with a column of text


def test_keys_of_the_job_of_a_data_file(tmp_path):
    (tmp_path / "table.csv").write_text('size,kind\n"1,200",a\n"1,300",b\n')
    keys = ('data.columns={size="decimal_point"}', "embedding.n_components=2")
    request = CompressRequest(tmp_path / "table.csv", 1.0, label_column="kind", overrides=keys)
    job = request.job()
    assert job.data.columns == {"size": "decimal_point"}
    assert (job.data.label_column, job.data.scaling) == ("kind", "standard")
    assert request.most_components() == 2
    with pytest.raises(ConfigError, match=r"--set: .*data.colums"):
        CompressRequest(tmp_path / "table.csv", 1.0, overrides=("data.colums=1",)).job()
    with pytest.raises(ConfigError, match=r"--set: classifier\.hidden names no network"):
        CompressRequest(tmp_path / "table.csv", 1.0, overrides=("classifier.hidden=[]",)).job()
