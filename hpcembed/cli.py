"""The command line: ``hpcembed run``, ``study``, ``compress``, ``compress-model``, and others.

Every rank runs :func:`main`. Exit statuses are in :mod:`hpcembed.cli_help`. MPI is imported by the
commands that communicate, and by every command that a launcher started: ``--version``, ``--help``
and ``predict`` work in an installation of numpy and safetensors alone.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hpcembed
from hpcembed import cli_commands
from hpcembed.cli_help import epilog
from hpcembed.cli_options import (
    add_checkpoint_options,
    add_complete_options,
    add_compress_model_options,
    add_compress_options,
    add_doctor_options,
    add_init_options,
    add_predict_options,
    add_report_options,
    add_study_options,
    checkpoint_interval,
    folder_options,
)
from hpcembed.runtime import logging as log
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.fault_injection import check_fault
from hpcembed.runtime.launcher import SingleProcess
from hpcembed.runtime.optional import EXTRAS, missing, optional_imports
from hpcembed.runtime.termination import exit_status

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["main"]

Command = Callable[[argparse.Namespace, "MPI.Intracomm"], int]

# PETSc, numpy and scipy may each bring an OpenBLAS with threads of its own. After a call those spin
# for about 0.1 s by default, on cores that the other libraries need; 2^20 cycles bridge the gap to
# the next call. OpenBLAS reads this when it is loaded, which is later than here.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command on all ranks of the job.

    Collective on the world communicator.

    Returns
    -------
    int
        Exit status, the same on all ranks.
    """
    alone: Any = SingleProcess()
    # Without a launcher, arguments are parsed first: --help and --version need no MPI.
    comm = cli_commands.launched_world(sys.argv[1:] if argv is None else argv) or alone
    parsed: list[argparse.Namespace] = []

    def parse() -> int:
        parsed.append(_parse(argv, comm.rank))
        return 0

    status = exit_status(comm, parse)
    if not parsed:
        return status
    (arguments,) = parsed

    def command() -> int:
        with optional_imports():
            world = _world() if comm is alone and _communicates(arguments) else comm
            if not hasattr(arguments, "petsc"):
                # A module may load PETSc, whose signal handler makes a closed pipe an abort.
                options = os.environ.get("PETSC_OPTIONS", "")
                os.environ["PETSC_OPTIONS"] = f"{options} -no_signal_handler".strip()
            log.configure(world.rank, world.size, verbose=arguments.verbose)
            check_fault(world.size)
            with cli_commands.stopping(arguments, world):
                return int(arguments.command(arguments, world))

    return exit_status(comm, command)


def _world() -> MPI.Intracomm:
    from mpi4py import MPI

    return MPI.COMM_WORLD


def _communicates(arguments: argparse.Namespace) -> bool:
    """Return whether a command needs MPI in this installation."""
    if arguments.command is cli_commands.predict:
        return not cli_commands.is_small()
    if arguments.command is _info:
        return not missing(EXTRAS["mpi"])
    return arguments.command not in (_completion, cli_commands.doctor)


def _parse(argv: Sequence[str] | None, rank: int) -> argparse.Namespace:
    # Rank 0 alone prints, so that an error in the arguments is reported once.
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
        if rank:
            stack.enter_context(contextlib.redirect_stderr(nowhere))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        words = _with_petsc_options(sys.argv[1:] if argv is None else list(argv))
        # Each benchmark has a parser of its own, which prints its --help as well.
        passed = words[2:] if words[:2] in (["bench", "eigensolvers"], ["bench", "pca"]) else []
        arguments = _parser().parse_args(words[: len(words) - len(passed)])
        arguments.passed, arguments.words = passed, words
        return arguments


def _with_petsc_options(words: list[str]) -> list[str]:
    """Join --petsc and its value, because argparse reads a value like -log_view as an option."""
    joined: list[str] = []
    for word in words:
        # a value with a blank is no option of this program
        is_value = word.startswith("-") and (not word.startswith("--") or " " in word)
        if joined and joined[-1] == "--petsc" and is_value:
            joined[-1] = f"--petsc={word}"
        else:
            joined.append(word)
    return joined


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpcembed",
        description="Compress the input of neural networks with certified spectral embeddings.",
        epilog=epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hpcembed {hpcembed.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verbose = argparse.ArgumentParser(add_help=False)
    verbose.add_argument("--verbose", action="store_true", help="log more")
    folders = folder_options(verbose)

    def add(
        name: str, command: Command, options: argparse.ArgumentParser, text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            parents=[options],
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=epilog(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(command=command)
        return added

    add_init_options(
        add("init", cli_commands.init, verbose, "write a commented job for a data file or folder")
    )

    run = add("run", _run, folders, "run a job: data, eigenvectors, projection, networks")
    run.add_argument(
        "job", type=Path, nargs="?", metavar="JOB.toml", help="job; hpcembed init writes one"
    )
    run.add_argument(
        "--resume", type=Path, metavar="FOLDER", help="continue the unfinished run in this folder"
    )
    add_checkpoint_options(run, verifies_data=True)
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="read headers only; print ranks, threads, memory and the engine of the operator",
    )

    text = (
        "train networks for several dimensions and seeds, and compare them with networks on all "
        "features"
    )
    study = add("study", _study, folders, text)
    add_study_options(study)
    add_checkpoint_options(study)

    text = "find the smallest input and network that keep the accuracy"
    compress = add("compress", _compress, folders, text)
    add_compress_options(compress)
    add_checkpoint_options(compress)

    text = "make a trained model of ONNX smaller by low-rank layers; needs onnxruntime"
    compress_model = add("compress-model", _compress_model, verbose, text)
    add_compress_model_options(compress_model)
    add_checkpoint_options(compress_model)

    text = "complete a table of users, items and ratings by a low-rank model, with its test error"
    add_complete_options(add("complete", _complete, verbose, text))

    text = "make a deployable model from a finished run"
    export = add("export", cli_commands.export, verbose, text)
    export.add_argument(
        "run", type=Path, metavar="RUN_FOLDER", help="output folder of hpcembed run"
    )
    export.add_argument("--out", type=Path, required=True, help="folder for the model")
    export.add_argument(
        "--network",
        metavar="NAME",
        help="name of the network, as in classifier-NAME.safetensors (default: the network on the "
        "embedding with the highest validation accuracy)",
    )

    text = "draw more figures of a finished run, without training"
    add_report_options(add("report", cli_commands.report, verbose, text))

    predict = add(
        "predict",
        cli_commands.predict,
        verbose,
        "predict the class or target of every row of a file",
    )
    add_predict_options(predict)

    info = add("info", _info, verbose, "print versions, MPI library, PETSc build, threads")
    info.add_argument("--petsc", default="", help=argparse.SUPPRESS)

    text = "check installation, MPI, machine and output folder; print findings with their remedies"
    add_doctor_options(add("doctor", cli_commands.doctor, verbose, text))

    text = "print the completion of this command line for a shell; needs shtab"
    completion = add("completion", _completion, verbose, text)
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))

    bench = commands.add_parser(
        "bench",
        help="compare eigensolvers, or PCAs",
        epilog=epilog("bench"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    benches = bench.add_subparsers(required=True, metavar="BENCHMARK")
    eigensolvers = benches.add_parser(
        "eigensolvers",
        help="MIRAMns, SLEPc's solvers, scipy and PRIMME; takes the arguments of miramns.bench",
    )
    eigensolvers.set_defaults(command=_bench, harness="miramns.bench", verbose=False)
    pca = benches.add_parser(
        "pca", help="PCA here and in scikit-learn, torch, scipy, SLEPc: time, accuracy, memory"
    )
    pca.set_defaults(command=_bench, harness="hpcembed.bench", verbose=False)
    return parser


def _start_petsc(options: str) -> None:
    """Initialise PETSc and SLEPc with the options of --petsc, without other arguments."""
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise ConfigError(f"--petsc {options!r}: {error}") from error
    import petsc4py
    import slepc4py

    if words and not words[0].startswith("-"):
        raise ConfigError(f"--petsc {options!r}: {words[0]} is not an option: options begin with -")
    # The signal handler of PETSc turns every signal, even a closed pipe, into an abort.
    words = ["hpcembed", "-no_signal_handler", *words]
    petsc4py.init(words)
    slepc4py.init(words)


def _run(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    _start_petsc(arguments.petsc)
    from hpcembed.jobs.job import describe_job, prepare
    from hpcembed.jobs.run import run_job

    path, out = cli_commands.job_and_folder(arguments)
    job = prepare(path, arguments.overrides, arguments.data_dir, out, comm)
    job = dataclasses.replace(
        job,
        checkpoint_every=checkpoint_interval(arguments.checkpoint_every),
        verify_data=arguments.verify_data,
    )
    if not arguments.dry_run:
        return run_job(job)
    text = describe_job(job)
    if comm.rank == 0:
        log.show(text)
    return 0


def _completion(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    if comm.rank == 0:
        cli_commands.complete_shell(_parser(), arguments.shell)
    return 0


def _study(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    _start_petsc(arguments.petsc)
    from hpcembed.jobs.study.command import run_study

    return run_study(
        arguments.job,
        arguments.overrides,
        arguments.data_dir,
        arguments.out,
        comm,
        report_only=arguments.report_only,
        dry_run=arguments.dry_run,
        checkpoint_every=checkpoint_interval(arguments.checkpoint_every),
    )


def _compress(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    _start_petsc(arguments.petsc)
    from hpcembed.jobs.compress.command import CompressRequest, run_compress

    request = CompressRequest(
        arguments.source,
        arguments.max_loss,
        seeds=arguments.seeds,
        max_seeds=arguments.max_seeds,
        max_components=arguments.max_components,
        confidence=arguments.confidence,
        label_column=arguments.label_column,
        labels=arguments.labels,
        test=arguments.test,
        test_labels=arguments.test_labels,
        task=arguments.task,
        scaling=arguments.scaling,
        overrides=tuple(arguments.overrides),
    )
    every = checkpoint_interval(arguments.checkpoint_every)
    return run_compress(request, arguments.data_dir, arguments.out, comm, checkpoint_every=every)


def _compress_model(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    _start_petsc(arguments.petsc)
    from hpcembed.jobs.network_compression.command import CompressModelRequest, run_compress_model

    request = CompressModelRequest(
        arguments.model,
        arguments.data,
        labels=arguments.labels,
        validation=arguments.validation,
        validation_labels=arguments.validation_labels,
        max_loss=arguments.max_loss,
        budget=arguments.budget,
        metric=arguments.metric,
        measure=arguments.measure,
        side=arguments.side,
        layers=arguments.layers,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    every = checkpoint_interval(arguments.checkpoint_every)
    return run_compress_model(request, arguments.out, comm, checkpoint_every=every)


def _complete(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    _start_petsc(arguments.petsc)
    from hpcembed.jobs.table_completion import CompleteRequest, run_complete

    request = CompleteRequest(
        arguments.source, arguments.test, arguments.rank, arguments.ridge, arguments.seed
    )
    return run_complete(request, arguments.out, comm)


def _bench(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    _start_petsc("")
    return int(import_module(arguments.harness).main(arguments.passed, comm))


def _info(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    if missing(EXTRAS["mpi"]):
        cli_commands.show_missing_parts()
        return 0
    _start_petsc(arguments.petsc)
    from hpcembed.runtime.machine.environment import describe_environment
    from hpcembed.runtime.machine.threads import threads_per_rank
    from hpcembed.runtime.ranks import check_launcher

    facts = describe_environment(comm, threads_per_rank(comm))
    if comm.rank == 0:
        for name, value in facts.items():
            if isinstance(value, dict):
                value = ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
            print(f"{name:18} {value}")
        sys.stdout.flush()
    check_launcher(comm)
    return 0
