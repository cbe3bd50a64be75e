"""Trials of a search: seeds of a network are trained together, and none of them twice."""

from __future__ import annotations

from hpcembed.jobs.compress.search_components import SearchComponents
from hpcembed.jobs.compress.sequential import Decision, Look, decide, interval, plan_looks
from hpcembed.jobs.job import Job
from hpcembed.jobs.network_sizes import check_networks, count_parameters, layers_of
from hpcembed.jobs.report.wording import network_name
from hpcembed.jobs.study.result_store import load_results
from hpcembed.jobs.study.statistics import Difference, compare
from hpcembed.jobs.study.trial_inputs import TrialInputs
from hpcembed.jobs.study.trial_training import TrialTrainer, train_trials
from hpcembed.jobs.study.trials import InputKind, Trial, TrialResult, plan_batches
from hpcembed.networks.training.validation_split import held_out_rows

__all__ = ["SearchTrials"]


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
        Share of accuracy that may be lost.

    Attributes
    ----------
    networks : list of tuple of int
        Hidden layers, the smallest network first.
    baseline : tuple of int
        Hidden layers of the largest network, which is trained on all features.
    looks : tuple of Look
        Planned comparisons of each network.
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
        check_networks(classifier.hidden, d, data.n_classes)
        self.networks = sorted(
            {layers_of(one) for one in classifier.hidden},
            key=lambda hidden: count_parameters((d, *hidden, data.n_classes)),
        )
        self.baseline = self.networks[-1]
        self.recipe = job.config.training.for_rows(data.train.n_rows, data.n_classes)
        self.n_held_out = held_out_rows(data.train.n_rows, self.recipe.validation_fraction)
        self._full = self._trainer("full")
        self._spectral = self._trainer("spectral")
        self._computed = len(data.embedding.spectrum_.values)
        self.finished = load_results(job.comm, job.out)

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
            # Small batches, so that every rank has some.
            size = min(-(-len(pending) // self.job.comm.size), 8)
            batches = plan_batches(pending, data.n_classes, self.recipe.batch_size, size)
            title = f"{kind} {network_name(hidden)}, k = {k}"
            trainer = self.trainer(kind)
            self.finished |= train_trials(self.job.comm, trainer, batches, self.job.out, title)
        return [self.finished[name] for name in names]

    def decide(self, hidden: tuple[int, ...], k: int) -> Decision:
        """Compare a network on k components with the baseline on validation rows.

        Collective. Seeds are added until the interval decides.
        """
        d = self.components.data.n_features

        def compare_seeds(look: Look) -> Difference:
            pair = (
                self.results("spectral", hidden, k, look.n_seeds),
                self.results("full", self.baseline, d, look.n_seeds),
            )
            own, base = ([one.validation_accuracy for one in part] for part in pair)
            return interval(own, base, self.n_held_out, look.error)

        return decide(self.looks, compare_seeds, self.margin)

    def test_difference(
        self, results: list[TrialResult], baseline: list[TrialResult]
    ) -> Difference:
        """Compare the test accuracies of the same seeds."""
        found = compare(results, baseline, "test_accuracy", self.confidence)
        assert found is not None  # two seeds at least
        return found
