"""Train the cells of a study on all ranks.

Each rank trains its share of the units with its own threads and writes every finished unit at
once. Rank 0 hears of the others' progress by small messages, which it looks for between its own
epochs; at the end those who are done sleep until all are.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from mpi4py import MPI

from hpcembed.jobs.study.inputs import StudyInputs
from hpcembed.jobs.study.result_store import append_results
from hpcembed.jobs.study.trials import Cell, Result, Unit, digest, divide
from hpcembed.networks.training.recipe import Recipe
from hpcembed.runtime.errors import HpcembedError
from hpcembed.runtime.logging import Progress
from hpcembed.runtime.ranks import agree

if TYPE_CHECKING:
    from hpcembed.networks.training.batched_training import TrainedBatch

__all__ = ["Trainer", "train_units"]

#: Classes beyond which a cell keeps no confusion matrix.
MOST_CLASSES = 32
_TAG = 11


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains units: what all cells of a study have in common.

    Attributes
    ----------
    data : mapping
        Settings and fingerprint of the data, which enter the digests.
    threads : int
        Of this rank.
    embedding : mapping
        What tells the embedding from principal components; enters the digests of its networks.
    """

    inputs: StudyInputs
    recipe: Recipe
    data: Mapping[str, Any]
    n_classes: int
    threads: int
    device: Literal["auto", "cpu", "cuda"] = "auto"
    embedding: Mapping[str, Any] = field(default_factory=dict)

    def recipe_of(self, kind: str) -> Recipe:
        """Take the recipe for an input: whitened ones are divided by their deviations."""
        if kind == "whitened":
            return msgspec.structs.replace(self.recipe, input_scaling="standard")
        return self.recipe

    def digest(self, cell: Cell) -> str:
        """Name a cell by what decides its result. Not collective."""
        embedded = cell.input in ("spectral", "whitened") and self.embedding
        data = {**self.data, "embedding": dict(self.embedding)} if embedded else self.data
        return digest(cell, self.recipe, data)

    def train(self, unit: Unit, on_epoch: Callable[[int], None] | None = None) -> TrainedBatch:
        """Train the cells of a unit. Not collective."""
        # PyTorch takes seconds and hundreds of megabytes: only ranks that train import it.
        from hpcembed.networks.training.batched_training import Member, train_batch
        from hpcembed.networks.training.samples import Samples

        first = unit.cells[0]
        train, test = self.inputs.of(first.input, first.seed)
        width = max(cell.n_inputs for cell in unit.cells)
        return train_batch(
            Samples(train[:, :width], self.inputs.train_labels),
            Samples(test[:, :width], self.inputs.test_labels),
            self.n_classes,
            first.hidden,
            self.recipe_of(first.input),
            [Member(cell.seed, cell.n_inputs) for cell in unit.cells],
            input_name="full" if first.input == "full" else "embedded",
            threads=self.threads,
            device=self.device,
            on_epoch=on_epoch,
        )

    def results(self, unit: Unit, batch: TrainedBatch) -> list[Result]:
        """What the cells of a trained unit gave. Not collective."""
        few = self.n_classes <= MOST_CLASSES
        return [
            Result(
                digest=self.digest(cell),
                cell=cell,
                parameters=outcome.parameters,
                train_seconds=outcome.train_seconds,
                train_loss=outcome.train_loss,
                validation_accuracy=outcome.validation_accuracy,
                test_accuracy=outcome.test_accuracy,
                best_epoch=outcome.best_epoch,
                confusion=tuple(map(tuple, outcome.confusion.tolist())) if few else (),
            )
            for cell, outcome in zip(unit.cells, batch.results, strict=True)
        ]


def train_units(
    comm: MPI.Intracomm, trainer: Trainer, units: Sequence[Unit], folder: Path, title: str
) -> list[Result]:
    """Train units on all ranks and keep what each one gave.

    Collective.

    Parameters
    ----------
    units : sequence of Unit
        The same on all ranks.
    folder : Path
        Where finished cells are appended.

    Returns
    -------
    list of Result
        Of all units, on every rank, in the order of the units.

    Raises
    ------
    HpcembedError
        On all ranks, when a training of one rank failed; what was finished before is kept.
    """
    mine = divide(units, comm.size)[comm.rank]
    made: list[Result] = []
    error: Exception | None = None
    with _Report(comm, units, title) as report:
        try:
            for unit in mine:
                share = unit.cost / trainer.recipe.epochs
                batch = trainer.train(unit, functools.partial(report.epoch, share))
                results = trainer.results(unit, batch)
                append_results(folder, comm.rank, results)
                made += results
                report.finished(unit)
        except (HpcembedError, OSError, MemoryError) as caught:
            error = caught
        report.wait()
    agree(comm, error)
    order = {cell: i for i, cell in enumerate(c for unit in units for c in unit.cells)}
    everything = [one for part in comm.allgather(made) for one in part]
    return sorted(everything, key=lambda one: order[one.cell])


class _Report:
    """Progress of all ranks, shown by rank 0, with an estimate of the time that is left."""

    def __init__(self, comm: MPI.Intracomm, units: Sequence[Unit], title: str) -> None:
        self._comm = comm
        self._total = sum(unit.cost for unit in units)
        # Work of finished units, and of the one that rank 0 has begun.
        self._done, self._begun = 0.0, 0.0
        self._cells, self._heard = 0, 0
        self._sent: list[MPI.Request] = []
        n_cells = sum(len(unit.cells) for unit in units)
        self._progress = Progress(title, n_cells, enabled=comm.rank == 0 and n_cells > 0)

    def __enter__(self) -> _Report:
        self._started = time.perf_counter()
        self._progress.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._progress.__exit__(*raised)

    def epoch(self, share: float, epoch: int) -> None:
        """Say how much of this rank's unit is done. Not collective."""
        self._begun = share * epoch
        self.listen()

    def listen(self) -> None:
        """Hear what the others have finished; rank 0 does between its epochs. Not collective."""
        if self._comm.rank:
            return
        while self._comm.iprobe(tag=_TAG):
            self._count(*self._comm.recv(tag=_TAG))
            self._heard += 1
        self._show()

    def finished(self, unit: Unit) -> None:
        """Say that a unit of this rank is finished. Not collective."""
        message = (len(unit.cells), unit.cost)
        self._begun = 0.0
        if self._comm.rank:
            self._sent.append(self._comm.isend(message, dest=0, tag=_TAG))
        else:
            self._count(*message)
            self._show()

    def wait(self) -> None:
        """Sleep until every rank is finished. Collective."""
        request = self._comm.Ibarrier()
        while not request.Test():
            self.listen()
            time.sleep(0.02)
        # Messages were sent before their rank came here: none is left behind unread.
        sent = self._comm.gather(len(self._sent))
        if sent is not None:
            while self._heard < sum(sent):
                self.listen()
        MPI.Request.waitall(self._sent)

    def _count(self, cells: int, cost: float) -> None:
        self._cells += cells
        self._done += cost

    def _show(self) -> None:
        elapsed, done = time.perf_counter() - self._started, self._done + self._begun
        left = elapsed * (self._total - done) / done if done else 0.0
        note = f"networks, about {_duration(left)} left" if done else "networks"
        self._progress.update(self._cells, note)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
