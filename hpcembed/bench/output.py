"""Where the benchmark writes: lines while it runs, files in one folder, the picture last.

====================  ==============================================================
``records.jsonl``     a record per table, k and method, written after each table
``records.csv``       the same without the single repeats
``table.md``          ratios, and a table for each
``environment.json``  versions, threads
``fit.png``, ``.svg`` seconds of fit as bars
====================  ==============================================================
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from petsc4py import PETSc
from threadpoolctl import threadpool_info

import hpcembed
from hpcembed.bench.figures import draw
from hpcembed.bench.records import Record, append_json, plain, write_csv
from hpcembed.bench.tables import markdown
from hpcembed.runtime.errors import InputError, OutputExistsError

__all__ = ["Results", "environment"]

_PACKAGES = (
    "numpy", "scipy", "scikit-learn", "scikit-learn-intelex", "torch", "heat", "petsc4py",
    "slepc4py",
)  # fmt: skip


def environment(threads: int) -> dict[str, object]:
    """Facts that the numbers depend on."""
    facts: dict[str, object] = {
        "hpcembed": hpcembed.__version__,
        "Python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
    }
    for name in _PACKAGES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    facts["PETSc"] = ".".join(map(str, PETSc.Sys.getVersion()))
    pools = [info for info in threadpool_info() if info["user_api"] == "blas"]
    facts["BLAS"] = "; ".join(
        f"{info['internal_api']} {info['version']} ({info.get('architecture') or '?'}, "
        f"{info['num_threads']} threads)"
        for info in pools
    )
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


class Results:
    """Files of one run.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    threads : int
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder = folder
        self.threads = threads
        self.records: list[Record] = []

    def begin(self) -> None:
        """Make the folder.

        Raises
        ------
        InputError, OutputExistsError
            When it cannot be made or holds results already.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {self.folder}: {error.strerror}") from error
        if (self.folder / "records.jsonl").exists():
            raise OutputExistsError(f"--out {self.folder}: holds results already")

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)

    def progress(self, record: Record) -> None:
        """Print one line for a case."""
        if record.status == "unfit":
            return
        cost = ""
        if record.fit_s is not None:
            cost = f"fit {record.fit_s:.3g} s"
        if record.transform_s is not None:
            cost += f", transform {record.transform_s:.3g} s"
        quality = ""
        if record.fit_s is None and record.deficit is not None:
            quality = f"1 - captured {record.deficit:.1e}, residual {record.residual:.1e}"
        status = record.status + (f": {record.why}" if record.why else "")
        print(
            f"  k={record.k:<4d} {record.method:22} {cost or quality:40} {status}".rstrip(),
            flush=True,
        )

    def add(self, records: Sequence[Record]) -> None:
        """Write the records of one table."""
        self.records += records
        append_json(self.folder / "records.jsonl", records)

    def end(self, *, figures: bool) -> None:
        """Write tables and pictures."""
        facts = environment(self.threads)
        text = json.dumps(plain(facts), indent=2) + "\n"
        (self.folder / "environment.json").write_text(text, encoding="utf-8")
        write_csv(self.folder / "records.csv", self.records)
        (self.folder / "table.md").write_text(markdown(self.records, facts), encoding="utf-8")
        if figures:
            draw(self.folder, self.records)
        self.say(f"results in {self.folder}")
