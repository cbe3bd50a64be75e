"""Arrays: NPY, NPZ (dense and sparse), IDX, CIFAR-10; rows to predict and of compress-model."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.formats import Files, Format, Rng, register
from fuzzing.mutations import HOSTILE_INTEGERS, HOSTILE_NAMES, mutate, pick
from fuzzing.reading import job_reader
from hpcembed.jobs.export.row_files import read_rows as read_prediction_rows
from hpcembed.networks.onnx_compression.row_files import read_rows as read_model_rows

_KINDS = ("u1", "i1", "<i2", ">i2", "<i4", "<i8", "f4", ">f4", "f8", "?", "f2")
_WRONG_KINDS = (
    "|O", "c8", "c16", "S3", "<U4", "S0", "V8", "M8[D]", "m8[ns]", "f16", "<f0", "O8", "(2,)f4",
    [["a", "f4"]], "U999999999", "i3", "", "\x1b[31m", "__import__('os')",
)  # fmt: skip


def table(rng: Rng, kind: str = "f8") -> tuple[np.ndarray, np.ndarray]:
    """Return rows of a type and labels."""
    n, d = int(rng.integers(4, 14)), int(rng.integers(1, 5))
    rows = rng.integers(0, 2 if kind == "?" else 100, (n, d)).astype(kind)
    return rows, (np.arange(n) % 2).astype(np.uint8)


def label_lines(labels: Any) -> bytes:
    """Return labels as a text file."""
    return "".join(f"{label}\n" for label in labels).encode()


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0), *, fortran: bool = False) -> bytes:
    """Return an array as an NPY file."""
    stream = io.BytesIO()
    order = np.asfortranarray(array) if fortran else np.ascontiguousarray(array)
    np.lib.format.write_array(stream, order, version, allow_pickle=True)
    return stream.getvalue()


def hostile_npy(rng: Rng, body: bytes = bytes(400)) -> bytes:
    """Return an NPY file with a header that is wrong in one or two ways."""
    shape: Any = tuple(int(n) for n in rng.integers(1, 12, int(rng.integers(1, 4))))
    header: dict[str, Any] = {"descr": "<f8", "fortran_order": False, "shape": shape}
    for _ in range(int(rng.integers(1, 3))):
        which = int(rng.integers(6))
        if which == 0:
            header["descr"] = pick(rng, _WRONG_KINDS)
        elif which == 1:
            header["shape"] = tuple(pick(rng, HOSTILE_INTEGERS) for _ in range(rng.integers(0, 4)))
        elif which == 2:
            header["shape"] = pick(
                rng, ([3, 2], 12, "x", None, (3.0, 2), (True,), (2,) * 40, (1,) * 70, (0, 3), ())
            )
        elif which == 3:
            header["fortran_order"] = pick(rng, (True, True, 1, None, "x"))
        elif which == 4:
            header[pick(rng, HOSTILE_NAMES)] = 1
        else:
            header["shape"] = (int(rng.integers(0, 60)), int(rng.integers(0, 30)))
    text = repr(header)
    text = pick(rng, (text, text, text, "(" * 300 + ")" * 300, text[:-1], text + " # x", "{" * 99))
    raw = text.encode("latin-1", "replace") + b"\n"
    version = pick(rng, (1, 1, 1, 2, 3, 0, 9))
    length = pick(rng, (len(raw), len(raw), len(raw), len(raw), 0, 65535, len(raw) + 9))
    size = struct.pack("<H" if version == 1 else "<I", length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + raw + body


def npz(arrays: dict[str, bytes], *, compress: bool) -> bytes:
    """Return NPY files as an archive."""
    stream = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content, method)
    return stream.getvalue()


def _npy_files(rng: Rng) -> tuple[Files, Any]:
    rows, labels = table(rng, pick(rng, _KINDS))
    content = npy(rows, pick(rng, ((1, 0), (2, 0), (3, 0))), fortran=rng.random() < 0.3)
    values = np.asarray(rows, dtype=np.float64)
    return {"a.npy": content, "y.txt": label_lines(labels)}, (values, [str(y) for y in labels])


def _hostile_npy_files(rng: Rng) -> Files:
    labels = pick(rng, (np.arange(10) % 2, ["x", "\x1b[31m", "<b>", "=1"] * 3))
    return {"a.npy": hostile_npy(rng), "y.txt": label_lines(labels)}


def _npz_files(rng: Rng) -> tuple[Files, Any]:
    rows, labels = table(rng, pick(rng, _KINDS))
    texts = np.array([f"c{y}" for y in labels])
    is_text = rng.random() < 0.5
    arrays = {"x": npy(rows, fortran=rng.random() < 0.3), "y": npy(texts if is_text else labels)}
    values = np.asarray(rows, dtype=np.float64)
    truth = values, texts.tolist() if is_text else [str(y) for y in labels]
    return {"a.npz": npz(arrays, compress=rng.random() < 0.5)}, truth


def _hostile_npz(rng: Rng) -> Files:
    rows, labels = table(rng)
    arrays = {"x": npy(rows), "y": npy(labels)}
    which = int(rng.integers(8))
    name = pick(rng, ("x", "y"))
    if which < 3:
        arrays[name] = hostile_npy(rng)
    elif which == 3:
        arrays[name] = mutate(rng, arrays[name])
    elif which == 4:  # a bomb: zeros, as declared
        arrays["x"] = npy(np.zeros((int(pick(rng, (2**10, 2**15, 2**19))), 16), "u1"))
    elif which == 5:
        arrays[pick(rng, HOSTILE_NAMES[:18])] = arrays.pop(name)
    elif which == 6:
        arrays["../../outside/x"] = npy(rows)
    else:
        arrays["y"] = npy(np.array([pick(rng, HOSTILE_NAMES) for _ in labels]))
    content = npz(arrays, compress=which == 4 or rng.random() < 0.5)
    if rng.random() < 0.2:  # another size in a directory of the archive
        place = content.rfind(b"PK\1\2") + int(pick(rng, (20, 24, 42, 28, 30)))
        content = content[:place] + rng.bytes(4) + content[place + 4 :]
    return {"a.npz": content}


def _sparse_parts(rng: Rng) -> tuple[dict[str, np.ndarray], np.ndarray]:
    dense = rng.integers(0, 3, (int(rng.integers(4, 12)), int(rng.integers(2, 6)))).astype("f8")
    i, j = np.nonzero(dense)
    pointers = np.concatenate([[0], np.cumsum(np.bincount(i, minlength=len(dense)))])
    parts = {"data": dense[i, j], "indices": j.astype(pick(rng, ("i4", "i8"))), "indptr": pointers,
             "shape": np.array(dense.shape), "format": np.array(b"csr")}  # fmt: skip
    return parts, dense


def _sparse_npz(rng: Rng) -> tuple[Files, Any]:
    parts, dense = _sparse_parts(rng)
    content = npz({key: npy(part) for key, part in parts.items()}, compress=rng.random() < 0.5)
    labels = np.arange(len(dense)) % 2
    return {"a.npz": content, "y.txt": label_lines(labels)}, (dense, [str(y) for y in labels])


def _hostile_sparse(rng: Rng) -> Files:
    parts, dense = _sparse_parts(rng)
    name = pick(rng, list(parts))
    array = parts[name]
    which = int(rng.integers(5))
    if which == 0 and array.size > 1 and array.dtype.kind != "S":
        array = array.copy()
        place = int(rng.integers(array.size))
        array[place] = np.array(pick(rng, HOSTILE_INTEGERS) % 2**63).astype(array.dtype)
    elif which == 1:
        array = array[:-1] if array.ndim else np.array(pick(rng, ("bsr", "coo", "csc", "dia")))
    elif which == 2:
        array = array.astype(pick(rng, ("f8", "c16", "S5", "?"))) if array.ndim else array
    elif which == 3:
        array = np.full_like(array, pick(rng, (-1, 2**30)) if array.dtype.kind in "if" else b"x")
    arrays = {key: npy(array if key == name else part) for key, part in parts.items()}
    if which == 4:
        arrays[name] = hostile_npy(rng)
    return {"a.npz": npz(arrays, compress=False), "y.txt": label_lines(np.arange(len(dense)) % 2)}


def _idx(rng: Rng) -> tuple[bytes, np.ndarray, np.ndarray]:
    rows, labels = table(rng, pick(rng, ("u1", ">i2", ">f4", ">f8", ">i4")))
    code = {"u1": 8, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}[rows.dtype.str.replace("|", "")]
    return bytes([0, 0, code, 2]) + struct.pack(">2I", *rows.shape) + rows.tobytes(), rows, labels


def _idx_files(rng: Rng) -> tuple[Files, Any]:
    content, rows, labels = _idx(rng)
    packed = gzip.compress(content, mtime=0) if rng.random() < 0.5 else content
    files = {"a.idx": packed, "y.txt": label_lines(labels)}
    return files, (np.asarray(rows, dtype=np.float64), [str(y) for y in labels])


def _hostile_idx(rng: Rng) -> Files:
    sizes = [pick(rng, HOSTILE_INTEGERS) % 2**32 for _ in range(int(rng.integers(0, 6)))]
    sizes = pick(rng, (sizes, [4, 10], [0, 10], [10, 0], [2**16, 2**16], [10] * 200))
    code = pick(rng, (8, 9, 11, 12, 13, 14, 0, 255))
    head = bytes([0, 0, code, len(sizes) % 256]) + struct.pack(f">{len(sizes)}I", *sizes)
    content = head + bytes(int(pick(rng, (0, 40, 400, 2**17))))
    return {
        "a.idx": gzip.compress(content, mtime=0) if rng.random() < 0.6 else content,
        "y.txt": label_lines(np.arange(10) % 2),
    }


def _cifar(rng: Rng) -> tuple[Files, Any]:
    n = int(rng.integers(4, 7))
    pixels = rng.integers(0, 256, (n, 3, 32, 32)).astype(np.uint8)
    labels = rng.integers(0, 2, n).astype(np.uint8)
    labels[:4] = [0, 1, 0, 1]
    records = b"".join(bytes([y]) + one.tobytes() for y, one in zip(labels, pixels, strict=True))
    rows = pixels.transpose(0, 2, 3, 1).reshape(n, -1).astype(np.float64)
    return {"a.bin": records}, (rows, [str(y) for y in labels])


def _read_prediction(folder: Path) -> Any:
    (path,) = (one for one in folder.iterdir() if one.is_file())
    found = read_prediction_rows(path, {}, (), 3)
    return np.asarray(found.rows, dtype=np.float64) if len(found.rows) < 999 else None


def _prediction_files(rng: Rng) -> tuple[Files, Any]:
    rows = rng.integers(0, 9, (int(rng.integers(1, 9)), 3)).astype(pick(rng, _KINDS[:-2]))
    truth = rows.astype(np.float64)
    kind = int(rng.integers(3))
    if kind == 0:
        return {"new.npy": npy(rows)}, truth
    if kind == 1:
        return {"new.npz": npz({"x": npy(rows)}, compress=True)}, truth
    lines = ["a,b,c", *(",".join(str(float(x)) for x in row) for row in rows)]
    return {"new.csv": "\n".join(lines).encode()}, truth


def _hostile_prediction(rng: Rng) -> Files:
    if rng.random() < 0.4:
        return {"new.npy": hostile_npy(rng)}
    if rng.random() < 0.5:
        return {"new.npz": _hostile_npz(rng)["a.npz"]}
    names = ",".join(pick(rng, HOSTILE_NAMES) for _ in range(3))
    return {"new.csv": f"{names}\n1,2,3\n4,5,{pick(rng, HOSTILE_NAMES)}\n".encode()}


def _read_model_rows(folder: Path) -> Any:
    (path,) = (one for one in folder.iterdir() if one.is_file())
    found = next(iter(read_model_rows(path).values()))
    return found.astype(np.float64) if found.dtype.kind in "fiub" and found.size < 999 else None


def _model_rows(rng: Rng) -> tuple[Files, Any]:
    rows = rng.integers(0, 9, (6, 3)).astype(pick(rng, _KINDS[:-2]))
    truth = rows.astype(np.float64)
    if rng.random() < 0.5:
        return {"rows.npy": npy(rows, fortran=rng.random() < 0.5)}, truth
    return {"rows.npz": npz({"x": npy(rows)}, compress=True)}, truth


def _hostile_model_rows(rng: Rng) -> Files:
    if rng.random() < 0.5:
        return {"rows.npy": hostile_npy(rng)}
    return {"rows.npz": _hostile_npz(rng)["a.npz"]}


WITH_LABELS = {"train_labels": "y.txt"}
register(Format("npy", _npy_files, job_reader(train=("a.npy",), **WITH_LABELS), _hostile_npy_files))
register(Format("npz", _npz_files, job_reader(train=("a.npz",)), _hostile_npz))
register(
    Format("sparse npz", _sparse_npz, job_reader(train=("a.npz",), **WITH_LABELS), _hostile_sparse)
)
register(Format("idx", _idx_files, job_reader(train=("a.idx",), **WITH_LABELS), _hostile_idx))
register(Format("cifar10", _cifar, job_reader(train=("a.bin",), task="classification")))
register(Format("rows to predict", _prediction_files, _read_prediction, _hostile_prediction))
register(Format("rows of compress-model", _model_rows, _read_model_rows, _hostile_model_rows))
