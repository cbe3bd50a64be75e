"""Command line of ``python -m miramns.bench``."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mpi4py import MPI
from petsc4py import PETSc

from miramns.bench.eigensolver_comparison import EigensolverSettings, compare_on_problem
from miramns.bench.eigensolver_record import EigensolverRecord
from miramns.bench.figures import draw_all
from miramns.bench.harness.arguments import Parser, split_words, tolerance
from miramns.bench.harness.methods import select_by_name
from miramns.bench.harness.result_folder import ResultFolder, machine_facts
from miramns.bench.harness.root_rank import BenchError
from miramns.bench.methods import EigensolverMethod, available
from miramns.bench.problems import catalogue as problem_catalogue
from miramns.bench.problems.catalogue import Problem, file_problem
from miramns.bench.problems.matrix_files import matrix_files
from miramns.bench.tables import markdown

_LIMIT = 120.0

#: Methods of ``--quick``, and its time limit of one run in seconds.
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
        Exit status: 0, or 2 after a one-line message if the request cannot be carried out.
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


def _parsed(argv: Sequence[str] | None, comm: MPI.Comm) -> argparse.Namespace:
    with open(os.devnull, "w") as null, contextlib.ExitStack() as stack:
        if comm.rank:  # only rank 0 prints the help
            stack.enter_context(contextlib.redirect_stdout(null))
        return _parser().parse_args(argv)


def _parser() -> Parser:
    parser = Parser(
        "miramns.bench",
        "Compare eigensolvers at the same true residual, on the same start vector.",
        limit=_LIMIT,
        folder="eigensolver-bench",
        k="numbers of eigenpairs (default: 5,10)",
        seed="seed of the start vector (default: 0)",
        quick="small problems, fewer methods, one run of each",
    )
    add = parser.add_argument
    problems = "generated problems, patterns of them, or a set: usual, quick, big"
    add("--problems", nargs="+", default=[], metavar="NAME[:key=value,...]", help=problems)
    add("--data-dir", type=Path, help="folder with matrices/*.mtx and *.mtx.gz")
    matrix = "a Matrix Market file; may be repeated"
    add("--matrix", type=Path, action="append", default=[], metavar="FILE", help=matrix)
    add("--which", choices=("LM", "LR", "SR", "LA", "SA"), default="LM")
    tol = "largest residual relative to the eigenvalue (default: 1e-8)"
    add("--tol", type=tolerance, default=1e-8, help=tol)
    return parser


def _run(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    if arguments.list:
        if comm.rank == 0:
            print(_catalogue(), flush=True)
        return 0
    quick, figures = arguments.quick, not arguments.no_figures
    problems = _problems(arguments, comm)
    methods = _methods(arguments)
    settings = EigensolverSettings(
        ks=arguments.k or ([5] if quick else [5, 10]),
        which=arguments.which,
        tol=arguments.tol,
        repeats=arguments.repeats or (1 if quick else 3),
        limit=arguments.limit or (_QUICK_LIMIT if quick else _LIMIT),
        seed=arguments.seed,
        courses=figures,
    )
    report = _reporter(comm, len(problems) * len(settings.ks) * len(methods))
    results: ResultFolder[EigensolverRecord] = ResultFolder(
        comm, arguments.out, lambda: _environment(comm)
    )
    for problem in problems:
        results.add(compare_on_problem(comm, problem, methods, settings, report))
    results.finish("tables.md", markdown, draw_all if figures else None)
    return 0


def _problems(arguments: argparse.Namespace, comm: MPI.Intracomm) -> list[Problem]:
    """Return the requested problems: files, generated ones, or a preset."""
    paths = list(arguments.matrix)
    if arguments.data_dir:
        paths += matrix_files(comm, arguments.data_dir)
    words = list(arguments.problems)
    if not words and not paths:
        words = ["quick" if arguments.quick else "usual"]
    files = [file_problem(comm, path) for path in dict.fromkeys(paths)]
    return problem_catalogue.select(words) + files


def _methods(arguments: argparse.Namespace) -> list[EigensolverMethod]:
    words = split_words(arguments.methods)
    if words or not arguments.quick:
        return select_by_name(available(), words)
    return [one for one in available() if one.name in _QUICK_METHODS]


def _reporter(comm: MPI.Comm, n_cases: int) -> Callable[[EigensolverRecord], None]:
    """Return a function that prints one line on rank 0 for each case that has its status."""
    numbers = itertools.count(1)
    width = len(str(n_cases))

    def report(record: EigensolverRecord) -> None:
        number = next(numbers)
        if comm.rank or record.status == "unfit":
            return
        cost = "" if record.n_matvec is None else f"{record.n_matvec:7d} products"
        cost += "" if record.seconds is None else f" {record.seconds:9.3g} s"
        print(
            f"[{number:{width}d}/{n_cases}] {record.problem:28} k={record.k:<4d} "
            f"{record.method:24} {cost:27} {record.verdict}".rstrip(),
            flush=True,
        )

    return report


def _environment(comm: MPI.Comm) -> dict[str, object]:
    facts = machine_facts(("petsc4py", "slepc4py", "numpy", "scipy", "primme"))
    facts["PETSc integers"] = f"{8 * PETSc.IntType().itemsize} bits"
    facts["MPI library"] = re.split(r"[,\n\x00]", MPI.Get_library_version())[0].strip()
    facts["ranks"] = comm.size
    facts["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "not set")
    return facts


def _catalogue() -> str:
    lines = ["problems:"]
    for name, generator in problem_catalogue.GENERATORS.items():
        parameters = inspect.signature(generator).parameters.values()
        defaults = ",".join(f"{one.name}={one.default}" for one in parameters)
        lines += [f"  {name:18} {inspect.getdoc(generator)}", f"  {'':18} {name}:{defaults}"]
    lines.append("sets of problems:")
    for name, members in problem_catalogue.PRESETS.items():
        lines.append(f"  {name:18} {members[0]}")
        lines += [f"  {'':18} {member}" for member in members[1:]]
    lines.append("methods:")
    lines += [f"  {one.name:24} {one.about}" for one in available()]
    return "\n".join(lines)
