"""Text tables: CSV, SVMlight, Matrix Market, bare triplets, ratings, labels."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.array_files import label_lines, npy, table
from fuzzing.formats import Files, Format, Rng, register
from fuzzing.mutations import HOSTILE_INTEGERS, HOSTILE_NAMES, pick
from fuzzing.reading import job_reader
from hpcembed.data.tables.matrix_market import read_matrix
from hpcembed.networks.deep_linear.triplets import read_triplets


def _packed(rng: Rng, content: bytes) -> bytes:
    return gzip.compress(content, mtime=0) if rng.random() < 0.25 else content


def _csv(rng: Rng) -> tuple[Files, Any]:
    rows, labels = table(rng)
    separator = pick(rng, (",", ";", "\t"))
    names = [*(f"f{j}" for j in range(rows.shape[1])), "kind"]
    lines = [separator.join(names)]
    for row, label in zip(rows, labels, strict=True):
        lines.append(separator.join([*(f"{x:g}" for x in row), f"c{label}"]))
    end = pick(rng, ("\n", "\r\n"))
    content = end.join(lines).encode() + (b"" if rng.random() < 0.3 else end.encode())
    return {"a.csv": _packed(rng, content)}, (rows, [f"c{y}" for y in labels])


def _hostile_csv(rng: Rng) -> Files:
    n, d = int(rng.integers(2, 10)), int(rng.integers(1, 5))
    names = [f"f{j}" for j in range(d)] + ["kind"]
    if rng.random() < 0.3:
        names[int(rng.integers(len(names)))] = pick(rng, HOSTILE_NAMES)
    cells = [
        [str(int(x)) for x in row] + ["ab"[i % 2]]
        for i, row in enumerate(rng.integers(0, 9, (n, d)))
    ]
    for _ in range(int(rng.integers(1, 4))):
        i, j = int(rng.integers(n)), int(rng.integers(d + 1))
        cells[i][j] = pick(
            rng,
            (*HOSTILE_NAMES, *map(str, HOSTILE_INTEGERS), "1e999", "nan", '"', '"a\nb"',
             "2020-13-45",
             "1,5", "1.000,5", "true", "0x1p3", "1_0", "-", "1970-01-01", "31/12/99999", '"x""y"'),
        )  # fmt: skip
    if rng.random() < 0.2:
        cells[0] = cells[0] * int(pick(rng, (2, 3000)))
    if rng.random() < 0.1:
        names = names[:-1] * int(pick(rng, (1, 4000))) + names[-1:]
    lines = [",".join(names), *(",".join(row) for row in cells)]
    return {"a.csv": _packed(rng, "\n".join(lines).encode("utf-8", "surrogatepass"))}


def _svmlight(rng: Rng) -> tuple[Files, Any]:
    rows, labels = table(rng)
    rows[:, -1] = 1
    lines = []
    for row, label in zip(rows, labels, strict=True):
        entries = [f"{j + 1}:{x:g}" for j, x in enumerate(row) if x]
        lines.append(" ".join([str(label), *entries, *(["# note"] if rng.random() < 0.2 else [])]))
    content = "\n".join(lines).encode() + b"\n"
    return {"a.svm": _packed(rng, content)}, (rows, [str(y) for y in labels])


def _hostile_svmlight(rng: Rng) -> Files:
    lines = [f"{i % 2} 1:{i} 2:1 3:0.5" for i in range(8)]
    lines[int(rng.integers(8))] = pick(
        rng,
        (f"1 {pick(rng, HOSTILE_INTEGERS)}:1", "1 2:1 1:1", "1 1:1 1:2", "1 1:", "1 :1", "1 1:nan",
         "1 1:1e999", "1,2 1:1", f"{pick(rng, HOSTILE_NAMES)} 1:1", "1 qid:1 1:2",
         "1 1:1 #" + "x" * 9999,
         "1 1:0x5", "1 1:1:1", "", "#", "nan 1:1", "1 " + " ".join(f"{j}:1" for j in range(1,
         4000))),
    )  # fmt: skip
    return {"a.svm": _packed(rng, "\n".join(lines).encode("utf-8", "surrogatepass"))}


def _matrix(rng: Rng) -> tuple[str, str, np.ndarray]:
    """Return banner and lines of a matrix, and its values."""
    rows, _ = table(rng)
    n, d = rows.shape
    if rng.random() < 0.3:
        lines = "\n".join(f"{x:g}" for x in rows.T.reshape(-1))
        return "%%MatrixMarket matrix array real general\n", f"{n} {d}\n{lines}\n", rows
    i, j = np.nonzero(rows)
    lines = "\n".join(f"{a + 1} {b + 1} {rows[a, b]:g}" for a, b in zip(i, j, strict=True))
    banner = "%%MatrixMarket matrix coordinate real general\n% a comment\n"
    return banner, f"{n} {d} {len(i)}\n{lines}\n", rows


def _matrix_market(rng: Rng) -> tuple[Files, Any]:
    banner, lines, rows = _matrix(rng)
    labels = np.arange(len(rows)) % 2
    files = {"a.mtx": _packed(rng, (banner + lines).encode()), "y.txt": label_lines(labels)}
    return files, (rows, [str(y) for y in labels])


def _hostile_lines(rng: Rng) -> tuple[str, int]:
    n, d = int(rng.integers(3, 9)), int(rng.integers(2, 5))
    field = pick(rng, ("real", "integer", "pattern", "complex", "double", "\x1b[31m"))
    symmetry = pick(rng, ("general", "general", "symmetric", "skew-symmetric", "hermitian", "<b>"))
    layout = pick(rng, ("coordinate", "coordinate", "array", "x"))
    sizes: list[Any] = [n, d, 4] if layout != "array" else [n, d]
    if rng.random() < 0.6:
        sizes[int(rng.integers(len(sizes)))] = pick(rng, HOSTILE_INTEGERS)
    value = {"pattern": "", "complex": "1 2"}.get(field, "1")
    entries = [f"{k % n + 1} {k % d + 1} {value}" for k in range(4)]
    if rng.random() < 0.5:
        entries[int(rng.integers(4))] = pick(
            rng, (f"{pick(rng, HOSTILE_INTEGERS)} 1 1", "0 0 1", "1 1 nan", "1 1 1e999", "x",
                  "1 1 1 1",
                  "", "% c", "1.5 1 1", pick(rng, HOSTILE_NAMES))
        )  # fmt: skip
    banner = f"%%MatrixMarket matrix {layout} {field} {symmetry}\n"
    banner = pick(rng, (banner, banner, banner, "", banner.upper(), banner * 2, "%%MatrixMarket\n"))
    return banner + " ".join(map(str, sizes)) + "\n" + "\n".join(entries) + "\n", n


def _hostile_matrix(rng: Rng) -> Files:
    content, n = _hostile_lines(rng)
    labels = label_lines(np.arange(n) % 2)
    return {"a.mtx": _packed(rng, content.encode("utf-8", "surrogatepass")), "y.txt": labels}


def _read_matrix(folder: Path) -> Any:
    found = read_matrix(folder / "a.mtx")
    if math.prod(found.shape) > 10**6:
        return None
    return found.toarray() if hasattr(found, "toarray") else found


def _triplet_matrix(rng: Rng) -> tuple[Files, Any]:
    banner, lines, rows = _matrix(rng)
    while "array" in banner:
        banner, lines, rows = _matrix(rng)
    return {"a.mtx": lines.encode() if rng.random() < 0.6 else (banner + lines).encode()}, rows


def _ratings(rng: Rng) -> tuple[Files, Any]:
    n = int(rng.integers(4, 12))
    separator = pick(rng, (",", "\t", "::"))
    pairs = [(f"u{k % 3}", f"i{k // 3}", float(k % 5)) for k in range(n)]
    header = "user,item,rating\n".replace(",", separator) if rng.random() < 0.5 else ""
    lines = "".join(separator.join([u, i, f"{v:g}"]) + "\n" for u, i, v in pairs)
    truth = [v for *_, v in pairs]
    return {"a.csv": (header + lines).encode()}, truth


def _hostile_ratings(rng: Rng) -> Files:
    lines = [f"u{k % 3},i{k},{k}" for k in range(8)]
    name = pick(rng, HOSTILE_NAMES)
    lines[int(rng.integers(8))] = pick(
        rng, (f"{name},i,1", f"u,{name},1", f"u,i,{name}", "u,i", "u,i,nan", "u,i,1e999", ",,",
              '"u,i,1',
              "u,i," + "9" * 400, "u,i,1" * 2000)
    )  # fmt: skip
    return {"a.csv": "\n".join(lines).encode("utf-8", "surrogatepass")}


def _read_ratings(folder: Path) -> Any:
    return read_triplets(folder / "a.csv").values.tolist()


def _labels(rng: Rng) -> tuple[Files, Any]:
    rows, labels = table(rng, "f4")
    truth = rows.astype(np.float64), [str(y) for y in labels]
    files = {"a.npy": npy(rows)}
    if rng.random() < 0.5:
        return {**files, "y": npy(labels)}, truth
    return {**files, "y": label_lines(labels)}, truth


def _hostile_labels(rng: Rng) -> Files:
    rows, labels = table(rng, "f4")
    texts = [str(y) for y in labels]
    texts[int(rng.integers(len(texts)))] = pick(rng, HOSTILE_NAMES)
    return {"a.npy": npy(rows), "y": label_lines(texts)}


LABELLED = {"train_labels": "y.txt"}
register(Format("csv", _csv, job_reader(train=("a.csv",), label_column="kind"), _hostile_csv))
register(Format("svmlight", _svmlight, job_reader(train=("a.svm",)), _hostile_svmlight))
register(
    Format(
        "matrix market", _matrix_market, job_reader(train=("a.mtx",), **LABELLED), _hostile_matrix
    )
)
register(Format("whole matrix", _triplet_matrix, _read_matrix, _hostile_matrix))
register(Format("ratings", _ratings, _read_ratings, _hostile_ratings))
register(
    Format(
        "labels", _labels, job_reader(train=("a.npy",), train_labels="y"), _hostile_labels,
        mutable=lambda name: name == "y",
    )
)  # fmt: skip
