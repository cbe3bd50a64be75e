"""The state of objects as numbers and arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miramns.checkpointing import Saved
from miramns.checkpointing.manifest import JSON
from miramns.iteration.subspace_size import ConvergenceRate
from miramns.result import ConvergenceHistory, IterationRecord

#: Attributes that belong to this rank alone, or are made by the constructor.
NOT_SAVED = ("rows", "basis", "inner", "_columns", "_orthonormal")

#: Attributes that follow from the arguments of the solve.
_GIVEN = ("n", "capacity", "hermitian", "k", "sizes")


def attributes(thing: object) -> dict[str, JSON]:
    """Return the attributes of an object that are numbers, texts, None, or lists of them."""
    found: dict[str, JSON] = {}
    for name, value in vars(thing).items():
        if isinstance(value, np.generic):
            value = value.item()
        if name not in NOT_SAVED and _is_plain(value):
            found[name] = value
        elif isinstance(value, ConvergenceRate):
            found[name] = attributes(value)
    return found


def set_attributes(thing: object, state: Mapping[str, JSON]) -> None:
    """Set the attributes that :func:`attributes` has returned."""
    for name, value in state.items():
        before = getattr(thing, name)
        if name in _GIVEN and value != (list(before) if isinstance(before, tuple) else before):
            raise ValueError(f"{name} was {value!r}, is {before!r}")
        if name in NOT_SAVED or not (isinstance(before, ConvergenceRate) or _is_plain(before)):
            raise ValueError(f"{name} is no part of a state")
        if not isinstance(value, _kinds_like(before)) or isinstance(value, bool) != isinstance(
            before, bool
        ):
            raise ValueError(f"{name} is {value!r}")
        if isinstance(value, dict):
            set_attributes(before, value)
        elif isinstance(value, list) and not isinstance(before, list):
            setattr(thing, name, tuple(value))
        else:
            setattr(thing, name, value)


def _kinds_like(before: object) -> tuple[type, ...]:
    """Return the types of JSON values that can take the place of an attribute."""
    if before is None:
        return (type(None), int, float, str, list)
    if isinstance(before, ConvergenceRate):
        return (dict,)
    for kinds in ((int,), (float, int), (str,)):
        if isinstance(before, kinds[0]):
            return kinds
    return (list,)


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(isinstance(one, bool | int | float | str) for one in value)
    return value is None or isinstance(value, bool | int | float | str)


def packed(history: ConvergenceHistory) -> dict[str, NDArray[Any]]:
    """Return the records as arrays."""
    records = history.records
    numbers = [
        (one.restart, one.size, one.n_matvec, one.measure, one.n_converged, one.chosen,
         len(one.values), len(one.estimates))
        for one in records
    ]  # fmt: skip
    return {
        "history": np.array(numbers, dtype=np.float64).reshape(len(records), 8),
        "history_values": np.array([v for one in records for v in one.values], np.complex128),
        "history_estimates": np.array([v for one in records for v in one.estimates], np.float64),
    }


def unpacked(saved: Saved) -> list[IterationRecord]:
    """Return the records of a checkpoint. Collective."""
    values = saved.shared("history_values").tolist()
    estimates = saved.shared("history_estimates").tolist()
    records, at_value, at_estimate = [], 0, 0
    for row in saved.shared("history").tolist():
        restart, size, n_matvec, measure, n_converged, chosen, n_values, n_estimates = row
        next_value, next_estimate = at_value + int(n_values), at_estimate + int(n_estimates)
        of_pairs = values[at_value:next_value], estimates[at_estimate:next_estimate]
        records.append(
            IterationRecord(
                int(restart), int(size), int(n_matvec), measure, int(n_converged), bool(chosen),
                *map(tuple, of_pairs),
            )
        )  # fmt: skip
        at_value, at_estimate = next_value, next_estimate
    return records
