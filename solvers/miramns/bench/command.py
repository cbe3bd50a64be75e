"""The command ``python -m miramns.bench``: arguments in, files out."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mpi4py import MPI

from miramns.bench import methods as method_catalogue
from miramns.bench import problems as problem_catalogue
from miramns.bench.files import BenchError, matrix_files
from miramns.bench.methods import Method
from miramns.bench.output import Results
from miramns.bench.problems import Problem, file_problem
from miramns.bench.running import Settings, run_problem

__all__ = ["main"]

#: What ``--quick`` runs, where it is there, and the seconds it gives each run.
_QUICK_METHODS = (
    "miramns", "block", "published", "iram-4k", "unrestarted", "ks", "ks-2k", "ks-4k", "ks-8k",
    "slepc-arnoldi",
    "slepc-lanczos-selective", "slepc-arpack", "scipy",
)  # fmt: skip
_QUICK_LIMIT = 3.0


def main(argv: Sequence[str] | None = None, comm: MPI.Intracomm | None = None) -> int:
    """Run the benchmark on all ranks of `comm` (default: all ranks of the job).

    Collective on `comm`.

    Returns
    -------
    int
        Exit status: 0, or 2 when what was asked for cannot be done, which is printed in one line.
    """
    comm = comm or MPI.COMM_WORLD
    try:
        return _run(_parsed(argv, comm), comm)
    except BenchError as error:
        if comm.rank == 0:
            sys.stdout.flush()
            print(f"miramns.bench: error: {error}", file=sys.stderr, flush=True)
        return 2
    except SystemExit as request:  # --help
        return request.code if isinstance(request.code, int) else 0


class _Parser(argparse.ArgumentParser):
    """Reports a bad argument as the other errors are: once, in one line."""

    def error(self, message: str) -> NoReturn:
        raise BenchError(message)


def _parsed(argv: Sequence[str] | None, comm: MPI.Comm) -> argparse.Namespace:
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
        if comm.rank:  # one rank speaks
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        return _parser().parse_args(argv)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="miramns.bench",
        description="Compare eigensolvers at the same true residual, on the same start vector.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--problems",
        nargs="+",
        default=[],
        metavar="NAME[:key=value,...]",
        help="generated problems, patterns of them, or a set: usual, quick, big",
    )
    add("--data-dir", type=Path, help="folder with matrices/*.mtx and *.mtx.gz")
    add(
        "--matrix",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a Matrix Market file; may be repeated",
    )
    add("--methods", nargs="+", default=[], metavar="NAME", help="methods, or patterns of them")
    add("--k", type=_numbers, metavar="K[,K...]", help="eigenpairs wanted (default: 5,10)")
    add("--which", choices=("LM", "LR", "SR", "LA", "SA"), default="LM")
    add(
        "--tol",
        type=_tolerance,
        default=1e-8,
        help="largest residual relative to the eigenvalue (default: 1e-8)",
    )
    add("--repeats", type=_count, help="runs of each method (default: 3)")
    add(
        "--limit",
        type=_seconds,
        metavar="SECONDS",
        help="what a run may take before it is stopped (default: 120)",
    )
    add("--seed", type=_seed, default=0, help="of the start vector")
    add(
        "--out",
        type=Path,
        default=Path("eigensolver-bench"),
        metavar="DIR",
        help="folder for the results (default: eigensolver-bench)",
    )
    add("--no-figures", action="store_true", help="draw no pictures")
    add("--quick", action="store_true", help="small problems, fewer methods, one run of each")
    add("--list", action="store_true", help="print problems and methods, and end")
    return parser


def _numbers(text: str) -> list[int]:
    return [_count(item) for item in text.split(",")]


def _count(text: str) -> int:
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text):
        raise argparse.ArgumentTypeError(f"need a positive whole number, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    return 0 if text.strip("0") == "" and text else _count(text)


def _tolerance(text: str) -> float:
    value = _seconds(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"need a number between 0 and 1, got {text!r}")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"need a positive number, got {text!r}")
    return value


def _run(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    if arguments.list:
        if comm.rank == 0:
            print(_catalogue(), flush=True)
        return 0
    problems = _problems(arguments, comm)
    methods = _methods(arguments)
    settings = Settings(
        ks=list(dict.fromkeys(arguments.k or ([5] if arguments.quick else [5, 10]))),
        which=arguments.which,
        tol=arguments.tol,
        repeats=arguments.repeats or (1 if arguments.quick else 3),
        limit=arguments.limit or (_QUICK_LIMIT if arguments.quick else 120.0),
        seed=arguments.seed,
        courses=not arguments.no_figures,
    )
    results = Results(comm, arguments.out, len(problems) * len(settings.ks) * len(methods))
    results.begin()
    for problem in problems:
        results.add(run_problem(comm, problem, methods, settings, results.progress))
    results.end(figures=not arguments.no_figures)
    return 0


def _problems(arguments: argparse.Namespace, comm: MPI.Intracomm) -> list[Problem]:
    """Problems asked for: files, generated ones, or a usual set."""
    paths = list(arguments.matrix)
    if arguments.data_dir:
        paths += matrix_files(comm, arguments.data_dir)
    words = list(arguments.problems)
    if not words and not paths:
        words = ["quick" if arguments.quick else "usual"]
    files = [file_problem(comm, path) for path in dict.fromkeys(paths)]
    return problem_catalogue.select(words) + files


def _methods(arguments: argparse.Namespace) -> list[Method]:
    words = [word for text in arguments.methods for word in text.split(",")]
    if words or not arguments.quick:
        return method_catalogue.select(words)
    names = {method.name for method in method_catalogue.available()}
    return method_catalogue.select([name for name in _QUICK_METHODS if name in names])


def _catalogue() -> str:
    lines = ["problems:"]
    for name, generator in problem_catalogue.GENERATORS.items():
        defaults = inspect.signature(generator).parameters.values()
        usual = ",".join(f"{one.name}={one.default}" for one in defaults)
        lines += [f"  {name:18} {inspect.getdoc(generator)}", f"  {'':18} {name}:{usual}"]
    lines.append("sets of problems:")
    for name, members in problem_catalogue.PRESETS.items():
        lines.append(f"  {name:18} {members[0]}")
        lines += [f"  {'':18} {member}" for member in members[1:]]
    lines.append("methods:")
    lines += [f"  {one.name:24} {one.about}" for one in method_catalogue.available()]
    return "\n".join(lines)
