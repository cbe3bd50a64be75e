"""Finished cells on disk: one line of JSON each, one file for each rank that trained.

A line is written when its cells are trained and flushed at once; a job that is killed leaves at
most one line cut off, which is passed over when the files are read, as are lines of other studies.
Files of an earlier run with more ranks are read as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpcembed.jobs.report import OutputError
from hpcembed.jobs.study.trials import Cell, Result

__all__ = ["append_results", "read_results"]

FOLDER = "cells"


def read_results(folder: Path) -> dict[str, Result]:
    """Read every finished cell, by its digest. Not collective.

    Raises
    ------
    OutputError
        A file cannot be read.
    """
    found: dict[str, Result] = {}
    for path in sorted((folder / FOLDER).glob("rank-*.jsonl")):
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise OutputError(f"{path}: cannot read: {error.strerror or error}") from error
        for line in lines:
            result = _result(line)
            if result is not None:
                found[result.digest] = result
    return found


def append_results(folder: Path, rank: int, results: Sequence[Result]) -> None:
    """Append finished cells to this rank's file. Not collective.

    Raises
    ------
    OutputError
        They cannot be written.
    """
    path = folder / FOLDER / f"rank-{rank}.jsonl"
    text = "".join(json.dumps(_plain(result), allow_nan=False) + "\n" for result in results)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            # A line that a killed run left cut off would swallow the next one.
            file.seek(0, 2)
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    text = "\n" + text
            file.write(text.encode("utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path}: cannot write: {reason}; free space there") from error


def _plain(result: Result) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(result).items()
    }


def _result(line: bytes) -> Result | None:
    """The result in a line, or None where the line is not a whole one."""
    try:
        content = json.loads(line)
        cell = content.pop("cell")
        floats = ("train_seconds", "train_loss", "validation_accuracy", "test_accuracy")
        for name in floats:
            content[name] = math.nan if content[name] is None else float(content[name])
        return Result(
            cell=Cell(cell["input"], tuple(cell["hidden"]), cell["n_inputs"], cell["seed"]),
            **(content | {"confusion": tuple(tuple(row) for row in content["confusion"])}),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
