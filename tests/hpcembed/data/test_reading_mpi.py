"""Every format on several ranks: the shares make the whole table; errors reach all ranks."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from hpcembed.data.dataset import make_dataset
from hpcembed.data.reading import read_dataset, read_tables
from hpcembed.data.settings import DataSettings
from hpcembed.data.tables.matrix_market import read_matrix
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range

pytestmark = pytest.mark.mpi
FORMATS = [
    "idx", "idx.gz", "cifar10", "npz", "npz compressed", "npy", "csv", "csv.gz", "csv two files",
    "coordinate", "coordinate.gz", "array", "svmlight", "svmlight.gz", "hdf5",
]  # fmt: skip


def whole(kind: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(6)
    labels = np.arange(n) % 3
    if kind == "cifar10":
        return generator.integers(0, 256, (n, 3072)).astype("u1"), labels
    rows = generator.standard_normal((n, 5))
    if kind.startswith(("coordinate", "svmlight")):
        rows *= generator.random((n, 5)) < 0.5
        rows[0] = rows[-1] = 1.0
    return rows, labels


def write(kind: str, folder: Path, rows: np.ndarray, labels: np.ndarray) -> DataSettings:
    pack = gzip.compress if kind.endswith(".gz") else bytes
    path = folder / "a"
    np.savetxt(folder / "y.txt", labels, fmt="c%d")
    apart = {"train_labels": "y.txt", "test_labels": "y.txt"}
    if kind.startswith("idx"):
        head = b"\0\0\x0e\x02" + struct.pack(">2I", *rows.shape)
        path.write_bytes(pack(head + rows.astype(">f8").tobytes()))
        return DataSettings(format="idx", train=("a",), test=("a",), **apart)
    if kind == "cifar10":
        planes = rows.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).reshape(-1, 3072)
        records = np.concatenate([labels[:, None].astype("u1"), planes], axis=1)
        path.write_bytes(records[:1].tobytes())
        (folder / "b").write_bytes(records[1:].tobytes())
        return DataSettings(format="cifar10", train=("a", "b"), test=("a", "b"))
    if kind.startswith("npz"):
        save = np.savez_compressed if "compressed" in kind else np.savez
        with path.open("wb") as stream:
            save(stream, x=rows, y=labels)
        return DataSettings(format="npz", train=("a",), test=("a",))
    if kind == "npy":
        with path.open("wb") as stream:
            np.save(stream, np.asfortranarray(rows))
        return DataSettings(format="npy", train=("a",), test=("a",), **apart)
    if kind.startswith("csv"):
        lines = [
            ",".join([*(repr(float(value)) for value in row), f"c{label}"]) + "\n"
            for row, label in zip(rows, labels, strict=True)
        ]
        head = "f1,f2,f3,f4,f5,kind\n"
        files = ("a", "b") if "two" in kind else ("a",)
        path.write_bytes(pack((head + "".join(lines[:2] if "two" in kind else lines)).encode()))
        (folder / "b").write_text(head + "".join(lines[2:]).rstrip())
        return DataSettings(format="csv", train=files, test=files, label_column="kind")
    if kind.startswith(("coordinate", "array")):
        content = scipy.sparse.coo_array(rows) if "coordinate" in kind else rows
        scipy.io.mmwrite(folder / "m.mtx", content, precision=17)
        path.write_bytes(pack((folder / "m.mtx").read_bytes()))
        return DataSettings(format="matrix_market", train=("a",), test=("a",), **apart)
    if kind.startswith("svmlight"):
        lines = [
            " ".join([str(label), *(f"{j + 1}:{row[j]!r}" for j in np.flatnonzero(row))])
            for row, label in zip(rows.tolist(), labels, strict=True)
        ]
        path.write_bytes(pack(("# head\n" + "\n".join(lines)).encode()))
        return DataSettings(format="svmlight", train=("a",), test=("a",))
    with h5py.File(path, "w") as file:
        file["x"] = rows
        file["y"] = labels
    return DataSettings(format="hdf5", train=("a",), test=("a",))


def shared_file(comm, folder: Path, kind: str, n: int) -> tuple[DataSettings, Path]:
    folder = folder / f"{kind.replace(' ', '_')}_{n}"
    config = None
    if comm.rank == 0:
        folder.mkdir()
        config = write(kind, folder, *whole(kind, n))
    return comm.bcast(config), folder


def gather(comm, table) -> tuple[np.ndarray, np.ndarray]:
    rows = table.rows.toarray() if scipy.sparse.issparse(table.rows) else table.rows
    starts = comm.allgather((table.start, len(table.labels.codes), table.n_rows))
    position = 0
    for start, count, n_rows in starts:
        assert start == position
        position += count
        assert n_rows == sum(number for _, number, _ in starts)
    labels = np.concatenate(comm.allgather(table.labels.codes))
    return np.concatenate(comm.allgather(rows)), labels


@pytest.mark.parametrize("n", [47, 2])
@pytest.mark.parametrize("kind", FORMATS)
def test_the_shares_make_the_whole_table(comm, shared_tmp, kind, n):
    config, folder = shared_file(comm, shared_tmp, kind, n)
    rows, labels = whole(kind, n)
    data = read_dataset(config, folder, comm)
    for table in (data.train, data.test):
        found, codes = gather(comm, table)
        np.testing.assert_allclose(found, rows, rtol=1e-15)
        np.testing.assert_array_equal(codes, labels)
        assert len(table.class_names) == len(np.unique(labels))
        assert table.rows.shape[1] == rows.shape[1]


@pytest.mark.parametrize("kind", ["npz", "csv", "coordinate"])
def test_splits_pick_the_same_rows_on_any_number_of_ranks(comm, shared_tmp, kind):
    config, folder = shared_file(comm, shared_tmp, kind, 47)
    config = DataSettings(
        format=config.format,
        train=config.train,
        train_labels=config.train_labels,
        label_column=config.label_column,
        split_seed=5,
        scaling="standard",
    )
    data = read_dataset(config, folder, comm)
    alone = read_dataset(config, folder, comm.Split(comm.rank, 0))
    for table, expected in ((data.train, alone.train), (data.test, alone.test)):
        rows, labels = gather(comm, table)
        single = expected.rows.toarray() if kind == "coordinate" else expected.rows
        np.testing.assert_array_equal(rows, single)
        np.testing.assert_array_equal(labels, expected.labels.codes)
        assert table.class_names == expected.class_names
    np.testing.assert_allclose(data.scaling.factor, alone.scaling.factor, rtol=1e-13)
    np.testing.assert_allclose(data.scaling.shift, alone.scaling.shift, atol=1e-13)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_missing_file_on_one_rank_is_an_error_on_all(comm, shared_tmp, kind):
    config, folder = shared_file(comm, shared_tmp, kind, 9)
    is_last = comm.rank == comm.size - 1
    with pytest.raises(InputError, match="no such file") as caught:
        read_dataset(config, folder / "elsewhere" if is_last else folder, comm)
    assert comm.size == 1 or f"[rank {comm.size - 1}]" in str(caught.value)
    assert len(set(comm.allgather(str(caught.value)))) == 1


def test_a_different_file_on_one_rank_is_an_error_on_all(comm, shared_tmp):
    _, folder = shared_file(comm, shared_tmp, "npz", 9)
    config, other = shared_file(comm, shared_tmp, "npz", 8)
    if comm.size == 1:
        return
    with pytest.raises(InputError, match="the contents differ from those on rank 0"):
        read_dataset(config, other if comm.rank == 1 else folder, comm)


@pytest.mark.parametrize("row", [1, 25, 46])
def test_a_bad_cell_on_one_rank_is_named_on_all(comm, shared_tmp, row):
    config, folder = shared_file(comm, shared_tmp, "csv", 47)
    if comm.rank == 0:
        lines = (folder / "a").read_text().split("\n")
        lines[row] = lines[row].replace(",", ",,", 1)
        (folder / "a").write_text("\n".join(lines))
    comm.Barrier()
    with pytest.raises(InputError, match=rf"data row {row} \(line {row + 1}\)"):
        read_dataset(config, folder, comm)


def test_truncated_gzip_is_an_error_on_all_ranks(comm, shared_tmp):
    config, folder = shared_file(comm, shared_tmp, "idx.gz", 47)
    if comm.rank == 0:
        (folder / "a").write_bytes((folder / "a").read_bytes()[:-10])
    comm.Barrier()
    with pytest.raises(InputError, match="truncated"):
        read_dataset(config, folder, comm)


def test_sparse_features_are_numbered_alike_on_all_ranks(comm, shared_tmp):
    if comm.rank == 0:
        (shared_tmp / "z.svm").write_text("1 0:1\n" + "2 3:1 5:2\n" * 20)
    comm.Barrier()
    config = DataSettings(train=("z.svm",), test=("z.svm",))
    data = read_dataset(config, shared_tmp, comm)
    rows, _ = gather(comm, data.train)
    assert rows.shape == (21, 6)
    np.testing.assert_array_equal(rows[-1], [0, 0, 0, 1, 0, 2])


def test_whole_matrices_are_read_or_refused_on_all(comm, shared_tmp):
    _, folder = shared_file(comm, shared_tmp, "coordinate", 9)
    rows, _ = whole("coordinate", 9)
    np.testing.assert_allclose(read_matrix(folder / "a", comm).toarray(), rows, rtol=1e-15)
    with pytest.raises(InputError, match="no such file"):
        read_matrix(folder / ("a" if comm.rank else "b"), comm)


def test_ranks_own_the_same_rows_as_in_petsc(comm, shared_tmp):
    config, folder = shared_file(comm, shared_tmp, "idx", 47)
    data = read_dataset(config, folder, comm)
    start, stop = ownership_range(47, comm)
    assert (data.train.start, len(data.train.labels.codes)) == (start, stop - start)


def test_graph_nodes_without_labels_are_read_but_not_split(comm, shared_tmp):
    """A caller may transform the rows of all nodes; training and test rows have labels."""
    if comm.rank == 0:
        edges = [(i, (i + 1) % 12) for i in range(12)]
        (shared_tmp / "ring.txt").write_text("".join(f"{i} {j}\n" for i, j in edges))
        (shared_tmp / "kinds.txt").write_text("".join(f"{i} c{i % 2}\n" for i in range(10)))
    comm.Barrier()
    config = DataSettings(
        format="graph", train=("ring.txt",), train_labels="kinds.txt", test_fraction=0.4
    )
    (table,) = read_tables(config, shared_tmp, comm)
    assert table.n_rows == 12
    codes = np.concatenate(comm.allgather(table.labels.codes))
    np.testing.assert_array_equal(codes, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, -1, -1])
    data = make_dataset([table], config, comm)
    assert (data.train.n_rows, data.test.n_rows) == (6, 4)
    assert data.has_labels
    numbers = [
        np.concatenate(comm.allgather(part.nodes.numbers)) for part in (data.train, data.test)
    ]
    np.testing.assert_array_equal(np.sort(np.concatenate(numbers)), np.arange(10))
    for part in (data.train, data.test):
        np.testing.assert_array_equal(part.labels.codes, part.nodes.numbers % 2)
        assert part.rows.shape == (len(part.labels.codes), 12)
