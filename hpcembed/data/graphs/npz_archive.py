"""Graphs as NPZ archives: a sparse adjacency matrix, labels and attributes of the nodes.

The arrays of the matrix are named as ``scipy.sparse.save_npz`` names them (CSR, CSC or COO), or
``adj_data``, ``adj_indices``, ``adj_indptr``, ``adj_shape``; those of the attributes ``attr_data``
and so on. An entry (i, j) is an edge from i to j with its weight. Each rank reads its own rows
(columns of CSC, a range of entries of COO).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.arrays.numpy_files import npz_names, open_npz
from hpcembed.data.arrays.stored_array import StoredArray
from hpcembed.data.graphs.graph import Graph, LocalEdges
from hpcembed.data.graphs.numbering import nodes_of_ids
from hpcembed.data.graphs.owner_exchange import exchange, node_owners
from hpcembed.data.labels import LocalLabels, as_classes, labels_from_array
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range

__all__ = ["read_archive_attributes", "read_archive_edges", "read_archive_labels"]

_Entries = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def read_archive_edges(path: Path, comm: MPI.Comm) -> LocalEdges:
    """Read this rank's entries of the adjacency matrix.

    Collective.

    Raises
    ------
    InputError
        On all ranks: arrays that are missing or do not fit together, a matrix that is not square.
    """
    with agreement(comm):
        names = npz_names(path)
        prefix = "adj_" if "adj_indptr" in names or "adj_row" in names else ""
    i, j, w, shape = _read_entries(path, prefix, comm)
    if shape[0] != shape[1]:
        raise InputError(f"{path}: {shape[0]} x {shape[1]}: a graph has as many rows as columns")
    return LocalEdges(i, j, w, shape[0], str(path))


def read_archive_labels(
    path: Path, key: str, n: int, comm: MPI.Comm
) -> tuple[NDArray[np.int64], LocalLabels] | None:
    """Read the labels of this rank's share of the nodes in the file.

    Collective.

    Parameters
    ----------
    path : Path
    key : str
        Name of the array of labels: text, numbers, or indices into ``class_names`` if the archive
        has this array.
    n : int
        Number of nodes in the file.
    comm : MPI.Comm

    Returns
    -------
    ids : ndarray of int64
    labels : LocalLabels
        Or None in place of both, for an archive without labels.

    Raises
    ------
    InputError
        On all ranks.
    """
    start, stop = ownership_range(n, comm)
    with agreement(comm):
        names = npz_names(path)
        if key not in names:
            return None
        array = open_npz(path, key)
        if array.shape != (n,):
            raise InputError(f"{array.name}: shape {array.shape} for {n} nodes")
        values = _with_class_names(path, names, _part(array, start, stop))
        labels = as_classes(labels_from_array(values, array.name, start))
    return np.arange(start, stop), labels


def _with_class_names(path: Path, names: tuple[str, ...], codes: NDArray[Any]) -> NDArray[Any]:
    """Replace codes by the names of the classes, if the archive has ``class_names``."""
    if "class_names" not in names or codes.dtype.kind not in "iu":
        return codes
    array = open_npz(path, "class_names")
    if not array.shape:
        raise InputError(f"{array.name}: shape {array.shape}: a list of names needed")
    listed = _part(array, 0, array.shape[0])
    if codes.size and not 0 <= codes.min() <= codes.max() < listed.size:
        raise InputError(f"{path}: a label beyond the {listed.size} class_names")
    return listed[codes]


def read_archive_attributes(path: Path, n: int, graph: Graph) -> Any:
    """Read the attributes of this rank's nodes of a graph.

    Collective.

    Parameters
    ----------
    path : Path
    n : int
        Number of nodes in the file; `graph` may have fewer.
    graph : Graph

    Returns
    -------
    csr_array of float64, shape (graph.n_local, d), or None
        None for an archive without attributes.

    Raises
    ------
    InputError
        On all ranks.
    """
    comm = graph.comm
    with agreement(comm):
        has_attributes = "attr_indptr" in npz_names(path)
    if not has_attributes:
        return None
    i, j, w, shape = _read_entries(path, "attr_", comm)
    start, stop = ownership_range(shape[0], comm)
    if comm.allreduce(bool(i.size) and not start <= i.min() <= i.max() < stop, op=MPI.LOR):
        raise InputError(f"{path}: attr_: save these rows as CSR")
    if shape[0] != n:
        raise InputError(f"{path}: attributes of {shape[0]} nodes where the graph has {n}")
    nodes = nodes_of_ids(comm, graph.node_ids, np.arange(start, stop))[i - start]
    kept = nodes >= 0
    owners = node_owners(nodes[kept], graph.n_nodes, comm)
    i, j, w = exchange(comm, owners, [nodes[kept], j[kept], w[kept]])
    return scipy.sparse.csr_array((w, (i - graph.start, j)), shape=(graph.n_local, shape[1]))


def _read_entries(
    path: Path, prefix: str, comm: MPI.Comm
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], tuple[int, int]]:
    """Read row and column indices and values of this rank's entries, and the shape. Collective."""
    with agreement(comm):
        names = npz_names(path)
        layout = "coo" if f"{prefix}row" in names else "csr"
        if "format" in names and not prefix:
            layout = _text(open_npz(path, "format"))
        _require_arrays(path, prefix, layout, names)
        shape = _shape(open_npz(path, f"{prefix}shape"))
        values = open_npz(path, f"{prefix}data")
        if len(values.shape) != 1:
            raise InputError(f"{values.name}: shape {values.shape}: a list of values needed")
        if layout == "coo":
            i, j, w = _triplets(path, prefix, values, comm)
        elif layout == "csr":
            i, j, w = _compressed(path, prefix, values, shape[0], comm)
        elif layout == "csc":
            j, i, w = _compressed(path, prefix, values, shape[1], comm)
        else:
            raise InputError(f"{path}: format {layout!r}: save it as csr, csc or coo")
        for name, index, limit in (("row", i, shape[0]), ("column", j, shape[1])):
            if index.size and not 0 <= index.min() <= index.max() < limit:
                raise InputError(f"{path}: a {name} number beyond the shape {shape}: save it again")
        if not np.isfinite(w).all():
            what = "attributes" if prefix == "attr_" else "edges"
            raise InputError(f"{path}:{prefix}data: a value that is not finite: remove such {what}")
    return i, j, w, shape


def _require_arrays(path: Path, prefix: str, layout: str, names: tuple[str, ...]) -> None:
    indices = ("row", "col") if layout == "coo" else ("indices", "indptr")
    needed = [f"{prefix}{name}" for name in ("data", "shape", *indices)]
    if missing := [name for name in needed if name not in names]:
        listed = ", ".join(sorted(names)[:20]) or "none"
        raise InputError(
            f"{path}: no array {missing[0]!r}; it has {listed}: save the matrix with "
            "scipy.sparse.save_npz, or the arrays of a CSR matrix as adj_data, adj_indices, "
            "adj_indptr and adj_shape (attr_data, ... for attributes)"
        )


def _shape(array: StoredArray) -> tuple[int, int]:
    if array.shape != (2,):
        raise InputError(f"{array.name}: shape {array.shape}: two numbers needed, rows and columns")
    n_rows, n_columns = _integers(array, 0, 2).tolist()
    if min(n_rows, n_columns) < 1:
        raise InputError(f"{array.name}: {n_rows} x {n_columns}: the matrix is empty")
    return n_rows, n_columns


def _integers(array: StoredArray, first: int, last: int) -> NDArray[np.int64]:
    """Read whole numbers, which may be stored as floating-point ones. Not collective."""
    values = _part(array, first, last)
    if values.dtype.kind not in "iuf":
        raise InputError(f"{array.name}: of type {values.dtype}: save it as integers")
    if values.dtype.kind == "f":
        bad = np.flatnonzero(values != np.floor(values))
        if bad.size:
            raise InputError(
                f"{array.name}: {values[bad[0]]} at index {first + int(bad[0])} is not a "
                "whole number: save it as integers"
            )
    with np.errstate(invalid="ignore"):  # infinity becomes a number that is refused by the shape
        return values.astype(np.int64)


def _triplets(path: Path, prefix: str, values: StoredArray, comm: MPI.Comm) -> _Entries:
    first, last = ownership_range(values.shape[0], comm)
    i, j = (open_npz(path, f"{prefix}{name}") for name in ("row", "col"))
    if not i.shape == j.shape == values.shape:
        raise InputError(f"{path}: row, col and data of different lengths: save it again")
    return (
        _integers(i, first, last),
        _integers(j, first, last),
        _part(values, first, last).astype(np.float64),
    )


def _compressed(path: Path, prefix: str, values: StoredArray, n: int, comm: MPI.Comm) -> _Entries:
    """Read compressed rows or columns: their indices, the indices in them, values."""
    start, stop = ownership_range(n, comm)
    pointers = open_npz(path, f"{prefix}indptr")
    indices = open_npz(path, f"{prefix}indices")
    if pointers.shape != (n + 1,) or indices.shape != values.shape:
        raise InputError(f"{path}: {prefix}indptr, indices and data do not fit: save it again")
    indptr = _integers(pointers, start, stop + 1)
    counts = np.diff(indptr)
    if (counts < 0).any() or indptr[0] < 0 or indptr[-1] > indices.shape[0]:
        raise InputError(f"{path}:{prefix}indptr does not ascend within the data: save it again")
    first, last = int(indptr[0]), int(indptr[-1])
    return (
        np.repeat(np.arange(start, stop), counts),
        _integers(indices, first, last),
        _part(values, first, last).astype(np.float64),
    )


def _part(array: StoredArray, first: int, last: int) -> NDArray[Any]:
    pieces: list[NDArray[Any]] = [np.empty(0, dtype=array.dtype)]
    pieces += [block.reshape(-1) for block in array.blocks(first, last)]
    return np.concatenate(pieces)


def _text(array: StoredArray) -> str:
    with array.open() as stream:
        stream.seek(array.offset)
        raw = stream.read(array.dtype.itemsize)
    return raw.replace(b"\0", b"").decode("latin-1")
