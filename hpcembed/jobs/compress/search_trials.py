"""Trials of a search: seeds of a network are trained together, and none of them twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from hpcembed.jobs.compress.kept_networks import KeptNetworks
from hpcembed.jobs.compress.search_components import SearchComponents
from hpcembed.jobs.compress.sequential import Decision, Look, decide, interval, plan_looks
from hpcembed.jobs.job import Job
from hpcembed.jobs.network_sizes import check_networks, count_parameters, layers_of
from hpcembed.jobs.report.scores import score_of
from hpcembed.jobs.report.wording import network_name
from hpcembed.jobs.study.embedded_data import EmbeddedData
from hpcembed.jobs.study.result_store import load_results
from hpcembed.jobs.study.statistics import Difference, compare
from hpcembed.jobs.study.trial_inputs import TrialInputs
from hpcembed.jobs.study.trial_training import TrialTrainer, train_trials
from hpcembed.jobs.study.trials import InputKind, Trial, TrialBatch, TrialResult, remaining_batches
from hpcembed.networks.training.validation_split import held_out_rows
from hpcembed.runtime.errors import InputError

if TYPE_CHECKING:
    from hpcembed.networks.training.batched_training import TrainedBatch

__all__ = ["SearchTrials"]


#: Parts into which trials are divided where batches must not depend on the number of ranks.
_REPRODUCIBLE_SHARES = 4


class SearchTrials:
    """Trains the networks of a search on all ranks and keeps every result.

    Collective.

    Parameters
    ----------
    job : Job
    components : SearchComponents
    n_seeds, most_seeds : int
        Seeds of the first comparison of a network, and of the last one.
    confidence : float
        Of the whole sequence of comparisons of a network.
    margin : float
        Score that may be lost: 0.01 for one point.

    Attributes
    ----------
    networks : list of tuple of int
        Hidden layers, the smallest network first.
    baseline : tuple of int
        Hidden layers of the largest network, which is trained on all features.
    looks : tuple of Look
        Planned comparisons of each network.
    score : Score
        Accuracy or R2.
    n_held_out : int or None
        Validation rows of a seed; None for R2, which has no steps of one row.
    kept : KeptNetworks
        Trained networks on components, for the model of the answer.
    """

    def __init__(
        self,
        job: Job,
        components: SearchComponents,
        n_seeds: int,
        most_seeds: int,
        confidence: float,
        margin: float,
    ) -> None:
        classifier, data = job.config.classifier, components.data
        d = data.n_features
        self.job, self.components, self.confidence = job, components, confidence
        self.margin, self.n_seeds = margin, n_seeds
        self.looks = plan_looks(n_seeds, most_seeds, 1.0 - confidence)
        self.score = score_of(data.dataset.task)
        _check_test_targets(data)
        check_networks(classifier.hidden, d, data.n_outputs)
        self.networks = sorted(
            {layers_of(one) for one in classifier.hidden},
            key=lambda hidden: count_parameters((d, *hidden, data.n_outputs)),
        )
        self.baseline = self.networks[-1]
        self.recipe = job.config.training.for_rows(data.train.n_rows, data.n_classes)
        held_out = held_out_rows(data.train.n_rows, self.recipe.validation_fraction)
        self.n_held_out = held_out if self.score.is_accuracy else None
        self._full = self._trainer("full")
        self._spectral = self._trainer("spectral")
        self._computed = len(data.embedding.spectrum_.values)
        self.finished = load_results(job.comm, job.out)
        self.kept = KeptNetworks(job.comm, job.out)

    def __enter__(self) -> SearchTrials:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error of one rank alone, the other ranks would wait here forever.
        if kind is None:
            self._full.inputs.destroy()
            self._spectral.inputs.destroy()

    def _trainer(self, kind: InputKind) -> TrialTrainer:
        """Return the trainer of one input, whose rows it prepares. Collective."""
        data = self.components.data
        inputs = TrialInputs(self.job, data, [Trial(kind, self.baseline, 1, 0)], centred=True)
        device = self.job.config.classifier.device
        return TrialTrainer(data, inputs, self.recipe, self.job.threads, device)

    def trainer(self, kind: InputKind) -> TrialTrainer:
        """Return the trainer of an input, with all components that are computed.

        Collective.
        """
        if kind == "full":
            return self._full
        computed = len(self.components.data.embedding.spectrum_.values)
        if computed > self._computed:
            self._spectral.inputs.destroy()
            self._spectral, self._computed = self._trainer("spectral"), computed
        return self._spectral

    def results(
        self, kind: InputKind, hidden: tuple[int, ...], k: int, n_seeds: int
    ) -> list[TrialResult]:
        """Return the results of the first seeds; those that are not stored yet are trained.

        Collective.
        """
        first, data = self.job.config.classifier.seed, self.components.data
        trials = [Trial(kind, hidden, k, seed) for seed in range(first, first + n_seeds)]
        names = [data.digest(trial, self.recipe) for trial in trials]
        pairs = zip(trials, names, strict=True)
        pending = [trial for trial, name in pairs if name not in self.finished]
        if pending:
            batches = self._batches(trials, pending)
            title = f"{kind} {network_name(hidden)}, k = {k}"
            trainer = self.trainer(kind)
            keep = self._keep if kind == "spectral" else None
            self.finished |= train_trials(self.job, trainer, batches, title, keep)
        results = [self.finished[name] for name in names]
        if pending and kind == "spectral":
            self.kept.store(results)
        return results

    def _keep(self, trained: TrainedBatch, results: Sequence[TrialResult]) -> None:
        self.kept.take(trained, results, self.components.data.train.class_names)

    def _batches(self, trials: list[Trial], pending: list[Trial]) -> list[TrialBatch]:
        """Group trials of one network by the looks that add their seeds, then into batches.

        So the batches of a search that is interrupted and continued are the same.
        """
        batches, first = list[TrialBatch](), 0
        counts = {look.n_seeds for look in self.looks if look.n_seeds < len(trials)}
        for last in sorted(counts | {len(trials)}):
            group, first = trials[first:last], last
            # Small batches, so that every rank has some.
            reproducible = self.job.config.resources.reproducible
            ranks = _REPRODUCIBLE_SHARES if reproducible else self.job.comm.size
            size = min(-(-len(group) // ranks), 8)
            waiting = [trial for trial in group if trial in pending]
            batches += remaining_batches(
                group, waiting, self.components.data.n_classes, self.recipe.batch_size, size
            )
        return batches

    def decide(self, hidden: tuple[int, ...], k: int) -> Decision:
        """Compare a network on k components with the baseline on validation rows.

        Collective. Seeds are added until the interval decides.
        """
        data = self.components.data

        def compare_seeds(look: Look) -> Difference:
            pair = (
                self.results("spectral", hidden, k, look.n_seeds),
                self.results("full", self.baseline, data.n_features, look.n_seeds),
            )
            own, base = ([one.validation_score for one in part] for part in pair)
            if not np.isfinite([*own, *base]).all():
                raise InputError(
                    f"{data.dataset.name}: R2 is not defined on validation rows with equal "
                    "targets: raise training.validation_fraction, or use more rows"
                )
            return interval(own, base, self.n_held_out, look.error)

        return decide(self.looks, compare_seeds, self.margin)

    def test_difference(
        self, results: list[TrialResult], baseline: list[TrialResult]
    ) -> Difference:
        """Compare the test scores of the same seeds."""
        found = compare(results, baseline, "test_score", self.confidence)
        assert found is not None  # two seeds at least, and defined scores
        return found


def _check_test_targets(data: EmbeddedData) -> None:
    """Raise InputError on all ranks if R2 is not defined on the test rows. Collective."""
    targets = data.test.labels
    if data.dataset.task == "regression":
        ends = np.array([targets.max(initial=-np.inf), -targets.min(initial=np.inf)])
        data.test.comm.Allreduce(MPI.IN_PLACE, ends, op=MPI.MAX)
        if not ends[0] > -ends[1]:
            raise InputError(
                f"{data.dataset.name}: the targets of all test rows are equal, so R2 is not "
                "defined: use more test rows"
            )
