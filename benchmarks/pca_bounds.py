"""Lower bounds on the time of a PCA on this machine, and the share of them that each step reaches.

    python benchmarks/pca_bounds.py [--shapes 50000x3072 60000x784] [--k 50] [--threads 2]
                                    [--repeats 5]

Measures the bandwidth of the memory and the rates of BLAS, then, for each shape (generated float32
rows, as in `hpcembed bench pca`): the bare X.T @ X, one triangle of it (ssyrk, dsyrk), the
two products of a pass, one float32 pass with b columns, one pass in double precision with k columns
(the certificate), and the projection. The bound of a step is the larger one of its arithmetic at
the best rate measured and its bytes at the bandwidth measured. Best of the repeats; nothing else
should run on the machine. Prints Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from mpi4py import MPI
from scipy.linalg.blas import dsyrk, ssyrk
from threadpoolctl import threadpool_limits

from hpcembed.bench.data_sets import load, parse
from hpcembed.data.matrix import DataMatrix
from hpcembed.operators.covariance.covariance_passes import CovariancePasses, Moments
from hpcembed.operators.covariance.covariance_plan import block_width
from hpcembed.runtime.machine.threads import available_cores
from miramns.bench.harness.tables import markdown_table

#: Bytes that are read to measure the bandwidth, many times the size of a cache.
STREAM = 2**29
SQUARE = 2048


@dataclass
class Machine:
    """Bytes per second, and multiply-adds per second by the bytes of a number."""

    read: float
    copy: float
    product: dict[int, float]
    update: dict[int, float]

    def bound(self, multiply_adds: float, data_bytes: float, item: int, *, half: bool) -> float:
        rate = (self.update if half else self.product)[item]
        return max(multiply_adds / rate, data_bytes / self.read)


def main() -> None:
    arguments = parsed()
    threads = arguments.threads or len(available_cores())
    with threadpool_limits(threads):
        machine = measured(threads, arguments.stream, arguments.square, arguments.repeats)
        print(machine_table(machine, threads))
        for shape in arguments.shapes:
            print(shape_table(shape, arguments.k, threads, arguments.repeats, machine))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--shapes", nargs="+", default=["50000x3072", "60000x784"], metavar="NxD")
    add("--k", type=int, default=50)
    add("--threads", type=int, default=0, help="default: all cores")
    add("--repeats", type=int, default=5)
    add("--stream", type=int, default=STREAM, help="bytes to measure the bandwidth with")
    add("--square", type=int, default=SQUARE, help="size of the matrices to measure BLAS with")
    return parser.parse_args()


def best(run: Callable[[], object], repeats: int) -> float:
    """Return the least seconds of some runs, after a run that is not timed."""
    run()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return min(taken)


def measured(threads: int, stream: int, square: int, repeats: int) -> Machine:
    """Measure the bandwidth of the memory and the rates of BLAS."""
    read, copy = bandwidths(threads, stream, repeats)
    product, update = {}, {}
    for dtype, syrk in ((np.float32, ssyrk), (np.float64, dsyrk)):
        A = np.random.default_rng(0).standard_normal((square, square)).astype(dtype)
        C = np.zeros((square, square), dtype=dtype, order="F")
        item, count = A.itemsize, float(square) ** 3
        product[item] = count / best(lambda A=A: A @ A, repeats)
        update[item] = count / best(
            lambda A=A, C=C, syrk=syrk: syrk(1.0, A.T, c=C, lower=1, overwrite_c=1), repeats
        )
    return Machine(read, copy, product, update)


def bandwidths(threads: int, stream: int, repeats: int) -> tuple[float, float]:
    """Return bytes per second, read and copied; each thread has a part of its own."""
    source = np.ones(stream // 4, dtype=np.float32)
    target = np.empty_like(source)
    starts = [len(source) * i // threads for i in range(threads + 1)]
    parts = [(source[first:last], target[first:last]) for first, last in pairwise(starts)]
    with ThreadPoolExecutor(threads) as pool, threadpool_limits(1):
        read = best(lambda: list(pool.map(lambda part: part[0] @ part[0], parts)), repeats)
        copy = best(
            lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)), repeats
        )
    return stream / read, 2 * stream / copy


def machine_table(machine: Machine, threads: int) -> str:
    rates = (machine.product[4], machine.product[8], machine.update[4], machine.update[8])
    cells = [f"{machine.read / 1e9:.1f} GB/s", f"{machine.copy / 1e9:.1f} GB/s"]
    cells += [f"{rate / 1e9:.0f}" for rate in rates]
    headings = ["memory read", "memory copy", "sgemm", "dgemm", "ssyrk", "dsyrk"]
    title = (
        f"{threads} thread(s). Rates of BLAS in 1e9 multiply-adds per second; those of an update "
        "count the whole square, of which half is computed."
    )
    return "\n".join([title, "", *markdown_table(headings, [cells]), ""])


def shape_table(shape: str, k: int, threads: int, repeats: int, machine: Machine) -> str:
    """Return the table of the steps of a PCA of one shape and their bounds."""
    rows = load(parse(f"generated:{shape}"), Path(), 0)
    n, d = rows.shape
    k = min(k, n - 1, d)
    b = block_width(k, d)
    entries, size = float(n) * d, rows.nbytes
    headings = ["step", "seconds", "1e9 multiply-adds/s", "GB/s of rows", "bound, seconds",
                "of the bound"]  # fmt: skip
    cells = []
    steps = square_steps(rows, repeats) + pass_steps(rows, b, k, threads, repeats)
    for name, seconds, columns, item, half in steps:
        work = entries * columns
        least = machine.bound(work, size, item, half=half)
        cells.append((
            name, f"{seconds:.3g}", f"{work / seconds / 1e9:.0f}", f"{size / seconds / 1e9:.1f}",
            f"{least:.3g}", f"{100 * least / seconds:.0f} %",
        ))  # fmt: skip
    title = f"**{n} x {d} float32** ({size / 2**20:.0f} MiB), k = {k}, blocks of {b} columns"
    return "\n".join([title, "", *markdown_table(headings, cells), ""])


#: Name, seconds, number of columns, bytes of a number, and whether half of a square is computed.
Step = tuple[str, float, int, int, bool]


def square_steps(rows: np.ndarray, repeats: int) -> list[Step]:
    """Time the steps of an assembled covariance."""
    d = rows.shape[1]
    if d > 12_000:
        return []
    single = np.zeros((d, d), dtype=np.float32, order="F")
    steps: list[Step] = [
        ("X.T @ X", best(lambda: rows.T @ rows, repeats), d, 4, True),
        ("ssyrk", best(lambda: ssyrk(1.0, rows.T, c=single, lower=1, overwrite_c=1), repeats), d, 4,
         True),
    ]  # fmt: skip
    double = np.zeros((d, d), order="F")
    step = max(256, 2**22 // d)
    block = rows[:step].astype(np.float64)

    def update() -> None:
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            np.copyto(block[: len(part)], part)
            dsyrk(1.0, block[: len(part)].T, beta=1.0, c=double, lower=1, overwrite_c=1)

    return [*steps, ("dsyrk, rows converted", best(update, repeats), d, 8, True)]


def pass_steps(rows: np.ndarray, b: int, k: int, threads: int, repeats: int) -> list[Step]:
    """Time the steps of the other engines, and the projection."""
    d = rows.shape[1]
    rng = np.random.default_rng(0)
    V, W = np.linalg.qr(rng.standard_normal((d, b)))[0], rng.standard_normal((d, k))
    X = DataMatrix(rows, np.zeros(len(rows), np.int64), MPI.COMM_SELF)
    moments = Moments(X)
    single = CovariancePasses(X, moments, np.float32, threads)
    double = CovariancePasses(X, moments, np.float64, threads)
    v, w = V.astype(np.float32), W.astype(np.float32)
    Y = rows @ v
    product, certified = np.empty((d, b)), np.empty((d, k))
    steps: list[Step] = [
        (f"X V, {b} columns", best(lambda: rows @ v, repeats), b, 4, False),
        (f"Y'X, {b} columns", best(lambda: Y.T @ rows, repeats), b, 4, False),
        (f"float32 pass, {b} columns", best(lambda: single.mult_block(V, product), repeats), 2 * b,
         4, False),
        (f"certificate, {k} columns in double",
         best(lambda: double.mult_block(W, certified), repeats), 2 * k, 8, False),
        (f"projection, {k} columns", best(lambda: rows @ w, repeats), k, 4, False),
    ]  # fmt: skip
    X.destroy()
    return steps


if __name__ == "__main__":
    main()
