#!/usr/bin/env python3
"""Intrinsic dimension of MNIST and CIFAR-10, raw and projected, beside scikit-dimension.

    python benchmarks/intrinsic_dimension.py --data-dir DATA [--only mnist] [--components 50]
                                             [--queries 10000] [--peer-rows 5000]
                                             [--neighbours 20]
    mpiexec -n 2 python benchmarks/intrinsic_dimension.py --data-dir DATA --peer-rows 0

First table: MLE (Levina and Bickel, mean of the inverses) and TwoNN of the training rows, raw
(divided by 255) and projected on the principal components, from the neighbours of some rows among
all rows: with standard errors, the MLE of half of the rows, and the published one of the raw rows
(Pope et al., "The intrinsic dimension of images and its impact on learning", ICLR 2021, MLE with 20
neighbours). Their program divides by k - 2, as Levina and Bickel propose for an unbiased estimate;
the column before theirs is the MLE times (k - 2) / (k - 1).

Second table, on one rank: both estimates of the first rows by hpcembed and by scikit-dimension,
their largest relative difference, and processor seconds, one after the other in this process. It
needs the package scikit-dimension.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed import PCA, intrinsic_dimension
from hpcembed.bench.data_sets import load, parse
from hpcembed.embedding.diagnostics import DimensionEstimate
from hpcembed.runtime.ranks import ownership_range
from miramns.bench.harness.tables import markdown_row, markdown_table

PUBLISHED = {"mnist": 13, "cifar10": 26}
HEADINGS = ("data", "queries", "rows", "of dimension", "MLE", "TwoNN", "MLE, half of the rows",
            "MLE with k - 2", "published", "equal rows", "seconds",
            "processor seconds")  # fmt: skip


def estimates(name: str, rows: NDArray[Any], arguments: argparse.Namespace) -> str:
    """Return a row of the first table. Collective."""
    began = time.process_time()
    found = intrinsic_dimension(
        rows,
        n_neighbours=arguments.neighbours,
        max_queries=arguments.queries or None,
        comm=MPI.COMM_WORLD,
    )
    spent = MPI.COMM_WORLD.allreduce(time.process_time() - began)
    half = float(np.mean(found.mle.halves))
    unbiased = found.mle.value * (arguments.neighbours - 2) / (arguments.neighbours - 1)
    published = PUBLISHED[name.split(",")[0]] if "raw" in name else "-"
    return markdown_row((
        name, f"{found.n_queries:,}", f"{found.n_rows:,}", f"{found.n_columns:,}",
        with_error(found.mle), with_error(found.two_nn), f"{half:.2f}", f"{unbiased:.2f}",
        str(published), f"{found.n_duplicates:,}", f"{found.seconds:.1f}", f"{spent:.1f}",
    ))  # fmt: skip


def with_error(one: DimensionEstimate) -> str:
    return f"{one.value:.2f} ± {one.standard_error:.2f}"


def peer(rows: NDArray[np.float64], neighbours: int) -> dict[str, tuple[float, float, float]]:
    """Return both estimates and the processor seconds of hpcembed and of scikit-dimension."""
    import skdim

    def ours() -> tuple[float, float]:
        found = intrinsic_dimension(rows, n_neighbours=neighbours, halves=False)
        return found.mle.value, found.two_nn.value

    def theirs() -> tuple[float, float]:
        mle = skdim.id.MLE().fit(rows, n_neighbors=neighbours)
        return mle.dimension_, skdim.id.TwoNN().fit(rows).dimension_

    def timed(run: Callable[[], tuple[float, float]]) -> tuple[float, float, float]:
        began = time.process_time()
        mle, two_nn = run()
        return mle, two_nn, time.process_time() - began

    return {"hpcembed": timed(ours), "scikit-dimension": timed(theirs)}


def compared(name: str, rows: NDArray[Any], neighbours: int) -> list[str]:
    """Return the rows of the second table for the same rows."""
    found = peer(rows.astype(np.float64), neighbours)
    other = found["scikit-dimension"]
    lines = []
    for library, (mle, two_nn, seconds) in found.items():
        difference = max(abs(mle / other[0] - 1), abs(two_nn / other[1] - 1))
        cells = name, f"{len(rows):,}", library, f"{mle:.4f}", f"{two_nn:.4f}", f"{seconds:.1f}"
        lines.append(markdown_row((*cells, f"{difference:.1e}")))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data-dir", type=Path, required=True)
    add("--only", choices=tuple(PUBLISHED))
    add("--components", type=int, default=50)
    add("--neighbours", type=int, default=20)
    add("--queries", type=int, default=10_000, help="rows whose neighbours are found; 0: all")
    add("--peer-rows", type=int, default=5000, help="rows of the second table; 0: without it")
    arguments = parser.parse_args()
    comm, tables = MPI.COMM_WORLD, []

    def show(line: str) -> None:
        if comm.rank == 0:
            print(line, flush=True)

    show("\n".join(markdown_table(HEADINGS, [])))
    for name in [arguments.only] if arguments.only else PUBLISHED:
        raw = load(parse(name), arguments.data_dir, 0)
        first, last = ownership_range(len(raw), comm)
        raw = raw[first:last].copy()
        pca = PCA(arguments.components).fit(raw, comm=comm)
        parts = {f"{name}, projected": pca.transform(raw), f"{name}, raw": raw}
        for title, rows in parts.items():
            show(estimates(title, rows, arguments))
            tables.append((title, rows[: arguments.peer_rows]))
    if arguments.peer_rows and comm.size == 1:
        headings = ("data", "rows", "library", "MLE", "TwoNN", "processor seconds", "difference")
        show("\n" + "\n".join(markdown_table(headings, [])))
        for title, rows in tables:
            for line in compared(title, rows, arguments.neighbours):
                show(line)


if __name__ == "__main__":
    main()
