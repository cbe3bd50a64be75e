"""Methods that a benchmark compares, and their selection by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from miramns.bench.harness.root_rank import BenchError


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes
    ----------
    name : str
    about : str
        Description in one line, for ``--list``.
    """

    name: str
    about: str


M = TypeVar("M", bound=Method)


def select_by_name(methods: Sequence[M], patterns: Sequence[str]) -> list[M]:
    """Select the methods whose names match one of the patterns; all of them without patterns.

    Raises
    ------
    BenchError
        If a pattern matches no method.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(method.name, pattern) for method in methods):
            names = ", ".join(method.name for method in methods)
            raise BenchError(f"method {pattern!r} is not one of {names}")
    fits = fnmatch.fnmatchcase
    return [one for one in methods if not patterns or any(fits(one.name, p) for p in patterns)]
