"""hpcembed with numpy and safetensors alone: load, predict, --version, --help, clear errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors

import hpcembed
import miramns
from hpcembed.cli import main
from hpcembed.data.text.serialise import vectoriser_to_json
from hpcembed.data.text.vectoriser import TermWeights, Vectoriser
from hpcembed.data.text.vocabulary import Vocabulary
from hpcembed.jobs.export.model import Model, Stage
from hpcembed.jobs.export.model_folder import write_model

NAMES = ("mass", "width", "height")
CLASSES = ("fig", "pear", "plum")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A function that runs Python with numpy, safetensors and hpcembed on the path, and no more."""
    folder = tmp_path_factory.mktemp("small")
    found = [Path(module.__file__).parent for module in (numpy_module(), safetensors)]
    found += [Path(hpcembed.__file__).parent, Path(miramns.__file__).parent]
    found += found[0].parent.glob("numpy.libs")
    for path in found:
        (folder / path.name).symlink_to(path)

    def run(*words, cwd=folder, env=()):
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("OMPI_C", "PM"))
        }
        environment = {**kept, "PYTHONPATH": str(folder), **dict(env)}
        # -S: without site-packages
        return subprocess.run(
            [sys.executable, "-S", *words], cwd=cwd, env=environment, capture_output=True, text=True
        )

    return run


def numpy_module():
    return np


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with named features, and rows of all three formats."""
    folder = tmp_path_factory.mktemp("files")
    draw = np.random.default_rng(3)
    first = Stage(draw.normal(size=(3, 40)).astype(np.float32),
                  draw.normal(size=40).astype(np.float32), relu=True)  # fmt: skip
    last = Stage(draw.normal(size=(40, 3)).astype(np.float32) / 20, None, relu=False)
    model = Model(np.ones(3, dtype=np.float32), (first, last), CLASSES, NAMES)
    reading = {"format": "csv", "ending": ".csv", "label_column": "kind", "delimiter": ";"}
    description = {"name": "fruit", "network": "full-40", "reading": reading}
    write_model(folder / "model", model, description, card="")
    rows, labels = draw.normal(size=(700, 3)), draw.choice(CLASSES, 700)
    np.save(folder / "rows.npy", rows)
    np.save(folder / "labels.npy", labels)
    (folder / "lines.txt").write_text("\n".join(labels) + "\n")
    (folder / "labels.txt").write_text("\n".join(["kind", *labels]) + "\n")
    (folder / "table.csv").write_text("\n".join(["n,kind", *(f"1,{one}" for one in labels)]) + "\n")
    np.savez_compressed(folder / "rows.npz", x=rows.astype(np.float32), y=labels)
    lines = ["width;kind;mass;unused;height"]
    lines += [
        f'{w!r};{kind};"{m!r}";;{h!r}'
        for kind, (m, w, h) in zip(labels, rows.tolist(), strict=True)
    ]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    plain = ["width;kind;mass;height"]
    plain += [
        f"{w!r};{kind}; {m!r} ;{h!r}" for kind, (m, w, h) in zip(labels, rows.tolist(), strict=True)
    ]
    (folder / "plain.csv").write_text("\r\n".join(plain))
    return folder


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("plain.csv", []),
        ("rows.npz", []),
        ("rows.npy", []),
        ("rows.npy", ["--labels", "labels.npy"]),
        ("rows.npy", ["--labels", "labels.txt"]),
        ("rows.npy", ["--labels", "table.csv"]),
        ("rows.npy", ["--labels", "lines.txt", "--set", "data.label_column=''"]),
        ("plain.csv", ["--set", "data.delimiter=';'"]),
    ],
)
def test_predictions_are_the_bytes_of_the_whole_installation(
    small, folder, tmp_path, monkeypatch, capsys, file, options
):
    words = ["predict", "model", file, *options]
    done = small("-m", "hpcembed", *words, "--out", str(tmp_path / "small.csv"), cwd=folder)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(folder)
    assert main([*words, "--out", str(tmp_path / "whole.csv")]) == 0
    assert (tmp_path / "small.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert len((tmp_path / "small.csv").read_text().splitlines()) == 701
    assert done.stdout == capsys.readouterr().out
    assert ("accuracy" in done.stdout) == (file != "rows.npy" or bool(options))


def test_unused_columns_may_hold_anything(small, folder):
    done = small("-m", "hpcembed", "predict", "model", "rows.csv", cwd=folder)
    other = small("-m", "hpcembed", "predict", "model", "plain.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == other.stdout
    assert "columns that the model does not use: unused" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mass,width\n1,2\n", "lacks columns of the model: height"),
        ("mass,width,height\n1,2,3\n4,x,6\n", "data row 2 (line 3): column 2 (width): 'x' is not"),
        (
            "mass,width,height\n1,2,3\n\n4,5\n",
            "data row 2 (line 4): 2 fields where the header has 3",
        ),
        ("mass,width,height\n1,,3\n", "data row 1 (line 2): column 2 (width): the cell is empty"),
        ("mass,width,height\n1,nan,3\n", "(width): 'nan' is not a finite number"),
        ("mass,width,height\n1,1_0,3\n", "(width): '1_0' is not a number"),
        ("mass,width,height\n", "no data rows below the header"),
        ('mass,width,height\n1,"2,3\n', "a quote is not closed on its line"),
    ],
)
def test_errors_of_rows_name_the_place(small, folder, tmp_path, text, message):
    (tmp_path / "new.csv").write_text(text)
    words = ["--set", "data.delimiter=,"]
    done = small(
        "-m", "hpcembed", "predict", str(folder / "model"), "new.csv", *words, cwd=tmp_path
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_version_and_help_need_nothing(small):
    assert small("-m", "hpcembed", "--version").stdout == f"hpcembed {hpcembed.__version__}\n"
    for words in ([], ["run"], ["predict"], ["init"], ["bench"]):
        done = small("-m", "hpcembed", *words, "--help")
        assert done.returncode == 0
        assert "examples:" in done.stdout
        assert "exit status:" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "job.toml"], 'pip install "hpcembed[train,mpi]"'),
        (["init", "rows.csv"], 'pip install "hpcembed[train,mpi]"'),
        (["bench", "pca"], 'pip install "hpcembed[train,mpi]"'),
        (["completion", "bash"], 'shtab is not installed: pip install "hpcembed[completion]"'),
        (["predict", "model", "rows.h5"], "files of type CSV, NPY and NPZ are read"),
        (["predict", "model", "rows.npy", "--set", "data.storage=dense"], "has the keys"),
    ],
)
def test_missing_parts_are_named_in_one_line(small, folder, words, message):
    done = small("-m", "hpcembed", *words, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_several_processes_without_mpi_are_refused(small, folder):
    env = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}
    done = small("-m", "hpcembed", "predict", "model", "rows.npy", cwd=folder, env=env)
    assert done.returncode == 2
    assert "started 2 processes without mpi4py" in done.stderr


def test_python_loads_and_predicts(small, folder):
    code = """
import hpcembed, json, numpy, sys
model = hpcembed.load("model")
rows = numpy.load("rows.npy")
def missing(name):
    try:
        getattr(hpcembed, name)
    except ImportError as error:
        return type(error).__name__, str(error)
try:
    from hpcembed.embedding import PCA
except ImportError as error:
    direct = str(error)
print(json.dumps([model.predict(rows[:9]).tolist(), missing("PCA"), missing("compress_onnx"),
                  direct, sorted(set(sys.modules) & {"mpi4py", "torch", "scipy", "msgspec"})]))
"""
    done = small("-c", code, cwd=folder)
    assert done.returncode == 0, done.stderr
    classes, pca, onnx, direct, loaded = json.loads(done.stdout)
    model, rows = hpcembed.load(folder / "model"), np.load(folder / "rows.npy")
    assert classes == model.predict(rows[:9]).tolist()
    assert pca[0] == onnx[0] == "MissingPackageError"
    assert pca[1] == direct
    assert 'pip install "hpcembed[train,mpi]"' in pca[1]
    assert "onnx is not installed" in onnx[1] or "mpi4py is not installed" in onnx[1]
    assert loaded == []


def test_info_lists_missing_parts(small):
    done = small("-m", "hpcembed", "info")
    assert done.returncode == 0
    assert 'without shtab: pip install "hpcembed[completion]"' in done.stdout


def test_doctor_names_missing_parts(small, tmp_path):
    done = small("-m", "hpcembed", "doctor", "--out", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    (train,) = (line for line in lines if "torch" in line)
    assert train.startswith("WARNING job-part-missing: without torch, sklearn, scipy")
    assert 'pip install "hpcembed[train,mpi]"' in train
    assert any(line.startswith("OK      optional-part-missing: ") for line in lines)
    assert any(" GFLOP/s per core by an unknown BLAS (numpy)" in line for line in lines)


def test_models_of_texts_need_no_scipy(small, tmp_path):
    vocabulary = Vocabulary(["sea", "ship", "wind"], [2, 1, 1], [3, 1, 2], n_documents=3)
    relevance = np.array([1.0, 0.0, 2.0])
    vectoriser = Vectoriser(vocabulary, TermWeights("tfidf", sublinear_tf=True), relevance)
    draw = np.random.default_rng(2)
    stage = Stage(draw.normal(size=(3, 2)).astype(np.float32), None, relu=False)
    model = Model(np.zeros(3, dtype=np.float32), (stage,), ("calm", "storm"))
    description = {"name": "weather", "network": "full-linear"}
    text = vectoriser_to_json(vectoriser)
    write_model(tmp_path / "model", model, description, card="", text=text)
    texts = ["the wind and the sea, the sea", "a road", "", "Ship wind WIND sea ship"]
    code = f"import hpcembed; print(hpcembed.load('model').predict_logits({texts!r}).tolist())"
    done = small("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = hpcembed.load(tmp_path / "model").predict_logits(texts)
    assert np.abs(expected).max() > 0
    assert done.stdout.strip() == str(expected.tolist())
