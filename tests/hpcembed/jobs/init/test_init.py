"""``hpcembed init``: the job it writes for each kind of data, and its errors."""

import gzip
import struct

import numpy as np
import pytest

from hpcembed.cli import main
from hpcembed.jobs.configuration import load_job
from hpcembed.jobs.init.command import init_job
from hpcembed.jobs.study.settings import load_study
from hpcembed.runtime.errors import ConfigError, InputError, OutputExistsError


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_csv(folder, name="fruit.csv", header="mass,width,kind"):
    draw = np.random.default_rng(0)
    lines = [header]
    for row in range(60):
        lines.append(f"{draw.normal() + row % 3:.3f},{draw.normal():.3f},{'abc'[row % 3]}")
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_gives_a_job_that_runs(tmp_path, capsys):
    write_csv(tmp_path)
    assert main(["init", "fruit.csv"]) == 0
    shown = capsys.readouterr().out
    assert "hpcembed run fruit.toml" in shown
    assert "csv: 48 training and 12 test rows of 2 features" in shown
    job = load_job(tmp_path / "fruit.toml")
    assert (job.data.train, job.data.label_column) == (("fruit.csv",), "kind")
    assert job.data.scaling == "standard"
    assert job.embedding.n_components == 1
    assert "# the last column is chosen; columns: mass, width, kind" in (
        (tmp_path / "fruit.toml").read_text()
    )
    words = ["--set", "training.epochs=1", "--set", "output.figures=false", "--out", "out"]
    assert main(["run", "fruit.toml", *words]) == 0


@pytest.mark.parametrize(
    ("header", "column", "chosen"),
    [
        ("mass,width,kind", "", "kind"),
        ("mass,Class,kind", "", "Class"),
        ("mass,width,kind", "width", "width"),
    ],
)
def test_label_columns(tmp_path, header, column, chosen):
    init_job(write_csv(tmp_path, header=header), column)
    assert load_job(tmp_path / "fruit.toml").data.label_column == chosen


def test_many_numbers_are_noted(tmp_path):
    init_job(write_csv(tmp_path), "mass")
    assert '"regression" predicts numbers' in (tmp_path / "fruit.toml").read_text()
    data = load_job(tmp_path / "fruit.toml").data
    assert (data.label_column, data.task) == ("mass", "regression")


def test_few_numbers_and_text_need_no_task(tmp_path):
    init_job(write_csv(tmp_path), "kind")
    assert "task" not in (tmp_path / "fruit.toml").read_text()


def test_a_column_of_text_is_found(tmp_path):
    lines = ["id,review,label"]
    lines += [f"{i},a long text of several words number {i},{'ab'[i % 2]}" for i in range(30)]
    (tmp_path / "reviews.csv").write_text("\n".join(lines) + "\n")
    init_job(tmp_path / "reviews.csv")
    job = load_job(tmp_path / "reviews.toml")
    assert (job.data.format, job.data.text_column) == ("text_csv", "review")
    assert job.embedding.method == "svd"
    assert not job.classifier.baseline


def test_arrays_of_an_archive(tmp_path):
    np.savez(tmp_path / "e.npz", features=np.zeros((9, 50)), group=np.arange(9) % 2, c=np.ones(50))
    init_job(tmp_path / "e.npz", out=tmp_path / "jobs" / "e.toml")
    job = load_job(tmp_path / "jobs" / "e.toml")
    assert (job.data.features_key, job.data.labels_key) == ("features", "group")
    assert job.data.train == ("../e.npz",)
    assert job.embedding.n_components == 7


@pytest.mark.parametrize("name", ["rows_labels.npy", "labels.npy", "given.npy"])
def test_labels_of_an_array(tmp_path, name):
    np.save(tmp_path / "rows.npy", np.zeros((8, 5)))
    np.save(tmp_path / name, np.arange(8) % 2)
    init_job(tmp_path / "rows.npy", labels=tmp_path / name if name == "given.npy" else None)
    assert load_job(tmp_path / "rows.toml").data.train_labels == name


def test_images_of_one_folder(tmp_path, capsys):
    pillow = pytest.importorskip("PIL.Image")
    (tmp_path / "flat").mkdir()
    for i in range(12):
        pixels = np.full((6, 6), 20 * i, dtype=np.uint8)
        pillow.fromarray(pixels).save(tmp_path / "flat" / f"{i}.png")
    lines = [f"{i}.png,{'dark' if i < 6 else 'light'}" for i in range(12)]
    (tmp_path / "names.csv").write_text("\n".join(["file,label", *lines]) + "\n")
    assert main(["init", "flat", "--labels", "names.csv"]) == 0
    job = load_job(tmp_path / "flat.toml")
    assert (job.data.format, job.data.train_labels) == ("images", "names.csv")
    words = ["--set", "training.epochs=1", "--set", "output.figures=false", "--out", "out"]
    assert main(["run", "flat.toml", *words]) == 0
    capsys.readouterr()
    assert main(["init", "names.csv", "--labels", "a", "--label-column", "label"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_images_of_bytes_are_divided(tmp_path):
    images = struct.pack(">4B3I", 0, 0, 8, 3, 4, 2, 2) + bytes(16)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    labels = struct.pack(">4BI", 0, 0, 8, 1, 4) + bytes([0, 1, 0, 1])
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    init_job(tmp_path / "train-images-idx3-ubyte.gz")
    data = load_job(tmp_path / "train-images-idx3-ubyte.toml").data
    assert (data.scaling, data.divisor) == ("divide", 255.0)
    assert data.train_labels == "train-labels-idx1-ubyte.gz"


def test_a_folder_of_documents(tmp_path):
    for group in "ab":
        (tmp_path / "news" / group).mkdir(parents=True)
        (tmp_path / "news" / group / "1.txt").write_text("some words")
    init_job(tmp_path / "news")
    assert load_job(tmp_path / "news.toml").data.format == "text_folder"


def test_a_job_is_never_overwritten(tmp_path):
    path = write_csv(tmp_path)
    (tmp_path / "fruit.toml").write_text("mine")
    with pytest.raises(OutputExistsError, match="exists; choose another file with --out"):
        init_job(path)
    assert (tmp_path / "fruit.toml").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("absent.csv", {}, InputError, "no such file or folder"),
        ("table.xyz", {}, ConfigError, "the ending is unknown; known are .arrow .bin"),
        ("rows.npy", {}, ConfigError, "no file of labels beside it .rows_labels.npy"),
        ("rows.npy", {"label_column": "a"}, ConfigError, "has no named columns"),
        ("fruit.csv", {"label_column": "a"}, InputError, "no column 'a'"),
        ("one.npz", {}, InputError, "no array with one label for each of the 8 rows of x"),
        ("empty", {}, InputError, "has no files"),
    ],
)
def test_errors(tmp_path, name, options, kind, message):
    write_csv(tmp_path)
    np.save(tmp_path / "rows.npy", np.zeros((8, 5)))
    np.savez(tmp_path / "one.npz", x=np.zeros((8, 5)))
    (tmp_path / "table.xyz").write_text("a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(kind, match=message):
        init_job(tmp_path / name, **options)
    assert not list(tmp_path.glob("*.toml"))


def test_a_study_that_runs(tmp_path, capsys):
    write_csv(tmp_path)
    assert main(["init", "fruit.csv", "--study"]) == 0
    shown = capsys.readouterr().out
    assert "job written to study_fruit.toml" in shown
    assert "hpcembed study study_fruit.toml" in shown
    assert "hpcembed run" not in shown
    study = load_study(tmp_path / "study_fruit.toml")
    assert (study.data.train, study.data.label_column) == (("fruit.csv",), "kind")
    # two features have two components at most
    assert (study.dimensions, study.study.networks) == ((2,), ("low", "very_low"))
    words = ["study.seeds=2", "study.networks=[[4]]", "training.epochs=1", "output.figures=false"]
    words = [word for one in words for word in ("--set", one)]
    assert main(["study", "study_fruit.toml", *words, "--out", "out"]) == 0
    assert (tmp_path / "out" / "study.json").exists()


@pytest.mark.parametrize(("n_features", "sizes"), [(1, [1]), (9, [2, 4, 8, 9]), (50, None)])
def test_dimensions_of_a_study(tmp_path, n_features, sizes):
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=draw.normal(size=(80, n_features)), y=np.arange(80) % 2)
    init_job(tmp_path / "a.npz", study=True)
    study = load_study(tmp_path / "study_a.toml")
    assert list(study.dimensions) == (sizes or [2, 4, 8, 16, 32])
    assert study.study.baseline


def test_a_study_of_documents(tmp_path):
    for number in range(20):
        folder = tmp_path / "mail" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text("some words of a text " * (number + 1))
    init_job(tmp_path / "mail", study=True)
    study = load_study(tmp_path / "study_mail.toml")
    assert (study.embedding.method, study.study.baseline) == ("svd", False)
