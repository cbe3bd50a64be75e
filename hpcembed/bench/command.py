"""The command ``hpcembed bench pca``: arguments in, files out."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mpi4py import MPI

from hpcembed.bench import methods as catalogue
from hpcembed.bench.data_sets import FORMS, parse
from hpcembed.bench.output import Results
from hpcembed.bench.running import Settings, run_table
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.threads import available_cores

__all__ = ["main"]

_QUICK_DATA = ("digits", "generated:600x80")
_QUICK_LIMIT = 20.0


def main(argv: Sequence[str], comm: MPI.Intracomm) -> int:
    """Run the benchmark, on one rank.

    Returns
    -------
    int
        Exit status 0.

    Raises
    ------
    HpcembedError
        In one line, when what was asked for cannot be done.
    """
    if comm.size > 1:
        raise ConfigError(
            "bench pca compares methods of one process: start it without mpiexec "
            "(benchmarks/scaling.py measures more ranks)"
        )
    arguments = _parser().parse_args(argv)
    if arguments.list:
        print(_catalogue(), flush=True)
        return 0
    quick = arguments.quick
    tables = [parse(word) for word in arguments.data or (_QUICK_DATA if quick else ("digits",))]
    words = [word for text in arguments.methods for word in text.split(",") if word]
    methods = catalogue.select(words)
    settings = Settings(
        ks=list(dict.fromkeys(arguments.k or ([5] if quick else [10, 50]))),
        threads=arguments.threads or len(available_cores()),
        repeats=arguments.repeats or (1 if quick else 3),
        limit=arguments.limit or (_QUICK_LIMIT if quick else 300.0),
        seed=arguments.seed,
        memory=not (quick or arguments.no_memory),
        data_dir=arguments.data_dir,
    )
    results = Results(arguments.out, settings.threads)
    results.begin()
    for table in tables:
        results.add(run_table(table, methods, settings, results.progress, results.say))
    results.end(figures=not arguments.no_figures)
    return 0


class _Parser(argparse.ArgumentParser):
    """Reports a bad argument as the other errors are: in one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"bench pca: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="hpcembed bench pca",
        description="Compare PCAs: seconds beside captured variance, residual and memory.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="NAME", help=", ".join(FORMS))
    add(
        "--data-dir",
        type=Path,
        default=Path(),
        help="folder with mnist/ and cifar10/ (default: this one)",
    )
    add("--k", type=_numbers, metavar="K[,K...]", help="components (default: 10,50)")
    add("--methods", nargs="+", default=[], metavar="NAME", help="methods, or patterns of them")
    add("--threads", type=_count, help="of every library (default: all cores)")
    add("--repeats", type=_count, help="timed runs of each method (default: 3)")
    add(
        "--limit",
        type=_seconds,
        metavar="SECONDS",
        help="what a fit may take before it counts as too slow (default: 300)",
    )
    add("--seed", type=_seed, default=0, help="of generated rows and of start vectors")
    add(
        "--out",
        type=Path,
        default=Path("pca-bench"),
        metavar="DIR",
        help="folder for the results (default: pca-bench)",
    )
    add(
        "--no-memory",
        action="store_true",
        help="measure no peaks of memory; then nothing ends a fit that takes too long",
    )
    add("--no-figures", action="store_true", help="draw no picture")
    add(
        "--quick",
        action="store_true",
        help="digits and a small generated table, one repeat, no memory",
    )
    add("--list", action="store_true", help="print data sets and methods, and end")
    return parser


def _numbers(text: str) -> list[int]:
    return [_count(item) for item in text.split(",")]


def _count(text: str) -> int:
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text):
        raise argparse.ArgumentTypeError(f"need a positive whole number, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    return 0 if text.strip("0") == "" and text else _count(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"need a positive number, got {text!r}")
    return value


def _catalogue() -> str:
    lines = ["data:", *(f"  {form}" for form in FORMS), "methods:"]
    lines += [f"  {one.name:22} {one.about}" for one in catalogue.available()]
    return "\n".join(lines)
