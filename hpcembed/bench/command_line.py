"""Command line of ``hpcembed bench pca``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mpi4py import MPI
from threadpoolctl import threadpool_info

import hpcembed
from hpcembed.bench import methods as catalogue
from hpcembed.bench.data_sets import FORMS, parse
from hpcembed.bench.figures import draw
from hpcembed.bench.pca_comparison import PcaSettings, compare_on_rows
from hpcembed.bench.pca_record import PcaRecord
from hpcembed.bench.tables import markdown
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.machine.threads import available_cores
from hpcembed.runtime.wording import counted
from miramns.bench.harness.arguments import Parser, positive_integer, split_words
from miramns.bench.harness.result_folder import ResultFolder, machine_facts
from miramns.bench.harness.root_rank import BenchError

_LIMIT = 300.0
_QUICK_DATA = ("digits", "generated:600x80")
_QUICK_LIMIT = 20.0
_PACKAGES = (
    "numpy", "scipy", "scikit-learn", "scikit-learn-intelex", "torch", "heat", "petsc4py",
    "slepc4py",
)  # fmt: skip


def main(argv: Sequence[str], comm: MPI.Intracomm) -> int:
    """Run the benchmark, on one rank.

    Returns
    -------
    int
        Exit status 0.

    Raises
    ------
    HpcembedError
        With a one-line message, if the request cannot be carried out.
    """
    if comm.size > 1:
        raise ConfigError(
            "bench pca compares methods of one process: start it without mpiexec "
            "(benchmarks/scaling.py measures more ranks)"
        )
    try:
        return _run(_parser().parse_args(argv), comm)
    except BenchError as error:
        raise ConfigError(f"bench pca: {error}") from error


def _run(arguments: argparse.Namespace, comm: MPI.Intracomm) -> int:
    if arguments.list:
        print(_catalogue(), flush=True)
        return 0
    quick = arguments.quick
    data = [parse(word) for word in arguments.data or (_QUICK_DATA if quick else ("digits",))]
    methods = catalogue.select(split_words(arguments.methods))
    settings = PcaSettings(
        ks=arguments.k or ([5] if quick else [10, 50]),
        threads=arguments.threads or len(available_cores()),
        repeats=arguments.repeats or (1 if quick else 3),
        limit=arguments.limit or (_QUICK_LIMIT if quick else _LIMIT),
        seed=arguments.seed,
        memory=not (quick or arguments.no_memory),
        data_dir=arguments.data_dir,
    )
    results: ResultFolder[PcaRecord] = ResultFolder(
        comm, arguments.out, lambda: _environment(settings.threads)
    )
    for one in data:
        results.add(compare_on_rows(one, methods, settings, _report, partial(print, flush=True)))
    results.finish("table.md", markdown, None if arguments.no_figures else draw)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "hpcembed bench pca",
        "Compare PCAs: seconds, captured variance, residual and memory.",
        limit=_LIMIT,
        folder="pca-bench",
        k="numbers of components (default: 10,50)",
        seed="seed of generated rows and of start vectors (default: 0)",
        quick="digits and a small generated table, one repeat, no memory",
    )
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="NAME", help=", ".join(FORMS))
    data_dir = "folder with mnist/ and cifar10/ (default: the current folder)"
    add("--data-dir", type=Path, default=Path(), help=data_dir)
    add("--threads", type=positive_integer, help="threads of every library (default: all cores)")
    no_memory = "do not measure peaks of memory; a fit over the time limit is then not ended"
    add("--no-memory", action="store_true", help=no_memory)
    return parser


def _report(record: PcaRecord) -> None:
    """Print one line for a case: its quality, or its seconds once it is timed."""
    if record.status == "unfit":
        return
    cost = ""
    if record.seconds is not None:
        cost = f"fit {record.seconds:.3g} s"
        if record.transform_s is not None:
            cost += f", transform {record.transform_s:.3g} s"
    elif record.deficit is not None:
        cost = f"1 - captured {record.deficit:.1e}, residual {record.residual:.1e}"
    print(f"  k={record.k:<4d} {record.method:22} {cost:40} {record.verdict}".rstrip(), flush=True)


def _environment(threads: int) -> dict[str, object]:
    pools = [info for info in threadpool_info() if info["user_api"] == "blas"]
    return {
        "hpcembed": hpcembed.__version__,
        **machine_facts(_PACKAGES),
        "threads": threads,
        "BLAS": "; ".join(
            f"{info['internal_api']} {info['version']} ({info.get('architecture') or '?'}, "
            f"{counted(info['num_threads'], 'thread')})"
            for info in pools
        ),
    }


def _catalogue() -> str:
    lines = ["data:", *(f"  {form}" for form in FORMS), "methods:"]
    lines += [f"  {one.name:22} {one.about}" for one in catalogue.available()]
    return "\n".join(lines)
