"""Fixtures for serial tests, tests inside an MPI job, and tests that start MPI jobs.

* Tests marked ``mpi`` run inside a job of 1, 2 and 3 ranks (see ``make test``); they take ``comm``.
* Tests marked ``launch`` start ``mpiexec`` themselves, through ``run_mpi``, with a timeout.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

#: Number of ranks that the launcher was asked for; absent in a serial run.
RANKS = int(os.environ.get("HPCEMBED_TEST_RANKS", "0"))
DATA = Path(os.environ.get("HPCEMBED_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.hookimpl(trylast=True)  # after the terminal reporter is there
def pytest_configure(config: pytest.Config) -> None:
    if RANKS:
        from mpi4py import MPI

        if MPI.COMM_WORLD.size != RANKS:
            pytest.exit(f"asked for {RANKS} ranks, got {MPI.COMM_WORLD.size}: foreign mpiexec?", 4)
        # A root of its own: pytest tidies up old folders, which the other ranks would trip over.
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


@pytest.fixture
def comm():
    """COMM_WORLD of the running job; one rank in a serial run."""
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
    """The folder with the real data sets; the test is skipped where there is none."""
    if not DATA.is_dir():
        pytest.skip("no data folder (set HPCEMBED_TEST_DATA)")
    return DATA


@dataclass(frozen=True)
class Finished:
    """What an MPI job left."""

    status: int
    out: str
    err: str


def _clean_environment() -> dict[str, str]:
    """The environment without what a running MPI process adds, which would confuse a nested one."""
    allowed = ("OMPI_ALLOW_", "OMPI_MCA_rmaps", "OMPI_MCA_btl", "OMPI_MCA_mpi")
    return {
        key: value
        for key, value in os.environ.items()
        if key.startswith(allowed)
        or not key.startswith(("OMPI_", "PMIX_", "PMI_", "HYDI_", "HYDRA_", "MPI_LOCAL", "ORTE_"))
    } | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def run_mpi(tmp_path: Path) -> Callable[..., Finished]:
    """Run ``python ARGS`` on some ranks in `tmp_path`; the whole process group ends at the timeout.

    ``run_mpi(ranks, *args, timeout=60, env=None)``; with ``ranks=0`` no launcher is used.
    """

    def run(ranks: int, *args: str, timeout: float = 60, env: dict[str, str] | None = None):
        command = [sys.executable, *map(str, args)]
        if ranks:
            mpiexec = [os.environ.get("MPIEXEC", "mpiexec")]  # one path, which may hold a space
            version = subprocess.run([*mpiexec, "--version"], capture_output=True, text=True)
            is_open_mpi = any(name in version.stdout for name in ("Open MPI", "OpenRTE"))
            extra = ["--oversubscribe"] if is_open_mpi else []
            command = [*mpiexec, *extra, "-n", str(ranks), *command]
        environment = _clean_environment() | (env or {})
        if os.getuid() == 0:
            environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tmp_path,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"no end after {timeout} s: {command}\n{out}\n{err}")
        return Finished(process.returncode, out, err)

    return run


EACH = """
import contextlib, io, json, sys
from mpi4py import MPI
from hpcembed.cli import main

comm, done = MPI.COMM_WORLD, []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    parts = comm.gather((status, out.getvalue(), err.getvalue()))
    if parts is not None:
        statuses, outs, errs = zip(*parts)
        status = statuses[0] if len(set(statuses)) == 1 else list(statuses)
        done.append((status, "".join(outs), "".join(errs)))
if comm.rank == 0:
    print(json.dumps(done))
"""


@pytest.fixture
def run_each(run_mpi) -> Callable[..., list[Finished]]:
    """Run several commands of ``hpcembed`` one after the other in one launch.

    ``run_each(ranks, [[word, ...], ...], timeout=60)``: for commands that end with an error which
    all ranks have, where the start of Python is most of the time. A status that is not the same on
    all ranks is given as their list.
    """

    def run(ranks: int, commands: Sequence[Sequence[object]], timeout: float = 60):
        words = json.dumps([[str(word) for word in command] for command in commands])
        done = run_mpi(ranks, "-c", EACH, words, timeout=timeout)
        assert done.status == 0, done.err
        return [Finished(*one) for one in json.loads(done.out)]

    return run
