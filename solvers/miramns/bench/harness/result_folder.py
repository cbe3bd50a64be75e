"""Folder of the results of one benchmark, written while it runs.

====================  ==============================================================
``records.jsonl``     one record for each problem, method and k, added after each problem
``records.csv``       the same without lists
a Markdown file       tables, with the facts of the environment
``environment.json``  versions, processor, ranks, threads
figures               if they are requested
====================  ==============================================================
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Generic

from mpi4py import MPI
from petsc4py import PETSc

from miramns.bench.harness.records import R, append_json_lines, json_value, write_csv
from miramns.bench.harness.root_rank import BenchError, on_root_rank


class ResultFolder(Generic[R]):
    """Files of one benchmark; rank 0 writes.

    Collective.

    Parameters
    ----------
    comm : MPI.Comm
    folder : Path
        Created if it does not exist.
    environment : callable
        Returns the facts of the environment.

    Raises
    ------
    BenchError
        If the folder cannot be created or already contains results.
    """

    def __init__(
        self, comm: MPI.Comm, folder: Path, environment: Callable[[], Mapping[str, object]]
    ) -> None:
        self.comm = comm
        self.folder = folder
        self.environment = environment
        self.records: list[R] = []
        on_root_rank(comm, self._create)

    def _create(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BenchError(f"--out {self.folder}: {error.strerror}") from error
        for name in ("records.jsonl", "records.csv", "environment.json"):
            if (self.folder / name).exists():
                raise BenchError(f"--out {self.folder}: contains results already: {name}")
        try:
            # In one step, so that only one of several benchmarks with the same folder goes on.
            (self.folder / "records.jsonl").open("x").close()
        except FileExistsError as error:
            raise BenchError(f"--out {self.folder}: another benchmark writes there") from error
        except OSError as error:
            raise BenchError(f"--out {self.folder}: {error.strerror}") from error
        self._write_environment()

    def _write_environment(self) -> Mapping[str, object]:
        facts = self.environment()
        text = json.dumps(json_value(dict(facts)), indent=2)
        (self.folder / "environment.json").write_text(text + "\n", encoding="utf-8")
        return facts

    def add(self, records: Sequence[R]) -> None:
        """Write the records of one problem. Collective."""
        self.records += records
        path = self.folder / "records.jsonl"
        on_root_rank(self.comm, lambda: append_json_lines(path, records))

    def finish(
        self,
        tables_name: str,
        tables: Callable[[Sequence[R], Mapping[str, object]], str],
        draw: Callable[[Path, Sequence[R]], object] | None,
    ) -> None:
        """Write the tables and figures.

        Collective.

        Parameters
        ----------
        tables_name : str
            Name of the Markdown file.
        tables : callable
            Returns its text, from the records and the facts of the environment.
        draw : callable or None
            Draws the figures of the records in the folder.

        Raises
        ------
        BenchError
            If a file cannot be written, or matplotlib is missing.
        """

        def write() -> None:
            write_csv(self.folder / "records.csv", self.records)
            text = tables(self.records, self._write_environment())
            (self.folder / tables_name).write_text(text, encoding="utf-8")
            if draw:
                try:
                    draw(self.folder, self.records)
                except ImportError as error:
                    raise BenchError(f"no figures ({error}); use --no-figures") from error
            print(f"results in {self.folder}", flush=True)

        on_root_rank(self.comm, write)


def machine_facts(packages: Sequence[str]) -> dict[str, object]:
    """Return the processor, the number of cores, and the versions of PETSc and of packages."""
    facts: dict[str, object] = {
        "Python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }
    for name in packages:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    facts["PETSc"] = ".".join(map(str, PETSc.Sys.getVersion()))
    return facts


def _processor() -> str:
    """Return the processor's name, or the type of machine where the system does not name it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
