"""The command line: ``hpcembed run``, ``study``, ``compress``, ``export``, ``predict``, ``bench``.

Every rank runs :func:`main`. An error that the user can mend, agreed on by all ranks, is printed
once and ends all of them with its exit status; anything else ends the whole job at once, with the
traceback of the rank where it happened. Exit status: 0 all well, 1 a defect, 2 the job, the data or
the set-up must be mended, 3 a requested eigenpair missed its tolerance, 4 no network keeps the
accuracy, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from mpi4py import MPI

import hpcembed
from hpcembed.runtime import logging as log
from hpcembed.runtime.errors import ConfigError, HpcembedError

__all__ = ["main"]

# PETSc, numpy and scipy may each bring an OpenBLAS with threads of its own. After a call those spin
# for about 0.1 s by default and take the cores from the others; 2^20 cycles are enough to bridge
# the gap to the next call. OpenBLAS reads this when it is loaded, which is later than here.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")

#: Seconds that a rank with an error of its own waits for the others to report the same.
_PATIENCE = 5.0

#: Exit status after Ctrl-C, as shells have it.
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command on all ranks of the job.

    Collective on the world communicator.

    Returns
    -------
    int
        Exit status, the same on all ranks.
    """
    comm = MPI.COMM_WORLD
    try:
        arguments = _parse(argv, comm.rank)
        log.configure(comm.rank, comm.size, verbose=arguments.verbose)
        return int(arguments.command(arguments, comm))
    except HpcembedError as error:
        return _end_together(comm, error)
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else 2
    except KeyboardInterrupt:
        return _interrupted(comm)
    except BaseException:  # whatever it is, the other ranks must not wait for this one
        _abort(comm, f"[rank {comm.rank}/{comm.size}] {traceback.format_exc()}", 1)
        return 1


def _end_together(comm: MPI.Comm, error: HpcembedError) -> int:
    """Print an error once if all ranks have it; end the job if this rank is alone with it."""
    everybody = comm.Ibarrier()
    deadline = time.monotonic() + _PATIENCE
    while not everybody.Test():
        if time.monotonic() > deadline:
            _abort(comm, f"hpcembed: error: [rank {comm.rank}] {error}", error.exit_status)
        time.sleep(0.01)
    if comm.rank == 0:
        sys.stdout.flush()
        print(f"hpcembed: error: {error}", file=sys.stderr, flush=True)
    return error.exit_status


def _interrupted(comm: MPI.Comm) -> int:
    if comm.size > 1:  # the others may not have heard of it
        _abort(comm, "hpcembed: interrupted" if comm.rank == 0 else "", _INTERRUPTED)
        return _INTERRUPTED
    print("hpcembed: interrupted", file=sys.stderr, flush=True)
    return _INTERRUPTED


def _abort(comm: MPI.Comm, message: str, status: int) -> None:
    sys.stdout.flush()
    if message:
        print(message, file=sys.stderr, flush=True)
    comm.Abort(status)


def _parse(argv: Sequence[str] | None, rank: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hpcembed",
        description="Compress the input of neural networks with certified spectral embeddings.",
    )
    parser.add_argument("--version", action="version", version=f"hpcembed {hpcembed.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a job: data, eigenvectors, projection, networks")
    run.add_argument("job", type=Path, metavar="JOB.toml")
    _add_places(run)
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="print ranks, threads, memory and the operator's choice; read headers only",
    )
    run.set_defaults(command=_run)

    _add_study_commands(commands)
    _add_model_commands(commands)

    info = commands.add_parser("info", help="versions, MPI library, PETSc build, threads")
    info.add_argument("--petsc", default="", help=argparse.SUPPRESS)
    info.set_defaults(command=_info)

    bench = commands.add_parser("bench", help="compare eigensolvers, or PCAs")
    benches = bench.add_subparsers(required=True, metavar="WHAT")
    eigensolvers = benches.add_parser(
        "eigensolvers",
        help="MIRAMns, SLEPc's solvers, scipy and PRIMME; takes the arguments of miramns.bench",
    )
    eigensolvers.set_defaults(command=_bench, verbose=False)
    pca = benches.add_parser(
        "pca", help="PCA here and in scikit-learn, torch, scipy, SLEPc: time, accuracy, memory"
    )
    pca.set_defaults(command=_bench_pca, verbose=False)

    for command in (run, info):
        command.add_argument("--verbose", action="store_true", help="say more")

    # One rank speaks, so that a typing error is reported once.
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
        if rank:
            stack.enter_context(contextlib.redirect_stderr(nowhere))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        # The benchmarks have parsers of their own, even for --help.
        words = sys.argv[1:] if argv is None else list(argv)
        passed = words[2:] if words[:2] in (["bench", "eigensolvers"], ["bench", "pca"]) else []
        arguments = parser.parse_args(words[: len(words) - len(passed)])
        arguments.passed = passed
        return arguments


def _add_study_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    study = commands.add_parser(
        "study", help="sweep dimensions, networks and seeds beside uncompressed baselines"
    )
    study.add_argument("job", type=Path, metavar="STUDY.toml")
    _add_places(study)
    study.add_argument(
        "--report-only",
        action="store_true",
        help="train nothing: write tables and report of what is finished in --out",
    )
    study.set_defaults(command=_study)

    compress = commands.add_parser(
        "compress", help="find the smallest input and network that keep the accuracy"
    )
    compress.add_argument("source", type=Path, metavar="JOB.toml|DATA")
    compress.add_argument(
        "--max-loss", type=float, default=0.5, metavar="POINTS", help="of accuracy (default: 0.5)"
    )
    compress.add_argument("--seeds", type=int, default=5, help="trainings of each network")
    compress.add_argument("--confidence", type=float, default=0.95, help="of the intervals")
    compress.add_argument("--label-column", default="", help="of a data file")
    compress.add_argument(
        "--scaling",
        default="standard",
        choices=("none", "divide", "minmax", "standard"),
        help="of a data file (default: standard)",
    )
    _add_places(compress)
    compress.set_defaults(command=_compress)
    for command in (study, compress):
        command.add_argument("--verbose", action="store_true", help="say more")


def _add_model_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = commands.add_parser("export", help="make a model to take away from a finished run")
    export.add_argument("run", type=Path, metavar="RUN_FOLDER")
    export.add_argument("--out", type=Path, required=True, help="folder for the model")
    export.add_argument(
        "--network",
        metavar="NAME",
        help="as in classifier-NAME.safetensors (default: the embedded one with the highest "
        "validation accuracy)",
    )
    export.set_defaults(command=_export)

    predict = commands.add_parser("predict", help="predict the class of every row of a file")
    predict.add_argument("model", type=Path, metavar="MODEL", help="folder of a model, or of a run")
    predict.add_argument("file", type=Path, metavar="FILE")
    predict.add_argument("--labels", type=Path, help="file of the rows' labels, to give accuracy")
    predict.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="data.KEY=VALUE",
        dest="overrides",
        help="how FILE is read, where that differs from the training data; may be repeated",
    )
    predict.add_argument("--out", type=Path, help="CSV file (default: standard output)")
    predict.set_defaults(command=_predict)
    for command in (export, predict):
        command.add_argument("--verbose", action="store_true", help="say more")


def _add_places(command: argparse.ArgumentParser) -> None:
    """Add the options of every command that reads data and leaves a folder."""
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="overrides",
        help="override one key of the file; may be repeated",
    )
    command.add_argument(
        "--data-dir",
        type=Path,
        help="folder that the job's file names start from (default: the folder of the TOML file)",
    )
    command.add_argument("--out", type=Path, help="folder for the results (default: in runs/)")
    command.add_argument(
        "--petsc", default="", metavar='"OPTIONS"', help="options for PETSc and SLEPc, in quotes"
    )


def _start_petsc(options: str) -> None:
    """Initialise PETSc and SLEPc with the user's options for them, and with nothing else."""
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise ConfigError(f"--petsc {options!r}: {error}") from error
    import petsc4py
    import slepc4py

    # PETSc's handler would turn every signal, even a closed pipe, into an abort with a long banner.
    words = ["hpcembed", "-no_signal_handler", *words]
    petsc4py.init(words)
    slepc4py.init(words)


def _run(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    _start_petsc(arguments.petsc)
    from hpcembed.jobs.job import describe_job, prepare
    from hpcembed.jobs.run import run_job

    context = prepare(arguments.job, arguments.overrides, arguments.data_dir, arguments.out, comm)
    if arguments.dry_run:
        text = describe_job(context)
        if comm.rank == 0:
            log.show(text)
        return 0
    return run_job(context)


def _export(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    from hpcembed.jobs.export.run_source import export_run
    from hpcembed.runtime.ranks import idle_while_root

    written = idle_while_root(
        comm, lambda: export_run(arguments.run, arguments.out, arguments.network)
    )
    if written is not None:
        log.show(f"model written to {written}")
    return 0


def _predict(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    from hpcembed.jobs.predict import predict_file

    predict_file(
        arguments.model,
        arguments.file,
        comm,
        labels=arguments.labels,
        overrides=arguments.overrides,
        out=arguments.out,
    )
    return 0


def _study(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    _start_petsc(arguments.petsc)
    from hpcembed.jobs.study.run import run_study

    return run_study(
        arguments.job,
        arguments.overrides,
        arguments.data_dir,
        arguments.out,
        comm,
        report_only=arguments.report_only,
    )


def _compress(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    _start_petsc(arguments.petsc)
    from hpcembed.jobs.compress.command import Request, run_compress

    request = Request(
        arguments.source,
        arguments.max_loss,
        seeds=arguments.seeds,
        confidence=arguments.confidence,
        label_column=arguments.label_column,
        scaling=arguments.scaling,
        overrides=tuple(arguments.overrides),
    )
    return run_compress(request, arguments.data_dir, arguments.out, comm)


def _bench(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    _start_petsc("")
    from miramns import bench

    return bench.main(arguments.passed, comm)


def _bench_pca(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    _start_petsc("")
    from hpcembed import bench

    return bench.main(arguments.passed, comm)


def _info(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    _start_petsc(arguments.petsc)
    from hpcembed.runtime.environment import describe_environment
    from hpcembed.runtime.ranks import check_launcher
    from hpcembed.runtime.threads import threads_per_rank

    facts = describe_environment(comm, threads_per_rank(comm))
    if comm.rank == 0:
        for name, value in facts.items():
            if isinstance(value, dict):
                value = ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
            print(f"{name:18} {value}")
        sys.stdout.flush()
    check_launcher(comm)
    return 0
