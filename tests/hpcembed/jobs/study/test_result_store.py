"""Finished trials are read back; incomplete and foreign lines are skipped."""

import json
import math

import pytest

from hpcembed.jobs.study.result_store import append_results, read_results
from hpcembed.jobs.study.trials import Trial, TrialResult
from hpcembed.runtime.errors import InputError, OutputError


def result(name, **changes):
    values = {
        "digest": name,
        "trial": Trial("spectral", (32, 16), 5, 3),
        "parameters": 100,
        "train_seconds": 0.1 + 0.2,
        "train_loss": math.nan,
        "validation_score": 0.9,
        "test_score": 1 / 3,
        "best_epoch": 4,
        "confusion": ((5, 1), (0, 6)),
    }
    return TrialResult(**(values | changes))


def test_round_trip_over_ranks(tmp_path):
    append_results(tmp_path, 0, [result("a"), result("b", confusion=())])
    append_results(tmp_path, 11, [result("c")])
    append_results(tmp_path, 0, [result("d", trial=Trial("full", (), 64, 0))])
    found = read_results(tmp_path)
    assert sorted(found) == ["a", "b", "c", "d"]
    assert math.isnan(found["a"].train_loss)
    for name, confusion in (("a", ((5, 1), (0, 6))), ("b", ())):
        expected = result(name, confusion=confusion, train_loss=0.0)
        names = [key for key in TrialResult.__struct_fields__ if key != "train_loss"]
        assert [getattr(found[name], key) for key in names] == [
            getattr(expected, key) for key in names
        ]
    assert found["d"].trial == Trial("full", (), 64, 0)


def test_an_incomplete_line_costs_only_itself(tmp_path):
    append_results(tmp_path, 0, [result("a"), result("b")])
    path = tmp_path / "trials" / "rank-0.jsonl"
    whole = path.read_bytes()
    for cut in (1, 2, 40, 200):
        path.write_bytes(whole[:-cut])
        kept = {"a", "b"} if cut == 1 else {"a"}
        assert set(read_results(tmp_path)) == kept
        append_results(tmp_path, 0, [result("c")])
        assert set(read_results(tmp_path)) == kept | {"c"}


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b"3", b'{"cell": 3}', b"\xff\x00", b'{"a"'])
def test_foreign_lines_are_skipped(tmp_path, line):
    append_results(tmp_path, 0, [result("a")])
    path = tmp_path / "trials" / "rank-0.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    assert set(read_results(tmp_path)) == {"a"}


def test_nothing_yet_and_no_place(tmp_path):
    assert read_results(tmp_path / "none") == {}
    (tmp_path / "trials").write_text("a file")
    with pytest.raises(OutputError, match="cannot write"):
        append_results(tmp_path, 0, [result("a")])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_score": 1.5}, "test_score must lie between 0 and 1, got 1.5"),
        ({"validation_score": -0.1}, "validation_score must lie between 0 and 1"),
        ({"test_score": 1.5, "test_rmse": 2.0}, "test_score must be a finite number up to 1"),
        ({"test_rmse": -2.0}, "test_rmse must be a finite number, not negative, got -2.0"),
        ({"train_seconds": -1.0}, "train_seconds must be a finite number, not negative"),
        ({"train_seconds": 1e999}, "Number out of range"),
        ({"train_loss": "low"}, r"Expected `float`, got `str` - at `\$.train_loss`"),
        ({"parameters": 0}, "parameters must be at least 1, got 0"),
        ({"best_epoch": 1.5}, "Expected `int`, got `float`"),
        ({"confusion": [[1, 2]]}, "confusion must be a square matrix"),
        ({"confusion": [[-1]]}, "confusion must be at least 0"),
        ({"cell": {"input": "full", "hidden": [0], "n_inputs": 4, "seed": 0}}, "hidden must be at"),
        ({"cell": {"input": "none", "hidden": [], "n_inputs": 4, "seed": 0}}, "Invalid enum value"),
    ],
)
def test_wrong_values_are_named_by_file_and_line(tmp_path, changes, words):
    append_results(tmp_path, 0, [result("a"), result("b")])
    path = tmp_path / "trials" / "rank-0.jsonl"
    first, second = path.read_text().splitlines()
    changed = json.dumps(json.loads(second) | changes).replace("Infinity", "1e999")
    path.write_text(f"{first}\n{changed}\n")
    with pytest.raises(InputError, match=rf"rank-0.jsonl, line 2: .*{words}.*; remove the line"):
        read_results(tmp_path)


def test_trials_of_earlier_versions_are_read(tmp_path):
    old = (
        b'{"digest":"a","cell":{"input":"full","hidden":[8],"n_inputs":4,"seed":1},"parameters":9,'
        b'"train_seconds":0.5,"train_loss":null,"validation_accuracy":0.75,"test_accuracy":null,'
        b'"best_epoch":3,"confusion":[[1,0],[0,2]]}\n'
    )
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "rank-0.jsonl").write_bytes(old)
    found = read_results(tmp_path)["a"]
    assert (found.validation_score, found.validation_accuracy) == (0.75, 0.75)
    assert math.isnan(found.test_score)
    assert math.isnan(found.test_accuracy)
    assert found.confusion == ((1, 0), (0, 2))


def test_trials_of_regressions(tmp_path):
    pairs = ((1.5, 1.25), (2.0, 2.5))
    errors = {"test_score": -7.5, "test_rmse": 3.5, "test_mae": 2.0, "predictions": pairs}
    append_results(tmp_path, 0, [result("a", **errors)])
    found = read_results(tmp_path)["a"]
    assert found.test_score == -7.5
    assert (found.test_rmse, found.test_mae, found.predictions) == (3.5, 2.0, pairs)
    append_results(tmp_path, 0, [result("b")])
    assert math.isnan(read_results(tmp_path)["b"].test_rmse)
