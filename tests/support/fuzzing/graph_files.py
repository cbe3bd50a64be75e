"""Graphs: edge lists, labels of nodes, Matrix Market, NPZ archives."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI

from fuzzing.array_files import hostile_npy, npy, npz
from fuzzing.formats import Files, Format, Rng, register
from fuzzing.mutations import HOSTILE_INTEGERS, HOSTILE_NAMES, pick
from hpcembed.data.graphs.reading import read_labelled_graph


def _graph(rng: Rng) -> np.ndarray:
    """Return the adjacency matrix of a connected graph."""
    n = int(rng.integers(4, 9))
    adjacency = np.triu(rng.random((n, n)) < 0.3, 1).astype(float)
    adjacency[np.arange(n - 1), np.arange(1, n)] = 1
    return adjacency + adjacency.T


def _read(folder: Path, name: str, labels: str = "", **options: Any) -> Any:
    found = read_labelled_graph(
        folder / name, MPI.COMM_SELF, labels=folder / labels if labels else None, **options
    )
    names = [found.class_names[code] if code >= 0 else "" for code in found.labels]
    return found.graph.rows.toarray(), names


def _edges(rng: Rng) -> tuple[Files, Any]:
    adjacency = _graph(rng)
    i, j = np.nonzero(np.triu(adjacency))
    n = len(adjacency)
    lines = "".join(f"{a}\t{b}\n" for a, b in zip(i, j, strict=True))
    comment = "# from to\n" if rng.random() < 0.5 else ""
    content = (comment + lines).encode()
    files = {
        "a.edges": gzip.compress(content, mtime=0) if rng.random() < 0.3 else content,
        "y.txt": "".join(f"{a} {'rb'[a % 2]}\n" for a in range(n)).encode(),
    }
    return files, (adjacency, ["rb"[a % 2] for a in range(n)])


def _hostile_edges(rng: Rng) -> Files:
    lines = [f"{i} {(i + 1) % 7}" for i in range(7)]
    labels = [f"{i} {'rb'[i % 2]}" for i in range(7)]
    number, name = pick(rng, HOSTILE_INTEGERS), pick(rng, HOSTILE_NAMES)
    lines[int(rng.integers(7))] = pick(
        rng, (f"{number} 1", f"1 {number}", f"{name} 1", f"1 {name}", "1 2 nan", "1 2 1e999",
              "1 2 -1",
              "1", "1 2 3 4 5", "1.5 2", "", "1,2", "7 9", "# x", "% x", f"1 2 {number}")
    )  # fmt: skip
    if rng.random() < 0.5:
        labels[int(rng.integers(7))] = pick(
            rng, (f"{number} r", f"1 {name}", "1", name, "9 r", "1 r b")
        )
    return {
        "a.edges": "\n".join(lines).encode("utf-8", "surrogatepass"),
        "y.txt": "\n".join(labels).encode("utf-8", "surrogatepass"),
    }


def _market(rng: Rng) -> tuple[Files, Any]:
    adjacency = _graph(rng)
    i, j = np.nonzero(np.tril(adjacency))
    lines = "".join(f"{a + 1} {b + 1}\n" for a, b in zip(i, j, strict=True))
    n = len(adjacency)
    banner = "%%MatrixMarket matrix coordinate pattern symmetric\n"
    return {"a.mtx": f"{banner}{n} {n} {len(i)}\n{lines}".encode()}, (adjacency, [""] * n)


def _hostile_market(rng: Rng) -> Files:
    sizes: list[Any] = [5, 5, 3]
    sizes[int(rng.integers(3))] = pick(rng, HOSTILE_INTEGERS)
    entry = pick(rng, ("1 2", f"{pick(rng, HOSTILE_INTEGERS)} 1", "x y", "1 1 nan", "1"))
    field = pick(rng, ("pattern", "real", "complex"))
    symmetry = pick(rng, ("symmetric", "general", "skew-symmetric"))
    banner = f"%%MatrixMarket matrix coordinate {field} {symmetry}\n"
    return {"a.mtx": f"{banner}{' '.join(map(str, sizes))}\n2 1\n{entry}\n3 2\n".encode()}


def _parts(adjacency: np.ndarray) -> dict[str, np.ndarray]:
    matrix = scipy.sparse.csr_array(adjacency)
    n = len(adjacency)
    return {
        "adj_data": matrix.data, "adj_indices": matrix.indices, "adj_indptr": matrix.indptr,
        "adj_shape": np.array(adjacency.shape), "labels": np.arange(n) % 2,
        "class_names": np.array(["r", "b"]), "attr_data": np.ones(n),
        "attr_indices": np.zeros(n, "i4"), "attr_indptr": np.arange(n + 1),
        "attr_shape": np.array([n, 2]),
    }  # fmt: skip


def _archive(rng: Rng) -> tuple[Files, Any]:
    adjacency = _graph(rng)
    content = npz({name: npy(part) for name, part in _parts(adjacency).items()}, compress=True)
    return {"a.npz": content}, (adjacency, ["rb"[i % 2] for i in range(len(adjacency))])


def _hostile_archive(rng: Rng) -> Files:
    parts = _parts(_graph(rng))
    arrays = {name: npy(part) for name, part in parts.items()}
    name = pick(rng, list(parts))
    array, which = parts[name], int(rng.integers(6))
    if which == 0:
        del arrays[name]
    elif which == 1:
        arrays[name] = hostile_npy(rng)
    elif which == 2 and array.dtype.kind in "if":
        array = array.copy()
        array.reshape(-1)[int(rng.integers(array.size))] = np.array(
            pick(rng, HOSTILE_INTEGERS) % 2**63
        ).astype(array.dtype)
        arrays[name] = npy(array)
    elif which == 3:
        arrays[name] = npy(array[:-1])
    elif which == 4:
        kind = pick(rng, ("f8", "c16", "S9", "?", "U9"))
        arrays[name] = npy(array.astype(kind) if array.dtype.kind != "U" else array.astype("S"))
    else:
        arrays["class_names"] = npy(np.array([pick(rng, HOSTILE_NAMES) for _ in range(2)]))
    return {"a.npz": npz(arrays, compress=bool(rng.random() < 0.5))}


register(Format("edges", _edges, lambda folder: _read(folder, "a.edges", "y.txt"), _hostile_edges))
register(Format("graph mtx", _market, lambda folder: _read(folder, "a.mtx"), _hostile_market))
register(Format("graph npz", _archive, lambda folder: _read(folder, "a.npz"), _hostile_archive))
