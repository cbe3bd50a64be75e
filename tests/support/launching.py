"""Fixtures of tests that start MPI jobs (marker ``launch``).

* ``run_mpi`` starts one job. It is for tests of the start and the end of a job: crashes, signals,
  scripts, PETSc's options.
* ``run_each`` starts one job for several commands of ``hpcembed``.
* ``launched`` shares jobs between tests. Starting Python, PETSc and PyTorch takes longer than most
  commands, so all tests of a folder that need the same number of ranks share one job::

      def small_job(folder, k):
          write_table(folder / "table.csv")
          return [["run", "job.toml", "--set", f"embedding.n_components={k}", "--out", "out"]]

      @pytest.mark.launch(small_job, ranks=2)
      @pytest.mark.parametrize("k", [1, 2])
      def test_small_job(launched, k):
          assert launched.done.status == 0, launched.done.err

  The function given to the marker prepares a folder, which is the working folder of the commands,
  and returns a list of commands. It may take ``folder``, ``ranks`` and parameters of the test.
  `ranks` of the marker is a number, a tuple of numbers (the commands run on each of them), or None:
  the test's parameter ``ranks``. Commands of tests that are not selected do not run. If a command
  aborts its job, its own test fails, and the commands of the later tests are launched again.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

RUN_COMMANDS = Path(__file__).with_name("run_commands.py")


@dataclass(frozen=True)
class Finished:
    """Result of a command or a job.

    `status` is a list where the ranks of one job return different values. `left` holds the names in
    the folder given by ``--out`` after the command (``run_each`` and ``launched`` only).
    """

    status: int | list[int]
    out: str
    err: str
    left: list[str] = field(default_factory=list)
    timed_out: bool = False


@dataclass(frozen=True)
class Launched:
    """Results of the commands of one test, and the folder in which they ran."""

    folder: Path
    finished: dict[int, list[Finished]]

    def __getitem__(self, ranks: int) -> list[Finished]:
        """Results of the commands on this number of ranks."""
        return self.finished[ranks]

    @property
    def all(self) -> list[Finished]:
        """Results of the commands, for tests on one number of ranks."""
        (several,) = self.finished.values()
        return several

    @property
    def done(self) -> Finished:
        """Result of the only command."""
        (finished,) = self.all
        return finished


# ----------------------------------------------------------------------------------- one MPI job


@functools.cache
def _launcher() -> tuple[str, ...]:
    """Return ``mpiexec`` with options that allow any number of ranks, on all cores."""
    mpiexec = os.environ.get("MPIEXEC", "mpiexec")  # one path, which may hold a space
    version = subprocess.run([mpiexec, "--version"], capture_output=True, text=True).stdout
    if any(name in version for name in ("Open MPI", "OpenRTE")):
        return mpiexec, "--oversubscribe", "--bind-to", "none"
    return (mpiexec,)


def _environment(changes: dict[str, str] | None) -> dict[str, str]:
    """Return the environment without the variables of a running MPI process.

    A nested MPI job would take them for its own.
    """
    kept = ("OMPI_ALLOW_", "OMPI_MCA_rmaps", "OMPI_MCA_btl", "OMPI_MCA_mpi")
    dropped = ("OMPI_", "PMIX_", "PMI_", "HYDI_", "HYDRA_", "MPI_LOCAL", "ORTE_")
    environment = {
        key: value
        for key, value in os.environ.items()
        if key.startswith(kept) or not key.startswith(dropped)
    }
    environment["OMP_NUM_THREADS"] = "1"
    environment["OMP_WAIT_POLICY"] = "passive"
    if os.getuid() == 0:
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return environment | (changes or {})


def _start(
    folder: Path,
    ranks: int,
    arguments: Sequence[object],
    timeout: float,
    env: dict[str, str] | None = None,
) -> Finished:
    """Run ``python ARGUMENTS`` in `folder`; the whole process group ends at the timeout."""
    command = [*_launcher(), "-n", str(ranks)] if ranks else []
    command += [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(env),
        cwd=folder,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        err += f"\nno end after {timeout} s: {command}"
        return Finished(process.returncode, out, err, timed_out=True)
    return Finished(process.returncode, out, err)


@pytest.fixture
def run_mpi(tmp_path: Path) -> Callable[..., Finished]:
    """Run ``python ARGS`` on some ranks in `tmp_path`.

    ``run_mpi(ranks, *args, timeout=180, env=None)``; with ``ranks=0`` no launcher is used.
    """

    def run(ranks: int, *args: object, timeout: float = 180, env: dict[str, str] | None = None):
        finished = _start(tmp_path, ranks, args, timeout, env)
        if finished.timed_out:
            pytest.fail(f"{finished.out}\n{finished.err}")
        return finished

    return run


# ----------------------------------------------------------------------- several commands in a job

Command = tuple[Path, Sequence[object]]  #: working folder and words


def run_commands(
    scratch: Path, ranks: int, commands: Sequence[Command], timeout: float
) -> tuple[list[Finished], Finished]:
    """Run commands in one job; return their results, fewer where the job ends early, and the job's.

    Output of a command that ended the job is added to the job's.
    """
    scratch.mkdir()
    listed, results = scratch / "commands.json", scratch / "results.jsonl"
    listed.write_text(
        json.dumps([(str(folder), [str(word) for word in words]) for folder, words in commands])
    )
    results.touch()
    job = _start(scratch, ranks, [RUN_COMMANDS, listed, results], timeout)
    finished = [Finished(**json.loads(line)) for line in results.read_text("utf-8").splitlines()]
    if len(finished) < len(commands):
        outputs, errors = (
            "".join(path.read_text("utf-8") for path in sorted(scratch.glob(pattern)))
            for pattern in ("output-*", "error-*")
        )
        job = replace(job, out=job.out + outputs, err=job.err + errors)
    return finished, job


@pytest.fixture
def run_each(tmp_path: Path) -> Callable[..., list[Finished]]:
    """Run several commands of ``hpcembed`` one after the other in one launch, in `tmp_path`.

    ``run_each(ranks, [[word, ...], ...], timeout=180)``
    """

    def run(ranks: int, commands: Sequence[Sequence[object]], timeout: float = 180):
        given = [(tmp_path, words) for words in commands]
        number = len(list(tmp_path.parent.glob(f"{tmp_path.name}-job-*")))
        scratch = tmp_path.with_name(f"{tmp_path.name}-job-{number}")
        finished, job = run_commands(scratch, ranks, given, timeout)
        assert job.status == 0, f"{job.out}\n{job.err}"
        return finished

    return run


# ------------------------------------------------------------------------ jobs shared between tests


def _mark(item: pytest.Item) -> pytest.Mark | None:
    """Return the marker that gives commands, if the test has one."""
    return next((mark for mark in item.iter_markers("launch") if mark.args), None)


def _ranks(item: pytest.Item) -> tuple[int, ...]:
    """Return the numbers of ranks on which a test's commands run."""
    ranks = _mark(item).kwargs["ranks"]
    if ranks is None:
        ranks = item.callspec.params["ranks"]
    return ranks if isinstance(ranks, tuple) else (ranks,)


class SharedJobs:
    """Results of the commands of all selected tests, run folder by folder when first needed."""

    def __init__(self, items: Sequence[pytest.Item], factory: pytest.TempPathFactory) -> None:
        self.items = [item for item in items if _mark(item)]
        self.factory = factory
        self.folders: dict[pytest.Item, Path] = {}
        self.results: dict[tuple[pytest.Item, int], list[Finished] | Finished] = {}

    def of(self, item: pytest.Item) -> Launched:
        """Return the results of one test."""
        for ranks in _ranks(item):
            if (item, ranks) not in self.results:
                self._launch(
                    ranks, [one for one in self.items if one.path.parent == item.path.parent]
                )
        finished = {ranks: self.results[item, ranks] for ranks in _ranks(item)}
        for job in finished.values():
            if isinstance(job, Finished):
                pytest.fail(f"the job ended with status {job.status}:\n{job.out}\n{job.err}")
        return Launched(self.folders[item], finished)

    def _launch(self, ranks: int, items: Sequence[pytest.Item]) -> None:
        waiting = {item: self._commands(item, ranks) for item in items if ranks in _ranks(item)}
        while waiting:
            commands = [command for several in waiting.values() for command in several]
            scratch = self.factory.mktemp("job") / "shared"
            finished, job = run_commands(scratch, ranks, commands, 60 + 60 * len(commands))
            if len(finished) == len(commands) and job.status != 0:
                self.results |= {(item, ranks): job for item in waiting}
                return
            results = iter(finished)
            for item, several in list(waiting.items()):
                mine = list(itertools.islice(results, len(several)))
                complete = len(mine) == len(several)
                self.results[item, ranks] = mine if complete else job
                del waiting[item]
                if not complete:
                    break  # a command of this test ended the job

    def _commands(self, item: pytest.Item, ranks: int) -> list[Command]:
        if item not in self.folders:
            self.folders[item] = self.factory.mktemp("commands")
        folder, prepare = self.folders[item], _mark(item).args[0]
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        given = {"folder": folder, **parameters, "ranks": ranks}
        named = inspect.signature(prepare).parameters
        several = prepare(**{name: value for name, value in given.items() if name in named})
        return [(folder, words) for words in several]


@pytest.fixture(scope="session")
def shared_jobs(request: pytest.FixtureRequest, tmp_path_factory) -> SharedJobs:
    """Results of commands of all selected tests."""
    return SharedJobs(request.session.items, tmp_path_factory)


@pytest.fixture
def launched(request: pytest.FixtureRequest, shared_jobs: SharedJobs) -> Launched:
    """Results of the commands that the test's marker ``launch`` gives."""
    return shared_jobs.of(request.node)


# ------------------------------------------------------------------- processes of pytest-xdist


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Distribute the tests over the processes of pytest-xdist.

    One process runs all tests that share MPI jobs or a fixture of their module. Tests that start
    MPI jobs come first, so that no process waits for them at the end.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    for item in items:
        if _mark(item):
            item.add_marker(pytest.mark.xdist_group(str(item.path.parent)))
        elif any(fixtures[-1].scope == "module" for fixtures in _fixtures(item)):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
    items.sort(key=lambda item: item.get_closest_marker("launch") is None)


def _fixtures(item: pytest.Item) -> Iterable[Sequence[pytest.FixtureDef]]:
    info = getattr(item, "_fixtureinfo", None)  # doctests have none
    return info.name2fixturedefs.values() if info else ()
