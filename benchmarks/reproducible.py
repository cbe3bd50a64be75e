"""Price of the reproducible mode: fit and projection with and without it, in pairs.

    mpiexec -n 2 python benchmarks/reproducible.py --data-dir DATA [--data mnist cifar10]
                                                   [--types uint8 float32] [--k 50] [--pairs 5]

Each pair is a fit of PCA and the projection of the training rows without and then with
``SolverSettings(reproducible=True)``, on the same ranks with one thread of BLAS each. The table has
the medians, and the median of the ratios of the pairs. Short integers have exact sums in both
modes; float32 rows are squared in single precision without the mode and in double precision with
it.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
from mpi4py import MPI

from hpcembed.data.matrix import DataMatrix
from hpcembed.data.reading import read_dataset
from hpcembed.embedding import PCA, SolverSettings
from hpcembed.jobs.configuration import load_job
from hpcembed.runtime.machine.threads import one_blas_thread
from hpcembed.runtime.ranks import timed
from miramns.bench.harness.tables import markdown_row, markdown_table

JOBS = Path(__file__).resolve().parents[1] / "jobs"
COLUMNS = ("data", "rows", "k", "fit, s", "reproducible, s", "ratio", "projection, s", "", "ratio")


def pair(X: DataMatrix, k: int) -> dict[str, float]:
    """Return the seconds of both modes on the slowest rank."""
    seconds: dict[str, float] = {}
    for mode in (False, True):
        pca = PCA(k, n_threads=1, solver=SolverSettings(reproducible=mode))
        with timed(X.comm, seconds, f"fit {mode}"):
            pca.fit(X)
        with timed(X.comm, seconds, f"project {mode}"):
            pca.transform(X, np.float32)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--data", nargs="+", default=["mnist", "cifar10"])
    parser.add_argument("--types", nargs="+", default=["uint8", "float32"])
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    comm = MPI.COMM_WORLD
    if comm.rank == 0:
        print("\n".join(markdown_table(list(COLUMNS), [])), flush=True)
    for name in arguments.data:
        settings = load_job(JOBS / f"{name}.toml").data
        table = read_dataset(settings, arguments.data_dir, comm).train
        for kind in arguments.types:
            X = DataMatrix(table.rows.astype(kind, copy=False), table.label_array, comm)
            with one_blas_thread():
                pairs = [pair(X, arguments.k) for _ in range(arguments.pairs)]
            cells = [name, kind, arguments.k]
            for step in ("fit", "project"):
                without, with_it = ([one[f"{step} {m}"] for one in pairs] for m in (False, True))
                ratios = [b / a for a, b in zip(without, with_it, strict=True)]
                cells += [f"{statistics.median(part):.2f}" for part in (without, with_it, ratios)]
            if comm.rank == 0:
                print(markdown_row(cells), flush=True)
            X.destroy()


if __name__ == "__main__":
    main()
