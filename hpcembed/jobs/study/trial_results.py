"""Results of all trials of a study: stored ones are taken, and the others are trained."""

from __future__ import annotations

from collections.abc import Mapping

from hpcembed.jobs.job import Job
from hpcembed.jobs.study.embedded_data import EmbeddedData
from hpcembed.jobs.study.plan import trials_of
from hpcembed.jobs.study.rivals.fits import store_fit_seconds
from hpcembed.jobs.study.settings import StudyConfig, image_shape
from hpcembed.jobs.study.trial_inputs import TrialInputs
from hpcembed.jobs.study.trial_training import TrialTrainer, train_trials
from hpcembed.jobs.study.trials import TrialResult, remaining_batches
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.wording import counted

__all__ = ["NOTHING_FINISHED", "collect_results"]

#: Message of a report without results; the field is the output folder.
NOTHING_FINISHED = (
    "{}: no network of this study is finished there: run it without --report-only, or give the "
    "folder of its run with --out"
)


def collect_results(
    job: Job,
    study: StudyConfig,
    data: EmbeddedData,
    finished: Mapping[str, TrialResult],
    limits: Mapping[str, int],
    *,
    report_only: bool,
) -> list[TrialResult]:
    """Return the results of all trials; those that are not stored yet are trained.

    Collective.

    Parameters
    ----------
    job : Job
        The results of new trials are stored in its output folder.
    study : StudyConfig
        With the recipe for the rows of `data`.
    finished : mapping of str to TrialResult
        Stored results, by their digests.
    limits : mapping of str to int
        Largest number of coordinates of each rival.
    report_only : bool
        Train nothing, and return the stored results alone.

    Returns
    -------
    list of TrialResult
        In the order of :func:`~hpcembed.jobs.study.plan.trials_of`.

    Raises
    ------
    ConfigError
        With `report_only`, no trial of the study is stored.
    HpcembedError
        As :func:`~hpcembed.jobs.study.trial_training.train_trials`.
    """
    recipe, trials = study.training, trials_of(study, data.n_features, limits)
    for name, most in limits.items():
        if most < max(study.dimensions):
            job.log(f"{name} has at most {counted(most, 'coordinate')}: larger k use these as well")
    names = {trial: data.digest(trial, recipe) for trial in trials}
    pending = [trial for trial in trials if names[trial] not in finished]
    job.log(f"{counted(len(trials), 'trial')}, {len(trials) - len(pending)} of them finished")
    if report_only:
        if len(pending) == len(trials):
            raise ConfigError(NOTHING_FINISHED.format(job.out))
        return [finished[names[trial]] for trial in trials if names[trial] in finished]
    shape = image_shape(study, data.n_features)
    inputs = TrialInputs(
        job, data, pending, centred=recipe.centred, limits=limits, image_shape=shape
    )
    if limits:
        store_fit_seconds(job, data, inputs.fit_seconds)
    trainer = TrialTrainer(data, inputs, recipe, job.threads, study.study.device)
    sizes = data.n_classes, recipe.batch_size, study.study.batch
    batches = remaining_batches(trials, pending, *sizes)
    made = train_trials(job, trainer, batches, "training")
    # Not in a finally: this is collective, and an error may be that of one rank alone.
    inputs.destroy()
    results = {**finished, **made}
    return [results[names[trial]] for trial in trials]
