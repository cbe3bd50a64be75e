"""Rate of the compiled pass X'(X V), compared with numpy and with the symmetric update of BLAS.

    OPENBLAS_THREAD_TIMEOUT=20 python benchmarks/compiled_passes.py
        [--shapes 20000x3072 60000x784] [--columns 8 16 32 64] [--threads 2] [--repeats 5]

Without the variable, waiting threads of OpenBLAS take the cores of the compiled pass.

For each shape, type of the stored rows, precision and number of columns: the GFLOP/s of the
compiled pass, of the same pass by numpy, and of the update X'X (ssyrk, dsyrk; one triangle is
counted), the practical peak of the machine. The three run in turn; medians of the repeats. A pass
is refused if its result differs from numpy in double precision by more than its rounding. Nothing
else should run on the machine. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from statistics import median

import numpy as np
from mpi4py import MPI
from scipy.linalg.blas import dsyrk, ssyrk
from threadpoolctl import threadpool_limits

from hpcembed.data.matrix import DataMatrix
from hpcembed.operators.covariance.covariance_passes import CovariancePasses, Moments
from hpcembed.runtime.machine.native_library import instruction_set
from hpcembed.runtime.machine.threads import available_cores
from miramns.bench.harness.tables import markdown_table

#: stored type, precision of the products, allowed error relative to the largest entry
CASES = (
    ("float32", np.float32, 1e-5),
    ("uint8", np.float32, 1e-5),
    ("float32", np.float64, 1e-12),
    ("float64", np.float64, 1e-12),
)

#: Rows of the update that measures the peak.
UPDATE_ROWS = 4096


def main() -> None:
    arguments = parsed()
    threads = arguments.threads or len(available_cores())
    if instruction_set() is None:
        sys.exit("hpcembed was built without compiled products: install a C compiler, reinstall")
    headings = ("rows", "stored", "precision", "columns", "compiled", "numpy", "update",
                "compiled / numpy", "compiled / update")  # fmt: skip
    table = []
    with threadpool_limits(threads):
        for shape in arguments.shapes:
            n, d = map(int, shape.split("x"))
            for stored, precision, tol in CASES:
                rows = generated(n, d, stored)
                for columns in arguments.columns:
                    rates = measured(rows, precision, tol, columns, threads, arguments.repeats)
                    compiled, plain, update = rates
                    table.append(
                        (shape, stored, np.dtype(precision).name, columns,
                         *(f"{rate / 1e9:.0f}" for rate in rates),
                         f"{compiled / plain:.2f}", f"{compiled / update:.2f}")
                    )  # fmt: skip
    print(f"GFLOP/s with {threads} threads, compiled for {instruction_set()}\n")
    print("\n".join(markdown_table(headings, table)))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--shapes", nargs="+", default=["20000x3072", "60000x784"], metavar="NxD")
    add("--columns", nargs="+", type=int, default=[8, 16, 32, 64])
    add("--threads", type=int, default=0, help="default: all cores")
    add("--repeats", type=int, default=5)
    return parser.parse_args()


def generated(n: int, d: int, stored: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if stored == "uint8":
        return rng.integers(0, 256, (n, d), dtype=np.uint8)
    return rng.normal(size=(n, d)).astype(stored)


def measured(
    rows: np.ndarray, precision: type, tol: float, columns: int, threads: int, repeats: int
) -> tuple[float, float, float]:
    """Return the flops per second of the compiled pass, of numpy's, and of the update."""
    n, d = rows.shape
    X = DataMatrix(rows, np.zeros(n, np.int64), MPI.COMM_SELF, storage="shell")
    V = np.random.default_rng(1).normal(size=(d, columns))
    moments = Moments(X)
    exact = passes_of(X, moments, np.float64, threads, compiled=False)
    exact.whole_product(V)  # completes the moments
    runs = {
        name: passes_of(X, moments, precision, threads, compiled=name == "compiled")
        for name in ("compiled", "numpy")
    }
    expected = exact.whole_product(V)
    for name, passes in runs.items():
        error = np.abs(passes.whole_product(V) - expected).max() / np.abs(expected).max()
        if error > tol:
            sys.exit(f"the pass by {name} is wrong: relative error {error:.1e}")
    part = np.asfortranarray(rows[:UPDATE_ROWS].T, dtype=precision)
    update = ssyrk if precision == np.float32 else dsyrk
    seconds: dict[str, list[float]] = {"compiled": [], "numpy": [], "update": []}
    for _ in range(repeats):
        for name, passes in runs.items():
            seconds[name].append(time_of(lambda passes=passes: passes.whole_product(V)))
        seconds["update"].append(time_of(lambda: update(1.0, part)))
    flops = 4.0 * n * d * columns
    return (
        flops / median(seconds["compiled"]),
        flops / median(seconds["numpy"]),
        float(part.shape[1]) * d * d / median(seconds["update"]),
    )


def passes_of(
    X: DataMatrix, moments: Moments, precision: type, threads: int, *, compiled: bool
) -> CovariancePasses:
    """Return the passes over the rows, by compiled code or by numpy."""
    os.environ["HPCEMBED_NATIVE"] = "" if compiled else "none"
    try:
        return CovariancePasses(X, moments, precision, threads)
    finally:
        del os.environ["HPCEMBED_NATIVE"]


def time_of(run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
