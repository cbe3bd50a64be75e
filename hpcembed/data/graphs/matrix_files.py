"""Graphs as Matrix Market files and as CSR, CSC or COO arrays in NPZ archives.

An entry (i, j) is an edge from i to j with its weight; a symmetric file lists one triangle and
means both. Each rank reads its own range of lines, or of rows.
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
from hpcembed.data.graphs.graph import EdgeShare, GraphOptions
from hpcembed.data.line_ranges import line_blocks, share_lines
from hpcembed.data.tables.matrix_market import checked_columns, read_rows
from hpcembed.data.tables.matrix_market_header import MatrixHeader, read_matrix_header
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.memory import available_per_rank, check_fits
from hpcembed.runtime.ranks import agreement, ownership_range

__all__ = ["has_sparse", "read_edge_arrays", "read_edge_matrix", "read_sparse_rows"]

_BYTES_PER_EDGE = 10 * 24
_Edges = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def read_edge_matrix(path: Path, comm: MPI.Comm, options: GraphOptions) -> EdgeShare:
    """This rank's entries of a Matrix Market file.

    Collective.

    Raises
    ------
    InputError
        On all ranks: a matrix that is not square, a bad line, a negative weight.
    MemoryLimitError
    """
    header: Any = None
    with agreement(comm):
        header = read_matrix_header(path)
        if header.n_rows != header.n_columns:
            raise InputError(
                f"{path}: {header.n_rows} x {header.n_columns}: a graph has as many rows as columns"
            )
    share = -(-2 * header.n_entries // comm.size)
    check_fits(
        share * _BYTES_PER_EDGE, available_per_rank(comm), f"reading {path}", "use more ranks"
    )
    edges = (_coordinates if header.is_coordinate else _dense)(header, comm)
    weight = None if header.is_pattern or options.weights == "ignore" else edges[2]
    _check_weights(weight, str(path), options, comm)
    return EdgeShare(edges[0], edges[1], weight, header.n_rows, str(path))


def _coordinates(header: MatrixHeader, comm: MPI.Comm) -> _Edges:
    types = {"i": "int64", "j": "int64"} | ({} if header.is_pattern else {"value": "float64"})
    ranges, _ = share_lines([header.file], comm, has_comments=True, has_blanks=True)
    pieces: list[_Edges] = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    count = 0
    with agreement(comm):
        for part in ranges:
            line = part.first_line
            for block in line_blocks(part.file, part.begin, part.end):
                columns = checked_columns(header, types, block, line)
                line += block.count(b"\n")
                if not columns:
                    continue
                i, j = columns[0] - 1, columns[1] - 1
                w = np.ones(len(i)) if header.is_pattern else columns[2]
                count += len(i)
                pieces.append((i, j, w))
                if header.symmetry != "general":
                    off = i != j
                    turned = -w[off] if header.symmetry == "skew-symmetric" else w[off]
                    pieces.append((j[off], i[off], turned))
    found = comm.allreduce(count)
    if found != header.n_entries:
        raise InputError(
            f"{header.file.path}: {found} entries where its header declares {header.n_entries}: "
            "copy or write it again"
        )
    i, j, w = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return i, j, w


def _dense(header: MatrixHeader, comm: MPI.Comm) -> _Edges:
    start, stop = ownership_range(header.n_rows, comm)
    rows: Any = None
    with agreement(comm):
        rows = read_rows(header, start, stop)
    i, j = np.nonzero(rows)
    return i + start, j.astype(np.int64), np.asarray(rows[i, j], dtype=np.float64)


def has_sparse(path: Path, prefix: str) -> bool:
    """Whether an archive holds a sparse matrix whose arrays begin with `prefix`. Not collective."""
    names = npz_names(path)
    return f"{prefix}indptr" in names or f"{prefix}row" in names


def read_edge_arrays(path: Path, comm: MPI.Comm, options: GraphOptions) -> EdgeShare:
    """This rank's entries of a square sparse matrix in an NPZ archive.

    Collective. Arrays ``adj_data``, ``adj_indices``, ``adj_indptr``, ``adj_shape``, or without
    ``adj_`` as ``scipy.sparse.save_npz`` writes them (CSR, CSC, COO).

    Raises
    ------
    InputError
        On all ranks: arrays that are missing or do not fit together, a negative weight.
    """
    prefix = ""
    with agreement(comm):
        prefix = "adj_" if has_sparse(path, "adj_") else ""
    i, j, w, shape = _read_entries(path, prefix, comm)
    if shape[0] != shape[1]:
        raise InputError(f"{path}: {shape[0]} x {shape[1]}: a graph has as many rows as columns")
    weight = None if options.weights == "ignore" else w
    _check_weights(weight, str(path), options, comm)
    return EdgeShare(i, j, weight, shape[0], str(path))


def read_sparse_rows(path: Path, prefix: str, comm: MPI.Comm) -> Any:
    """This rank's rows of a sparse matrix in an NPZ archive, such as attributes of nodes.

    Collective.

    Parameters
    ----------
    prefix : str
        Of the names of its arrays: ``"attr_"`` for ``attr_data``, ``attr_indices``, ...

    Returns
    -------
    csr_array of float64, shape (n_local, d)
        Rows divided as PETSc divides them.
    """
    i, j, w, shape = _read_entries(path, prefix, comm)
    start, stop = ownership_range(shape[0], comm)
    if comm.allreduce(bool(i.size) and not start <= i.min() <= i.max() < stop, op=MPI.LOR):
        raise InputError(f"{path}: {prefix}: save these rows as CSR")
    return scipy.sparse.csr_array((w, (i - start, j)), shape=(stop - start, shape[1]))


def _read_entries(
    path: Path, prefix: str, comm: MPI.Comm
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], tuple[int, int]]:
    """Entries of this rank's rows (columns of CSC, a range of COO). Collective."""
    found: Any = None
    with agreement(comm):
        names = npz_names(path)
        kind = "coo" if f"{prefix}row" in names else "csr"
        if "format" in names and not prefix:
            kind = _text(open_npz(path, "format"))
        _need_arrays(path, prefix, kind, names)
        shape = _shape(open_npz(path, f"{prefix}shape"))
        values = open_npz(path, f"{prefix}data")
        if len(values.shape) != 1:
            raise InputError(f"{values.name}: shape {values.shape}: a list of values needed")
        if kind == "coo":
            found = _triplets(path, prefix, values, comm)
        elif kind in ("csr", "csc"):
            found = _compressed(path, prefix, values, shape[kind == "csc"], comm)
        else:
            raise InputError(f"{path}: format {kind!r}: save it as csr, csc or coo")
        i, j, w = found if kind != "csc" else (found[1], found[0], found[2])
        for name, index, limit in (("row", i, shape[0]), ("column", j, shape[1])):
            if index.size and not 0 <= index.min() <= index.max() < limit:
                raise InputError(f"{path}: a {name} number beyond the shape {shape}: save it again")
        if not np.isfinite(w).all():
            what = "attributes" if prefix == "attr_" else "edges"
            raise InputError(f"{path}:{prefix}data: a value that is not finite: remove such {what}")
        found = (i, j, w, (shape[0], shape[1]))
    return found  # type: ignore[no-any-return]


def _need_arrays(path: Path, prefix: str, kind: str, names: tuple[str, ...]) -> None:
    indices = ("row", "col") if kind == "coo" else ("indices", "indptr")
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
        raise InputError(f"{array.name}: shape {array.shape}: two numbers, of rows and columns")
    n_rows, n_columns = _whole(array, 0, 2).tolist()
    if min(n_rows, n_columns) < 1:
        raise InputError(f"{array.name}: {n_rows} x {n_columns}: there is nothing in this matrix")
    return n_rows, n_columns


def _whole(array: StoredArray, first: int, last: int) -> NDArray[np.int64]:
    """Whole numbers, which floating-point ones may be as well. Not collective."""
    values = _part(array, first, last)
    if values.dtype.kind not in "iuf":
        raise InputError(f"{array.name}: of type {values.dtype}: save it as integers")
    fraction = values.dtype.kind == "f" and values != np.floor(values)
    if np.any(fraction):
        bad = np.flatnonzero(fraction)
        raise InputError(
            f"{array.name}: {values[bad[0]]} at place {first + int(bad[0])} is no whole number: "
            "save it as integers"
        )
    with np.errstate(invalid="ignore"):  # infinite: beyond any shape then, and refused as such
        return values.astype(np.int64)


def _triplets(path: Path, prefix: str, values: StoredArray, comm: MPI.Comm) -> _Edges:
    first, last = ownership_range(values.shape[0], comm)
    i, j = (open_npz(path, f"{prefix}{name}") for name in ("row", "col"))
    if not i.shape == j.shape == values.shape:
        raise InputError(f"{path}: row, col and data of different lengths: save it again")
    return (
        _whole(i, first, last),
        _whole(j, first, last),
        _part(values, first, last).astype(np.float64),
    )


def _compressed(path: Path, prefix: str, values: StoredArray, n: int, comm: MPI.Comm) -> _Edges:
    start, stop = ownership_range(n, comm)
    pointers = open_npz(path, f"{prefix}indptr")
    indices = open_npz(path, f"{prefix}indices")
    if pointers.shape != (n + 1,) or indices.shape != values.shape:
        raise InputError(f"{path}: {prefix}indptr, indices and data do not fit: save it again")
    indptr = _whole(pointers, start, stop + 1)
    counts = np.diff(indptr)
    if (counts < 0).any() or indptr[0] < 0 or indptr[-1] > indices.shape[0]:
        raise InputError(f"{path}:{prefix}indptr does not ascend within the data: save it again")
    first, last = int(indptr[0]), int(indptr[-1])
    return (
        np.repeat(np.arange(start, stop), counts),
        _whole(indices, first, last),
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


def _check_weights(
    weight: NDArray[np.float64] | None, name: str, options: GraphOptions, comm: MPI.Comm
) -> None:
    if weight is None or options.negative == "keep":
        return
    with agreement(comm):
        if (weight < 0).any():
            raise InputError(
                f"{name}: a negative weight ({weight.min():g}): degrees would make no sense; set "
                "graph.negative_weights = keep for the plain adjacency"
            )
