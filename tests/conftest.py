"""Fixtures for serial tests and tests inside an MPI job.

* Tests marked ``mpi`` run inside a job of 1, 2 and 3 ranks (see ``make test``); they take ``comm``.
* Tests marked ``launch`` start MPI jobs themselves: see ``support/launching.py``.
* Tests marked ``slow`` are left out of ``make check``.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path

import pytest

from real_data import DATA

pytest_plugins = ["launching"]

# Tables of commands are as wide as they are, whatever the width of this terminal.
os.environ["COLUMNS"] = "200"

#: Number of ranks requested from the launcher; 0 in a serial run.
RANKS = int(os.environ.get("HPCEMBED_TEST_RANKS", "0"))


@pytest.hookimpl(trylast=True)  # after the terminal reporter is there
def pytest_configure(config: pytest.Config) -> None:
    if RANKS:
        from mpi4py import MPI

        if MPI.COMM_WORLD.size != RANKS:
            pytest.exit(f"asked for {RANKS} ranks, got {MPI.COMM_WORLD.size}: foreign mpiexec?", 4)
        # pytest deletes old temporary folders, so each rank needs a root of its own.
        root = Path(tempfile.gettempdir()) / f"hpcembed-tests-{os.getuid()}"
        root /= f"rank-{MPI.COMM_WORLD.rank}"
        root.mkdir(parents=True, exist_ok=True)
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(root)
        if MPI.COMM_WORLD.rank:
            reporter = config.pluginmanager.get_plugin("terminalreporter")
            reporter._tw._file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if RANKS > 1 and report.failed:
        from mpi4py import MPI

        rank = MPI.COMM_WORLD.rank
        if rank:
            sys.stderr.write(f"[rank {rank}] {report.nodeid}\n{report.longreprtext}\n")
            sys.stderr.flush()


@pytest.fixture(autouse=True)
def restored_loggers():
    """Undo what the command line does to the loggers: its stream ends with the test."""
    loggers = [logging.getLogger(name) for name in ("hpcembed", "miramns")]
    before = [(each.handlers, each.level, each.propagate) for each in loggers]
    yield
    for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)


@pytest.fixture
def comm():
    """World communicator of the running job; it has one rank in a serial run."""
    from mpi4py import MPI

    return MPI.COMM_WORLD


@pytest.fixture
def shared_tmp(tmp_path: Path) -> Path:
    """One temporary folder for all ranks."""
    if not RANKS:
        return tmp_path
    from mpi4py import MPI

    return MPI.COMM_WORLD.bcast(tmp_path)


@pytest.fixture
def data_dir() -> Path:
    """Folder of the real data sets; the test is skipped if it is missing."""
    if not DATA.is_dir():
        pytest.skip("no data folder (set HPCEMBED_TEST_DATA)")
    return DATA
