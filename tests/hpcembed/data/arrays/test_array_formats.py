"""IDX, CIFAR-10, NPY, NPZ, HDF5 and scikit-learn's digits: round trips and errors."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from sklearn.datasets import load_digits

from hpcembed.data.reading import describe_dataset, read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.runtime.errors import ConfigError, InputError, MemoryLimitError

CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}
HELD = {"u1": "u1", "i1": "f4", ">i2": "f4", ">i4": "f8", ">f4": "f4", ">f8": "f8"}


def idx_bytes(array: np.ndarray, code: str = "u1") -> bytes:
    head = bytes([0, 0, CODES[code], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(code).tobytes()


def images_and_labels(n: int = 30, side: int = 4) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(1).integers(0, 120, (n, side, side))
    return images, np.arange(n) % 3


def idx_job(folder: Path, images: bytes, labels: bytes, ending: str = "") -> DataSettings:
    (folder / f"images-idx3-ubyte{ending}").write_bytes(images)
    (folder / f"labels-idx1-ubyte{ending}").write_bytes(labels)
    return DataSettings(
        name="job",
        train=(f"images-idx3-ubyte{ending}",),
        train_labels=f"labels-idx1-ubyte{ending}",
        test=(f"images-idx3-ubyte{ending}",),
        test_labels=f"labels-idx1-ubyte{ending}",
    )


@pytest.mark.parametrize("code", list(CODES))
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_round_trip(tmp_path, comm, code, ending):
    images, labels = images_and_labels()
    pack = gzip.compress if ending else bytes
    job = idx_job(tmp_path, pack(idx_bytes(images, code)), pack(idx_bytes(labels)), ending)
    data = read_dataset(job, tmp_path, comm)
    for table in (data.train, data.test):
        np.testing.assert_array_equal(table.rows, images.reshape(30, 16))
        np.testing.assert_array_equal(table.labels.codes, labels)
        assert table.rows.dtype == HELD[code]
        assert table.rows.flags.c_contiguous
        assert table.labels.codes.dtype == np.int64
        assert (table.start, table.n_rows) == (0, 30)
        assert table.class_names == ("0", "1", "2")
        assert table.feature_names == ()
    assert data.name == "job"
    np.testing.assert_array_equal(data.scaling.factor, np.ones(16))


def _files_of(job: DataSettings) -> tuple[str, ...]:
    return (*job.train, job.train_labels, *job.test, job.test_labels)


def test_idx_description_reads_headers_only(tmp_path, comm):
    images, labels = images_and_labels()
    job = idx_job(tmp_path, idx_bytes(images), idx_bytes(labels))
    said = describe_dataset(job, tmp_path, comm)
    assert said.n_rows == (30, 30)
    assert said.files == tuple(str(tmp_path / name) for name in _files_of(job))
    assert (said.n_features, said.dtype, said.format) == (16, "uint8", "idx")
    assert (said.is_sparse, said.nnz, said.is_estimate) == (False, None, False)
    assert said.stored_bytes == sum((tmp_path / name).stat().st_size for name in _files_of(job))


def refused(job: DataSettings, folder: Path, comm, *words: str, kind=InputError) -> None:
    with pytest.raises(kind) as caught:
        read_dataset(job, folder, comm)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_idx_truncated(tmp_path, comm):
    images, labels = images_and_labels()
    job = idx_job(tmp_path, idx_bytes(images)[:-1], idx_bytes(labels))
    refused(job, tmp_path, comm, "images-idx3", "truncated", "declares 496 bytes", "has 495")


def test_idx_too_long(tmp_path, comm):
    images, labels = images_and_labels()
    job = idx_job(tmp_path, idx_bytes(images) + b"x", idx_bytes(labels))
    refused(job, tmp_path, comm, "longer than its header declares")


def test_idx_gzip_truncated(tmp_path, comm):
    images, labels = images_and_labels()
    packed = gzip.compress(idx_bytes(images))
    job = idx_job(tmp_path, packed[:-20], gzip.compress(idx_bytes(labels)), ".gz")
    refused(job, tmp_path, comm, "images-idx3-ubyte.gz", "truncated", "compressed data ends")


def test_idx_gzip_with_too_little_inside(tmp_path, comm):
    images, labels = images_and_labels()
    job = idx_job(
        tmp_path,
        gzip.compress(idx_bytes(images)[:-1]),
        gzip.compress(idx_bytes(labels)),
        ".gz",
    )
    refused(job, tmp_path, comm, "truncated", "header declares")


def test_idx_gzip_with_too_much_inside(tmp_path, comm):
    images, labels = images_and_labels()
    job = idx_job(
        tmp_path, gzip.compress(idx_bytes(images) + b"x"), gzip.compress(idx_bytes(labels)), ".gz"
    )
    refused(job, tmp_path, comm, "longer than its header declares")


def test_idx_gzip_checksum(tmp_path, comm):
    images, labels = images_and_labels()
    packed = bytearray(gzip.compress(idx_bytes(images)))
    packed[-6] ^= 1
    job = idx_job(tmp_path, bytes(packed), gzip.compress(idx_bytes(labels)), ".gz")
    refused(job, tmp_path, comm, "damaged", "CRC")


def test_idx_bomb_in_a_small_gzip(tmp_path, comm):
    _, labels = images_and_labels()
    head = bytes([0, 0, 0x0E, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)
    job = idx_job(tmp_path, gzip.compress(head), gzip.compress(idx_bytes(labels)), ".gz")
    refused(job, tmp_path, comm, "more than", "compressed bytes can hold")


def test_memory_is_checked_before_reading(tmp_path, comm):
    images, labels = images_and_labels()
    job = idx_job(tmp_path, idx_bytes(images), idx_bytes(labels))
    with pytest.raises(MemoryLimitError, match=r"reading .*images.* needs .* use more ranks"):
        read_dataset(job, tmp_path, comm, available_bytes=1000)


def test_idx_labels_of_another_length(tmp_path, comm):
    images, labels = images_and_labels()
    job = idx_job(tmp_path, idx_bytes(images), idx_bytes(labels[:-1]))
    refused(job, tmp_path, comm, "labels-idx1", "29 labels for the 30 rows")


@pytest.mark.parametrize(
    ("shape", "word"), [((0, 4, 4), "zero rows"), ((3, 0, 4), "no features"), ((30,), "features")]
)
def test_idx_without_rows_or_features(tmp_path, comm, shape, word):
    _, labels = images_and_labels()
    job = idx_job(tmp_path, idx_bytes(np.zeros(shape)), idx_bytes(labels))
    refused(job, tmp_path, comm, word)


@pytest.mark.parametrize("content", [b"hello world", b"\0\0\x07\x01", b"\0\0\x08\x00", b"\0"])
def test_not_idx(tmp_path, comm, content):
    _, labels = images_and_labels()
    refused(idx_job(tmp_path, content, idx_bytes(labels)), tmp_path, comm, "not an IDX file")


def test_empty_and_missing_files(tmp_path, comm):
    _, labels = images_and_labels()
    job = idx_job(tmp_path, b"", idx_bytes(labels))
    refused(job, tmp_path, comm, "the file is empty")
    (tmp_path / job.train[0]).unlink()
    refused(job, tmp_path, comm, job.train[0], "no such file", "--data-dir")
    (tmp_path / job.train[0]).mkdir()
    refused(job, tmp_path, comm, "not a regular file")
    job = DataSettings(train=("absent",), format="text_folder")
    refused(job, tmp_path, comm, "absent: no such folder", "--data-dir")


def test_nan_is_named_with_its_row_and_column(tmp_path, comm):
    images, labels = images_and_labels()
    images = images.astype(float)
    images[17, 1, 2] = np.nan
    job = idx_job(tmp_path, idx_bytes(images, ">f4"), idx_bytes(labels))
    refused(job, tmp_path, comm, "images-idx3", "row 18, column 7", "nan is not a finite number")


def test_one_class_only(tmp_path, comm):
    images, labels = images_and_labels()
    job = idx_job(tmp_path, idx_bytes(images), idx_bytes(labels * 0 + 4))
    refused(job, tmp_path, comm, "one class only (4)", "at least two")


def test_test_labels_without_training_rows(tmp_path, comm):
    images, labels = images_and_labels()
    job = idx_job(tmp_path, idx_bytes(images), idx_bytes(labels))
    (tmp_path / "other-idx1-ubyte").write_bytes(idx_bytes(np.where(labels == 2, 9, labels)))
    job = DataSettings(
        train=job.train,
        train_labels=job.train_labels,
        test=job.test,
        test_labels="other-idx1-ubyte",
    )
    refused(job, tmp_path, comm, "other-idx1", "no training row has: 9")


def test_test_rows_of_another_width(tmp_path, comm):
    images, labels = images_and_labels()
    job = idx_job(tmp_path, idx_bytes(images), idx_bytes(labels))
    (tmp_path / "small-idx3-ubyte").write_bytes(idx_bytes(images[:, :, :2]))
    job = DataSettings(
        train=job.train,
        train_labels=job.train_labels,
        test=("small-idx3-ubyte",),
        test_labels=job.train_labels,
    )
    refused(job, tmp_path, comm, "8 features where the training rows", "have 16")


# ------------------------------------------------------------------------------------- CIFAR-10


def cifar_batch(n: int, seed: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    planes = generator.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    labels = generator.permutation(np.arange(n) % 10).astype(np.uint8)
    records = np.concatenate([labels[:, None], planes.reshape(n, -1)], axis=1)
    return records.tobytes(), planes, labels


def test_cifar_features_are_pixel_interleaved(tmp_path, comm):
    batches = [cifar_batch(n, n) for n in (20, 31)]
    for number, (content, _, _) in enumerate(batches):
        (tmp_path / f"batch_{number}.bin").write_bytes(content)
    job = DataSettings(name="c", train=("batch_0.bin", "batch_1.bin"), test=("batch_0.bin",))
    data = read_dataset(job, tmp_path, comm)
    planes = np.concatenate([batch[1] for batch in batches])
    assert data.train.rows.dtype == np.uint8
    for row in (0, 19, 20, 50):
        for height, width, channel in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (5, 7, 2), (31, 31, 2)):
            feature = (height * 32 + width) * 3 + channel
            assert data.train.rows[row, feature] == planes[row, channel, height, width]
    np.testing.assert_array_equal(data.train.labels.codes, np.concatenate([b[2] for b in batches]))
    assert data.test.n_rows == 20


def test_cifar_refusals(tmp_path, comm):
    content, _, _ = cifar_batch(20, 0)
    path = tmp_path / "batch.bin"
    job = DataSettings(name="c", train=("batch.bin",))
    path.write_bytes(content[:-1])
    refused(job, tmp_path, comm, "batch.bin", "not a whole number of CIFAR-10 records")
    path.write_bytes(content[: 3073 * 7] + b"\x0b" + content[3073 * 7 + 1 :])
    refused(job, tmp_path, comm, "record 8", "label 11")
    path.write_bytes(gzip.compress(content))
    refused(job, tmp_path, comm, "unpack it")


# ------------------------------------------------------------------------------------ NPY and NPZ


def rows_and_labels(n: int = 40, d: int = 5, dtype="f4") -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    return generator.standard_normal((n, d)).astype(dtype), np.arange(n) % 4


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "<f4", ">f8", "<f2", "<i8", "?"])
def test_npz_round_trip(tmp_path, comm, save, order, dtype):
    rows, labels = rows_and_labels()
    rows = (3 * rows).astype(dtype)
    save(tmp_path / "a.npz", x=np.asarray(rows, order=order), y=labels)
    job = DataSettings(name="n", train=("a.npz",), test=("a.npz",))
    data = read_dataset(job, tmp_path, comm)
    np.testing.assert_array_equal(data.train.rows, rows)
    np.testing.assert_array_equal(data.train.labels.codes, labels)
    assert data.train.rows.dtype in (np.uint8, np.float32, np.float64)
    assert data.train.rows.dtype.isnative
    assert data.train.rows.flags.c_contiguous


def test_npz_n_dimensional_fortran_features_are_flattened_in_c_order(tmp_path, comm):
    rows = np.random.default_rng(0).standard_normal((12, 2, 3, 4))
    np.savez_compressed(tmp_path / "a.npz", x=np.asfortranarray(rows), y=np.arange(12) % 2)
    data = read_dataset(DataSettings(train=("a.npz",), test=("a.npz",)), tmp_path, comm)
    np.testing.assert_array_equal(data.train.rows, rows.reshape(12, 24))


def test_npz_text_labels_and_other_names(tmp_path, comm):
    rows, labels = rows_and_labels()
    words = np.array(["Ähre", "b", "c", "d"])[labels]
    np.savez(tmp_path / "a.npz", features=rows, target=words[:, None])
    job = DataSettings(
        train=("a.npz",), test=("a.npz",), features_key="features", labels_key="target"
    )
    data = read_dataset(job, tmp_path, comm)
    assert data.train.class_names == ("b", "c", "d", "Ähre")
    np.testing.assert_array_equal(np.array(data.train.class_names)[data.train.labels.codes], words)


def test_files_of_one_table_have_the_same_columns(tmp_path, comm):
    rows, labels = rows_and_labels()
    np.savez(tmp_path / "a.npz", x=rows, y=labels)
    np.savez(tmp_path / "b.npz", x=rows[:, :3], y=labels)
    job = DataSettings(train=("a.npz", "b.npz"))
    refused(job, tmp_path, comm, "b.npz:x", "3 features of type float32", "which has 5")


def test_npz_lacks_the_array(tmp_path, comm):
    rows, labels = rows_and_labels()
    np.savez(tmp_path / "a.npz", rows=rows, y=labels)
    refused(DataSettings(train=("a.npz",)), tmp_path, comm, "no array of a usual name", "rows, y")
    job = DataSettings(train=("a.npz",), features_key="x")
    refused(job, tmp_path, comm, "no array 'x'", "it has rows, y: set data.features_key")
    job = DataSettings(train=("a.npz",), features_key="rows", labels_key="z")
    refused(job, tmp_path, comm, "no array 'z'", "it has rows, y: set data.labels_key")


def test_npz_objects_would_need_pickle(tmp_path, comm):
    np.savez(tmp_path / "a.npz", x=np.array([[1, "a"]], dtype=object), y=np.arange(1))
    refused(DataSettings(train=("a.npz",)), tmp_path, comm, "a.npz:x", "objects are not read")


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_npz_member_that_declares_more_than_the_archive_holds(tmp_path, comm, method):
    rows, labels = rows_and_labels()
    header = npy_bytes(rows).replace(b"(40, 5)", b"(4000000000, 5)")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("x.npy", header)
        archive.writestr("y.npy", npy_bytes(labels))
    refused(DataSettings(train=("a.npz",)), tmp_path, comm, "a.npz:x", "truncated", "declares")


def test_npz_damaged(tmp_path, comm):
    (tmp_path / "a.npz").write_bytes(b"PK\3\4 no archive")
    refused(DataSettings(train=("a.npz",)), tmp_path, comm, "a.npz", "not an NPZ archive")
    rows, labels = rows_and_labels(400, 50)
    np.savez_compressed(tmp_path / "a.npz", x=rows, y=labels)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[5000] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(content)
    refused(DataSettings(train=("a.npz",)), tmp_path, comm, "a.npz:x", "damaged")


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_with_labels_of_its_own(tmp_path, comm, order):
    rows, labels = rows_and_labels(dtype="f8")
    np.save(tmp_path / "x.npy", np.asarray(rows, order=order))
    np.save(tmp_path / "y.npy", labels)
    (tmp_path / "y.txt").write_text("".join(f"{label}\n" for label in labels))
    (tmp_path / "y.csv").write_text("row,kind\n" + "".join(f"0,k{label}\n" for label in labels))
    for name, column, names in (
        ("y.npy", "", ("0", "1", "2", "3")),
        ("y.txt", "", ("0", "1", "2", "3")),
        ("y.csv", "kind", ("k0", "k1", "k2", "k3")),
    ):
        job = DataSettings(
            train=("x.npy",),
            train_labels=name,
            test=("x.npy",),
            test_labels=name,
            label_column=column,
        )
        data = read_dataset(job, tmp_path, comm)
        np.testing.assert_array_equal(data.train.rows, rows)
        np.testing.assert_array_equal(data.train.labels.codes, labels)
        assert data.train.class_names == names


def test_npy_refusals(tmp_path, comm):
    rows, labels = rows_and_labels()
    np.save(tmp_path / "y.npy", labels)
    job = DataSettings(train=("x.npy",), train_labels="y.npy")
    good = npy_bytes(rows)
    cases = [
        (good[:-3], "truncated"),
        (good[:20], "truncated inside its NPY header"),
        (b"nothing of the kind", "not an NPY array"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "NPY header of 4294967295 bytes"),
        (good.replace(b"'descr'", b"'Descr'"), "lacks type, order or shape"),
        (good.replace(b"'<f4'", b"'|V4'"), "not read"),
        (good.replace(b"(40, 5)", b"(-4, 5)"), "no valid shape"),
        (good.replace(b"{'descr'", b"((((((("), "cannot be parsed"),
        (npy_bytes(rows.astype("c16")), "not read"),
    ]
    for content, word in cases:
        (tmp_path / "x.npy").write_bytes(content)
        refused(job, tmp_path, comm, "x.npy", word)


def test_npz_labels_with_several_columns(tmp_path, comm):
    rows, labels = rows_and_labels()
    np.savez(tmp_path / "a.npz", x=rows, y=np.eye(4)[labels])
    refused(DataSettings(train=("a.npz",)), tmp_path, comm, "a.npz:y", "several labels or targets")


# ------------------------------------------------------------------------------------------ HDF5


@pytest.mark.parametrize("options", [{}, {"chunks": True, "compression": "gzip"}])
def test_hdf5_round_trip(tmp_path, comm, options):
    rows, labels = rows_and_labels()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images/train", data=rows.reshape(40, 5, 1), **options)
        file.create_dataset("images/kind", data=[f"k{label}" for label in labels])
    job = DataSettings(
        train=("a.h5",), test=("a.h5",), features_key="images/train", labels_key="images/kind"
    )
    data = read_dataset(job, tmp_path, comm)
    np.testing.assert_array_equal(data.train.rows, rows)
    np.testing.assert_array_equal(data.train.labels.codes, labels)
    assert data.train.class_names == ("k0", "k1", "k2", "k3")


def test_hdf5_refusals(tmp_path, comm):
    job = DataSettings(train=("a.h5",))
    rows, labels = rows_and_labels()
    path = tmp_path / "a.h5"
    path.write_bytes(b"not at all an HDF5 file")
    refused(job, tmp_path, comm, "a.h5", "cannot be read as HDF5")
    with h5py.File(path, "w") as file:
        file["z"] = rows
    refused(job, tmp_path, comm, "no array of a usual name", "it has z")
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=(10**9, 10**6), dtype="f4", chunks=(1000, 1000))
        file["y"] = labels
    refused(job, tmp_path, comm, "a.h5:x", "contains no data")
    with h5py.File(path, "w") as file:
        file["x"] = rows
        file["y"] = labels[:-1]
    refused(job, tmp_path, comm, "a.h5:y", "39 labels for the 40 rows")
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (10, 2), "f8", external=[("/etc/hostname", 0, 160)])
        file["y"] = labels
    refused(job, tmp_path, comm, "a.h5:x", "other files")


# ----------------------------------------------------------------------------- digits and dispatch


def test_digits(comm, tmp_path):
    images, digits = load_digits(return_X_y=True)
    data = read_dataset(DataSettings(), tmp_path, comm)
    assert data.train.n_rows + data.test.n_rows == 1797
    rows = np.concatenate([data.train.rows, data.test.rows])
    labels = np.concatenate([data.train.labels.codes, data.test.labels.codes])
    assert rows.dtype == np.uint8
    order = np.lexsort((*rows.T, labels))
    expected = np.lexsort((*images.T, digits))
    np.testing.assert_array_equal(rows[order], images[expected])
    np.testing.assert_array_equal(labels[order], digits[expected])
    assert len(data.train.feature_names) == 64
    said = describe_dataset(DataSettings(), tmp_path, comm)
    assert said.files == ()
    assert said.n_rows == (1438, 359)


@pytest.mark.parametrize(
    ("job", "word"),
    [
        (DataSettings(name="other"), "data.train is empty"),
        (DataSettings(format="digits", train=("x",)), "reads no files"),
        (DataSettings(format="digits", test=("x",)), "leave data.test out"),
        (DataSettings(format="digits", test_labels="x"), "leave data.test_labels out"),
        (DataSettings(test=("x",)), "data.train is empty"),
        (DataSettings(train=("a.npz",), test_labels="y"), "data.test_labels without data.test"),
        (DataSettings(train=("x.what",)), "set data.format"),
        (DataSettings(train=("a-idx3-ubyte",)), "set data.train_labels"),
        (DataSettings(train=("a.bin",), train_labels="y"), "remove data.train_labels"),
        (DataSettings(split="own"), "needs data.test"),
        (DataSettings(split="random", train=("a.npz",), test=("a.npz",)), "contradict"),
    ],
)
def test_configurations_that_contradict_themselves(tmp_path, comm, job, word):
    refused(job, tmp_path, comm, word, kind=ConfigError)
