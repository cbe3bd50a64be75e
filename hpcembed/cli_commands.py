"""Commands of :mod:`hpcembed.cli` that need few packages or a finished run, ``init``, the stop."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hpcembed
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.launcher import is_launched
from hpcembed.runtime.logging import show
from hpcembed.runtime.optional import EXTRAS, install_command, missing
from hpcembed.runtime.stopping import continue_with, watching
from hpcembed.runtime.stopping.time_limit import time_limit

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = [
    "complete_shell",
    "doctor",
    "export",
    "init",
    "is_small",
    "job_and_folder",
    "launched_world",
    "predict",
    "report",
    "show_missing_parts",
    "stopping",
]

#: Packages of the parallel prediction.
_PREDICTION = ("mpi4py", "msgspec", "scipy", "threadpoolctl", "pyarrow")


def is_small() -> bool:
    """Return whether ``predict`` lacks packages of its parallel readers."""
    return bool(missing(_PREDICTION))


def predict(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    """Run ``hpcembed predict``. Collective."""
    options = {
        "labels": arguments.labels,
        "overrides": arguments.overrides,
        "out": arguments.out,
    }
    if is_small():
        # one thread, as with MPI: the last bits of a product depend on their number
        os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
        from hpcembed.jobs.predict_alone import predict_alone

        predict_alone(arguments.model, arguments.file, **options)
    else:
        from hpcembed.jobs.predict import predict_file

        predict_file(arguments.model, arguments.file, comm, **options)
    return 0


def init(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    """Run ``hpcembed init`` on rank 0. Collective."""
    from hpcembed.jobs.init.command import init_job
    from hpcembed.runtime.agreement import idle_while_root

    def write() -> None:
        column, labels = arguments.label_column, arguments.labels
        show(init_job(arguments.data, column, arguments.out, labels, study=arguments.study))

    idle_while_root(comm, write)
    return 0


def export(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    """Run ``hpcembed export`` on rank 0. Collective."""
    from hpcembed.jobs.export.run_export import export_run
    from hpcembed.runtime.agreement import idle_while_root
    from hpcembed.runtime.output.lock import owned_output

    def write() -> None:
        written = export_run(arguments.run, arguments.out, arguments.network)
        show(f"model written to {written}")

    with owned_output(comm, arguments.out):
        idle_while_root(comm, write)
    return 0


def report(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    """Run ``hpcembed report``. Collective."""
    from hpcembed.jobs.run_map.command import draw_run_map

    line = draw_run_map(arguments.run, comm, most=arguments.rows, seed=arguments.seed)
    if comm.rank == 0:
        show(line)
    return 0


def launched_world(words: Sequence[str]) -> MPI.Intracomm | None:
    """Return the world communicator if a launcher started this process and mpi4py is installed.

    An mpi4py that cannot be imported is a finding of ``hpcembed doctor``: None is returned to it.
    """
    if not is_launched() or missing(["mpi4py"]):
        return None
    with contextlib.suppress(
        *((ImportError, RuntimeError) if list(words[:1]) == ["doctor"] else ())
    ):
        from mpi4py import MPI

        return MPI.COMM_WORLD
    return None


def doctor(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    """Run ``hpcembed doctor``. Collective."""
    from hpcembed.jobs.doctor.command import run_doctor

    return run_doctor(comm, arguments.out, as_json=arguments.json)


def complete_shell(parser: argparse.ArgumentParser, shell: str) -> None:
    """Print the completion of a command line for a shell."""
    import shtab

    _mark_files(parser, shtab.FILE)
    show(shtab.complete(parser, shell))


def show_missing_parts() -> None:
    """Print the version, the packages that are not installed, and commands that install them."""
    show(f"hpcembed {hpcembed.__version__}, Python {sys.version.split()[0]}")
    for extra, packages in EXTRAS.items():
        lacking = missing(packages)
        if lacking:
            show(f"without {', '.join(lacking)}: {install_command(extra)}")


def _mark_files(parser: argparse.ArgumentParser, complete: Any) -> None:
    """Give all arguments that are paths the completion of file names."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _mark_files(command, complete)
        elif action.type is Path:
            action.complete = complete  # type: ignore[attr-defined]


@contextlib.contextmanager
def stopping(arguments: argparse.Namespace, comm: MPI.Intracomm) -> Iterator[None]:
    """Stop a command that stores its work after a signal, and before its time limit. Collective."""
    if not hasattr(arguments, "time_limit") or getattr(arguments, "dry_run", False):
        yield
        return
    deadline, seconds = time_limit(comm, arguments.time_limit)
    with watching(comm, deadline, seconds):
        continue_with(shlex.join(["hpcembed", *arguments.words]))
        yield


def job_and_folder(arguments: argparse.Namespace) -> tuple[Path, Path | None]:
    """Return the job file and the output folder of ``run``.

    Raises
    ------
    ConfigError
        Neither a job nor ``--resume`` is given, or both are; or there is nothing to continue.
    """
    from hpcembed.jobs.checkpoints.run_checkpoints import unfinished_job

    if arguments.resume is None:
        if arguments.job is None:
            raise ConfigError("run: give a job file, or --resume FOLDER")
        return arguments.job, arguments.out
    if arguments.job is not None or arguments.out is not None:
        raise ConfigError(
            "--resume has the job and the folder of the unfinished run: omit JOB.toml and --out"
        )
    if arguments.dry_run:
        raise ConfigError("--dry-run describes a new run: omit --resume")
    return unfinished_job(arguments.resume), arguments.resume
