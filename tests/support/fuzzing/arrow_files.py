"""Parquet and Arrow files."""

from __future__ import annotations

import datetime
import io
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet

from fuzzing.array_files import table
from fuzzing.formats import Files, Format, Rng, register
from fuzzing.mutations import HOSTILE_INTEGERS, HOSTILE_NAMES, pick
from fuzzing.reading import job_reader

KINDS = ("parquet", "arrow")


def _written(rng: Rng, columns: Any, kind: str) -> bytes:
    stream = io.BytesIO()
    chunk = 4 if columns.num_rows < 99 else 2**20
    if kind == "parquet":
        options = {
            "compression": pick(rng, ("none", "gzip", "snappy")),
            "use_dictionary": bool(rng.random() < 0.5),
            "row_group_size": int(pick(rng, (3, 100))) if columns.num_rows < 99 else 2**20,
        }
        pyarrow.parquet.write_table(columns, stream, **options)
    elif rng.random() < 0.5:
        compression = pick(rng, ("uncompressed", "lz4", "zstd"))
        pyarrow.feather.write_feather(columns, stream, compression, chunksize=chunk)
    else:
        with pyarrow.ipc.new_file(stream, columns.schema) as writer:
            writer.write_table(columns, max_chunksize=chunk)
    return stream.getvalue()


def _valid(kind: str, rng: Rng) -> tuple[Files, Any]:
    rows, labels = table(rng)
    columns: dict[str, Any] = {f"f{j}": rows[:, j] for j in range(rows.shape[1])}
    texts = pyarrow.array([f"c{y}" for y in labels])
    columns["kind"] = texts.dictionary_encode() if rng.random() < 0.5 else texts
    return {f"a.{kind}": _written(rng, pyarrow.table(columns), kind)}, (
        rows, [f"c{y}" for y in labels]
    )  # fmt: skip


def _hostile_column(rng: Rng, n: int) -> Any:
    """Return a column of a type that is rare in tables."""
    day = datetime.date(2020, 1, 1)
    far = pyarrow.array([2**62] * n, pyarrow.int64())
    choices: tuple[Any, ...] = (
        lambda: pyarrow.nulls(n),
        lambda: pyarrow.array([None, *([1.0] * (n - 1))]),
        lambda: pyarrow.array([float("nan"), *([float("inf")] * (n - 1))]),
        lambda: pyarrow.array([pick(rng, HOSTILE_NAMES) for _ in range(n)]),
        lambda: pyarrow.array([b"\xff\xfe"] * n),
        lambda: pyarrow.array([[1, 2]] * n),
        lambda: pyarrow.array([{"a": 1}] * n),
        lambda: pyarrow.array([Decimal("1.5")] * n),
        lambda: pyarrow.array([2**64 - 1] * n, pyarrow.uint64()),
        lambda: far,
        lambda: far.cast(pyarrow.timestamp("s")),
        lambda: pyarrow.array([2**40] * n, pyarrow.int64()).cast(pyarrow.timestamp("ns")),
        lambda: pyarrow.array([day] * n),
        lambda: pyarrow.array([datetime.timedelta(days=1)] * n),
        lambda: pyarrow.array([datetime.time(1)] * n),
        lambda: pyarrow.array([np.float16(1)] * n, pyarrow.float16()),
        lambda: pyarrow.array([True, None] * n)[:n],
        lambda: pyarrow.array(["a", None] * n)[:n].dictionary_encode(),
        lambda: pyarrow.array([pick(rng, HOSTILE_INTEGERS) % 2**63 for _ in range(n)]),
        lambda: pyarrow.array([2**31 - 1] * n, pyarrow.date32()),
    )
    return pick(rng, choices)()


def _hostile(kind: str, rng: Rng) -> Files:
    n = int(pick(rng, (0, 1, 3, 8)))
    columns: dict[str, Any] = {"f0": pyarrow.array(np.arange(n, dtype=float))}
    columns["kind"] = pyarrow.array([f"c{i % 2}" for i in range(n)])
    for _ in range(int(rng.integers(1, 3))):
        name = pick(rng, ("f0", "kind", "f1", "f1", pick(rng, HOSTILE_NAMES)))
        columns[name] = _hostile_column(rng, n) if n else pyarrow.nulls(0)
    names = list(columns)
    if rng.random() < 0.15:
        names[-1] = names[0]
    if rng.random() < 0.1:  # a bomb: zeros, as declared
        n = int(pick(rng, (2**14, 2**20)))
        names, columns = ["f0", "kind"], {"f0": np.zeros(n, "u1"), "kind": np.arange(n) % 2}
    made = pyarrow.Table.from_arrays([_arrow(c) for c in columns.values()], names)
    try:
        return {f"a.{kind}": _written(rng, made, kind)}
    except pyarrow.ArrowException:  # a value that the format cannot hold
        return _valid(kind, rng)[0]


def _arrow(column: Any) -> Any:
    return column if isinstance(column, pyarrow.Array) else pyarrow.array(column)


def _register(kind: str) -> None:
    register(
        Format(
            kind,
            lambda rng: _valid(kind, rng),
            job_reader(train=(f"a.{kind}",), label_column="kind"),
            lambda rng: _hostile(kind, rng),
        )
    )


for one in KINDS:
    _register(one)
