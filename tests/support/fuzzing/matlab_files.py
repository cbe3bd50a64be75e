"""MATLAB files: the classic versions, and version 7.3."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import h5py
import numpy as np
import scipy.io
import scipy.sparse

from fuzzing.array_files import table
from fuzzing.formats import Files, Format, Rng, register
from fuzzing.hdf5_files import _add_hostile
from fuzzing.mutations import HOSTILE_INTEGERS, HOSTILE_NAMES, mutate, pick
from fuzzing.reading import job_reader


def _classic(rng: Rng) -> tuple[Files, Any]:
    rows, labels = table(rng, pick(rng, ("u1", "<i2", "f4", "f8")))
    stream = io.BytesIO()
    stored: Any = rows
    if rng.random() < 0.3:
        stored = scipy.sparse.csc_matrix(rows.astype("f8"))
    is_text = rng.random() < 0.4
    texts = [f"c{y}" for y in labels]
    y: Any = np.array(texts, dtype=object if rng.random() < 0.5 else None) if is_text else labels
    scipy.io.savemat(stream, {"x": stored, "y": y}, do_compression=rng.random() < 0.5)
    truth = rows.astype(np.float64), texts if is_text else [str(y) for y in labels]
    return {"a.mat": stream.getvalue()}, truth


def _hostile_classic(rng: Rng) -> Files:
    """Mutate the elements of a file, and compress them again."""
    rows, labels = table(rng)
    stream = io.BytesIO()
    kinds: tuple[Any, ...] = (
        rows, np.zeros((2, 2, 2)), rows + 1j, scipy.sparse.csc_matrix(rows), {"a": 1.0}, "text",
        np.array([[1.0], ["x"]], dtype=object), np.full_like(rows, np.nan), np.zeros((0, 3)),
        np.zeros((int(pick(rng, (2**10, 2**17))), 8), "u1"),
    )  # fmt: skip
    arrays = {"x": pick(rng, kinds), "y": pick(rng, (labels, labels, *kinds))}
    if rng.random() < 0.2:
        arrays[pick(rng, ("a" * 31, "x1"))] = rows
    scipy.io.savemat(stream, arrays)
    content = stream.getvalue()
    body = bytearray(content[128:])
    for _ in range(int(rng.integers(0, 3))):  # sizes and tags are at multiples of 4
        place = 4 * int(rng.integers(min(len(body) // 4, 40)))
        number = pick(rng, (*HOSTILE_INTEGERS, 5, 7, 9, 14, 15)) % 2**32
        body[place : place + 4] = struct.pack("<I", number)
    if rng.random() < 0.4:
        packed = zlib.compress(bytes(body))
        return {"a.mat": content[:128] + struct.pack("<2I", 15, len(packed)) + packed}
    return {"a.mat": content[:128] + bytes(body)}


def _level4(rng: Rng) -> Files:
    """Make a file of version 4, which has no magic bytes."""
    rows, _ = table(rng)
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"x": rows, "y": rows[:, :1]}, format="4")
    content = stream.getvalue()
    if rng.random() < 0.6:
        place = 4 * int(rng.integers(5))
        number = struct.pack("<I", pick(rng, HOSTILE_INTEGERS) % 2**32)
        content = content[:place] + number + content[place + 4 :]
    return {"a.mat": content if rng.random() < 0.6 else mutate(rng, content)}


def _version_73(rng: Rng, *, hostile: bool) -> tuple[bytes, Any]:
    rows, labels = table(rng)
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["x"], file["y"] = rows.T, labels[None, :].astype("f8")
        file["x"].attrs["MATLAB_class"] = np.bytes_("double")
        file["y"].attrs["MATLAB_class"] = np.bytes_("double")
        if hostile:
            _spoil(rng, file)
    return stream.getvalue(), (rows.astype(np.float64), [str(y) for y in labels])


def _spoil(rng: Rng, file: Any) -> None:
    name, which = pick(rng, ("x", "y")), int(rng.integers(5))
    kinds = ("cell", "char", "struct", "sparse", "int8", "logical", "\x1b[31m", "<b>", 3, [1, 2])
    if which == 0:
        file[name].attrs["MATLAB_class"] = pick(rng, kinds)
    elif which == 1:
        del file[name]
        _add_hostile(rng, file, name)
        if isinstance(file.get(name, getlink=True), h5py.HardLink):
            file[name].attrs["MATLAB_class"] = pick(rng, ("double", "cell", "char"))
    elif which == 2:
        del file[name]
        group = file.create_group(name)
        group.attrs["MATLAB_sparse"] = pick(rng, (3, -1, 2**62, "x", [1, 2], 1.5))
        group["jc"] = pick(rng, ([0, 1, 2], [0], 3, [2, 1, 0], [0, 2**62], np.zeros((2, 2)), "x"))
        if rng.random() < 0.8:
            group["ir"], group["data"] = pick(rng, ([0, 1], [0, 9], [-1, 0], [0])), [1.0, 2.0]
    elif which == 3:
        del file[name]
        file.create_dataset(name, (1, 8), h5py.ref_dtype)
        file[name].attrs["MATLAB_class"] = np.bytes_("cell")
    else:
        del file[name]
        file[name] = np.array([[ord(c) for c in pick(rng, HOSTILE_NAMES[2:9])]], dtype="u2").T
        file[name].attrs["MATLAB_class"] = np.bytes_("char")


READ = job_reader(train=("a.mat",))
register(
    Format(
        "matlab 5", _classic, READ,
        lambda rng: _hostile_classic(rng) if rng.random() < 0.75 else _level4(rng),
    )
)  # fmt: skip
register(
    Format(
        "matlab 7.3",
        lambda rng: (lambda made: ({"a.mat": made[0]}, made[1]))(_version_73(rng, hostile=False)),
        READ,
        lambda rng: {"a.mat": _version_73(rng, hostile=True)[0]},
    )
)
