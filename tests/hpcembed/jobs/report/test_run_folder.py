from __future__ import annotations

import csv
import errno
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.runtime.errors import HpcembedError, OutputError, OutputExistsError


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run")


def leftovers(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.path.rglob("*"))


def test_parents_are_made(tmp_path):
    folder = RunFolder.create(tmp_path / "a" / "b" / "run")
    assert folder.path.is_dir()
    assert folder.path == tmp_path / "a" / "b" / "run"


def test_an_empty_folder_is_taken(tmp_path):
    assert RunFolder.create(tmp_path).path == tmp_path


def test_a_folder_with_a_run_is_refused_in_one_line_with_the_remedy(tmp_path):
    (tmp_path / ".hidden").touch()
    with pytest.raises(OutputExistsError, match="choose another folder or remove it") as caught:
        RunFolder.create(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(OutputExistsError, match="is a file"):
        RunFolder.create(tmp_path / "run")
    with pytest.raises(OutputError, match="Not a directory"):
        RunFolder.create(tmp_path / "run" / "below")


def test_json_of_numpy_dataclasses_and_paths(folder):
    @dataclass(frozen=True, slots=True)
    class Point:
        x: np.float64
        tags: tuple[str, ...]

    content = {
        "scalar": np.float32(0.5),
        "count": np.int64(7),
        "flag": np.bool_(True),
        "array": np.arange(4.0).reshape(2, 2),
        "point": Point(np.float64(0.1), ("a", "b")),
        "path": Path("x") / "y",
        "none": None,
        3: "key",
    }
    path = folder.write_json("sub/run.json", content)
    assert path == folder.path / "sub" / "run.json"
    assert json.loads(path.read_text()) == {
        "scalar": 0.5,
        "count": 7,
        "flag": True,
        "array": [[0.0, 1.0], [2.0, 3.0]],
        "point": {"x": 0.1, "tags": ["a", "b"]},
        "path": "x/y",
        "none": None,
        "3": "key",
    }


def test_json_keeps_the_order_of_keys(folder):
    path = folder.write_json("run.json", {"z": 1, "a": 2})
    assert list(json.loads(path.read_text())) == ["z", "a"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_numbers_without_a_json_form_become_null(folder, value):
    path = folder.write_json("run.json", {"deep": [{"value": value}], "array": np.array([value])})

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read == {"deep": [{"value": None}], "array": [None]}


def test_what_has_no_json_form_is_named_and_leaves_no_file(folder):
    with pytest.raises(TypeError, match="object has no JSON form"):
        folder.write_json("run.json", {"x": object()})
    assert leftovers(folder) == []


def test_metrics_are_on_disk_line_by_line(folder):
    path = folder.path / "metrics.jsonl"
    folder.append_metric({"epoch": 1, "loss": np.float64(2.5)})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"epoch": 1, "loss": 2.5}
    ]
    folder.append_metric({"epoch": 2, "loss": math.nan, "note": "two\nlines"})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"epoch": 1, "loss": 2.5},
        {"epoch": 2, "loss": None, "note": "two\nlines"},
    ]


def test_csv_numbers_read_back_exactly(folder):
    values = np.array([1 / 3, 1e-300, -0.1])
    path = folder.write_csv("table.csv", {"value": values, "name": ["a", "b, c", 'd"e']})
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["value", "name"]
    assert [float(row[0]) for row in rows[1:]] == values.tolist()
    assert [row[1] for row in rows[1:]] == ["a", "b, c", 'd"e']
    assert b"\r" not in path.read_bytes()


def test_csv_columns_of_different_lengths_are_refused(folder):
    with pytest.raises(ValueError, match="'a': 2, 'b': 3"):
        folder.write_csv("table.csv", {"a": [1, 2], "b": [1, 2, 3]})
    assert leftovers(folder) == []


def test_transposed_arrays_keep_their_layout(folder):
    array = np.arange(6.0).reshape(2, 3).T
    path = folder.save_arrays(
        "a.safetensors", {"t": array, "n": np.array([1, 2])}, {"unit": "none"}
    )
    read = safetensors.numpy.load_file(path)
    assert read.keys() == {"t", "n"}
    np.testing.assert_array_equal(read["t"], array)
    np.testing.assert_array_equal(read["n"], [1, 2])
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata() == {"unit": "none"}


def test_text_is_utf8_and_replaces_an_older_one(folder):
    folder.write_text("job.toml", "old and longer")
    path = folder.write_text("job.toml", "λ = 1\n")
    assert path.read_bytes() == "λ = 1\n".encode()
    assert leftovers(folder) == ["job.toml"]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(folder):
    folder.write_text("plot.png", "old")
    with pytest.raises(KeyError), folder.new_file("plot.png") as path:
        path.write_text("half")
        raise KeyError("drawing failed")
    assert leftovers(folder) == ["plot.png"]
    assert (folder.path / "plot.png").read_text() == "old"


def test_a_full_disk_is_one_line_that_names_the_file(folder, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hpcembed.jobs.report.run_folder.os.replace", full)
    with pytest.raises(OutputError, match=r"run\.json: cannot write: No space left") as caught:
        folder.write_json("run.json", {})
    assert isinstance(caught.value, HpcembedError)
    assert isinstance(caught.value, OSError)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    assert leftovers(folder) == []


def test_a_folder_that_vanished_is_named_when_a_metric_comes(folder):
    folder.path.rmdir()
    with pytest.raises(OutputError, match=r"run: the output folder was removed during the run"):
        folder.append_metric({"epoch": 1})


def test_a_folder_that_was_removed_is_not_made_again(tmp_path):
    folder = RunFolder.create(tmp_path / "out")
    folder.append_metric({"epoch": 1})
    shutil.rmtree(folder.path)
    for write in (
        lambda: folder.write_text("a.txt", "x"),
        lambda: folder.write_csv("figures/a.csv", {"k": [1]}),
        lambda: folder.append_metric({"epoch": 2}),
        lambda: folder.new_file("a.png").__enter__(),
    ):
        with pytest.raises(OutputError, match=r"out: the output folder was removed during the run"):
            write()
    assert list(tmp_path.iterdir()) == []
