"""Regression of tables with categories, dates and gaps, from a file to predictions."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from mpi4py import MPI

import hpcembed
from hpcembed.cli import main
from hpcembed.jobs.predict import predict_file
from hpcembed.jobs.predict_alone import predict_alone

OPTIONS = ["--label-column", "price", "--max-loss", "20", "--seeds", "2", "--max-seeds", "2"]


def houses(n=240):
    rng = np.random.default_rng(1)
    kind, area = rng.choice(["flat", "house"], n), rng.normal(100.0, 30.0, n).round(1)
    price = 1000.0 * (area + 60.0 * (kind == "house")).round(2) + 0.5
    area[::9] = np.nan
    built = pd.date_range("2020-01-01", periods=n).strftime("%Y-%m-%d")
    return pd.DataFrame({"built": built, "kind": kind, "area": area, "price": price})


JOB = """
[data]
name = "houses"
train = ["houses.{ending}"]
label_column = "price"

[embedding]
n_components = 4

[classifier]
hidden = [[16]]

[output]
figures = false
"""


def commands(folder, ranks):
    folder.mkdir(exist_ok=True)
    frame = houses()
    frame.to_csv(folder / "houses.csv", index=False)
    frame.to_parquet(folder / "houses.parquet")
    frame.head(1).drop(columns="price").to_csv(folder / "one.csv", index=False)
    for ending in ("csv", "parquet"):
        (folder / f"{ending}.toml").write_text(JOB.format(ending=ending))
    return [
        ["run", "csv.toml", "--out", f"csv{ranks}"],
        ["run", "parquet.toml", "--out", f"parquet{ranks}"],
        ["predict", f"csv{ranks}", "houses.parquet", "--out", f"p{ranks}.csv"],
        ["predict", f"parquet{ranks}", "one.csv", "--out", f"one{ranks}.csv"],
    ]


def predictions(file):
    with file.open(newline="") as stream:
        return np.array([float(row["prediction"]) for row in csv.DictReader(stream)])


@pytest.mark.launch(commands, ranks=(1, 2))
def test_tables_on_any_number_of_ranks(launched):
    frame = houses()
    for ranks in (1, 2):
        for done in launched[ranks]:
            assert done.status == 0, done.err
        found = predictions(launched.folder / f"p{ranks}.csv")
        first = predictions(launched.folder / "p1.csv")
        np.testing.assert_allclose(found, first, rtol=1e-3)
        model = hpcembed.load(launched.folder / f"csv{ranks}")
        np.testing.assert_array_equal(model.predict(frame), found)
        graph = launched.folder / f"csv{ranks}" / "model" / "model.onnx"
        session = onnxruntime.InferenceSession(graph)
        (again,) = session.run(["prediction"], model.onnx_inputs(frame))
        np.testing.assert_allclose(again, found, rtol=1e-4)
        one = predictions(launched.folder / f"one{ranks}.csv")
        np.testing.assert_allclose(one, found[:1], rtol=1e-3)
        record = json.loads((launched.folder / f"csv{ranks}" / "run.json").read_text())
        assert record["dataset"]["task"] == "regression"
        assert [one["column"] for one in record["dataset"]["columns"]] == ["built", "kind", "area"]
        card = (launched.folder / f"csv{ranks}" / "model" / "README.md").read_text()
        assert "one array of shape (rows, 1) for each raw column" in card
        assert "`prediction`, float32 of shape (rows,), in the unit of the target" in card
        assert "logits" not in card


def test_the_task_of_a_data_file_is_an_option(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frame = houses()
    frame["price"] = frame["price"].round()
    frame.to_csv("houses.csv", index=False)
    assert main(["compress", "houses.csv", *OPTIONS]) == 2
    assert "different integers in 240 rows may be classes or targets" in capsys.readouterr().err
    assert main(["compress", "houses.csv", *OPTIONS, "--task", "regression", "--out", "out"]) == 0
    assert json.loads((tmp_path / "out" / "compress.json").read_text())["task"] == "regression"
    (tmp_path / "job.toml").write_text(JOB.format(ending="csv"))
    assert main(["compress", "job.toml", "--task", "regression"]) == 2
    assert "for a job file use --set data.task=regression" in capsys.readouterr().err


def test_the_style_of_targets_is_remembered(tmp_path, monkeypatch, capsys):
    """A file of one row is read as the training file: 1.234 is a thousand, not one."""
    monkeypatch.chdir(tmp_path)
    frame = houses()
    euros = [
        f"{price:,.2f}".translate(str.maketrans(",.", ".,")) + " €" for price in frame["price"]
    ]
    frame[["kind", "area"]].fillna(90.0).assign(price=euros).to_csv("houses.csv", index=False)
    (tmp_path / "job.toml").write_text(JOB.format(ending="csv"))
    options = ["--set", "embedding.n_components=2", "--set", "training.epochs=2"]
    assert main(["run", "job.toml", "--out", "run", *options]) == 0
    model = hpcembed.load("run")
    assert model.description["reading"]["target_numbers"] == "decimal_comma"
    (tmp_path / "one.csv").write_text("kind,area,price\nhouse,100,1.234\n")
    (predicted,) = model.predict(pd.DataFrame({"kind": ["house"], "area": [100.0]}))
    capsys.readouterr()
    for predict in (partial(predict_file, comm=MPI.COMM_SELF), predict_alone):
        assert predict(Path("run"), Path("one.csv"), out=Path("p.csv")) is None
        assert f"MAE {abs(predicted - 1234.0):.6g}, of 1 row" in capsys.readouterr().out
