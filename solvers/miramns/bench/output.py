"""Where the benchmark writes: a line per case while it runs, files in one folder, pictures last.

====================  ==============================================================
``records.jsonl``     a record per problem, method and k, written after each problem
``records.csv``       the same without lists
``tables.md``         tables, ratios, geometric means
``environment.json``  versions, ranks, threads
``profile-*.png``     performance profiles in products and in seconds
``course-*.png``      per problem and k: convergence, and sizes restarted from
====================  ==============================================================
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from mpi4py import MPI
from petsc4py import PETSc

from miramns.bench.figures import draw_course, draw_profiles
from miramns.bench.files import BenchError, agreed
from miramns.bench.records import Record, append_json, plain, write_csv
from miramns.bench.tables import markdown

__all__ = ["Results", "environment"]


def environment(comm: MPI.Comm) -> dict[str, object]:
    """Facts that the numbers depend on. Not collective."""
    facts: dict[str, object] = {"Python": platform.python_version(), "machine": platform.machine()}
    for name in ("petsc4py", "slepc4py", "numpy", "scipy", "primme"):
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    facts["MPI library"] = re.split(r"[,\n\x00]", MPI.Get_library_version())[0].strip()
    facts["PETSc"] = ".".join(map(str, PETSc.Sys.getVersion()))
    facts["PETSc integers"] = f"{8 * PETSc.IntType().itemsize} bits"
    facts["ranks"] = comm.size
    facts["cores"] = os.cpu_count()
    facts["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "not set")
    return facts


class Results:
    """Files of one run; rank 0 writes, all ranks call.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    cases : int
        How many records to expect.
    """

    def __init__(self, comm: MPI.Comm, folder: Path, cases: int) -> None:
        self.comm = comm
        self.folder = folder
        self.cases = cases
        self.records: list[Record] = []
        self._reported = 0

    def begin(self) -> None:
        """Make the folder. Collective.

        Raises
        ------
        BenchError
            When it cannot be made or holds results already.
        """

        def make() -> None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BenchError(f"--out {self.folder}: {error.strerror}") from error
            if (self.folder / "records.jsonl").exists():
                raise BenchError(f"--out {self.folder}: holds results already")
            text = json.dumps(plain(environment(self.comm)), indent=2)
            (self.folder / "environment.json").write_text(text + "\n", encoding="utf-8")

        agreed(self.comm, make)

    def progress(self, record: Record) -> None:
        """Print one line for a case. Rank 0 only."""
        self._reported += 1
        if self.comm.rank or record.status == "unfit":
            return
        cost = ""
        if record.n_matvec is not None:
            cost = f"{record.n_matvec:7d} products"
        if record.seconds is not None:
            cost += f" {record.seconds:9.3g} s"
        status = record.status + (f": {record.why}" if record.why else "")
        width = len(str(self.cases))
        print(
            f"[{self._reported:{width}d}/{self.cases}] {record.problem:28} k={record.k:<4d} "
            f"{record.method:24} {cost:27} {status}".rstrip(),
            flush=True,
        )

    def add(self, records: Sequence[Record]) -> None:
        """Write the records of one problem. Collective."""
        self.records += records
        agreed(self.comm, lambda: append_json(self.folder / "records.jsonl", records))

    def end(self, *, figures: bool) -> None:
        """Write tables and pictures. Collective.

        Raises
        ------
        BenchError
            When a file cannot be written, or matplotlib is missing.
        """
        agreed(self.comm, lambda: self._write(figures))

    def _write(self, figures: bool) -> None:
        write_csv(self.folder / "records.csv", self.records)
        text = markdown(self.records, environment(self.comm))
        (self.folder / "tables.md").write_text(text, encoding="utf-8")
        if figures:
            try:
                self._draw()
            except ImportError as error:
                raise BenchError(f"no pictures ({error}); --no-figures does without") from error
        print(f"results in {self.folder}", flush=True)

    def _draw(self) -> None:
        draw_profiles(self.folder / "profile-products.png", self.records, "n_matvec")
        draw_profiles(self.folder / "profile-seconds.png", self.records, "seconds")
        cases: dict[tuple[str, int], list[Record]] = {}
        for record in self.records:
            cases.setdefault((record.problem, record.k), []).append(record)
        for (problem, k), members in cases.items():
            name = re.sub(r"[^\w.]+", "-", problem).strip("-")
            draw_course(self.folder / f"course-{name}-k{k}.png", members)
