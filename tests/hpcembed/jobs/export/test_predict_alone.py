"""Predictions by one process with numpy are those of all ranks: regressions, raw columns."""

import csv

import numpy as np
import pandas as pd
import pytest
from mpi4py import MPI
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

import hpcembed
from hpcembed.jobs.export.row_files import read_rows
from hpcembed.jobs.predict import predict_file
from hpcembed.jobs.predict_alone import predict_alone
from hpcembed.runtime.errors import InputError

SMALL = {"max_loss": 20, "networks": [(16,)], "seeds": 2, "max_seeds": 2}


def table():
    """Houses: categories, dates, booleans, gaps, and prices."""
    rng = np.random.default_rng(0)
    n = 300
    kind, area = rng.choice(["flat", "house"], n), rng.normal(100.0, 30.0, n).round(1)
    price = 1000.0 * (area + 60.0 * (kind == "house")).round(2) + 0.5
    cells = area.astype(object)
    cells[::9] = ""
    return pd.DataFrame(
        {
            "built": pd.date_range("2020-01-01", periods=n).strftime("%Y-%m-%d"),
            "note": [f"no {row}" for row in range(n)],
            "kind": kind,
            "garden": rng.choice(["yes", "no"], n),
            "area": cells,
            "price": price,
        }
    )


@pytest.fixture(scope="module", params=["price", "kind"])
def saved(request, tmp_path_factory):
    """A regression and a classification on raw columns, and a file of rows."""
    folder = tmp_path_factory.mktemp("houses")
    frame, label = table(), request.param
    model = hpcembed.compress(frame.drop(columns=[label, "note"]), frame[label], **SMALL)
    model.save(folder / "model")
    frame.to_csv(folder / "houses.csv", index=False)
    return folder, label


def test_both_write_the_same_bytes(saved, tmp_path):
    folder, label = saved
    settings = [f'data.label_column="{label}"']
    file, model = folder / "houses.csv", folder / "model"
    whole = predict_file(model, file, MPI.COMM_SELF, overrides=settings, out=tmp_path / "a.csv")
    alone = predict_alone(model, file, overrides=settings, out=tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert alone == pytest.approx(whole, rel=1e-12)
    assert alone > 0.8
    assert predict_alone(model, file, out=tmp_path / "c.csv") is None
    assert (tmp_path / "c.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_scores_of_targets(saved, tmp_path, capsys):
    folder, label = saved
    if label != "price":
        pytest.skip("the classification")
    (tmp_path / "truth.txt").write_text("".join(f"{one!r}\n" for one in table()["price"].tolist()))
    file, truth, out = folder / "houses.csv", tmp_path / "truth.txt", tmp_path / "p.csv"
    r2 = predict_alone(folder / "model", file, labels=truth, out=out)
    with out.open(newline="") as stream:
        predicted = np.array([float(row["prediction"]) for row in csv.DictReader(stream)])
    price = table()["price"].to_numpy()
    assert r2 == pytest.approx(r2_score(price, predicted))
    rmse = root_mean_squared_error(price, predicted)
    mae = mean_absolute_error(price, predicted)
    line = f"R2 {r2:.4f}, RMSE {rmse:.6g}, MAE {mae:.6g}, of 300 rows"
    assert line in capsys.readouterr().out
    truth.write_text("cheap\n" * 300)
    with pytest.raises(InputError, match="row 1: the target 'cheap' is not a finite number"):
        predict_alone(folder / "model", file, labels=truth)


def test_wrong_cells_are_named_by_line_and_column(saved, tmp_path):
    folder, _ = saved
    frame = table().head(3).astype(object)
    frame.loc[1, "area"] = "large"
    frame.to_csv(tmp_path / "wrong.csv", index=False)
    messages = []
    for predict in (lambda *a: predict_file(*a, MPI.COMM_SELF), predict_alone):
        with pytest.raises(InputError, match=r"wrong.csv.*line 3.*'large'") as caught:
            predict(folder / "model", tmp_path / "wrong.csv")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    np.save(tmp_path / "rows.npy", np.zeros((3, 4)))
    with pytest.raises(InputError, match="the model takes columns with names: give a CSV file"):
        predict_alone(folder / "model", tmp_path / "rows.npy")


def test_columns_as_texts(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,kind\n1,,a\n\n 2,3,b\n")
    columns = read_rows(tmp_path / "a.csv", {}, ["kind", "x"], 2, takes_columns=True).rows
    assert columns.names == ("kind", "x")
    assert columns.column("x").values == ("1", "2")
    assert columns.pieces[0].lines.tolist() == [2, 4]
    (tmp_path / "a.csv").write_text("x,kind\n")
    with pytest.raises(InputError, match="no data rows below the header"):
        read_rows(tmp_path / "a.csv", {}, ["x"], 1, takes_columns=True)
