#!/usr/bin/env python3
"""Solve, fit and train in one process for a long time, and measure what grows.

Usage: [mpiexec -n N] python scripts/soak.py [--minutes M] [--jobs J] [--out FILE.json]

One cycle solves an eigenvalue problem with each variant, fits estimators with different engines,
trains a network on gathered rows and one data-parallel, puts rows into shared memory, studies with
a temporary folder, and raises an error on one rank that all ranks agree on. After each cycle these
are counted on every rank: resident memory (after malloc has given back what is free), open files,
threads, PETSc objects, and communicators of MPI. The first third of the cycles (at least 3) is the
warm-up. After it, no count may grow, and the memory may grow by at most `--growth` per cent (1),
between the medians of the first and of the last quarter of the remaining cycles.

Each cycle works on a duplicate of the world communicator, which it frees: a PETSc object that is
left keeps PETSc's own duplicate of it. Communicators are counted by creating duplicates and reading
the lowest number that the library gives them (Open MPI: in the name; MPICH: the handle). The number
of a freed communicator is given again, so only communicators that are left raise it.

Exit status: 0 if nothing grows, 1 if something does.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import petsc4py

# PETSc then keeps a list of its objects, and prints at the end the ones that are left.
petsc4py.init(["-objects_dump", "-options_left", "no"])
from mpi4py import MPI  # noqa: E402
from petsc4py import PETSc  # noqa: E402

import hpcembed  # noqa: E402
import miramns  # noqa: E402
from hpcembed.cli import main  # noqa: E402
from hpcembed.networks.training.data_parallel.training import train_data_parallel  # noqa: E402
from hpcembed.networks.training.gathered_training import train_classifier  # noqa: E402
from hpcembed.networks.training.recipe import Recipe  # noqa: E402
from hpcembed.networks.training.samples import Samples  # noqa: E402
from hpcembed.runtime.agreement import agreement  # noqa: E402
from hpcembed.runtime.errors import ConfigError  # noqa: E402
from hpcembed.runtime.shared_rows import SharedRows  # noqa: E402

N_FEATURES, N_CLASSES, ROWS = 40, 4, 400
EPOCHS = Recipe(epochs=2, batch_size=50)


def rows_of(rank: int) -> tuple[Any, Any]:
    """Return the rows of a rank, and their labels."""
    random = np.random.default_rng(rank)
    labels = np.arange(ROWS) % N_CLASSES
    centres = 3.0 * np.eye(N_CLASSES, N_FEATURES)
    return random.standard_normal((ROWS, N_FEATURES)) + centres[labels], labels


# ------------------------------------------------------------------------- the steps of a cycle


def solve(comm: MPI.Intracomm) -> None:
    """Eigenpairs of an assembled matrix and of a matrix-free operator, with each variant."""
    n = 200
    A = PETSc.Mat().createAIJ((n, n), nnz=3, comm=comm)
    first, last = A.getOwnershipRange()
    for i in range(first, last):
        for j in (i - 1, i, i + 1):
            if 0 <= j < n:
                A[i, j] = i + 1.0 if i == j else -1.0
    A.assemble()
    for variant in ("default", "block", "published"):
        result = miramns.solve(A, k=4, hermitian=True, variant=variant, max_it=200)
        assert result.n_converged == 4, (variant, result.reason)
        result.eigenvectors.destroy() if hasattr(result.eigenvectors, "destroy") else None
    A.destroy()


def fit(comm: MPI.Intracomm) -> None:
    """Estimators with each engine, and their projections."""
    X, _ = rows_of(comm.rank)
    for engine in ("assembled", "matrix_free", "block"):
        pca = hpcembed.PCA(5, engine=engine)
        pca.fit(X, comm=comm)
        assert pca.transform(X).shape == (ROWS, 5)
    hpcembed.KernelPCA(3).fit(X[:60], comm=comm)
    hpcembed.TruncatedSVD(3).fit(X, comm=comm)


def train(comm: MPI.Intracomm) -> None:
    """A network on gathered rows, and one data-parallel over gloo."""
    samples = Samples(*rows_of(comm.rank))
    common: dict[str, Any] = {"input_name": "full", "threads": 1}
    train_classifier(samples, samples, N_CLASSES, (8,), EPOCHS, **common)
    train_data_parallel(samples, samples, N_CLASSES, (8,), EPOCHS, comm, **common)


def share(comm: MPI.Intracomm) -> None:
    """Rows in memory that the ranks of a compute node share."""
    shared = SharedRows(comm, rows_of(comm.rank)[0])
    assert shared.array.shape[0] == ROWS * comm.size
    shared.destroy()


def study(comm: MPI.Intracomm) -> None:
    """A study from Python, with its temporary folder."""
    X, y = rows_of(comm.rank)
    hpcembed.study(
        X,
        y,
        dimensions=[2],
        networks=[(4,)],
        seeds=2,
        margin=50.0,
        comm=comm,
        task="classification",
    )


def fail(comm: MPI.Intracomm) -> None:
    """An error of one rank alone, which all ranks raise."""
    try:
        with agreement(comm):
            if comm.rank == comm.size - 1:
                raise ConfigError("an error on purpose")
    except ConfigError:
        return
    raise AssertionError("not raised")


STEPS: tuple[Callable[[MPI.Intracomm], None], ...] = (solve, fit, train, share, study, fail)


# -------------------------------------------------------------------------- what may not grow


def resident_bytes() -> int:
    """Return the resident memory of this process without the memory that malloc keeps free."""
    with contextlib.suppress(AttributeError):  # of glibc
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def communicators() -> int:
    """Return a number that rises with the number of communicators that were not freed."""
    made = [MPI.COMM_WORLD.Dup() for _ in range(4)]
    numbers = [_context(one) for one in made]
    for one in made:
        one.Free()
    return min(numbers)


def _context(comm: MPI.Comm) -> int:
    numbers = [int(word) for word in comm.Get_name().split() if word.isdigit()]
    return numbers[0] if numbers else comm.py2f() & 0x3FFFFFFF


class PetscObjects:
    """Counts PETSc's objects by its own list of them, which it writes to a file."""

    def __init__(self) -> None:
        self.petsc = ctypes.CDLL(PETSc.__file__)
        self.libc = ctypes.CDLL(None)
        self.libc.fopen.restype = ctypes.c_void_p
        self.petsc.PetscObjectsDump.argtypes = [ctypes.c_void_p, ctypes.c_int]

    def count(self) -> int:
        """Return the number of objects of this rank."""
        with tempfile.NamedTemporaryFile() as file:
            stream = self.libc.fopen(file.name.encode(), b"w")
            self.petsc.PetscObjectsDump(stream, 1)
            self.libc.fclose(ctypes.c_void_p(stream))
            return sum(line.startswith("[") for line in Path(file.name).read_text().splitlines())


def counts(objects: PetscObjects) -> dict[str, int]:
    """Return the counts of this rank, with the garbage of PETSc. Collective."""
    gc.collect()
    return {
        "resident": resident_bytes(),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "communicators": communicators(),
        "petsc": objects.count(),
    }


def growth(series: list[dict[str, int]]) -> dict[str, float]:
    """Return the growth of each count after the warm-up; of the resident memory in per cent."""
    steady = series[min(len(series) - 2, max(3, len(series) // 3)) :]
    quarter = max(1, len(steady) // 4)
    grown = {}
    for name in steady[0]:
        before = statistics.median(one[name] for one in steady[:quarter])
        after = statistics.median(one[name] for one in steady[-quarter:])
        grown[name] = 100 * (after / before - 1) if name == "resident" else after - before
    return grown


# ------------------------------------------------------------------------------------ the soak


def repeat(
    title: str, step: Callable[[], None], goes_on: Callable[[int], bool], most: float
) -> dict[str, Any]:
    """Repeat a step, measure after each time, and report. Collective."""
    world, objects = MPI.COMM_WORLD, PetscObjects()
    series: list[dict[str, int]] = []
    began = shown = time.monotonic()
    while world.bcast(goes_on(len(series))):
        step()
        series.append(counts(objects))
        if world.rank == 0 and time.monotonic() > shown + 30:
            shown = time.monotonic()
            now = {**series[-1], "resident": f"{series[-1]['resident'] / 2**20:.1f} MiB"}
            print(f"{title} {len(series)}, {shown - began:.0f} s: {now}", flush=True)
    grown = growth(series)
    passes = all(value <= (most if name == "resident" else 0) for name, value in grown.items())
    ranks = world.gather({"growth": grown, "first": series[0], "last": series[-1]})
    return {
        "title": title,
        "cycles": len(series),
        "seconds": round(time.monotonic() - began, 1),
        "passes": world.allreduce(passes, op=MPI.LAND),
        "ranks": ranks,
        "resident_of_rank_0": [one["resident"] for one in series][:: max(1, len(series) // 60)],
    }


def cycle() -> None:
    """All steps on a communicator of their own. Collective."""
    comm = MPI.COMM_WORLD.Dup()
    for step in STEPS:
        step(comm)
    comm.Free()


def small_job(folder: Path) -> None:
    """A whole job from its TOML file to its output folder, as from the command line. Collective."""
    world = MPI.COMM_WORLD
    out = Path(world.bcast(tempfile.mkdtemp(dir=folder) if world.rank == 0 else None))
    job = Path(__file__).parents[1] / "jobs" / "digits.toml"
    settings = ("embedding.n_components=5", "training.epochs=1")
    words = ["run", str(job), "--out", str(out / "run")]
    for one in settings:
        words += ["--set", one]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = main(words)
    assert status == 0, status
    if world.rank == 0:
        shutil.rmtree(out)


def show(result: dict[str, Any]) -> None:
    """Print the growth on each rank."""
    state = "nothing grows" if result["passes"] else "GROWS"
    print(f"{result['title']}: {result['cycles']} in {result['seconds']} s: {state}")
    for rank, one in enumerate(result["ranks"]):
        first, last = (one[when]["resident"] / 2**20 for when in ("first", "last"))
        others = {name: value for name, value in one["growth"].items() if name != "resident"}
        print(
            f"  rank {rank}: {first:.1f} MiB after the first, {last:.1f} MiB at the end, "
            f"{one['growth']['resident']:+.2f} % after the warm-up; {others}",
            flush=True,
        )


def soak() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description="Solve, fit and train for a long time.")
    parser.add_argument("--minutes", type=float, default=30, help="of cycles (default: 30)")
    parser.add_argument("--jobs", type=int, default=100, help="small jobs in a row (default: 100)")
    parser.add_argument("--growth", type=float, default=1.0, help="per cent of memory (default: 1)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    world, results = MPI.COMM_WORLD, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(world.bcast(name))
        if options.jobs:
            results.append(
                repeat(
                    "jobs", lambda: small_job(folder), lambda n: n < options.jobs, options.growth
                )
            )
        world.Barrier()
    end = time.monotonic() + 60 * options.minutes
    if options.minutes:
        results.append(
            repeat("cycles", cycle, lambda n: n < 5 or time.monotonic() < end, options.growth)
        )
    if world.rank == 0:
        for result in results:
            show(result)
        if options.out:
            options.out.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if all(result["passes"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(soak())
