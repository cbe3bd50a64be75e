"""The curves of a study: the chosen model, and the published accuracies of the studied range."""

from hpcembed.jobs.study.figures import StudyFigures
from hpcembed.jobs.study.published_accuracies import PublishedAccuracy
from hpcembed.jobs.study.settings import StudyConfig, SweepConfig
from hpcembed.jobs.study.summary import StudySummary
from hpcembed.jobs.study.trials import Trial, TrialResult

#: Score of every seed, by input, hidden layers and k.
SCORES = {
    ("full", (64,), 50): 0.95,
    ("full", (8,), 50): 0.94,
    ("spectral", (64,), 4): 0.70,
    ("spectral", (64,), 6): 0.95,
    ("spectral", (8,), 4): 0.70,
    ("spectral", (8,), 6): 0.95,
}


def figures(margin=1.0):
    results = [
        TrialResult(f"{key}{seed}", Trial(*key, seed), 100, 1.0, 0.1, score, score, 1, ())
        for key, score in SCORES.items()
        for seed in range(2)
    ]
    published = {(8,): PublishedAccuracy((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), 0.8)}
    study = StudyConfig(study=SweepConfig(seeds=2, margin=margin))
    return StudyFigures(None, StudySummary(study, results, 50, published=published), None)


def test_the_curve_of_the_chosen_model_is_marked():
    curves = {curve.network: curve for curve in figures()._accuracy_curves()}
    chosen = figures().summary.compression.point
    assert chosen.n_inputs == 6
    marked = {name: curve.chosen for name, curve in curves.items() if curve.chosen is not None}
    assert list(marked.values()) == [6]
    assert next(iter(marked)).startswith("-".join(map(str, chosen.hidden)))


def test_a_model_that_does_not_keep_the_accuracy_is_called_the_nearest_one():
    kept, lost = figures(), figures(margin=0.0)
    assert all(curve.is_kept for curve in kept._accuracy_curves())
    assert kept._ringed() == "the chosen model"
    assert not lost.summary.compression.holds
    assert not any(curve.is_kept for curve in lost._accuracy_curves())
    assert lost._ringed() == "the nearest model, as none is known to keep the accuracy"


def test_published_accuracies_outside_the_studied_range_are_not_drawn():
    curves = {curve.network: curve for curve in figures()._accuracy_curves()}
    assert curves["8"].published == [(4, 0.4), (5, 0.5), (6, 0.6)]
    assert curves["8"].published_baseline == 0.8
    assert curves["64"].published == []
    assert curves["64"].published_baseline is None
