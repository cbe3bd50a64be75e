"""Folder of a completed table: factors, names and record; written, and loaded to predict.

``factors.safetensors`` has the factors and offsets, ``users.csv`` and ``items.csv`` have the names
of their rows, ``completion.json`` has the mean, the limits and the record of the fit. The
prediction of user i and item j is

    mean + user_offsets[i] + item_offsets[j] + user_factors[i] @ item_factors[j]

clipped to the limits; a term of an unknown user or item is zero.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from hpcembed.jobs.report.run_folder import json_bytes
from hpcembed.jobs.report.tables import spreadsheet_safe, spreadsheet_text
from hpcembed.networks.deep_linear import Candidate, TableCompletion
from hpcembed.runtime.errors import InputError, error_text
from hpcembed.runtime.output.files import ordered_safetensors
from hpcembed.runtime.output.whole_folder import whole_folder

__all__ = ["load_completion", "write_completion"]

_RECORD, _TENSORS, _USERS, _ITEMS = (
    "completion.json", "factors.safetensors", "users.csv", "items.csv",
)  # fmt: skip
_ARRAYS = ("user_factors", "item_factors", "user_offsets", "item_offsets")
_FORMULA = (
    "mean + user_offsets[i] + item_offsets[j] + user_factors[i] @ item_factors[j], clipped to "
    "limits; terms of unknown users and items are zero"
)


def write_completion(found: TableCompletion, folder: str | Path) -> None:
    """Write a completed table to a folder that :func:`load_completion` reads.

    Not collective: call it on one rank.

    Parameters
    ----------
    found : TableCompletion
    folder : str or Path
        A new or empty folder.

    Raises
    ------
    OutputExistsError
        The folder is not empty.
    OutputError
        The folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import hpcembed
    >>> users, items = ["u", "u", "v", "v"] * 5, ["a", "b", "a", "b"] * 5
    >>> table = hpcembed.complete_table((users, items, [1.0, 2.0, 3.0, 4.0] * 5), 1, ridge=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     hpcembed.write_completion(table, folder)
    ...     loaded = hpcembed.load_completion(folder)
    >>> bool(loaded.predict(["u"], ["b"]) == table.predict(["u"], ["b"]))
    True
    >>> loaded.predict(["v", "new"], ["b", "b"]).shape
    (2,)
    """
    with whole_folder(Path(folder)) as partial:
        tensors = save({name: getattr(found, name) for name in _ARRAYS})
        (partial / _TENSORS).write_bytes(ordered_safetensors(tensors))
        _write_names(partial / _USERS, found.users)
        _write_names(partial / _ITEMS, found.items)
        record = msgspec.json.format(json_bytes(_record(found)), indent=2)
        (partial / _RECORD).write_bytes(record + b"\n")


def load_completion(folder: str | Path) -> TableCompletion:
    """Load a completed table that :func:`write_completion` or ``hpcembed complete --out`` wrote.

    Not collective.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    TableCompletion
        Its method ``predict(users, items)`` predicts pairs; a pair with an unknown user or item is
        predicted by the mean and the offset of the known one.

    Raises
    ------
    InputError
        There is no completed table in the folder, or it is damaged.

    Examples
    --------
    See :func:`write_completion`.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        arrays = load_file(folder / _TENSORS)
        users, items = _read_names(folder / _USERS), _read_names(folder / _ITEMS)
        shapes = [arrays[name].shape for name in _ARRAYS]
        sizes, rank = (len(users), len(items)), int(record["rank"])
        if shapes != [(sizes[0], rank), (sizes[1], rank), (sizes[0],), (sizes[1],)]:
            raise ValueError(f"{sizes[0]} users and {sizes[1]} items for arrays of shapes {shapes}")
        return _completion(users, items, arrays, record)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: no completed table: {Path(error.filename or _TENSORS).name} is missing"
        ) from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from error
    except (
        KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError,
        csv.Error, SafetensorError,
    ) as error:  # fmt: skip
        raise InputError(
            f"{folder}: damaged ({error_text(error)}): complete the table again"
        ) from error


def _record(found: TableCompletion) -> dict[str, Any]:
    return {
        "prediction": _FORMULA,
        "mean": found.mean,
        "limits": found.limits,
        "rank": found.rank,
        "ridge": found.ridge,
        "parameters": found.parameters,
        "entries": {
            "training": found.n_training,
            "validation": found.n_validation,
            "test": found.n_test,
            "repeated": found.duplicates,
        },
        "rmse": {
            "training": found.training_rmse,
            "validation": found.validation_rmse,
            "test": found.test_rmse,
            "offsets": found.offsets_rmse,
        },
        "candidates": [
            {
                "rank": one.rank,
                "ridge": one.ridge,
                "validation_rmse": one.rmse,
                "iterations": one.iterations,
            }
            for one in found.candidates
        ],
        "iterations": found.iterations,
        "converged_reason": found.converged_reason,
        "start_residual": found.start_residual,
        "seconds": found.seconds,
    }


def _completion(
    users: tuple[str, ...], items: tuple[str, ...], arrays: dict[str, Any], record: dict[str, Any]
) -> TableCompletion:
    entries, rmse = record["entries"], record["rmse"]
    least, most = record["limits"]
    return TableCompletion(
        users=users,
        items=items,
        mean=float(record["mean"]),
        **{name: arrays[name] for name in _ARRAYS},
        limits=(float(least), float(most)),
        rank=record["rank"],
        ridge=record["ridge"],
        candidates=tuple(
            Candidate(one["rank"], one["ridge"], _number(one["validation_rmse"]), one["iterations"])
            for one in record["candidates"]
        ),
        n_training=entries["training"],
        n_validation=entries["validation"],
        n_test=entries["test"],
        duplicates=entries["repeated"],
        training_rmse=_number(rmse["training"]),
        validation_rmse=_number(rmse["validation"]),
        test_rmse=_number(rmse["test"]),
        offsets_rmse=_number(rmse["offsets"]),
        iterations=record["iterations"],
        converged_reason=record["converged_reason"],
        start_residual=_number(record["start_residual"]),
        parameters=record["parameters"],
        seconds=dict(record["seconds"]),
    )


def _number(value: float | None) -> float:
    """Return a number of the record, in which null stands for NaN."""
    return math.nan if value is None else float(value)


def _write_names(path: Path, names: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name"])
        writer.writerows([spreadsheet_safe(name)] for name in names)


def _read_names(path: Path) -> tuple[str, ...]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows, None)
        return tuple(spreadsheet_text(row[0]) for row in rows)
