"""``hpcembed complete``: a table of triplets in, its low-rank completion and test error out."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpi4py import MPI
from safetensors.numpy import save_file

from hpcembed.jobs.report.tables import TextTable
from hpcembed.networks.deep_linear import TableCompletion, complete_table
from hpcembed.runtime.agreement import agreement, idle_while_root
from hpcembed.runtime.logging import show
from hpcembed.runtime.output import check_free
from hpcembed.runtime.whole_folder import whole_folder

__all__ = ["CompleteRequest", "run_complete"]


@dataclass(frozen=True, slots=True)
class CompleteRequest:
    """Arguments of ``hpcembed complete``.

    Attributes
    ----------
    source : Path
        Lines of user, item and value; further columns are ignored.
    test : Path, optional
        Test entries; default: a tenth of the entries, drawn at random.
    rank : int, optional
    ridge : float, optional
        Default of both: those of the least error on validation entries.
    seed : int
    """

    source: Path
    test: Path | None = None
    rank: int | None = None
    ridge: float | None = None
    seed: int = 0


def run_complete(request: CompleteRequest, out: Path | None, comm: MPI.Intracomm) -> int:
    """Complete a table, print its test error, and write its factors.

    Collective.

    Returns
    -------
    int
        Exit status 0.
    """
    with agreement(comm):
        if out is not None and comm.rank == 0:
            check_free(out)
    found = complete_table(
        request.source, request.rank, ridge=request.ridge, test=request.test, seed=request.seed,
        comm=comm,
    )  # fmt: skip

    def finish() -> None:
        for line in describe(found):
            show(line)
        if out is not None:
            write_completion(found, out)
            show(f"factors written to {out}")

    idle_while_root(comm, finish)
    return 0


def describe(found: TableCompletion) -> list[str]:
    """Return the lines that the command prints."""
    counts = f"{found.n_training} training, {found.n_validation} validation, {found.n_test} test"
    lines = [f"table: {len(found.users)} users, {len(found.items)} items; entries: {counts}"]
    if found.duplicates:
        lines.append(f"{found.duplicates} entries of a pair that occurs before were left out")
    if found.candidates:
        table = TextTable(
            ("rank", "ridge", "validation RMSE"),
            [(str(c.rank), f"{c.ridge:g}", f"{c.rmse:.4f}") for c in found.candidates],
        )
        lines.append(table.plain())
    lines.append(
        f"rank {found.rank}, ridge {found.ridge:g}: test RMSE {found.test_rmse:.4f}; offsets alone "
        f"{found.offsets_rmse:.4f}; {found.parameters} parameters; "
        f"{sum(found.seconds.values()):.2f} s"
    )
    return lines


def write_completion(found: TableCompletion, folder: Path) -> None:
    """Write ``factors.safetensors``, the names of users and items, and ``completion.json``."""
    with whole_folder(folder) as partial:
        save_file(
            {
                "user_factors": found.user_factors,
                "item_factors": found.item_factors,
                "user_offsets": found.user_offsets,
                "item_offsets": found.item_offsets,
            },
            partial / "factors.safetensors",
        )
        for name, entries in (("users.csv", found.users), ("items.csv", found.items)):
            _write_names(partial / name, entries)
        record = {
            "mean": found.mean,
            "limits": found.limits,
            "rank": found.rank,
            "ridge": found.ridge,
            "entries": {
                "training": found.n_training,
                "validation": found.n_validation,
                "test": found.n_test,
                "left_out": found.duplicates,
            },
            "rmse": {
                "training": found.training_rmse,
                "validation": found.validation_rmse,
                "test": found.test_rmse,
                "offsets": found.offsets_rmse,
            },
            "candidates": [
                {"rank": c.rank, "ridge": c.ridge, "validation_rmse": c.rmse}
                for c in found.candidates
            ],
            "iterations": found.iterations,
            "converged_reason": found.converged_reason,
            "start_residual": found.start_residual,
            "seconds": found.seconds,
        }
        (partial / "completion.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def _write_names(path: Path, names: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name"])
        writer.writerows([name] for name in names)
