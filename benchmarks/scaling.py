"""Strong and weak scaling of a PCA: times of its stages, messages, and predicted limits.

    python benchmarks/scaling.py [--ranks 1 2 4] [--rows 50000 --features 3072 --k 50]
                                 [--data cifar10 --data-dir DATA] [--engine block] [--repeats 3]
                                 [--mpiexec "mpiexec --bind-to none"] [--page docs/scaling.md]
                                 [--alpha 1.5e-6 --bandwidth 12e9 --overhead 2e-6] [--note TEXT]

The script starts mpiexec once for each number of ranks, with one BLAS thread per rank. Times are
medians over the repeats, of the slowest rank, after a run that is not timed. Generated rows (a
power-law spectrum with noise, float32) do not depend on the number of ranks. In weak scaling every
rank has as many rows as in strong scaling on the most ranks. Prints tables, writes the runs with
--json and the page with --page. Nothing else should run on the machine; with more ranks than cores
the times measure the scheduler.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

from scaling_model import Network, Work
from scaling_page import measured_tables, page

JOBS = Path(__file__).resolve().parents[1] / "jobs"
STAGES = ("operator", "solve", "project")
BLOCK = 1000


def main() -> None:
    arguments = parsed()
    if arguments.worker:
        return worker(json.loads(arguments.worker))
    network = Network(arguments.alpha, arguments.bandwidth, arguments.overhead)
    ranks = sorted(set(arguments.ranks) | {1})
    task = {
        "rows": arguments.rows, "features": arguments.features, "k": arguments.k,
        "engine": arguments.engine, "repeats": arguments.repeats, "data": arguments.data,
        "data_dir": str(arguments.data_dir),
    }  # fmt: skip
    runs = {"strong": [], "weak": []}
    for P in ranks:
        runs["strong"].append(launched(arguments, task, P))
    first = runs["strong"][0]
    share = max(2, first["rows"] // ranks[-1])
    generated = task | {"data": "", "features": first["features"]}
    for P in ranks:
        runs["weak"].append(launched(arguments, generated | {"rows": share * P}, P))
    if arguments.json:
        arguments.json.write_text(json.dumps(runs, indent=1) + "\n")
    print(measured_tables(runs))
    if arguments.page:
        work, weak = work_of(first), work_of(runs["weak"][0])
        text = page(runs, work, weak, network, note=arguments.note)
        arguments.page.write_text(text)
        print(f"written: {arguments.page}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--ranks", type=int, nargs="+", default=[1, 2])
    add("--rows", type=int, default=50_000)
    add("--features", type=int, default=3072)
    add("--k", type=int, default=50)
    add("--data", choices=("", "mnist", "cifar10"), default="", help="instead of generated rows")
    add("--data-dir", type=Path, default=Path())
    add("--engine", default="block", help="as of hpcembed.PCA")
    add("--repeats", type=int, default=3)
    add("--mpiexec", default=shlex.quote(os.environ.get("MPIEXEC", "mpiexec")))
    add("--timeout", type=float, default=3600.0, help="seconds for one number of ranks")
    add("--json", type=Path)
    add("--page", type=Path)
    add("--note", default="", help="a line for the head of the page")
    defaults = Network()
    add("--alpha", type=float, default=defaults.alpha, help="seconds of a message")
    add("--bandwidth", type=float, default=defaults.bandwidth, help="bytes per second")
    add("--overhead", type=float, default=defaults.overhead, help="seconds a rank in a loop")
    add("--worker", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def launched(arguments: argparse.Namespace, task: dict, P: int) -> dict:
    """Run once under mpiexec."""
    command = [*shlex.split(arguments.mpiexec), "-n", str(P), sys.executable, __file__]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    print(f"{P} rank(s), {task['rows']} rows", file=sys.stderr, flush=True)
    done = subprocess.run(
        [*command, "--worker", json.dumps(task)],
        env=environment, capture_output=True, text=True, check=False, timeout=arguments.timeout,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{P} ranks: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def work_of(run: dict) -> Work:
    """Return the terms of the model from a run on one rank."""
    serial = min(run["projected_s"], run["other_s"])
    return Work(
        rows=run["rows"],
        features=run["features"],
        row_seconds=run["local_s"] + run["operator_s"] * run["assembled"] + run["project_s"],
        column_seconds=run["other_s"] - serial,
        serial_seconds=serial,
        widths=run["widths"],
        reductions=run["n_reductions"],
        reduction_bytes=run["reduction_bytes"],
        triangle_bytes=4.0 * run["features"] * (run["features"] + 1) * run["assembled"],
    )


# ---------------------------------------------------------------------------- under mpiexec


def worker(task: dict) -> None:
    import numpy as np
    from mpi4py import MPI

    from hpcembed.data.matrix import DataMatrix
    from hpcembed.embedding import PCA, _covariance
    from hpcembed.operators.covariance.covariance_passes import CovariancePasses

    comm = MPI.COMM_WORLD
    passes: list[tuple[int, float, float]] = []

    class Recorded(CovariancePasses):
        """Records columns, seconds and seconds without messages of each product."""

        def mult_block(self, V, product):
            comm.Barrier()
            began = time.perf_counter()
            self.local = 0.0
            super().mult_block(V, product)
            passes.append((V.shape[1], time.perf_counter() - began, self.local))

        def whole_product(self, V):
            began = time.perf_counter()
            product = super().whole_product(V)
            self.local = time.perf_counter() - began
            return product

    _covariance.CovariancePasses = Recorded
    rows = own_rows(task, comm)
    X = DataMatrix(rows, np.zeros(len(rows), np.int64), comm)
    n, d = X.n_rows, X.n_features
    samples: list[dict[str, float]] = []
    for _ in range(1 + task["repeats"]):
        passes.clear()
        began = stamp(comm)
        pca = PCA(task["k"], engine=task["engine"], n_threads=1).fit(X)
        fitted = stamp(comm)
        pca.transform(X, dtype=np.float32)
        done = stamp(comm)
        sample = {f"{stage}_s": pca.seconds_.get(stage, 0.0) for stage in STAGES[:2]}
        sample |= {
            "project_s": done - fitted,
            "passes_s": sum(one[1] for one in passes),
            "local_s": sum(one[2] for one in passes),
            "fit_s": fitted - began,
        }
        samples.append(slowest(comm, sample))
    found = {name: statistics.median(one[name] for one in samples[1:]) for name in samples[0]}
    result, assembled = pca.result_, pca.plan_.engine == "assembled"
    # an assembled covariance is formed within operator_s, where no products are recorded
    other = found["fit_s"] - found["passes_s"] - (found["operator_s"] if assembled else 0.0)
    sizes = [check.size for check in result.history]
    width = max((one[0] for one in passes), default=1)
    X.destroy()
    if comm.rank:
        return
    found |= {
        "ranks": comm.size, "rows": n, "features": d, "k": task["k"],
        "data": task["data"] or "generated", "engine": pca.plan_.engine, "assembled": assembled,
        "total_s": found["operator_s"] + found["solve_s"] + found["project_s"],
        "other_s": max(other, 0.0), "projected_s": projected_seconds(sizes),
        "widths": [one[0] for one in passes], "n_reductions": result.n_reductions,
        "reduction_bytes": 8.0 * width * (statistics.mean(sizes) if sizes else task["k"]),
        "n_restarts": result.n_restarts,
        "largest_residual": float(result.relative_residuals.max()),
    }  # fmt: skip
    print(json.dumps(found), flush=True)


def own_rows(task: dict, comm):
    """Return this rank's rows in float32."""
    import numpy as np

    from hpcembed.runtime.ranks import ownership_range

    if task["data"]:
        from hpcembed.data.reading import read_dataset
        from hpcembed.jobs.configuration import load_job

        config = load_job(JOBS / f"{task['data']}.toml").data
        rows = read_dataset(config, Path(task["data_dir"]), comm).train.rows
        return np.divide(rows, np.float32(255), dtype=np.float32)
    first, last = ownership_range(task["rows"], comm)
    d = task["features"]
    rank = max(1, min(200, d // 2))
    spectrum = 1.0 / np.arange(1, rank + 1)
    common = np.random.default_rng(0)
    Q = np.linalg.qr(common.standard_normal((d, rank)))[0]
    planted = (Q * np.sqrt(spectrum)).T.astype(np.float32)
    noise = np.float32(np.sqrt(0.1 * spectrum.sum() / d))
    rows = np.empty((last - first, d), dtype=np.float32)
    for block in range(first // BLOCK, -(-last // BLOCK)):
        rng = np.random.default_rng([1, block])  # the same block on any rank
        made = rng.standard_normal((BLOCK, rank), dtype=np.float32) @ planted
        made += noise * rng.standard_normal((BLOCK, d), dtype=np.float32)
        start = block * BLOCK
        low, high = max(first, start), min(last, start + BLOCK)
        rows[low - first : high - first] = made[low - start : high - start]
    return rows


def stamp(comm) -> float:
    """Return the time after a barrier."""
    comm.Barrier()
    return time.perf_counter()


def slowest(comm, sample: dict) -> dict:
    """Return the largest times over all ranks, which wait for the slowest one."""
    gathered = comm.allgather(sample)
    return {name: max(one[name] for one in gathered) for name in sample}


def projected_seconds(sizes: list[int]) -> float:
    """Return the seconds of the dense problems, which one rank solves for all."""
    import numpy as np

    taken = {}
    for m in set(sizes):
        A = np.random.default_rng(0).standard_normal((m, m))
        A += A.T
        began = time.perf_counter()
        np.linalg.eigh(A)
        taken[m] = time.perf_counter() - began
    return sum(taken[m] for m in sizes)


if __name__ == "__main__":
    main()
