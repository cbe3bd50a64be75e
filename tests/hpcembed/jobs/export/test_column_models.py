"""Models of raw columns: from a job to predictions, with numpy and with ONNX, on raw rows."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pandas
import pytest
from mpi4py import MPI

import hpcembed
from hpcembed.data.columns import ColumnOptions, raw_columns_of
from hpcembed.data.columns.fitting import fit_encoding, scan_table
from hpcembed.data.columns.serialise import encoding_to_json
from hpcembed.jobs.configuration import load_job
from hpcembed.jobs.export.model import Model, Stage
from hpcembed.jobs.export.model_folder import write_model
from hpcembed.jobs.predict import predict_file
from hpcembed.runtime.errors import InputError

N = 400


def passengers(n: int = N) -> pandas.DataFrame:
    """Passengers as in the table of the Titanic, with survival that depends on the columns."""
    g = np.random.default_rng(3)
    sex = g.choice(["male", "female"], n)
    pclass = g.choice([1, 2, 3], n)
    age = np.where(g.random(n) < 0.2, np.nan, np.round(g.gamma(4, 8, n)))
    chance = 1 / (1 + np.exp(-(2.5 * (sex == "female") - 0.9 * pclass + 0.8)))
    days = pandas.to_timedelta(g.integers(0, 4, n), "D")
    return pandas.DataFrame(
        {
            "PassengerId": np.arange(1, n + 1),
            "Pclass": pclass,
            "Name": [f"Person {i}, the {i * 31 % n}th" for i in range(n)],
            "Sex": sex,
            "Age": age,
            "Fare": np.round(g.gamma(2, 15, n), 2),
            "Cabin": [None if x < 70 else f"C{x}" for x in g.integers(0, 140, n)],
            "Embarked": g.choice(["S", "C", "Q", None], n, p=[0.6, 0.2, 0.19, 0.01]),
            "Alone": g.choice([True, False], n),
            "Boarded": pandas.Timestamp("1912-04-10") + days,
            "Survived": (g.random(n) < chance).astype(int),
        }
    )


def model_of(frame: pandas.DataFrame, folder, dtype=np.float32):
    """A model with random weights on the encoded columns, written and loaded."""
    raw = raw_columns_of(frame.drop(columns="Survived", errors="ignore"))
    encoding = fit_encoding(scan_table(raw, ColumnOptions(), MPI.COMM_SELF), raw, MPI.COMM_SELF)
    rows = encoding.transform(raw)
    g = np.random.default_rng(0)
    d = rows.shape[1]
    first = (g.standard_normal((d, 6)) / np.maximum(rows.std(axis=0), 1)[:, None]).astype(dtype)
    model = Model(
        rows.mean(axis=0).astype(dtype),
        (Stage(first, np.zeros(6, dtype), relu=True),
         Stage(g.standard_normal((6, 2)).astype(np.float32), None, relu=False)),
        ("0", "1"),
        encoding.feature_names_out,
    )  # fmt: skip
    write_model(
        folder, model, {"name": "p", "network": "n"}, "", columns=encoding_to_json(encoding)
    )
    return hpcembed.load(folder)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_onnx_gives_the_logits_of_raw_rows(tmp_path, dtype):
    frame = passengers()
    frame.loc[:5, "Sex"] = "other"
    model = model_of(passengers(), tmp_path / "m", dtype)
    session = onnxruntime.InferenceSession(tmp_path / "m" / "model.onnx")
    names = [one.name for one in session.get_inputs()]
    assert names == ["Pclass", "Sex", "Age", "Fare", "Cabin", "Embarked", "Alone", "Boarded"]
    assert session.get_inputs()[1].type == "tensor(string)"
    assert session.get_inputs()[0].shape == ["batch", 1]
    inputs = model.onnx_inputs(frame)
    (logits,) = session.run(["logits"], inputs)
    np.testing.assert_allclose(logits, model.predict_logits(frame), rtol=1e-4, atol=1e-4)
    # raw values, without the method
    raw = {
        **inputs,
        "Sex": frame[["Sex"]].to_numpy(dtype=object),
        "Embarked": frame[["Embarked"]].fillna("NA").to_numpy(dtype=object),
        "Alone": np.where(frame[["Alone"]], "Yes", "FALSE").astype(object),
    }
    (again,) = session.run(["logits"], raw)
    np.testing.assert_array_equal(again, logits)
    (one,) = session.run(["logits"], {name: value[:1] for name, value in inputs.items()})
    np.testing.assert_allclose(one, logits[:1], rtol=1e-5, atol=1e-5)


def test_a_model_finds_its_columns_by_name(tmp_path):
    frame = passengers()
    model = model_of(frame, tmp_path / "m")
    assert model.n_features_in_ == len(model.feature_names_in_) == 8
    expected = model.predict_proba(frame)
    others = frame[frame.columns[::-1]].assign(note=[{} for _ in range(N)])
    np.testing.assert_array_equal(model.predict_proba(others), expected)
    wanted = frame[list(model.feature_names_in_)]
    np.testing.assert_array_equal(model.predict_proba(wanted.to_dict("records")), expected)
    np.testing.assert_array_equal(model.predict_proba(wanted.to_dict("list")), expected)
    np.testing.assert_array_equal(model.predict_proba(wanted.to_numpy(dtype=object)), expected)
    with pytest.raises(InputError, match="columns are missing: Sex"):
        model.predict(frame.drop(columns="Sex"))
    with pytest.raises(InputError, match=r"row 1: column 'Fare': 'free' is not a number"):
        model.predict(frame.assign(Fare="free"))
    with pytest.raises(InputError, match="rows of 7 columns: the model takes 8"):
        model.predict(wanted.to_numpy(dtype=object)[:, 1:])


def test_a_model_folder_is_checked(tmp_path):
    frame = passengers()
    model_of(frame, tmp_path / "m")
    file = tmp_path / "m" / "columns.json"
    file.write_text(file.read_text().replace("female", "Female"))
    with pytest.raises(InputError, match=r"columns.json: not the file listed in manifest.json"):
        hpcembed.load(tmp_path / "m")
    about = json.loads((tmp_path / "m" / "model.json").read_text())
    about["has_manifest"] = False  # the model of an earlier version
    (tmp_path / "m" / "model.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"columns.json: not the columns of model.json"):
        hpcembed.load(tmp_path / "m")
    file.unlink()
    with pytest.raises(InputError, match=r"columns.json: No such file"):
        hpcembed.load(tmp_path / "m")
    del about["columns_sha256"]  # a model of an older version
    (tmp_path / "m" / "model.json").write_text(json.dumps(about))
    assert hpcembed.load(tmp_path / "m").encoding is None


def test_prediction_needs_neither_mpi_nor_arrow(tmp_path):
    model_of(passengers(), tmp_path / "m")
    code = f"""
import sys
for name in ("mpi4py", "petsc4py", "torch", "pyarrow", "msgspec", "pandas", "onnx"):
    sys.modules[name] = None
import hpcembed
model = hpcembed.load({str(tmp_path / "m")!r})
row = dict(Pclass=1, Sex="male", Age=None, Fare=5, Cabin="C99", Embarked="S", Alone=True,
           Boarded="1912-04-12")
print(model.predict([row]), sorted(model.onnx_inputs([row])))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'Pclass', 'Sex'" in done.stdout


def inputs(folder):
    """A job on a CSV file, and prediction input with other columns in another order."""
    frame = passengers()
    frame.to_csv(folder / "train.csv", index=False)
    frame.to_parquet(folder / "train.parquet")
    extra = frame.drop(columns=["PassengerId", "Survived"]).assign(
        note='a, "b"', code=["7", "x"] * (N // 2)
    )
    extra = extra[extra.columns[::-1]]
    extra.to_csv(folder / "new.csv", index=False)
    extra.to_parquet(folder / "new.parquet")
    extra.iloc[:1].to_csv(folder / "one.csv", index=False)
    extra.iloc[:1].to_parquet(folder / "one.parquet")
    for ending in ("csv", "parquet"):
        (folder / f"{ending}.toml").write_text(
            f'[data]\nname = "passengers"\ntrain = "train.{ending}"\nlabel_column = "Survived"\n'
            '[data.columns]\nPclass = "category"\n[embedding]\nn_components = 6\n'
            "[classifier]\nhidden = [[8]]\n[training]\nepochs = 5\n[output]\nfigures = false\n"
        )


def commands(folder):
    inputs(folder)
    listed = []
    for ending in ("csv", "parquet"):
        listed.append(["run", f"{ending}.toml", "--out", ending])
        for name in ("new", "one"):
            listed.append(["predict", ending, f"{name}.{ending}", "--out", f"{name}-{ending}.csv"])
    return listed


@pytest.mark.launch(commands, ranks=None)
@pytest.mark.parametrize("ranks", [1, 2])
def test_from_a_job_to_predictions(launched, ranks):
    for done in launched.finished[ranks]:
        assert done.status == 0, done.err
    frame = passengers()
    first = None
    for ending in ("csv", "parquet"):
        run = json.loads((launched.folder / ending / "run.json").read_text())
        kinds = {one["column"]: one["kind"] for one in run["dataset"]["columns"]}
        assert kinds["Pclass"] == "category"
        assert kinds["PassengerId"] == kinds["Name"] == "dropped"
        assert "Sex" in launched.finished[ranks][0].err
        model = hpcembed.load(launched.folder / ending)
        session = onnxruntime.InferenceSession(launched.folder / ending / "model" / "model.onnx")
        (logits,) = session.run(["logits"], model.onnx_inputs(frame))
        np.testing.assert_allclose(logits, model.predict_logits(frame), rtol=1e-4, atol=1e-4)
        predicted = {}
        for name in ("new", "one"):
            with open(launched.folder / f"{name}-{ending}.csv", newline="") as file:
                predicted[name] = list(csv.DictReader(file))
        assert [row["prediction"] for row in predicted["new"]] == [
            str(label) for label in model.predict(frame)
        ]
        assert predicted["one"] == predicted["new"][:1]
        first = first or predicted
        assert predicted == first
        assert "columns.json" in (launched.folder / ending / "model" / "README.md").read_text()
        again = load_job(launched.folder / ending / "job.toml")
        assert again.data.columns == {"Pclass": "category"}


def test_a_model_of_numbers_reads_its_columns_only(tmp_path):
    model = Model(np.zeros(2, np.float32), (Stage(np.eye(2, dtype=np.float32), None, relu=False),),
                  ("a", "b"), ("x", "y"))  # fmt: skip
    write_model(tmp_path / "m", model, {"name": "p", "network": "n"}, "")
    (tmp_path / "new.csv").write_text("note,y,x\n?,1,2\nwords,5,3\n")
    predict_file(tmp_path / "m", tmp_path / "new.csv", MPI.COMM_SELF, out=tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines] == ["prediction", "a", "b"]
    (tmp_path / "new.csv").write_text("note,y,x\n?,1,\nwords,5,3\n")
    with pytest.raises(
        InputError, match=r"data row 1 \(line 2\): column 3 \(x\): the cell is empty"
    ):
        predict_file(tmp_path / "m", tmp_path / "new.csv", MPI.COMM_SELF)
