"""Regression from the command line on 1, 2 and 3 ranks: run, study, search, prediction."""

from __future__ import annotations

import csv
import json

import numpy as np
import onnxruntime
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

import hpcembed

N, D = 400, 12


def data(offset=1e7):
    """Rows of rank 4 with noise, and a smooth target with a large mean."""
    rng = np.random.default_rng(5)
    Z = rng.standard_normal((N, 4))
    X = Z @ rng.standard_normal((4, D)) + 0.05 * rng.standard_normal((N, D)) + 3.0
    y = offset + 20 * Z[:, 0] + 10 * Z[:, 1] * Z[:, 2] + rng.standard_normal(N)
    return X, y


def write_csv(path, X, y):
    names = [f"f{j}" for j in range(X.shape[1])]
    lines = [",".join([*names, "price"])]
    lines += [",".join(map(repr, [*row, t])) for row, t in zip(X.tolist(), y.tolist(), strict=True)]
    path.write_text("\n".join(lines) + "\n")


JOB = """
[data]
name = "prices"
train = ["prices.csv"]
label_column = "price"
scaling = "standard"

[embedding]
n_components = 4

[classifier]
hidden = [[32]]
parallel = "{parallel}"

[training]
epochs = 25
batch_size = 32
weight_decay = 0.0
"""

STUDY = """
[data]
name = "prices"
train = ["prices.csv"]
label_column = "price"

[study]
dimensions = [2, 4]
networks = [[32]]
seeds = 3
margin = 20.0

[training]
epochs = 15
batch_size = 32
"""


def commands(folder, ranks):
    folder.mkdir(exist_ok=True)
    write_csv(folder / "prices.csv", *data())
    X, y = data()
    write_csv(folder / "one.csv", X[:1], y[:1])
    for name, parallel in (("gather", "gather"), ("data", "data_parallel")):
        (folder / f"{name}.toml").write_text(JOB.format(parallel=parallel))
    (folder / "study.toml").write_text(STUDY)
    run, spread = f"run{ranks}", f"data{ranks}"
    return [
        ["run", "gather.toml", "--out", run],
        ["run", "data.toml", "--out", spread, "--set", "output.figures=false"],
        ["study", "study.toml", "--out", f"study{ranks}"],
        ["compress", "gather.toml", "--out", f"compress{ranks}", "--max-loss", "5"],
        ["predict", run, "prices.csv", "--out", f"p{ranks}.csv"],
        ["predict", f"compress{ranks}", "one.csv"],
    ]


def networks(folder):
    content = json.loads((folder / "run.json").read_text())
    return {one["input"]: one for one in content["classifiers"]}, content


@pytest.mark.launch(commands, ranks=(1, 2, 3))
def test_regression_on_any_number_of_ranks(launched):
    folder = launched.folder
    for ranks in (1, 2, 3):
        for done in launched[ranks]:
            assert done.status == 0, done.err
    first, content = networks(folder / "run1")
    assert content["dataset"]["task"] == "regression"
    assert content["dataset"]["n_classes"] == 0
    assert first["embedded"]["test_r2"] > 0.85
    assert first["embedded"]["test_accuracy"] is None
    for ranks in (1, 2, 3):
        for name in ("run", "data"):
            found, _ = networks(folder / f"{name}{ranks}")
            for kind in ("full", "embedded"):
                for key in ("validation_r2", "test_r2"):
                    wanted = networks(folder / f"{name}1")[0][kind][key]
                    assert found[kind][key] == pytest.approx(wanted, abs=0.01)
                assert found[kind]["test_mae"] < found[kind]["test_rmse"] < 15
        log = launched[ranks][0].err
        assert "regression: 400 different labels, and not all of them are integers" in log
        assert "a numeric target" in log
        assert "validation R2  test R2  test RMSE  test MAE" in launched[ranks][0].out
    check_study(launched)
    check_compress(launched)
    check_predictions(launched)


def check_study(launched):
    folder, digests = launched.folder, []
    for ranks in (1, 2, 3):
        out = folder / f"study{ranks}"
        assert "a point is 0.01 of R2" in launched[ranks][2].out
        with (out / "trials.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {"validation_r2", "test_r2", "test_rmse", "test_mae"} <= set(rows[0])
        digests.append([row["digest"] for row in rows])
        study = json.loads((out / "study.json").read_text())
        assert study["dataset"]["task"] == "regression"
        points = {(one["input"], one["n_inputs"]): one["test_mean"] for one in study["points"]}
        assert points["spectral", 2] + 0.1 < points["spectral", 4]
    assert digests[0] == digests[1] == digests[2]
    for name in ("r2.csv", "r2/32.csv", "figures/r2.png", "figures/predictions.csv"):
        assert (folder / "study1" / name).stat().st_size > 50
    assert not (folder / "study1" / "figures" / "confusion.png").exists()
    assert "target" in (folder / "study1" / "figures" / "scatter.csv").read_text().split("\n")[0]


def check_compress(launched):
    answers = []
    for ranks in (1, 2, 3):
        folder = launched.folder / f"compress{ranks}"
        content = json.loads((folder / "compress.json").read_text())
        answers.append((content["answer"]["hidden"], content["answer"]["n_inputs"]))
        scores = [one["test_score"] for one in content["results"]]
        description = hpcembed.load(folder).description
        assert description["r2"]["test"] == pytest.approx(np.mean(scores))
        assert description["r2"]["rmse"] < 15
        assert "; a point is 0.01 of R2" in (folder / "compress.md").read_text()
        assert "R2" in launched[ranks][3].out
        assert "no R2: all targets are equal" in launched[ranks][5].err
    assert answers == [([32], 4)] * 3


def check_predictions(launched):
    X, y = data()
    folder = launched.folder
    model = hpcembed.load(folder / "run1")
    texts = [(folder / f"p{ranks}.csv").read_bytes() for ranks in (1, 2, 3)]
    head, *lines = texts[0].decode().splitlines()
    assert head == "row,prediction"
    predicted = np.array([float(line.split(",")[1]) for line in lines])
    np.testing.assert_array_equal(predicted, model.predict(X))
    assert model.model.target.shift.dtype == np.float64  # 1e7 with a deviation of 22
    assert model.score(X, y) == pytest.approx(r2_score(y, predicted))
    score = (
        f"R2 {r2_score(y, predicted):.4f}, RMSE {root_mean_squared_error(y, predicted):.6g}, "
        f"MAE {mean_absolute_error(y, predicted):.6g}, of 400 rows"
    )
    assert score in launched[1][4].out
    session = onnxruntime.InferenceSession(folder / "run1" / "model" / "model.onnx")
    (found,) = session.run(None, {"features": X.astype(model.model.input_type)})
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, predicted, atol=1e-3)
    card = (folder / "run1" / "model" / "README.md").read_text()
    for words in ("tabular-regression", "RMSE", "`prediction`, float64", "R2 0.9"):
        assert words in card
    assert (folder / "run1" / "figures" / "predictions.png").stat().st_size > 1000


def refusals(folder):
    X, _ = data()
    write_csv(folder / "whole.csv", X, np.arange(N))
    (folder / "a.toml").write_text(JOB.format(parallel="auto").replace("prices.csv", "whole.csv"))
    return [
        ["run", "a.toml", "--out", "a"],
        [
            "run",
            "a.toml",
            "--out",
            "b",
            "--set",
            "data.task=regression",
            "--set",
            "data.split=stratified",
        ],
        ["run", "a.toml", "--out", "c", "--set", "data.task=regression"],
    ]


@pytest.mark.launch(refusals, ranks=(1, 2))
def test_refusals(launched):
    for ranks in (1, 2):
        ambiguous, stratified, accepted = launched[ranks]
        assert "400 different integers in 400 rows may be classes or targets" in ambiguous.err
        assert ambiguous.status == 2
        assert "needs classes" in stratified.err
        assert stratified.status == 2
        if ranks == 1:
            assert accepted.status == 0, accepted.err
            # Noise cannot be predicted.
            assert "R2 is not above 0" in accepted.out


def texts(folder, ranks):
    """Ratings of texts: a number for each word, and noise."""
    rng = np.random.default_rng(2)
    values = {"awful": -3.0, "dull": -1.0, "fair": 0.5, "good": 2.0, "superb": 4.0}
    lines, plain = ["text,rating"], []
    for words in (rng.choice(list(values), 6) for _ in range(300)):
        rating = sum(values[word] for word in words) + 0.1 * rng.standard_normal()
        lines.append(f"{' '.join(words)},{rating!r}")
        plain.append(f"{rating!r} {' '.join(words)}")
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    (folder / "ratings.txt").write_text("\n".join(plain) + "\n")
    job = JOB.format(parallel="auto").replace("prices", "ratings").replace("price", "rating")
    job = job.replace('scaling = "standard"', 'text_column = "text"\nweighting = "counts"')
    (folder / "t.toml").write_text(job)
    return [
        ["run", "t.toml", "--out", f"t{ranks}", "--set", "output.figures=false"],
        ["predict", f"t{ranks}", "ratings.csv", "--out", f"t{ranks}.csv"],
        ["predict", f"t{ranks}", "ratings.txt", "--out", f"t{ranks}.lines.csv",
         "--set", "data.format=text_lines"],
    ]  # fmt: skip


@pytest.mark.launch(texts, ranks=(1, 2))
def test_regression_on_texts(launched):
    for ranks in (1, 2):
        run, table, lines = launched[ranks]
        for done in (run, table, lines):
            assert done.status == 0, done.err
        for done in (table, lines):
            score = float(done.out.split("R2 ")[1].split(",")[0])
            assert score > 0.95
            assert "of 300 rows" in done.out
    wanted = (launched.folder / "t1.csv").read_text()
    assert (launched.folder / "t1.lines.csv").read_text() == wanted
    model = hpcembed.load(launched.folder / "t1")
    good, awful = model.predict(["good good good superb", "awful awful awful dull"])
    assert good - awful > 10
