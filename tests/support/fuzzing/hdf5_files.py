"""HDF5 and AnnData files."""

from __future__ import annotations

import io
from typing import Any

import h5py
import numpy as np

from fuzzing.array_files import table
from fuzzing.formats import Files, Format, Rng, register
from fuzzing.mutations import HOSTILE_INTEGERS, HOSTILE_NAMES, pick
from fuzzing.reading import job_reader


def _values(rows: Any) -> np.ndarray:
    return np.asarray(rows, dtype=np.float64)


def _hdf5(rng: Rng) -> tuple[Files, Any]:
    rows, labels = table(rng, pick(rng, ("u1", "<i4", "f4", "f8", ">f4")))
    stream = io.BytesIO()
    is_text = rng.random() < 0.5
    texts = [f"c{y}" for y in labels]
    with h5py.File(stream, "w") as file:
        options = {"compression": "gzip", "chunks": (2, rows.shape[1])}
        file.create_dataset("x", data=rows, **(options if rng.random() < 0.5 else {}))
        file["y"] = texts if is_text else labels
    return {"a.h5": stream.getvalue()}, (
        _values(rows), texts if is_text else [str(y) for y in labels]
    )  # fmt: skip


def _add_hostile(rng: Rng, file: Any, name: str) -> None:
    """Store something in the place of an array."""
    which = int(rng.integers(16))
    n = int(pick(rng, HOSTILE_INTEGERS)) % 2**48
    if which == 0:
        file.create_dataset(name, (n, 3), "f8", chunks=(16, 3), maxshape=(None, 3))
    elif which == 1:
        file.create_dataset(name, (max(n, 64), 3), "f8", chunks=(64, 3), compression="gzip")
        file[name][0] = 1
    elif which == 2:
        file[name] = h5py.ExternalLink("../outside/secret.h5", "/x")
    elif which == 3:
        file[name] = h5py.SoftLink(pick(rng, (f"/{name}", "/gone", "/", "/x", "/y", "x" * 999)))
    elif which == 4:
        layout = h5py.VirtualLayout(shape=(10, 3), dtype="f8")
        layout[:] = h5py.VirtualSource("../outside/secret.h5", "x", shape=(10, 3))
        file.create_virtual_dataset(name, layout)
    elif which == 5:
        file[name] = np.zeros(10, dtype=[("a", "f8"), ("b", "i4")])
    elif which == 6:
        file[name] = [pick(rng, HOSTILE_NAMES).replace("\x00", "") for _ in range(10)]
    elif which == 7:
        file.create_dataset(name, (10,), h5py.vlen_dtype(np.int32))
        file[name][0] = [1, 2, 3]
    elif which == 8:
        file[name] = pick(rng, (3.0, "text", h5py.Empty("f8"), np.zeros((0, 3)), np.zeros((3, 0))))
    elif which == 9:
        file[name] = pick(
            rng, (np.full((10, 3), np.nan), np.zeros((10, 3)) + 1j, np.zeros((3,) * 9))
        )
    elif which == 10:
        file.create_dataset(name, (10, 3), h5py.ref_dtype)
    elif which == 11:
        file[name] = np.zeros((10, 3), h5py.enum_dtype({"A": 0, "B": 1}, "i1"))
    elif which == 12:  # a bomb: zeros, as declared
        zeros = np.zeros((int(pick(rng, (2**12, 2**15, 2**19))), 8), "u1")
        file.create_dataset(name, data=zeros, compression="gzip", chunks=(2**12, 8))
    elif which == 13:
        file.create_dataset(name, (10, 3), "f8", external=[("../outside/secret.txt", 0, 240)])
    elif which == 14:
        file.create_group(name)[pick(rng, ("data", "codes", "x"))] = [1.0]
    else:
        file[name] = np.array([pick(rng, HOSTILE_NAMES).encode() for _ in range(10)], "S30")


def _hostile_hdf5(rng: Rng) -> Files:
    rows, labels = table(rng)
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        wrong = pick(rng, ("x", "y"))
        for name, array in (("x", rows), ("y", labels)):
            if name == wrong:
                _add_hostile(rng, file, name)
            else:
                file[name] = array
        if rng.random() < 0.2:
            file[pick(rng, HOSTILE_NAMES[2:12])] = [1.0]
    return {"a.h5": stream.getvalue()}


def _anndata(rng: Rng, *, hostile: bool) -> tuple[bytes, Any]:
    dense = rng.integers(0, 3, (int(rng.integers(4, 9)), int(rng.integers(2, 5)))).astype("f4")
    n, d = dense.shape
    stream = io.BytesIO()
    is_sparse = rng.random() < 0.7
    with h5py.File(stream, "w") as file:
        if is_sparse:
            i, j = np.nonzero(dense)
            group = file.create_group("X")
            group.attrs["encoding-type"], group.attrs["shape"] = "csr_matrix", (n, d)
            group["data"], group["indices"] = dense[i, j], j.astype("i4")
            group["indptr"] = np.searchsorted(i, np.arange(n + 1)).astype("i4")
        else:
            file["X"] = dense
        var = file.create_group("var")
        var.attrs["_index"] = "_index"
        var["_index"] = [f"gene{j}" for j in range(d)]
        kind = file.create_group("obs/kind")
        kind["categories"] = ["a", "b"]
        kind["codes"] = (np.arange(n) % 2).astype("i1")
        if hostile:
            _spoil_anndata(rng, file, is_sparse=is_sparse)
    return stream.getvalue(), (_values(dense), [["a", "b"][i % 2] for i in range(n)])


def _spoil_anndata(rng: Rng, file: Any, *, is_sparse: bool) -> None:
    number = pick(rng, HOSTILE_INTEGERS) % 2**31
    places = ["var/_index", "obs/kind/categories", "obs/kind/codes"]
    places += ["X/data", "X/indices", "X/indptr"] if is_sparse else ["X"]
    name = pick(rng, places)
    which = int(rng.integers(6))
    if which == 0 and is_sparse:
        shape = (number, -number, 3)[: int(pick(rng, (1, 2, 2, 2, 3)))]
        file["X"].attrs["shape"] = pick(rng, (shape, "x", 1.5, (2.5, 3.0), (2**62, 2**62)))
    elif which == 1 and is_sparse:
        file["X"].attrs["encoding-type"] = pick(rng, (*HOSTILE_NAMES[:12], 3, [1, 2])) or "x"
    elif which == 2:
        file["var"].attrs["_index"] = pick(rng, (*HOSTILE_NAMES[:12], 3, [1, 2])) or "x"
    elif which == 3:
        del file[name]
        _add_hostile(rng, file, name)
    elif which == 4:
        array = file[name][()]
        del file[name]
        file[name] = array[:-1]
    else:
        array = file[name][()]
        del file[name]
        if array.dtype == object:
            file[name] = [pick(rng, HOSTILE_NAMES).replace("\x00", "") for _ in array]
        else:
            array.reshape(-1)[0] = np.array(number).astype(array.dtype)
            file[name] = array


ANNDATA = {"train": ("a.h5ad",), "labels_key": "obs/kind"}
register(Format("hdf5", _hdf5, job_reader(train=("a.h5",)), _hostile_hdf5))
register(
    Format(
        "anndata",
        lambda rng: (lambda made: ({"a.h5ad": made[0]}, made[1]))(_anndata(rng, hostile=False)),
        job_reader(**ANNDATA),
        lambda rng: {"a.h5ad": _anndata(rng, hostile=True)[0]},
    )
)
