"""``hpcembed complete``: a table of ratings as a new user has it."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

import hpcembed
from hpcembed.cli import main
from hpcembed.runtime.errors import InputError, OutputExistsError


@pytest.fixture
def ratings(tmp_path):
    """Ratings of rank 3 with little noise, in the format of MovieLens."""
    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((60, 3)), rng.standard_normal((40, 3))
    seen = rng.random((60, 40)) < 0.5
    path = tmp_path / "u.data"
    with path.open("w") as file:
        for i, j in np.argwhere(seen):
            value = 3 + U[i] @ V[j] + 0.05 * rng.standard_normal()
            file.write(f"user{i}\titem{j}\t{value:.4f}\t88125\n")
    return path


def test_the_factors_are_written_and_give_the_test_error(ratings, tmp_path, capsys):
    out = tmp_path / "completed"
    assert main(["complete", str(ratings), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    record = json.loads((out / "completion.json").read_text())
    assert f"test RMSE {record['rmse']['test']:.4f}" in text
    assert f'hpcembed.load_completion("{out}").predict(users, items)' in text
    assert record["rmse"]["test"] < 0.3 * record["rmse"]["offsets"]
    assert len(record["candidates"]) > 3
    factors = load_file(out / "factors.safetensors")
    names = {
        kind: [row[0] for row in csv.reader((out / f"{kind}.csv").open())][1:]
        for kind in ("users", "items")
    }
    assert factors["user_factors"].shape == (60, record["rank"])
    assert len(names["users"]) == 60
    errors = []
    for line in ratings.read_text().splitlines():
        user, item, value, _ = line.split("\t")
        i, j = names["users"].index(user), names["items"].index(item)
        found = record["mean"] + factors["user_offsets"][i] + factors["item_offsets"][j]
        found += factors["user_factors"][i] @ factors["item_factors"][j]
        errors.append(np.clip(found, *record["limits"]) - float(value))
    entries = record["entries"]
    assert len(errors) == entries["training"] + entries["validation"] + entries["test"]
    assert np.sqrt(np.mean(np.square(errors))) < 2 * record["rmse"]["test"]


def test_rank_and_ridge_of_the_user_are_taken(ratings, capsys):
    assert main(["complete", str(ratings), "--rank", "2", "--ridge", "0.1"]) == 0
    text = capsys.readouterr().out
    assert "rank 2, ridge 0.1: test RMSE" in text
    assert "validation RMSE" not in text


def test_a_folder_that_is_loaded_predicts_as_the_table_that_was_written(ratings, tmp_path):
    table = hpcembed.complete_table(ratings, seed=4)
    hpcembed.write_completion(table, tmp_path / "out")
    loaded = hpcembed.load_completion(tmp_path / "out")
    pairs = ["user1", "user2", "nobody"], ["item5", "unheard", "nothing"]
    np.testing.assert_array_equal(loaded.predict(*pairs), table.predict(*pairs))
    item = table.item_offsets[table.items.index("item7")]
    assert loaded.predict(["nobody"], ["item7"])[0] == pytest.approx(table.mean + item)
    for field in dataclasses.fields(table):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(table, field.name))
    with pytest.raises(OutputExistsError, match="not empty; choose another folder or remove it"):
        hpcembed.write_completion(table, tmp_path / "out")


def test_names_and_values_that_are_not_known_survive_the_folder(tmp_path):
    i, j = np.divmod(np.arange(60), 6)
    users = np.array(["a,b", 'c"d', "e\nf", "", *"ghijkl"])[i]
    table = hpcembed.complete_table((users, j, np.sin(i) * np.cos(j)), 1, ridge=0.1)
    hpcembed.write_completion(table, tmp_path / "out")
    loaded = hpcembed.load_completion(str(tmp_path / "out"))
    assert loaded.users == table.users
    assert np.isnan(loaded.validation_rmse)
    assert "NaN" not in (tmp_path / "out" / "completion.json").read_text()  # is not JSON


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda out: shutil.rmtree(out), "out: no completed table"),
        (lambda out: (out / "completion.json").write_text("{}"), "out: damaged"),
        (lambda out: (out / "completion.json").write_text("["), "out: damaged"),
        (lambda out: (out / "users.csv").write_text("name\nuser1\n"), "out: damaged"),
        (lambda out: (out / "factors.safetensors").write_bytes(b"x"), "out: damaged"),
    ],
)
def test_a_damaged_folder_is_refused(spoil, message, ratings, tmp_path):
    out = tmp_path / "out"
    hpcembed.write_completion(hpcembed.complete_table(ratings, 2, ridge=0.1), out)
    spoil(out)
    with pytest.raises(InputError, match=message) as caught:
        hpcembed.load_completion(out)
    assert "\n" not in str(caught.value)


def test_a_rank_beyond_the_table_and_a_missing_file_are_refused(ratings, tmp_path, capsys):
    assert main(["complete", str(ratings), "--rank", "500"]) == 2
    assert "rank = 500 exceeds 40, the smaller dimension of the table" in capsys.readouterr().err
    assert main(["complete", str(tmp_path / "none.csv")]) == 2
    assert capsys.readouterr().err.strip().endswith("none.csv: no such file")


def test_a_bad_line_and_a_folder_in_use_are_refused(ratings, tmp_path, capsys):
    with ratings.open("a") as file:
        file.write("user1\titem1\tgood\n")
    assert main(["complete", str(ratings)]) == 2
    lines = len(ratings.read_text().splitlines())
    assert f"line {lines}" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(["complete", str(ratings), "--out", str(tmp_path / "full")]) == 2
    assert "full: not empty; choose another folder or remove it" in capsys.readouterr().err
