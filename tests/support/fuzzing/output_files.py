"""Rows that stay in files, and markers of output folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from fuzzing import arrow_files, hdf5_files
from fuzzing.array_files import hostile_npy, npy, table
from fuzzing.formats import Files, Format, Rng, register
from fuzzing.mutations import json_text, mutate_value, pick
from hpcembed.data.row_stream import open_rows
from hpcembed.runtime.output import lock as output_lock


def _stream(rng: Rng) -> tuple[Files, Any]:
    rows, _ = table(rng, pick(rng, ("u1", "f4", "f8")))
    return {"a.npy": npy(rows)}, rows.astype(np.float64)


def _hostile_stream(rng: Rng) -> Files:
    which = int(rng.integers(3))
    if which == 0:
        return {"a.npy": hostile_npy(rng)}
    return hdf5_files._hostile_hdf5(rng) if which == 1 else arrow_files._hostile("parquet", rng)


def _read_stream(folder: Path) -> Any:
    (path,) = (one for one in folder.iterdir() if one.is_file())
    stream = open_rows(path, MPI.COMM_SELF)
    if stream.n_rows * stream.n_features > 2**24:
        return None
    blocks = [block.copy() for _, block in stream.blocks()]
    return np.concatenate([np.empty((0, stream.n_features)), *blocks])


_MARKER = "out/.x.lock"


def _marker(rng: Rng) -> tuple[Files, Any]:
    owner = {"host": output_lock._host(), "process": 999999, "started": "1", "since": "2020-01-01",
             "job": "", "restarts": 0}  # fmt: skip
    return {_MARKER: json.dumps(owner).encode()}, None


def _hostile_marker(rng: Rng) -> Files:
    content = json.loads(_marker(rng)[0][_MARKER])
    if rng.random() < 0.5:
        content["host"] = "nowhere"
    content["process"] = pick(rng, (content["process"], 2**31, 2**63 - 1, 10**30, -1, 0))
    return {_MARKER: json_text(mutate_value(rng, content))}


def _take(folder: Path) -> None:
    with output_lock.owned_output(MPI.COMM_SELF, folder / "out" / "x"):
        pass


register(Format("row stream", _stream, _read_stream, _hostile_stream))
register(Format("output marker", _marker, _take, _hostile_marker))
