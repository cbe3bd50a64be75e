"""``hpcembed complete``: a table of triplets in, its low-rank completion and test error out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mpi4py import MPI

from hpcembed.jobs.completion_folder import write_completion
from hpcembed.jobs.report.tables import TextTable
from hpcembed.networks.deep_linear import TableCompletion, complete_table
from hpcembed.runtime.agreement import agreement, idle_while_root
from hpcembed.runtime.logging import show
from hpcembed.runtime.output.files import check_free
from hpcembed.runtime.output.lock import owned_output

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
    with owned_output(comm, out):
        return _run_complete(request, out, comm)


def _run_complete(request: CompleteRequest, out: Path | None, comm: MPI.Intracomm) -> int:
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
            show(f"written to {out}; to predict in Python:")
            show(f'  hpcembed.load_completion("{out}").predict(users, items)')

    idle_while_root(comm, finish)
    return 0


def describe(found: TableCompletion) -> list[str]:
    """Return the lines that the command prints."""
    if not found.candidates:
        return [str(found)]
    table = TextTable(
        ("rank", "ridge", "validation RMSE"),
        [(str(c.rank), f"{c.ridge:g}", f"{c.rmse:.4f}") for c in found.candidates],
    )
    return [table.terminal(), str(found)]
