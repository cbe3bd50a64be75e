"""Train on file A, predict on a file B of one row: what a model remembers of its files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from PIL import Image

from hpcembed.cli import main
from hpcembed.jobs.export.inference import load
from job_files import FAST

D = 12
LABELS = np.arange(60) % 2


def make_rows(n: int = 60) -> np.ndarray:
    """Rows of whole numbers from 0 to 255 whose class is easy to learn."""
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 30, (n, D)) + 0.0
    rows[np.arange(n) % 2 == 1, 3:8] += 180
    return rows


def csv_lines(rows, labels=None) -> str:
    header = ",".join(f"f{i}" for i in range(rows.shape[1])) + (
        ",kind" if labels is not None else ""
    )
    lines = [",".join(f"{x:g}" for x in row) for row in rows]
    if labels is not None:
        lines = [f"{line},{label}" for line, label in zip(lines, labels, strict=True)]
    return "\n".join([header, *lines]) + "\n"


def svm_lines(rows, labels, base: int, first: bool = True) -> str:
    """Lines of SVMlight; without `first` the first feature is left out."""
    lines = [
        " ".join(f"{j + base}:{x:g}" for j, x in enumerate(row) if x and (first or j))
        for row in rows
    ]
    return "".join(f"{label} {line}\n" for label, line in zip(labels, lines, strict=True))


def idx_bytes(array) -> bytes:
    head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def images(root: Path, rows, labels=None) -> None:
    for i, row in enumerate(rows):
        folder = root / (f"class{labels[i]}" if labels is not None else "")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row.reshape(3, 4).astype(np.uint8)).save(folder / f"{i:03}.png")


def anndata(path: Path, rows, labels=None) -> None:
    with h5py.File(path, "w") as file:
        part, group = scipy.sparse.csr_array(rows), file.create_group("X")
        group.attrs["encoding-type"], group.attrs["shape"] = "csr_matrix", part.shape
        group["data"], group["indices"], group["indptr"] = part.data, part.indices, part.indptr
        if labels is not None:
            kind = file.create_group("obs/kind")
            kind["categories"], kind["codes"] = ["0", "1"], labels.astype(np.int8)


def mat73(path: Path, **arrays) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.T
            file[name].attrs["MATLAB_class"] = np.bytes_("double")


def hdf5(path: Path, **arrays) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def write(kind: str, folder: Path, rows) -> tuple[str, dict[str, object]]:
    """Write training rows and labels; return the name of the file and keys of [data]."""
    sparse = scipy.sparse.csr_array(rows)
    np.save(folder / "labels.npy", LABELS)
    beside = {"train_labels": "labels.npy"}
    if kind == "csv":
        (folder / "a.csv").write_text(csv_lines(rows, LABELS))
        return "a.csv", {"label_column": "kind"}
    if kind == "semicolons":
        text = csv_lines(rows, LABELS).replace(",", ";")
        (folder / "a.txt").write_text(text)
        return "a.txt", {"label_column": "kind", "delimiter": ";", "format": "csv"}
    if kind.startswith("svmlight"):
        (folder / "a.svm").write_text(svm_lines(rows, LABELS, int(kind[-1])))
        return "a.svm", {}
    if kind in ("npy", "npy windows"):
        np.save(folder / "a.npy", rows if kind == "npy" else rows.reshape(-1, 4, 3))
        return "a.npy", beside
    if kind == "npz":
        np.savez(folder / "a.npz", X_train=rows, y_train=LABELS)
        return "a.npz", {}
    if kind == "npz keys":
        np.savez(folder / "a.npz", emb=rows, kind=LABELS, x=0 * rows)
        return "a.npz", {"features_key": "emb", "labels_key": "kind"}
    if kind.startswith("scipy"):
        layout = kind.removeprefix("scipy ")
        scipy.sparse.save_npz(folder / "a.npz", getattr(sparse, f"to{layout}")())
        return "a.npz", beside
    if kind == "hdf5":
        hdf5(folder / "a.h5", data=rows, target=LABELS)
        return "a.h5", {}
    if kind == "anndata":
        anndata(folder / "a.h5ad", rows, LABELS)
        return "a.h5ad", {"labels_key": "obs/kind"}
    if kind == "mat":
        scipy.io.savemat(folder / "a.mat", {"X": rows, "y": LABELS})
        return "a.mat", {}
    if kind == "mat73":
        mat73(folder / "a.mat", X=rows, y=LABELS[:, None].astype(float))
        return "a.mat", {}
    if kind == "idx":
        (folder / "a-idx3-ubyte").write_bytes(idx_bytes(rows.reshape(-1, 3, 4)))
        return "a-idx3-ubyte", beside
    if kind == "mtx":
        scipy.io.mmwrite(folder / "a.mtx", scipy.sparse.coo_matrix(rows))
        return "a.mtx", beside
    if kind == "triplets":
        part = sparse.tocoo()
        lines = [
            f"{i + 1} {j + 1} {x:g}" for i, j, x in zip(part.row, part.col, part.data, strict=1)
        ]
        (folder / "a.mtx").write_text("\n".join([f"{len(rows)} {D} {part.nnz}", *lines]) + "\n")
        return "a.mtx", beside
    assert kind == "images"
    images(folder / "a", rows, LABELS)
    return "a", {}


def write_one(kind: str, folder: Path, row) -> Path:
    """Write one row, without the first feature where the format is sparse."""
    row, sparse = row[None], scipy.sparse.csr_array(row[None])
    plain = kind.split()[0]
    path = folder / {
        "csv": "b.csv", "semicolons": "b.txt", "npy": "b.npy", "npz": "b.npz", "scipy": "b.npz",
        "hdf5": "b.h5", "anndata": "b.h5ad", "mat": "b.mat", "mat73": "b.mat",
        "idx": "b-idx3-ubyte", "mtx": "b.mtx", "triplets": "b.mtx", "images": "b.png",
    }.get(plain, "b.svm")  # fmt: skip
    if plain in ("csv", "semicolons"):
        text = csv_lines(row)
        path.write_text(text.replace(",", ";") if plain == "semicolons" else text)
    elif plain.startswith("svmlight"):
        path.write_text(svm_lines(row, [1], int(plain[-1]), first=False))
    elif plain == "npy":
        np.save(path, row if kind == "npy" else row.reshape(1, 4, -1))
    elif plain == "npz":
        np.savez(path, **({"emb": row, "x": 0 * row} if kind == "npz keys" else {"x": row}))
    elif plain == "scipy":
        scipy.sparse.save_npz(path, sparse)
    elif plain == "hdf5":
        hdf5(path, data=row)
    elif plain == "anndata":
        anndata(path, row)
    elif plain == "mat":
        scipy.io.savemat(path, {"X": row})
    elif plain == "mat73":
        mat73(path, X=row)
    elif plain == "idx":
        path.write_bytes(idx_bytes(row.reshape(1, 3, -1)))
    elif plain == "mtx":
        scipy.io.mmwrite(path, scipy.sparse.coo_matrix(row))
    elif plain == "triplets":
        part = sparse.tocoo()
        lines = [
            f"{i + 1} {j + 1} {x:g}" for i, j, x in zip(part.row, part.col, part.data, strict=1)
        ]
        path.write_text("\n".join([f"1 {row.shape[1]} {part.nnz}", *lines]) + "\n")
    else:
        pixels = row.reshape(3, -1).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return path


KINDS = [
    "csv", "semicolons", "svmlight0", "svmlight1", "npy", "npy windows", "npz", "npz keys",
    "scipy csr", "scipy csc", "scipy coo", "hdf5", "anndata", "mat", "mat73", "idx", "mtx",
    "triplets", "images",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train on a format by the command line, once; return the folder of the run."""
    done: dict[str, Path] = {}

    def train(kind: str) -> Path:
        if kind not in done:
            folder = tmp_path_factory.mktemp("run")
            name, keys = write(kind, folder, make_rows())
            lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
            (folder / "job.toml").write_text(
                "\n".join(
                    [
                        "[data]", 'name = "a"', f'train = ["{name}"]', *lines,
                        'scaling = "divide"', "[embedding]", "n_components = 2", "[classifier]",
                        "hidden = [[4]]", "[training]", 'learning_rate = 0.05', "batch_size = 8",
                    ]
                )
            )  # fmt: skip
            words = ["run", str(folder / "job.toml"), "--out", str(folder / "out"), *FAST]
            assert main([*words, "--set", "training.epochs=10"]) == 0
            done[kind] = folder / "out"
        return done[kind]

    return train


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_one_row(trained, tmp_path, kind):
    out = trained(kind)
    model = load(out)
    rows = make_rows()
    assert (
        model.score(rows, [f"class{label}" for label in LABELS] if kind == "images" else LABELS)
        == 1
    )
    for row in (0, 1):
        # A feature that is absent is zero: the first one has no effect on the class.
        wanted = rows[row] * (np.arange(D) > 0) if kind.startswith("svmlight") else rows[row]
        path = write_one(kind, tmp_path, rows[row])
        assert main(["predict", str(out), str(path), "--out", str(tmp_path / "p.csv")]) == 0
        (line,) = (tmp_path / "p.csv").read_text().splitlines()[1:]
        chance = model.predict_proba(wanted[None])[0]
        name = "b.png," if kind == "images" else ""
        assert line == f"1,{name}{model.classes_[row]},{chance[row]:.6f}"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("csv", "semicolons")])
def test_a_row_that_is_too_wide(trained, tmp_path, capfd, kind):
    row = np.append(make_rows()[1], [1.0, 1.0, 1.0, 1.0])[: 16 if "w" in kind else 15]
    path = write_one(kind, tmp_path, row)
    assert main(["predict", str(trained(kind)), str(path)]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    shown = {"npy windows": "rows of shape 4 x 4", "idx": "rows of shape 3 x 5"}
    expected = shown.get(kind, "15 features")
    if kind == "images":
        expected = "rows of shape 3 x 5"
    assert f"{path}: {expected} where the model takes" in line


def test_a_feature_0_where_the_training_file_counts_from_1(trained, tmp_path, capfd):
    path = tmp_path / "b.svm"
    path.write_text("1 0:3 4:100\n")
    assert main(["predict", str(trained("svmlight1")), str(path)]) == 2
    assert "b.svm: has a feature 0 where features are numbered from 1" in capfd.readouterr().err
    words = ["predict", str(trained("svmlight1")), str(path), "--set", "data.index_base=0"]
    assert main(words) == 0


def test_a_folder_of_images(trained, tmp_path):
    out, rows = trained("images"), make_rows()
    images(tmp_path / "new", rows[:3])
    images(tmp_path / "new", rows[:2], LABELS)
    assert main(["predict", str(out), str(tmp_path / "new"), "--out", str(tmp_path / "p.csv")]) == 0
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert [line.split(",")[1:3] for line in lines] == [
        ["file", "prediction"], ["000.png", "class0"], ["001.png", "class1"], ["002.png", "class0"],
        ["class0/000.png", "class0"], ["class1/001.png", "class1"],
    ]  # fmt: skip
    reading = json.loads((out / "model" / "model.json").read_text())["reading"]
    assert (reading["image_size"], reading["image_mode"]) == ("native", "grey")


def test_rows_in_their_own_shape(trained):
    model, rows = load(trained("images")), make_rows()
    assert model.row_shape_ == (3, 4)
    np.testing.assert_array_equal(model.predict(rows.reshape(-1, 3, 4)), model.predict(rows))
    with pytest.raises(ValueError, match=r"rows of shape \(4, 3\): the model takes .*\(3, 4\)"):
        model.predict(rows.reshape(-1, 4, 3))
    windows = load(trained("npy windows"))
    assert windows.row_shape_ == (4, 3)
    assert windows.feature_names_in_[4] == "t1.c1"
    np.testing.assert_array_equal(windows.predict(rows.reshape(-1, 4, 3)), windows.predict(rows))
    assert load(trained("npy")).row_shape_ is None
