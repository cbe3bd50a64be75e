"""Files of several arrays: names of arrays, sparse matrices, AnnData, MATLAB, windows."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from hpcembed.data.arrays.array_names import StatedNames, find_arrays
from hpcembed.data.reading import describe_dataset, read_dataset, read_tables
from hpcembed.data.settings import DataSettings
from hpcembed.runtime.errors import ConfigError, InputError

N, D = 23, 7


def rows_and_labels(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Sparse whole numbers, which every format holds exactly."""
    rng = np.random.default_rng(3)
    return rng.integers(1, 9, (n, D)) * (rng.random((n, D)) < 0.4) + 0.0, np.arange(n) % 3


def read_all(job: DataSettings, folder: Path, comm) -> tuple[np.ndarray, list[str]]:
    """Return rows and labels of the first table on all ranks."""
    table = read_tables(job, folder, comm)[0]
    own = table.rows.toarray() if scipy.sparse.issparse(table.rows) else table.rows
    rows = np.concatenate(comm.allgather(own))
    texts = [table.labels.values[code] for code in table.labels.codes]
    return rows, [text for part in comm.allgather(texts) for text in part]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("x y", ("x", "y", "", "")),
        ("X Y", ("X", "Y", "", "")),
        ("x_train y_train x_test y_test", ("x_train", "y_train", "x_test", "y_test")),
        ("X_test y_test X_train y_train", ("X_train", "y_train", "X_test", "y_test")),
        (
            "train_images train_labels val_images val_labels test_images test_labels",
            ("train_images", "train_labels", "test_images", "test_labels"),
        ),
        ("x y x_test y_test", ("x", "y", "x_test", "y_test")),
        ("data target feature_names", ("data", "target", "", "")),
        ("data y", ("data", "y", "", "")),
        ("arr_0 arr_1", ("arr_0", "arr_1", "", "")),
        ("x_train y_train x_test", ("x_train", "y_train", "", "")),
        ("X obs/kind", ("X", "", "", "")),
        ("Xtr ytr Xte yte", ("Xtr", "ytr", "Xte", "yte")),
    ],
)
def test_usual_names_are_recognised(names, found):
    chosen = find_arrays(Path("a.npz"), names.split(), StatedNames())
    assert (chosen.features, chosen.labels, chosen.test_features, chosen.test_labels) == found


def test_stated_names_win(tmp_path, comm):
    rows, labels = rows_and_labels()
    job = DataSettings(
        train=("a.npz",), features_key="a", labels_key="b", test_features_key="c",
        test_labels_key="d",
    )  # fmt: skip
    if comm.rank == 0:
        np.savez(tmp_path / "a.npz", a=rows, b=labels, c=rows[:5], d=labels[:5], x=0 * rows)
    data = read_dataset(job, tmp_path, comm)
    assert (data.train.n_rows, data.test.n_rows) == (N, 5)
    np.testing.assert_array_equal(data.test.rows, rows[:5])
    with pytest.raises(InputError, match="no array 'e'; it has a, b, c, d, x"):
        read_dataset(DataSettings(train=("a.npz",), test_features_key="e"), tmp_path, comm)


@pytest.mark.parametrize("split", ["auto", "own", "random"])
def test_test_rows_in_the_same_file(tmp_path, comm, split):
    rows, labels = rows_and_labels()
    np.savez(tmp_path / "a.npz", X_train=rows, y_train=labels, X_test=rows[:4], y_test=labels[:4])
    data = read_dataset(DataSettings(train=("a.npz",), split=split), tmp_path, comm)
    expected = (18, 5) if split == "random" else (N, 4)
    assert (data.train.n_rows, data.test.n_rows) == expected
    about = describe_dataset(DataSettings(train=("a.npz",), split=split), tmp_path, comm)
    assert about.n_rows == expected
    np.savez(tmp_path / "a.npz", X_train=rows, y_train=labels, X_test=rows[:, 1:], y_test=labels)
    if split != "random":
        with pytest.raises(InputError, match=r"a.npz, test rows: 6 features where .* have 7"):
            read_dataset(DataSettings(train=("a.npz",), split=split), tmp_path, comm)


def write_sparse(kind: str, folder: Path, matrix, labels) -> DataSettings:
    if kind.startswith("scipy"):
        layout = kind.removeprefix("scipy ")
        scipy.sparse.save_npz(folder / "a.npz", getattr(matrix, f"to{layout}")())
        np.save(folder / "labels.npy", labels)
        return DataSettings(train=("a.npz",), train_labels="labels.npy")
    if kind == "prefix":
        rows = matrix.tocsr()
        np.savez_compressed(
            folder / "a.npz", x_data=rows.data, x_indices=rows.indices, x_indptr=rows.indptr,
            x_shape=rows.shape, y=labels,
        )  # fmt: skip
        return DataSettings(train=("a.npz",))
    if kind.startswith("anndata"):
        write_anndata(folder / "a.h5ad", matrix, labels, kind.removeprefix("anndata "))
        return DataSettings(train=("a.h5ad",), labels_key="obs/kind")
    if kind == "mat":
        scipy.io.savemat(folder / "a.mat", {"X": matrix.tocsc(), "y": labels[None]})
    elif kind == "mat73":
        with h5py.File(folder / "a.mat", "w", userblock_size=512) as file:
            columns = matrix.tocsc()
            group = file.create_group("X")
            group.attrs["MATLAB_sparse"] = np.uint64(columns.shape[0])
            group.attrs["MATLAB_class"] = np.bytes_("double")
            group["data"], group["ir"], group["jc"] = columns.data, columns.indices, columns.indptr
            write_73(file, "y", labels[None].astype(float))
    return DataSettings(train=("a.mat",))


def write_73(file, name: str, array: np.ndarray, kind: str = "double") -> None:
    """Write an array as MATLAB does: its sizes in reverse order."""
    file[name] = array.T
    file[name].attrs["MATLAB_class"] = np.bytes_(kind)


def write_anndata(path: Path, matrix, labels, layout: str) -> None:
    with h5py.File(path, "w") as file:
        if layout == "dense":
            file["X"] = matrix.toarray()
        else:
            part, group = getattr(matrix, f"to{layout}")(), file.create_group("X")
            group.attrs["encoding-type"] = f"{layout}_matrix"
            group.attrs["shape"] = part.shape
            group["data"], group["indices"], group["indptr"] = part.data, part.indices, part.indptr
        kind = file.create_group("obs/kind")
        kind["categories"] = ["B cell", "T cell", "NK"]
        kind["codes"] = labels.astype(np.int8)
        file["obs/plain"] = ["uvw"[label] for label in labels]
        file.create_group("var").attrs["_index"] = "genes"
        file["var/genes"] = [f"g{i}" for i in range(matrix.shape[1])]


SPARSE = ["scipy csr", "scipy csc", "scipy coo", "prefix", "anndata csr", "anndata csc"]
SPARSE += ["anndata dense", "mat", "mat73"]


@pytest.mark.mpi
@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_rows_on_any_number_of_ranks(shared_tmp, comm, kind):
    rows, labels = rows_and_labels()
    job = DataSettings()
    if comm.rank == 0:
        job = write_sparse(kind, shared_tmp, scipy.sparse.csr_array(rows), labels)
    job = comm.bcast(job)
    found, texts = read_all(job, shared_tmp, comm)
    np.testing.assert_array_equal(found, rows)
    names = ["B cell", "T cell", "NK"] if kind.startswith("anndata") else ["0", "1", "2"]
    assert texts == [names[label] for label in labels]
    about = describe_dataset(job, shared_tmp, comm)
    assert about.n_features == D
    assert about.is_sparse == (kind != "anndata dense")
    assert about.nnz == (None if kind == "anndata dense" else np.count_nonzero(rows))


def test_anndata_names_features_and_classes(tmp_path, comm):
    rows, labels = rows_and_labels()
    write_anndata(tmp_path / "a.h5ad", scipy.sparse.csr_array(rows), labels, "csr")
    job = DataSettings(train=("a.h5ad",), labels_key="obs/kind")
    data = read_dataset(job, tmp_path, comm)
    assert data.train.class_names == ("B cell", "NK", "T cell")
    assert data.train.feature_names == tuple(f"g{i}" for i in range(D))
    job = DataSettings(train=("a.h5ad",), labels_key="obs/plain")
    assert read_dataset(job, tmp_path, comm).train.class_names == ("u", "v", "w")
    with pytest.raises(InputError, match=r"no array of labels .* it has X, obs/kind, obs/plain"):
        read_dataset(DataSettings(train=("a.h5ad",)), tmp_path, comm)
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        file["obs/kind/codes"][4] = -1
    job = DataSettings(train=("a.h5ad",), labels_key="obs/kind")
    with pytest.raises(InputError, match=r"obs/kind: row 5: the label is empty"):
        read_dataset(job, tmp_path, comm)


def change(key, value):
    def apply(arrays):
        return {**arrays, key: value(arrays[key])}

    return apply


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change("indices", lambda old: old + D), "a column number beyond the shape"),
        (change("indptr", lambda old: old[:-1]), "do not fit the shape"),
        (change("indptr", lambda old: old[::-1].copy()), "indptr does not ascend"),
        (change("data", lambda old: old * np.nan), "row 1, column .*: nan is not a finite number"),
        (change("data", lambda old: old.astype(complex)), "data: elements of type"),
        (change("shape", lambda old: np.array([0, D])), "0 x 7: nothing to read"),
        (change("format", lambda old: np.array(b"bsr")), "sparse layout 'bsr': save it as csr"),
    ],
)
def test_damaged_sparse_archives(tmp_path, comm, spoil, words):
    rows, labels = rows_and_labels()
    job = write_sparse("scipy csr", tmp_path, scipy.sparse.csr_array(rows), labels)
    with np.load(tmp_path / "a.npz") as stored:
        np.savez(tmp_path / "a.npz", **spoil(dict(stored)))
    with pytest.raises(InputError, match=rf"a\.npz.*{words}"):
        read_dataset(job, tmp_path, comm)


def test_labels_in_the_file_and_beside_it_contradict(tmp_path, comm):
    rows, labels = rows_and_labels()
    np.savez(tmp_path / "a.npz", x=rows, y=labels)
    np.save(tmp_path / "labels.npy", labels)
    job = DataSettings(train=("a.npz",), train_labels="labels.npy")
    with pytest.raises(ConfigError, match=r"contain the labels: remove data.train_labels"):
        read_dataset(job, tmp_path, comm)


# --------------------------------------------------------------------------------------- MATLAB


@pytest.mark.mpi
@pytest.mark.parametrize("version", ["classic", "7.3"])
@pytest.mark.parametrize("texts", ["numbers", "char", "cell"])
def test_matlab_rows_and_labels(shared_tmp, comm, version, texts):
    rows, labels = rows_and_labels()
    words = np.array([("red", "blue", "white")[label] for label in labels], dtype=object)
    if comm.rank == 0:
        path = shared_tmp / "a.mat"
        if version == "classic":
            values = {"numbers": labels[:, None], "char": words.astype("U"), "cell": words}[texts]
            scipy.io.savemat(path, {"X": rows, "y": values}, do_compression=True)
        else:
            with h5py.File(path, "w", userblock_size=512) as file:
                write_73(file, "X", rows)
                codes = [np.frombuffer(word.encode("utf-16-le"), np.uint16) for word in words]
                if texts == "numbers":
                    write_73(file, "y", labels[:, None].astype(float))
                elif texts == "char":
                    padded = [
                        np.pad(code, (0, 5 - code.size), constant_values=32) for code in codes
                    ]
                    write_73(file, "y", np.array(padded), "char")
                else:
                    for i, code in enumerate(codes):
                        write_73(file, f"#refs#/{i}", code[None], "char")
                    cells = file.create_dataset("y", (1, N), dtype=h5py.ref_dtype)
                    cells.attrs["MATLAB_class"] = np.bytes_("cell")
                    for i in range(N):
                        cells[0, i] = file[f"#refs#/{i}"].ref
    comm.Barrier()
    found, names = read_all(DataSettings(train=("a.mat",)), shared_tmp, comm)
    np.testing.assert_array_equal(found, rows)
    assert names == [str(one) for one in (labels if texts == "numbers" else words)]


@pytest.mark.parametrize("version", ["classic", "7.3"])
def test_matlab_images_with_the_number_of_the_image_last(tmp_path, comm, version):
    images = np.random.default_rng(0).integers(0, 255, (N, 4, 5, 3)).astype(np.uint8)
    labels = np.arange(N) % 3
    last = np.moveaxis(images, 0, -1)
    for array in (images, last):
        if version == "classic":
            scipy.io.savemat(tmp_path / "a.mat", {"X": array, "y": labels})
        else:
            with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
                write_73(file, "X", array, "uint8")
                write_73(file, "y", labels[:, None].astype(float))
        (table,) = read_tables(DataSettings(train=("a.mat",)), tmp_path, comm)
        np.testing.assert_array_equal(table.rows, images.reshape(N, -1))
        assert table.rows.dtype == np.uint8
        assert table.reading["row_shape"] == [4, 5, 3]


def test_matlab_refusals(tmp_path, comm):
    rows, labels = rows_and_labels()
    path, job = tmp_path / "a.mat", DataSettings(train=("a.mat",))
    path.write_bytes(b"not a MATLAB file at all" * 20)
    with pytest.raises(InputError, match=r"a\.mat: cannot be read as a MATLAB file"):
        read_dataset(job, tmp_path, comm)
    scipy.io.savemat(path, {"X": rows + 1j, "y": labels})
    with pytest.raises(InputError, match="complex numbers"):
        read_dataset(job, tmp_path, comm)
    scipy.io.savemat(path, {"X": {"a": 1}, "y": labels})
    with pytest.raises(InputError, match="rows of the MATLAB class struct"):
        read_dataset(job, tmp_path, comm)
    scipy.io.savemat(path, {"X": rows, "y": labels[1:]})
    with pytest.raises(InputError, match="22 labels for the 23 rows"):
        read_dataset(job, tmp_path, comm)
    scipy.io.savemat(path, {"z": rows, "y": labels}, do_compression=True)
    with pytest.raises(InputError, match=r"no array of a usual name .* it has y, z"):
        read_dataset(job, tmp_path, comm)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InputError, match=r"a\.mat"):
        read_dataset(job, tmp_path, comm)


# -------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("kind", ["npy", "npz", "hdf5"])
def test_windows_of_time_series(tmp_path, comm, kind):
    windows = np.random.default_rng(0).standard_normal((N, 4, 2))
    labels, job = np.arange(N) % 3, DataSettings(train=(f"a.{kind}",))
    if kind == "npy":
        np.save(tmp_path / "a.npy", windows)
        np.save(tmp_path / "labels.npy", labels)
        job = DataSettings(train=("a.npy",), train_labels="labels.npy")
    elif kind == "npz":
        np.savez(tmp_path / "a.npz", x=windows, y=labels)
    else:
        with h5py.File(tmp_path / "a.hdf5", "w") as file:
            file["x"], file["y"] = windows, labels
    data = read_dataset(job, tmp_path, comm)
    assert data.train.feature_names[:3] == ("t0.c0", "t0.c1", "t1.c0")
    assert data.train.reading["row_shape"] == [4, 2]
    (table,) = read_tables(job, tmp_path, comm)
    np.testing.assert_array_equal(table.rows, windows.reshape(N, 8))


def test_windows_of_another_shape_are_refused(tmp_path, comm):
    windows = np.zeros((N, 4, 2))
    np.savez(tmp_path / "a.npz", x=windows, y=np.arange(N) % 3)
    np.savez(tmp_path / "b.npz", x=windows.reshape(N, 2, 4), y=np.arange(N) % 3)
    job = DataSettings(train=("a.npz",), test=("b.npz",))
    with pytest.raises(InputError, match=r"rows of shape 2 x 4 where the training rows .* 4 x 2"):
        read_dataset(job, tmp_path, comm)
