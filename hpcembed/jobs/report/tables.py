"""What a run says at its end, as plain text of at most 100 columns.

One table that sets the networks on the whole input beside those on the embedding, one line that
says whether the eigenpairs are certified and by how much, one line of seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.report.run_json import Trained

__all__ = ["ResultRow", "certification_line", "result_row", "result_table", "seconds_line"]

WIDTH = 100
#: Indices that a message lists one by one before it only counts.
LISTED = 8

_HEADINGS = (
    "input",
    "inputs",
    "hidden",
    "parameters",
    "train s",
    "validation %",
    "test %",
)


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One trained network; accuracies between 0 and 1, NaN where there is none."""

    input: Literal["full", "embedded"]
    n_inputs: int
    hidden: tuple[int, ...]
    parameters: int
    train_seconds: float
    validation_accuracy: float
    test_accuracy: float


def result_row(trained: Trained, n_inputs: int) -> ResultRow:
    """Take one row of the table from a classifier's report. Not collective."""
    return ResultRow(
        trained.input,
        n_inputs,
        trained.hidden,
        trained.parameters,
        trained.train_seconds,
        trained.validation_accuracy,
        trained.test_accuracy,
    )


def result_table(rows: Sequence[ResultRow]) -> str:
    """One line per network, in the given order, under a heading.

    Not collective. The text has no newline at its end.
    """
    cells = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    # Text columns start on the left, numbers end on the right.
    left = (True, False, True, False, False, False, False)
    lines = []
    for line in cells:
        aligned = [
            cell.ljust(width) if flush_left else cell.rjust(width)
            for cell, width, flush_left in zip(line, widths, left, strict=True)
        ]
        lines.append("  ".join(aligned).rstrip())
    lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def _cells(row: ResultRow) -> tuple[str, ...]:
    return (
        row.input,
        f"{row.n_inputs:,}",
        _layers(row.hidden),
        f"{row.parameters:,}",
        _seconds(row.train_seconds),
        _percent(row.validation_accuracy),
        _percent(row.test_accuracy),
    )


def _layers(hidden: tuple[int, ...]) -> str:
    """Widths joined by dashes; a middle that would make the table too wide is only counted."""
    text = "-".join(map(str, hidden)) if hidden else "none"
    if len(text) <= 32:
        return text
    return f"{hidden[0]}-...-{hidden[-1]} ({len(hidden)} layers)"


def _percent(share: float) -> str:
    return f"{100.0 * share:.2f}" if math.isfinite(share) else "-"


def _seconds(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "-"
    return (
        f"{seconds:.2f}"
        if seconds < 10
        else f"{seconds:.1f}"
        if seconds < 100
        else f"{seconds:.0f}"
    )


def certification_line(
    eigenvalues: NDArray[np.float64],
    residual_norms: NDArray[np.float64],
    bounds: NDArray[np.float64],
    orthogonality: float,
    *,
    n_requested: int | None = None,
    reference_solver: str = "",
    reference_sin_angle: float | None = None,
    n_compared: int | None = None,
    exceeded: Sequence[int] = (),
) -> str:
    """Say whether every requested eigenpair meets its tolerance, and by which figures.

    Not collective.

    Parameters
    ----------
    eigenvalues : ndarray of shape (k,)
        In descending order of magnitude.
    residual_norms : ndarray of shape (k,)
        True residuals ||A v - lambda v||, absolute.
    bounds : ndarray of shape (k,)
        What each residual had to stay below.
    orthogonality : float
        Norm of V'V - I.
    n_requested : int, optional
        Number of pairs asked for, when fewer were found.
    reference_solver, reference_sin_angle
        Name of the second solver and the sine of the largest angle to its subspace.
    n_compared : int, optional
        Pairs that the second solver found, when fewer than asked for.
    exceeded : sequence of int
        Positions, from 0, where the second solver has a larger eigenvalue: ours passed one over.

    Returns
    -------
    str
        ``certified: 50 of 50 eigenpairs, ...`` or ``NOT certified: 48 of 50 eigenpairs, ...;
        missed: 49, 50`` (counted from 1), on one line.
    """
    values, residuals = np.abs(eigenvalues), np.asarray(residual_norms)
    wanted = values.size if n_requested is None else n_requested
    largest = float(values.max(initial=0.0))
    # Not "residuals > bounds": a residual that is NaN has missed.
    missed = [*np.flatnonzero(~(residuals <= bounds)) + 1, *range(values.size + 1, wanted + 1)]
    passed_over = [i + 1 for i in exceeded]
    certified = wanted - len({*missed, *passed_over})
    parts = [f"{'NOT ' if certified < wanted else ''}certified: {certified} of {wanted} eigenpairs"]
    if residuals.size:
        worst = float(residuals.max()) / largest if largest > 0 else float(residuals.max())
        unit = " of lambda_1" if largest > 0 else ""
        parts.append(f"largest true residual {worst:.1e}{unit}")
        parts.append(f"|V'V-I| {orthogonality:.0e}")
    if n_compared == 0:
        parts.append(f"{reference_solver} found no pair to compare with")
    elif reference_sin_angle is not None:
        share = f" ({n_compared} pairs)" if n_compared is not None and n_compared < wanted else ""
        parts.append(f"largest angle to {reference_solver}{share} {reference_sin_angle:.0e}")
    line = ", ".join(parts)
    if missed:
        line += f"; missed: {_listed(missed)}"
    if passed_over:
        line += f"; {reference_solver} has a larger eigenvalue: {_listed(passed_over)}"
    return line


def _listed(pairs: Sequence[int]) -> str:
    shown = ", ".join(str(pair) for pair in pairs[:LISTED])
    more = len(pairs) - LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def seconds_line(seconds: Mapping[str, float]) -> str:
    """Seconds of each stage and their sum: ``seconds: read 0.12, solve 3.40; total 3.52``.

    Not collective.
    """
    stages = ", ".join(f"{name} {_seconds(value)}" for name, value in seconds.items())
    return f"seconds: {stages}; total {_seconds(math.fsum(seconds.values()))}"
