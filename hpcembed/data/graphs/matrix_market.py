"""Graphs as Matrix Market files.

An entry (i, j) is an edge from i to j with its weight. A symmetric file stores one of both
triangles. Each rank reads its own range of lines, or of rows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from mpi4py import MPI

from hpcembed.data.graphs.edge_list import EDGE_BYTES
from hpcembed.data.graphs.graph import LocalEdges
from hpcembed.data.line_ranges import share_lines
from hpcembed.data.tables.matrix_market import NO_ENTRIES, Entries, block_entries, read_rows
from hpcembed.data.tables.matrix_market_header import MatrixHeader, read_matrix_header
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.machine.memory import available_per_rank, check_fits
from hpcembed.runtime.ranks import ownership_range

__all__ = ["read_matrix_market"]


def read_matrix_market(path: Path, comm: MPI.Comm) -> LocalEdges:
    """Read this rank's entries of a Matrix Market file.

    Collective.

    Raises
    ------
    InputError
        On all ranks: a matrix that is not square, a bad line.
    MemoryLimitError
    """
    with agreement(comm):
        # data.index_base is not for graphs
        header = replace(read_matrix_header(path), has_banner=True)
        if header.n_rows != header.n_columns:
            raise InputError(
                f"{path}: {header.n_rows} x {header.n_columns}: a graph has as many rows as columns"
            )
    share = -(-2 * header.n_entries // comm.size)
    check_fits(share * EDGE_BYTES, available_per_rank(comm), f"reading {path}", "use more ranks")
    i, j, w = (_coordinates if header.is_coordinate else _dense)(header, comm)
    return LocalEdges(i, j, None if header.is_pattern else w, header.n_rows, str(path))


def _coordinates(header: MatrixHeader, comm: MPI.Comm) -> Entries:
    ranges, _ = share_lines([header.file], comm, skipped="comment")
    pieces = [NO_ENTRIES]
    n_lines = 0
    with agreement(comm):
        for part in ranges:
            for line, block in part.blocks():
                count, entries = block_entries(header, block, line)
                pieces.append(entries)
                n_lines += count
    found = comm.allreduce(n_lines)
    if found != header.n_entries:
        raise InputError(
            f"{header.file.path}: {found} entries where its header declares {header.n_entries}: "
            "copy or write it again"
        )
    i, j, w = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return i, j, w


def _dense(header: MatrixHeader, comm: MPI.Comm) -> Entries:
    start, stop = ownership_range(header.n_rows, comm)
    with agreement(comm):
        rows = read_rows(header, start, stop)
    i, j = np.nonzero(rows)
    return i + start, j.astype(np.int64), np.asarray(rows[i, j], dtype=np.float64)
