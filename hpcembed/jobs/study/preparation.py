"""What a study and a search begin with: a folder, the data, components that are certified."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from hpcembed.data.dataset import Dataset
from hpcembed.data.matrix import DataMatrix
from hpcembed.data.settings import GRAPH_FORMATS
from hpcembed.embedding import Embedding
from hpcembed.jobs.embedding_methods import embedding_settings, largest_dimension
from hpcembed.jobs.job import Job
from hpcembed.jobs.report import RunFolder
from hpcembed.jobs.run import fit, read
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError, OutputExistsError
from hpcembed.runtime.ranks import agreement, gather_rows

__all__ = ["MARK", "Begun", "begin", "fingerprint", "open_folder"]

#: The file that says a folder belongs to a study.
MARK = "study.toml"


@dataclasses.dataclass(frozen=True, slots=True)
class Begun:
    """Data that was read and components that were found; every rank has it.

    Attributes
    ----------
    data : dict
        Settings and fingerprint of the data, for digests.
    settings : dict
        How the embedding was made, for digests of what is trained on it; empty for principal
        components, whose digests are older than the choice.
    """

    dataset: Dataset
    train: DataMatrix
    test: DataMatrix
    embedding: Embedding
    data: dict[str, Any]
    settings: dict[str, Any]
    seconds: dict[str, float]

    def destroy(self) -> None:
        """Free the rows. Collective."""
        self.train.destroy()
        self.test.destroy()


def open_folder(job: Job, mark: str = MARK) -> RunFolder:
    """Take an output folder that is free, or that holds an earlier run of this kind.

    Collective.

    Raises
    ------
    OutputExistsError
        It holds something else.
    """
    with agreement(job.comm):
        if job.comm.rank == 0:
            if not (job.out / mark).is_file():
                RunFolder.create(job.out)
            try:
                (job.out / mark).touch()
            except OSError as error:
                raise OutputExistsError(f"{job.out}: cannot write: {error.strerror}") from error
    return RunFolder(job.out)


def begin(job: Job, n_components: Callable[[DataMatrix], int] | None = None) -> Begun:
    """Read the data and find its components. Collective.

    Parameters
    ----------
    n_components : callable, optional
        How many, told from the training rows; as the job says without it.

    Raises
    ------
    ConvergenceError
        When they are not certified.
    """
    dataset, train, test = read(job)
    if n_components is not None:
        k = n_components(train)
        section = msgspec.structs.replace(job.config.embedding, n_components=k)
        config = msgspec.structs.replace(job.config, embedding=section)
        job = dataclasses.replace(job, config=config)
    k, most = job.config.embedding.n_components, train.n_features
    most = largest_dimension(job.config, train.n_rows, most)
    if k > most:
        of = "features" if most == train.n_features else "training rows"
        raise ConfigError(
            f"{k} dimensions of {most} {of}: lower the largest of study.dimensions, or "
            "study.n_components"
        )
    if test.n_rows == 0:
        raise InputError(f"{dataset.name}: no test rows, which accuracies are measured on")
    embedding = fit(job, train)
    if not embedding.certified_:
        raise ConvergenceError(embedding.failure_text(), embedding.result_)
    seconds = {**job.seconds, **embedding.seconds_}
    data = fingerprint(job, train, test, embedding)
    return Begun(dataset, train, test, embedding, data, embedding_settings(job.config), seconds)


def _changed(section: Any) -> dict[str, Any]:
    """Keys of a section that are not what they are by default.

    A key that a later version adds leaves the digests of earlier trainings as they are.
    """
    return {
        one.name: getattr(section, one.name)
        for one in msgspec.structs.fields(section)
        if getattr(section, one.name) != one.default
    }


def fingerprint(
    job: Job, train: DataMatrix, test: DataMatrix, embedding: Embedding
) -> dict[str, Any]:
    """What tells one data set from another, wherever its files lie. Collective.

    Sums are rounded: they depend on the number of ranks in their last digits.
    """
    settings = _changed(job.config.data)
    for key in ("train", "train_labels", "test", "test_labels", "storage"):
        settings.pop(key, None)
    labels = [gather_rows(job.comm, np.asarray(part.labels)) for part in (train, test)]
    content = hashlib.sha256()
    for one in labels:
        if one is not None:
            content.update(np.ascontiguousarray(one).tobytes())
    if job.config.data.format in GRAPH_FORMATS:
        settings["graph"] = _changed(job.config.graph)
    return {
        "settings": settings,
        "n_rows": [train.n_rows, test.n_rows],
        "n_features": train.n_features,
        "labels": job.comm.bcast(content.hexdigest()),
        "mean": f"{np.abs(embedding.feature_means_).mean():.6e}",
        "variance": f"{embedding.feature_variances_.mean():.6e}",
    }
