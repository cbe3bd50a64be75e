"""Time of checkpoints: the same computation without them and with them, in turn.

    [mpiexec -n 2] python benchmarks/checkpoints.py cifar10 graph [--data-dir DATA] [-k K]
                      [--nodes 300000] [--edges 3000000] [--repeats 5] [--folder FOLDER]

cifar10: PCA of 50,000 images with k = 50 components; the sums of the covariance or the states of
the solver are saved, depending on the engine (--engine). graph: the k = 32 largest eigenpairs of
D^-1/2 A D^-1/2 on the largest component of a random graph. DATA contains cifar10/.

Each repeat runs four times: without checkpoints, with checkpoints at the default interval, with
one after 50 times the seconds of a checkpoint, and with one at each opportunity (between two nested
sizes, or two parts of the rows). A checkpoint at each opportunity shows the seconds of one. The
default interval is a minute or 50 times these seconds, so a run of less than a minute writes
nothing by default; the third way shows the cost of the largest share, 2 %. The
folder should be on the file system of real jobs; nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from hpcembed.runtime.machine.memory import format_bytes
from miramns.checkpointing import CheckpointStore

#: Ways to run: no checkpoints, the default interval, the largest share of it, each opportunity.
WAYS = ("without", "default", "2 %", "each")


@dataclass
class Times:
    """Measurements of one way to run."""

    seconds: list[float] = field(default_factory=list)
    writing: list[float] = field(default_factory=list)
    written: int = 0
    size: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="+", choices=("cifar10", "graph"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("-k", type=int, default=0, help="default: 50 for images, 32 for the graph")
    parser.add_argument("--engine", default="auto", help="as of hpcembed.PCA")
    parser.add_argument("--nodes", type=int, default=300_000)
    parser.add_argument("--edges", type=int, default=3_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where temporary checkpoints are written")
    arguments = parser.parse_args()
    if "cifar10" in arguments.what and arguments.data_dir is None:
        parser.error("set --data-dir to the folder that contains cifar10/")
    for what in arguments.what:
        compare({"cifar10": images, "graph": graph}[what](arguments), arguments)


def images(arguments: argparse.Namespace) -> Callable[[Any], Any]:
    from hpcembed.data.matrix import DataMatrix
    from hpcembed.embedding import PCA, SolverSettings
    from hpcembed.runtime.ranks import ownership_range

    comm = MPI.COMM_WORLD
    files = sorted((arguments.data_dir / "cifar10").glob("data_batch_*.bin"))
    records = np.concatenate([np.fromfile(file, np.uint8).reshape(-1, 3073) for file in files])
    first, last = ownership_range(len(records), comm)
    rows = np.ascontiguousarray(records[first:last, 1:])
    X = DataMatrix(rows, np.zeros(len(rows), int), comm)
    k = arguments.k or 50
    report(f"cifar10: {len(records)} x {rows.shape[1]}, k = {k}, engine {arguments.engine}")

    def fit(store: CheckpointStore | None) -> Any:
        return PCA(k, engine=arguments.engine, solver=SolverSettings(checkpoint=store)).fit(X)

    return fit


def graph(arguments: argparse.Namespace) -> Callable[[Any], Any]:
    from hpcembed.data.graphs.graph import GraphOptions
    from hpcembed.data.graphs.power_law import power_law_graph
    from hpcembed.embedding import SolverSettings, SpectralEmbedding

    options = GraphOptions(duplicates="once", components="largest")
    made = power_law_graph(arguments.nodes, arguments.edges, MPI.COMM_WORLD, options=options)
    k = arguments.k or 32
    report(f"graph: {made.describe()}, k = {k}")

    def fit(store: CheckpointStore | None) -> Any:
        settings = SolverSettings(checkpoint=store)
        return SpectralEmbedding(
            k, operator="normalized", drop_first=False, tol=1e-6, solver=settings
        ).fit(made)

    return fit


def compare(fit: Callable[[Any], Any], arguments: argparse.Namespace) -> None:
    """Run all ways in turn, refuse different answers, and print the times. Collective."""
    comm = MPI.COMM_WORLD
    fit(None)  # the first run includes set-ups
    times = {way: Times() for way in WAYS}
    trial = Times()
    timed(fit, trial, "each", 0.0, arguments.folder)
    share = comm.bcast(50 * trial.writing[0] / max(trial.written, 1))
    intervals = {"without": None, "default": None, "2 %": share, "each": 0.0}
    report(f"  2 %: a checkpoint every {share:.1f} s")
    values = None
    for _ in range(arguments.repeats):
        for way, every in intervals.items():
            found = timed(fit, times[way], way, every, arguments.folder)
            values = found if values is None else values
            difference = float(np.abs(found - values).max() / np.abs(values).max())
            if difference > 1e-6:
                raise SystemExit(f"{way}: eigenvalues differ by {difference:.1e}")
    if comm.rank == 0:
        print_times(times)


def timed(
    fit: Callable[[Any], Any], times: Times, way: str, every: float | None, parent: Path | None
) -> Any:
    """Run once, and return the eigenvalues. Collective."""
    comm = MPI.COMM_WORLD
    with tempfile.TemporaryDirectory(dir=parent) as own:
        folder = Path(comm.bcast(own), "checkpoints")
        comm.Barrier()
        began = time.perf_counter()
        if way == "without":
            found = fit(None)
        else:
            with CheckpointStore(folder, {}, comm, every=every) as store:
                found = fit(store)
        times.seconds.append(comm.allreduce(time.perf_counter() - began, op=MPI.MAX))
        if way != "without":
            times.writing.append(store.clock.seconds)
            times.written = store.clock.n_written
        if comm.rank == 0 and way == "each":
            newest = [max(one.iterdir()) for one in folder.iterdir() if one.is_dir()]
            times.size = max(sum(f.stat().st_size for f in one.iterdir()) for one in newest)
        comm.Barrier()
    return np.asarray(found.eigenvalues_)


def print_times(times: dict[str, Times]) -> None:
    base = times["without"].seconds
    for way, of_way in times.items():
        ratios = [b / a for a, b in zip(base, of_way.seconds, strict=True)]
        listed = ", ".join(f"{one:.2f}" for one in of_way.seconds)
        print(
            f"  {way:8} {statistics.median(of_way.seconds):8.2f} s ({listed})  "
            f"{of_way.written} checkpoints, of the time without "
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )
    each = times["each"]
    if each.written:
        one = statistics.median(each.writing) / each.written
        interval = max(60.0, 50 * one)
        print(
            f"  a checkpoint: {one:.3f} s, the largest {format_bytes(each.size)}; "
            f"at the default interval of {interval:.0f} s {100 * one / (interval + one):.2f} %"
        )


def report(line: str) -> None:
    if MPI.COMM_WORLD.rank == 0:
        print(line)


if __name__ == "__main__":
    main()
