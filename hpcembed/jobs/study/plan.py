"""Plan of a study: its trials, and its description before it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hpcembed.data.reading import describe_dataset
from hpcembed.embedding import Shape
from hpcembed.jobs.job import MEMORY_UNKNOWN, Job, first_lines, known_dimension
from hpcembed.jobs.memory_plan import described_shape, memory_line, unread_budget
from hpcembed.jobs.network_sizes import check_networks, layers_of
from hpcembed.jobs.study.embedded_data import check_dimension
from hpcembed.jobs.study.result_store import load_results
from hpcembed.jobs.study.rivals.catalogue import RIVALS, unlabelled_limits
from hpcembed.jobs.study.settings import StudyConfig, image_shape
from hpcembed.jobs.study.trial_inputs import input_bytes, input_columns
from hpcembed.jobs.study.trials import INPUT_KINDS, Trial
from hpcembed.runtime.ranks import ranks_on_compute_node
from hpcembed.runtime.wording import counted

__all__ = ["describe_study", "trials_of"]


def trials_of(
    study: StudyConfig, n_features: int, limits: Mapping[str, int] = MappingProxyType({})
) -> list[Trial]:
    """List every trial of a study.

    Parameters
    ----------
    limits : mapping of str to int
        Largest number of coordinates of each rival, which takes the place of larger dimensions.
    """
    trials = []
    for network in study.study.networks:
        hidden = layers_of(network)
        for seed in study.seeds:
            for kind in study.study.embeddings:
                trials += [Trial(kind, hidden, k, seed) for k in study.dimensions]
            for rival in study.study.rivals:
                sizes = {min(k, limits.get(rival, k)) for k in study.dimensions}
                trials += [Trial(rival, hidden, k, seed) for k in sizes]
            if study.study.baseline:
                trials.append(Trial("full", hidden, n_features, seed))
    return sorted(set(trials))


def describe_study(job: Job, study: StudyConfig) -> str:
    """Describe a study, its trainings and its memory, from the headers of the data.

    Collective.

    Parameters
    ----------
    job : Job
        Of :func:`~hpcembed.jobs.study.settings.job_of`, placed.

    Returns
    -------
    str
        Lines of text, the same on all ranks.

    Raises
    ------
    HpcembedError
        An error of the study that the headers of the data reveal.
    """
    data = describe_dataset(job.config.data, job.data_dir, job.comm, job.config.graph)
    most = known_dimension(job.config, data)
    if most is not None:
        check_dimension(job, most)
    sizes = study.dimensions
    shape = described_shape(data, job.config.data)
    if shape is not None and not data.is_sparse:
        image_shape(study, shape.n_features)
        n_inputs = shape.n_features if study.study.baseline else max(sizes)
        check_networks(study.study.networks, n_inputs, 1)
    limits = {}
    if shape is not None:
        limits = unlabelled_limits(study.study.rivals, shape.n_train, shape.n_features)
    trials = trials_of(study, 0 if shape is None else shape.n_features, limits)
    span = f"k = {sizes[0]}"
    if len(sizes) > 1:
        span = f"{len(sizes)} dimensions from k = {sizes[0]} to {sizes[-1]}"
    lines = first_lines(job, data, f"study      {job.config.data.name}", span)
    lines.append(_trainings(job, study, trials, is_bound=shape is None))
    if shape is None:
        return "\n".join([*lines, MEMORY_UNKNOWN])
    budget = unread_budget(job.config, shape, job.machine)
    parts = {
        "data": budget.data,
        "operator and basis": budget.operator.bytes + budget.basis,
        "inputs of the networks": _input_bytes(job, shape, trials, limits),
    }
    lines.append(f"operator   {budget.operator.describe()}")
    return "\n".join([*lines, memory_line(parts, budget.machine.available_bytes)])


def _trainings(job: Job, study: StudyConfig, trials: Sequence[Trial], *, is_bound: bool) -> str:
    """Return the line of the trials: how many there are of each input. Collective.

    Of rivals that need classes there may be fewer: the headers do not have the number of classes.
    """
    of_labels = any(RIVALS[name].fitted_on == "rows and labels" for name in study.study.rivals)
    most = "at most " if of_labels or (is_bound and study.study.rivals) else ""
    counts = Counter(trial.input for trial in trials)
    listed = ", ".join(f"{kind} {counts[kind]:,}" for kind in INPUT_KINDS if counts[kind])
    networks = counted(len({layers_of(one) for one in study.study.networks}), "network")
    line = (
        f"trainings  {most}{counted(len(trials), 'trial')} ({listed}) of {networks} and "
        f"{counted(len(study.seeds), 'seed')}"
    )
    if study.study.intrinsic:
        line += "; further ones in random subspaces follow from their results"
    stored = len(load_results(job.comm, job.out))
    if stored:
        line += (
            f"; the output folder has {counted(stored, 'finished trial')}, and those of the same "
            "data and settings are not trained again"
        )
    return line


def _input_bytes(job: Job, shape: Shape, trials: Sequence[Trial], limits: Mapping[str, int]) -> int:
    """Return the memory of the inputs of all trials on one rank. Collective."""
    columns = input_columns(trials, job.config.embedding.n_components, shape.n_features, limits)
    return input_bytes(shape.n_train + shape.n_test, columns, ranks_on_compute_node(job.comm))
