"""The cells of a study: one network, one input, one seed; and how they are trained together.

A cell's digest is a function of everything that decides its result: the data (its settings and a
fingerprint of its content), the input, the network, the seed and the recipe. Where it was trained,
with which others, and on how many ranks is not part of it, and changes the result by rounding only.
Which cells are trained together depends on what there is to train, not on the ranks, so that any
number of ranks gives the same results.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import msgspec

from hpcembed.networks.training.recipe import Recipe

__all__ = ["Cell", "InputKind", "Result", "Unit", "cell_cost", "digest", "divide", "plan_units"]

#: Raised when equal definitions no longer give equal results.
VERSION = 1

#: Numbers that the activations of a layer may hold over all networks of a unit, for each row.
WIDTH_TOGETHER = 1024
#: Networks of a unit, at most: beyond, what an operation costs to start no longer matters.
MOST_TOGETHER = 16

InputKind = Literal["full", "spectral", "whitened", "gaussian", "sparse"]


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One training: input, its number of columns, hidden layers, seed."""

    input: InputKind
    hidden: tuple[int, ...]
    n_inputs: int
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """What the training of one cell gave; accuracies between 0 and 1.

    Attributes
    ----------
    confusion : tuple of tuple of int
        Test rows of each class (outer) by what the network said (inner); empty for many classes.
    """

    digest: str
    cell: Cell
    parameters: int
    train_seconds: float
    train_loss: float
    validation_accuracy: float
    test_accuracy: float
    best_epoch: int
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """Cells with the same input and hidden layers that are trained at a time."""

    cells: tuple[Cell, ...]
    cost: float


def digest(cell: Cell, recipe: Recipe, data: Mapping[str, Any]) -> str:
    """Name a cell by what decides its result: 32 hexadecimal digits. Not collective.

    Parameters
    ----------
    data : mapping
        Settings and fingerprint of the data, as JSON values.
    """
    content = {
        "version": VERSION,
        "cell": asdict(cell),
        "recipe": msgspec.structs.asdict(recipe),
        "data": dict(data),
    }
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


def cell_cost(cell: Cell, n_classes: int) -> float:
    """Work of one training relative to others: products of a row, and what a step costs anyway."""
    widths = (cell.n_inputs, *cell.hidden, n_classes)
    return 2_000.0 + sum(a * b for a, b in pairwise(widths))


def plan_units(
    cells: Iterable[Cell], n_classes: int, batch_size: int, together: int = 0
) -> list[Unit]:
    """Put cells together that are trained at a time, the dearest first. Not collective.

    Cells of one seed and several numbers of inputs share their rows, which saves copies; where
    there are few numbers of inputs, seeds are put together instead.

    Parameters
    ----------
    batch_size : int
        Rows of a step; bounds the inputs that a step holds.
    together : int
        Cells of a unit, 0 = chosen from the widths.
    """
    groups: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell in sorted(set(cells)):
        groups[cell.input, cell.hidden].append(cell)
    units = []
    for (kind, _), group in groups.items():
        numbers = {cell.n_inputs for cell in group}
        seeds = {cell.seed for cell in group}
        # Random projections differ from seed to seed, and all features are scaled as a whole.
        by_seed = kind in ("gaussian", "sparse") or len(numbers) >= len(seeds)
        parts: dict[int, list[Cell]] = defaultdict(list)
        for cell in group:
            parts[cell.seed if by_seed else cell.n_inputs].append(cell)
        for part in parts.values():
            size = together or _together(part, batch_size)
            count = -(-len(part) // size)
            for i in range(count):
                chosen = part[len(part) * i // count : len(part) * (i + 1) // count]
                cost = sum(cell_cost(cell, n_classes) for cell in chosen)
                units.append(Unit(tuple(chosen), cost))
    return sorted(units, key=lambda unit: (-unit.cost, unit.cells))


def _together(cells: Sequence[Cell], batch_size: int) -> int:
    widest = max(max(cell.hidden, default=1) for cell in cells)
    size = min(MOST_TOGETHER, max(1, WIDTH_TOGETHER // widest))
    if len({cell.seed for cell in cells}) > 1:  # each seed brings rows of its own
        inputs = batch_size * max(cell.n_inputs for cell in cells)
        size = min(size, max(1, 2**20 // inputs))
    return size


def divide(units: Sequence[Unit], ranks: int) -> list[list[Unit]]:
    """Give each rank its units: the dearest first, each to the rank with the least to do."""
    shares: list[list[Unit]] = [[] for _ in range(ranks)]
    loads = [0.0] * ranks
    for unit in units:
        rank = loads.index(min(loads))
        shares[rank].append(unit)
        loads[rank] += unit.cost
    return shares
