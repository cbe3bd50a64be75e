"""``hpcembed complete``: a table of ratings as a new user has it."""

import csv
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from hpcembed.cli import main


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


def test_a_bad_line_and_a_folder_in_use_are_refused(ratings, tmp_path, capsys):
    with ratings.open("a") as file:
        file.write("user1\titem1\tgood\n")
    assert main(["complete", str(ratings)]) == 2
    lines = len(ratings.read_text().splitlines())
    assert f"line {lines}" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(["complete", str(ratings), "--out", str(tmp_path / "full")]) == 2
