"""A model at work on files: any format, any number of ranks, errors in one line."""

import csv
import io
import json
import shutil
import struct

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from mpi4py import MPI

from hpcembed.jobs.export.inference import load
from hpcembed.jobs.export.layer_folding import build_model
from hpcembed.jobs.export.model_folder import write_model
from hpcembed.jobs.predict import predict_file
from hpcembed.runtime.errors import ConfigError, HpcembedError, InputError

NAMES = ("1", "2", "7")
N = 300


@pytest.fixture
def model(parts, shared_tmp):
    """A model folder; the same on all ranks, written by the first."""

    def make(feature_names=(), class_names=NAMES, reading=None):
        scaling, projection, trained, _ = parts()
        built = build_model(
            scaling,
            projection,
            trained,
            projection.mean,
            np.ones(30),
            class_names=class_names,
            feature_names=feature_names,
        )
        if MPI.COMM_WORLD.rank == 0:
            write_model(shared_tmp / "m", built, {"reading": reading or {}}, "")
        MPI.COMM_WORLD.Barrier()
        return shared_tmp / "m"

    return make


@pytest.fixture
def rows():
    """Whole numbers, which every format holds exactly."""
    return np.random.default_rng(1).integers(0, 6, (N, 30)).astype(np.float64)


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_idx(path, array):
    head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def write(kind, folder, X, y):
    """A file of this kind, with labels where the format keeps them."""
    if kind == "csv":
        path = folder / "rows.csv"
        header = ",".join(f"f{i}" for i in range(X.shape[1])) + ",kind"
        lines = [",".join(map(str, [*row, label])) for row, label in zip(X, y, strict=True)]
        path.write_text("\n".join([header, *lines]) + "\n")
    elif kind == "bare csv":
        path = folder / "rows.csv"
        header = ",".join(f"f{i}" for i in range(X.shape[1]))
        path.write_text("\n".join([header, *(",".join(map(str, row)) for row in X)]) + "\n")
    elif kind == "npz":
        path = folder / "rows.npz"
        np.savez(path, x=X, y=y)
    elif kind == "bare npz":
        path = folder / "rows.npz"
        np.savez(path, x=X.astype(np.uint8))
    elif kind == "bare npy":
        path = folder / "rows.npy"
        np.save(path, X.astype(np.float32))
    elif kind == "bare idx":
        path = folder / "rows.idx"
        write_idx(path, X.reshape(-1, 5, 6))
    elif kind in ("hdf5", "bare hdf5"):
        path = folder / "rows.h5"
        with h5py.File(path, "w") as file:
            file["x"] = X
            if kind == "hdf5":
                file["y"] = y
    elif kind == "bare mtx":
        path = folder / "rows.mtx"
        scipy.io.mmwrite(path, scipy.sparse.coo_matrix(X))
    elif kind == "svmlight":
        path = folder / "rows.svm"
        lines = [
            " ".join([str(label), *(f"{j + 1}:{v}" for j, v in enumerate(row) if v)])
            for row, label in zip(X, y, strict=True)
        ]
        path.write_text("\n".join(lines) + "\n")
    return path


KINDS = ["csv", "npz", "hdf5", "svmlight"]
KINDS += ["bare csv", "bare npz", "bare npy", "bare idx", "bare hdf5", "bare mtx"]


@pytest.mark.mpi
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_on_any_number_of_ranks(comm, model, rows, shared_tmp, kind):
    """What is written is what one process computes on the whole table, to the byte."""
    folder = model(reading={"label_column": "kind", "ending": ".csv"})
    whole = load(folder)
    predicted = whole.predict(rows)
    y = np.where(np.arange(N) % 3, predicted, 7)
    path = shared_tmp / "none"
    if comm.rank == 0:
        path = write(kind, shared_tmp, rows, y)
    path = comm.bcast(path)
    accuracy = predict_file(folder, path, comm, out=shared_tmp / "out.csv")
    comm.Barrier()
    chances = whole.predict_proba(rows).max(axis=1)
    text = io.StringIO()
    text.write("row,prediction,probability\n")
    for i in range(N):
        text.write(f"{i + 1},{predicted[i]},{chances[i]:.6f}\n")
    assert (shared_tmp / "out.csv").read_text() == text.getvalue()
    if kind.startswith("bare"):
        assert accuracy is None
    else:
        assert accuracy == np.mean(y == predicted) < 1


@pytest.mark.mpi
def test_more_ranks_than_rows(comm, model, rows, shared_tmp):
    folder = model()
    if comm.rank == 0:
        np.save(shared_tmp / "one.npy", rows[:1])
    comm.Barrier()
    predict_file(folder, shared_tmp / "one.npy", comm, out=shared_tmp / "out.csv")
    comm.Barrier()
    assert len(read_csv(shared_tmp / "out.csv")) == 1


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda X: X[:, :29], "29 features where the model takes 30"),
        (
            lambda X: np.where(np.arange(N)[:, None] == 250, 1e300, X),
            "rows.npy: row 251: NaN, infinity",
        ),
        (lambda X: np.where(np.arange(N)[:, None] == 250, np.nan, X), "rows.npy: row 251"),
    ],
)
def test_errors_are_the_same_on_all_ranks(comm, model, rows, shared_tmp, spoil, words):
    folder = model()
    if comm.rank == 0:
        np.save(shared_tmp / "rows.npy", spoil(rows))
    comm.Barrier()
    with pytest.raises(HpcembedError) as caught:
        predict_file(folder, shared_tmp / "rows.npy", comm, out=shared_tmp / "out.csv")
    assert words in str(caught.value)
    comm.Barrier()
    assert not (shared_tmp / "out.csv").exists()


def run(folder, path, out=None, **keywords):
    return predict_file(folder, path, MPI.COMM_SELF, out=out, **keywords)


def test_a_feature_that_no_sparse_row_has(model, rows, tmp_path):
    folder = model()
    rows[:, [0, 29]] = 0
    path = write("svmlight", tmp_path, rows, load(folder).predict(rows))
    assert run(folder, path, tmp_path / "out.csv") == 1.0
    path.write_text("1 31:1\n")
    with pytest.raises(InputError, match=r"rows.svm: 31 features where the model takes 30$"):
        run(folder, path)


def test_columns_are_found_by_name(model, rows, tmp_path, caplog):
    names = tuple(f"f{i}" for i in range(30))
    folder = model(names, reading={"label_column": "kind", "ending": ".csv"})
    expected = load(folder).predict(rows)
    order = np.random.default_rng(0).permutation(30)
    header = ["id", *(names[j] for j in order), "kind"]
    lines = [
        ",".join(map(str, [i, *row[order], label]))
        for i, (row, label) in enumerate(zip(rows, expected, strict=True))
    ]
    (tmp_path / "rows.csv").write_text("\n".join([",".join(header), *lines]) + "\n")
    with caplog.at_level("INFO", "hpcembed"):
        assert run(folder, tmp_path / "rows.csv", tmp_path / "out.csv") == 1.0
    assert "columns that the model does not use: id" in caplog.text
    (tmp_path / "rows.csv").write_text("\n".join([",".join(header).replace("f3,", "g3,"), *lines]))
    with pytest.raises(InputError, match=r"rows.csv: lacks columns of the model: f3$"):
        run(folder, tmp_path / "rows.csv")
    (tmp_path / "rows.csv").write_text("\n".join([",".join(header).replace("id", "f3"), *lines]))
    with pytest.raises(InputError, match="2 columns are named 'f3'"):
        run(folder, tmp_path / "rows.csv")


def test_labels_of_other_kinds(model, rows, tmp_path, capsys):
    folder = model()
    predicted = load(folder).predict(rows)
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "labels.npy", predicted.astype(float))
    labels = tmp_path / "labels.npy"
    assert run(folder, tmp_path / "rows.npy", tmp_path / "a.csv", labels=labels) == 1.0
    assert "accuracy 100.00 % of 300 rows\n" in capsys.readouterr().out
    np.save(labels, np.where(np.arange(N) < 100, 9, predicted))
    assert run(folder, tmp_path / "rows.npy", tmp_path / "b.csv", labels=labels) == 1.0
    shown = capsys.readouterr().out
    assert "of 200 rows (100 more rows have labels that are not classes of the model)" in shown
    np.save(labels, np.full(N, 9))
    assert run(folder, tmp_path / "rows.npy", tmp_path / "c.csv", labels=labels) is None
    assert "no accuracy: no label is one of the classes of the model" in capsys.readouterr().out
    np.save(labels, predicted[1:])
    with pytest.raises(InputError, match="299 labels for the 300 rows"):
        run(folder, tmp_path / "rows.npy", labels=labels)


def test_how_a_file_is_read(model, rows, tmp_path):
    reading = {"format": "npz", "ending": ".npz", "features_key": "features", "labels_key": "t"}
    folder = model(reading=reading)
    y = load(folder).predict(rows)
    np.savez(tmp_path / "rows.npz", features=rows, t=y, x=0 * rows)
    assert run(folder, tmp_path / "rows.npz", tmp_path / "a.csv") == 1.0
    np.savez(tmp_path / "rows.npz", x=rows, y=y)
    with pytest.raises(InputError, match="no array 'features'; it has x, y"):
        run(folder, tmp_path / "rows.npz")
    keys = ["data.features_key=x", "data.labels_key=y"]
    assert run(folder, tmp_path / "rows.npz", tmp_path / "b.csv", overrides=keys) == 1.0
    with pytest.raises(ConfigError, match=r"data.labels_key=u: .* has no labels of that name"):
        run(folder, tmp_path / "rows.npz", overrides=[keys[0], "data.labels_key=u"])
    with pytest.raises(ConfigError, match="only keys of data"):
        run(folder, tmp_path / "rows.npz", overrides=["solver.tol=1"])
    with pytest.raises(ConfigError, match=r"did you mean data\.format"):
        run(folder, tmp_path / "rows.npz", overrides=["data.formt=npz"])
    (tmp_path / "rows.npz").rename(tmp_path / "rows.xyz")
    with pytest.raises(ConfigError, match=r"the ending of .*rows.xyz is unknown"):
        run(folder, tmp_path / "rows.xyz")
    keys.append("data.format=npz")
    assert run(folder, tmp_path / "rows.xyz", tmp_path / "c.csv", overrides=keys) == 1.0


@pytest.mark.parametrize("reading", [7, {"format": "no such"}, {"label_column": 3}, {"format": []}])
def test_a_foreign_description_of_reading_does_no_harm(model, rows, tmp_path, reading):
    folder = model(reading=reading)
    np.save(tmp_path / "rows.npy", rows)
    run(folder, tmp_path / "rows.npy", tmp_path / "out.csv")
    assert len(read_csv(tmp_path / "out.csv")) == N


def test_class_names_with_commas_and_quotes(model, rows, tmp_path):
    names = ('a, "b"', "\u00e9t\u00e9", "c")
    folder = model(class_names=names)
    np.save(tmp_path / "rows.npy", rows)
    run(folder, tmp_path / "rows.npy", tmp_path / "out.csv")
    assert [row["prediction"] for row in read_csv(tmp_path / "out.csv")] == (
        load(folder).predict(rows).tolist()
    )


@pytest.mark.launch
@pytest.mark.parametrize("ranks", [0, 1, 2, 3])
def test_the_command_line(run_each, model, rows, tmp_path, ranks):
    folder = model(reading={"label_column": "kind", "ending": ".csv"})
    whole = load(folder)
    predicted = whole.predict(rows)
    path = write("csv", tmp_path, rows, predicted)
    out = tmp_path / "new" / "out.csv"
    words = ["predict", folder, path]
    done, again = run_each(ranks, [words, [*words, "--out", out]])
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "row,prediction,probability"
    assert len(lines) == N + 1
    assert lines[250].startswith(f"250,{predicted[249]},0.")
    assert done.err.count("accuracy 100.00 % of 300 rows") == 1
    assert again.status == 0, again.err
    assert out.read_text() == done.out
    assert again.out == "accuracy 100.00 % of 300 rows\n"


@pytest.mark.launch
@pytest.mark.parametrize("ranks", [0, 3])
def test_errors_on_the_command_line_are_one_line(run_each, model, rows, tmp_path, ranks):
    broken = [
        (lambda m, f: f.unlink(), "rows.npy: no such file"),
        (lambda m, f: (m / "model.json").unlink(), "contains no model.json"),
        (lambda m, f: (m / "model.safetensors").write_bytes(b""), "not the weights"),
        (
            lambda m, f: (m / "model.json").write_text(
                json.dumps({**json.loads((m / "model.json").read_text()), "version": 9})
            ),
            "a model of version 9",
        ),
        (lambda m, f: np.save(f, np.ones((4, 31))), "31 features where the model takes 30"),
    ]
    made, commands = model(), []
    for i, (break_it, _) in enumerate(broken):
        place = tmp_path / str(i)
        folder, path = place / "model", place / "rows.npy"
        shutil.copytree(made, folder)
        np.save(path, rows)
        break_it(folder, path)
        commands.append(["predict", folder, path, "--out", place / "o.csv"])
    for done, (_, words) in zip(run_each(ranks, commands), broken, strict=True):
        assert done.status == 2, done.err
        (line,) = [line for line in done.err.splitlines() if "hpcembed" in line]
        assert line.startswith("hpcembed: error: ")
        assert words in line
        assert "Traceback" not in done.err


@pytest.mark.launch
def test_export_on_the_command_line(run_mpi, run_each, tmp_path, request):
    job = request.config.rootpath / "jobs" / "digits.toml"
    options = ["--set", "training.epochs=2", "--set", "output.figures=false"]
    options += ["--set", "classifier.hidden=[[12], [20]]"]
    network = ["--network", "full-12"]
    run, export, again = run_each(
        2,
        [
            ["run", job, "--out", "r", *options],
            ["export", "r", "--out", "m2", *network],
            ["export", "r", "--out", "m2"],
        ],
    )
    assert run.status == 0, run.err
    assert load(tmp_path / "r").description["network"] in ("embedded-12", "embedded-20")
    serial = run_mpi(0, "-m", "hpcembed", "export", "r", "--out", "m0", *network)
    for done, name in ((serial, "m0"), (export, "m2")):
        assert done.status == 0, done.err
        assert done.out == f"model written to {name}\n"
        assert load(tmp_path / name).description["network"] == "full-12"
    assert again.status == 2
    assert again.err.count("m2: not empty; choose another folder or remove it\n") == 1
