"""Rows from NPY, NPZ, IDX and HDF5 files, with the shapes and types that are stored."""

import gzip

import h5py
import numpy as np
import pytest

from hpcembed.networks.onnx_compression.row_files import read_rows
from hpcembed.runtime.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 4, 5), dtype=np.uint8)


def idx(array):
    code = {"uint8": 0x08, "int32": 0x0C}[array.dtype.name]
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return (
        bytes([0, 0, code, array.ndim])
        + sizes
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int64])
def test_npy(tmp_path, order, dtype):
    np.save(tmp_path / "a.npy", np.asarray(IMAGES, dtype=dtype, order=order))
    (rows,) = read_rows(tmp_path / "a.npy").values()
    assert rows.dtype == dtype
    assert np.array_equal(rows, IMAGES)


def test_npz(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", ids=IMAGES[:, 0], mask=IMAGES[:, 1] > 9)
    arrays = read_rows(tmp_path / "a.npz")
    assert set(arrays) == {"ids", "mask"}
    assert np.array_equal(arrays["ids"], IMAGES[:, 0])
    assert np.array_equal(arrays["mask"], IMAGES[:, 1] > 9)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "images.idx", "images.idx.gz"])
def test_idx(tmp_path, name):
    content = idx(IMAGES)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (rows,) = read_rows(tmp_path / name).values()
    assert np.array_equal(rows, IMAGES)
    labels = np.arange(7, dtype=np.int32)
    (tmp_path / "labels.idx").write_bytes(idx(labels))
    (read,) = read_rows(tmp_path / "labels.idx").values()
    assert read.dtype == np.int32
    assert np.array_equal(read, labels)


def test_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = IMAGES
    (rows,) = read_rows(tmp_path / "a.h5").values()
    assert np.array_equal(rows, IMAGES)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["other"] = IMAGES
    with pytest.raises(InputError, match="no array 'x'"):
        read_rows(tmp_path / "b.h5")


def test_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"a\.npy"):
        read_rows(tmp_path / "a.npy")
