"""Command-line arguments that all benchmarks have."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from miramns.bench.harness.root_rank import BenchError


class Parser(argparse.ArgumentParser):
    """Parser with the arguments of every benchmark; a bad argument raises :class:`BenchError`.

    Parameters
    ----------
    prog, about : str
        Name and description of the command.
    limit : float
        Default of ``--limit`` in seconds, for the help text.
    folder : str
        Default of ``--out``.
    k, seed, quick : str
        Help texts of ``--k``, ``--seed`` and ``--quick``.
    """

    def __init__(
        self, prog: str, about: str, *, limit: float, folder: str, k: str, seed: str, quick: str
    ) -> None:
        super().__init__(prog=prog, description=about, allow_abbrev=False)
        add = self.add_argument
        add("--methods", nargs="+", default=[], metavar="NAME", help="methods, or patterns of them")
        add("--k", type=_positive_integers, metavar="K[,K...]", help=k)
        add("--repeats", type=positive_integer, help="timed runs of each method (default: 3)")
        limit_help = f"time limit of one run (default: {limit:g})"
        add("--limit", type=positive_number, metavar="SECONDS", help=limit_help)
        add("--seed", type=_seed, default=0, help=seed)
        out_help = f"folder for the results (default: {folder})"
        add("--out", type=Path, default=Path(folder), metavar="DIR", help=out_help)
        add("--no-figures", action="store_true", help="draw no figures")
        add("--quick", action="store_true", help=quick)
        add("--list", action="store_true", help="print the problems and methods, and exit")

    def error(self, message: str) -> NoReturn:
        """Raise the message of a bad argument, instead of printing the usage."""
        raise BenchError(message)


def positive_integer(text: str) -> int:
    """Convert an argument to a positive integer of at most nine digits."""
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text):
        raise argparse.ArgumentTypeError(f"need a positive whole number, got {text!r}")
    return int(text)


def _positive_integers(text: str) -> list[int]:
    """Convert ``K[,K...]``; a number given twice counts once."""
    return list(dict.fromkeys(positive_integer(item) for item in text.split(",")))


def _seed(text: str) -> int:
    return 0 if text.strip("0") == "" and text else positive_integer(text)


def positive_number(text: str) -> float:
    """Convert an argument to a finite positive number."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"need a positive number, got {text!r}")
    return value


def tolerance(text: str) -> float:
    """Convert an argument to a number between 0 and 1."""
    value = positive_number(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"need a number between 0 and 1, got {text!r}")
    return value


def split_words(texts: Sequence[str]) -> list[str]:
    """Split arguments that are separated by commas as well as by spaces."""
    return [word for text in texts for word in text.split(",") if word]
