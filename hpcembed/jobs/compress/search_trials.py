"""Trials of a search: all seeds of a network are trained together, and none of them twice."""

from __future__ import annotations

from hpcembed.jobs.job import Job
from hpcembed.jobs.network_sizes import check_networks, count_parameters, layers_of
from hpcembed.jobs.report.wording import network_name
from hpcembed.jobs.study.embedded_data import EmbeddedData
from hpcembed.jobs.study.result_store import load_results
from hpcembed.jobs.study.statistics import Difference, compare
from hpcembed.jobs.study.trial_inputs import TrialInputs
from hpcembed.jobs.study.trial_training import TrialTrainer, train_trials
from hpcembed.jobs.study.trials import InputKind, Trial, TrialResult, plan_batches

__all__ = ["SearchTrials"]


class SearchTrials:
    """Trains the networks of a search on all ranks and keeps every result.

    Collective.

    Attributes
    ----------
    networks : list of tuple of int
        Hidden layers, the smallest network first.
    baseline : tuple of int
        Hidden layers of the largest network, which is trained on all features.
    """

    def __init__(self, job: Job, data: EmbeddedData, n_seeds: int, confidence: float) -> None:
        classifier, d = job.config.classifier, data.n_features
        self.job, self.data, self.confidence = job, data, confidence
        check_networks(classifier.hidden, d, data.n_classes)
        self.networks = sorted(
            {layers_of(one) for one in classifier.hidden},
            key=lambda hidden: count_parameters((d, *hidden, data.n_classes)),
        )
        self.baseline = self.networks[-1]
        self.seeds = tuple(range(classifier.seed, classifier.seed + n_seeds))
        inputs = [Trial("full", self.baseline, d, 0), Trial("spectral", self.baseline, 1, 0)]
        self.trainer = TrialTrainer(
            data,
            TrialInputs(job, data, inputs, centred=True),
            job.config.training,
            job.threads,
            classifier.device,
        )
        self.finished = load_results(job.comm, job.out)

    def __enter__(self) -> SearchTrials:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error of one rank alone, the other ranks would wait here forever.
        if kind is None:
            self.trainer.inputs.destroy()

    def results(self, kind: InputKind, hidden: tuple[int, ...], k: int) -> list[TrialResult]:
        """Return the results of all seeds; those that are not stored yet are trained.

        Collective.
        """
        trials = [Trial(kind, hidden, k, seed) for seed in self.seeds]
        names = [self.data.digest(trial, self.trainer.recipe) for trial in trials]
        pairs = zip(trials, names, strict=True)
        pending = [trial for trial, name in pairs if name not in self.finished]
        if pending:
            # Small batches, so that every rank has some.
            size = min(-(-len(pending) // self.job.comm.size), 8)
            step_rows = self.trainer.recipe.batch_size
            batches = plan_batches(pending, self.data.n_classes, step_rows, size)
            title = f"{kind} {network_name(hidden)}, k = {k}"
            made = train_trials(self.job.comm, self.trainer, batches, self.job.out, title)
            self.finished |= made
        return [self.finished[name] for name in names]

    def difference(
        self, hidden: tuple[int, ...], k: int, name: str = "validation_score"
    ) -> Difference:
        """Compare a network on k components with the baseline.

        Collective.

        Parameters
        ----------
        name : {"validation_score", "test_score"}
        """
        baseline = self.results("full", self.baseline, self.data.n_features)
        results = self.results("spectral", hidden, k)
        found = compare(results, baseline, name, self.confidence)
        assert found is not None  # two seeds at least
        return found
