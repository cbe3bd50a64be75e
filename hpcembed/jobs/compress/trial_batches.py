"""Trainings as a search asks for them: all seeds of a network at a time, none of them twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hpcembed.jobs.configuration import check_network, layers_of
from hpcembed.jobs.job import Job
from hpcembed.jobs.study.inputs import StudyInputs
from hpcembed.jobs.study.preparation import Begun
from hpcembed.jobs.study.result_store import read_results
from hpcembed.jobs.study.statistics import Difference, paired
from hpcembed.jobs.study.sweep import Trainer, train_units
from hpcembed.jobs.study.trials import Cell, InputKind, Result, plan_units
from hpcembed.runtime.ranks import agreement

__all__ = ["Trainings"]


class Trainings:
    """Trains what a search asks for, on all ranks, and remembers everything.

    Collective.

    Attributes
    ----------
    networks : list of tuple of int
        Hidden layers, the smallest network first.
    baseline : tuple of int
        The largest, which is trained on all features.
    """

    def __init__(self, job: Job, begun: Begun, n_seeds: int, confidence: float) -> None:
        classifier = job.config.classifier
        self.job, self.begun, self.confidence = job, begun, confidence
        self.n_classes = len(begun.train.class_names)
        d = begun.train.n_features
        layers = {layers_of(one) for one in classifier.hidden}
        for hidden in layers:
            check_network((d, *hidden, self.n_classes), "this data")
        self.networks = sorted(layers, key=lambda hidden: _size((d, *hidden, self.n_classes)))
        self.baseline = self.networks[-1]
        self.seeds = tuple(range(classifier.seed, classifier.seed + n_seeds))
        everything = [Cell("full", self.baseline, d, 0), Cell("spectral", self.baseline, 1, 0)]
        inputs = StudyInputs(
            job, begun.embedding, begun.train, begun.test, everything, centred=True
        )
        self.trainer = Trainer(
            inputs,
            job.config.training,
            begun.data,
            self.n_classes,
            job.threads,
            classifier.device,
            embedding=begun.settings,
        )
        finished: dict[str, Result] = {}
        with agreement(job.comm):
            if job.comm.rank == 0:
                finished = read_results(job.out)
        self.finished: dict[str, Result] = job.comm.bcast(finished)

    def __enter__(self) -> Trainings:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error that one rank has alone, the others would wait for it here.
        if kind is None:
            self.trainer.inputs.destroy()

    def results(self, kind: InputKind, hidden: tuple[int, ...], k: int) -> list[Result]:
        """Results of all seeds, trained now unless they are there. Collective."""
        cells = [Cell(kind, hidden, k, seed) for seed in self.seeds]
        names = [self.trainer.digest(cell) for cell in cells]
        pairs = zip(cells, names, strict=True)
        pending = [cell for cell, name in pairs if name not in self.finished]
        if pending:
            # Shares of one or two seeds, so that every rank has some.
            together = -(-len(pending) // self.job.comm.size)
            units = plan_units(
                pending, self.n_classes, self.trainer.recipe.batch_size, min(together, 8)
            )
            title = f"{kind} {'-'.join(map(str, hidden))}, k = {k}"
            made = train_units(self.job.comm, self.trainer, units, self.job.out, title)
            self.finished |= {one.digest: one for one in made}
        return [self.finished[name] for name in names]

    def difference(self, hidden: tuple[int, ...], k: int) -> Difference:
        """What a network on k inputs loses to the baseline on validation rows. Collective."""
        return self._difference(hidden, k, "validation_accuracy")

    def test_difference(self, hidden: tuple[int, ...], k: int) -> Difference:
        """What it loses on test rows; for what was trained already. Not collective."""
        return self._difference(hidden, k, "test_accuracy")

    def _difference(self, hidden: tuple[int, ...], k: int, name: str) -> Difference:
        base = self.results("full", self.baseline, self.begun.train.n_features)
        mine = self.results("spectral", hidden, k)
        values = [[float(getattr(one, name)) for one in part] for part in (mine, base)]
        found = paired(values[0], values[1], self.confidence)
        assert found is not None  # two seeds at least
        return found


def _size(widths: Sequence[int]) -> int:
    return sum(b * (a + 1) for a, b in pairwise(widths))
