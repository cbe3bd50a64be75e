"""What a study and a search begin with: a folder, the data, components that are certified."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from hpcembed.data import Dataset
from hpcembed.embedding import PCA
from hpcembed.errors import ConfigError, ConvergenceError, InputError, OutputExistsError
from hpcembed.job import Job
from hpcembed.matrix import DataMatrix
from hpcembed.parallel import agreement, gather_rows
from hpcembed.report import RunFolder
from hpcembed.stages import data_line, fit, read, say, timed

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
    """

    dataset: Dataset
    train: DataMatrix
    test: DataMatrix
    pca: PCA
    data: dict[str, Any]
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
    seconds: dict[str, float] = {}
    with timed(job.comm, seconds, "read"):
        dataset, train, test = read(job)
    say(job, data_line(dataset, seconds["read"]))
    if n_components is not None:
        k = n_components(train)
        embedding = dataclasses.replace(job.config.embedding, n_components=k)
        job = dataclasses.replace(job, config=dataclasses.replace(job.config, embedding=embedding))
    if job.config.embedding.n_components > train.n_features and not train.is_sparse:
        raise ConfigError(
            f"{job.config.embedding.n_components} dimensions of {train.n_features} features: lower "
            "the largest of study.dimensions, or study.n_components"
        )
    if test.n_rows == 0:
        raise InputError(f"{dataset.name}: no test rows, which accuracies are measured on")
    pca = fit(job, train)
    if not pca.certified_:
        raise ConvergenceError(pca.failure_text(), pca.result_)
    seconds |= pca.seconds_
    return Begun(dataset, train, test, pca, fingerprint(job, train, test, pca), seconds)


def fingerprint(job: Job, train: DataMatrix, test: DataMatrix, pca: PCA) -> dict[str, Any]:
    """What tells one data set from another, wherever its files lie. Collective.

    Sums are rounded: they depend on the number of ranks in their last digits.
    """
    settings = dataclasses.asdict(job.config.data)
    for key in ("train", "train_labels", "test", "test_labels", "storage"):
        del settings[key]
    labels = [gather_rows(job.comm, np.asarray(part.labels)) for part in (train, test)]
    content = hashlib.sha256()
    for one in labels:
        if one is not None:
            content.update(np.ascontiguousarray(one).tobytes())
    return {
        "settings": settings,
        "n_rows": [train.n_rows, test.n_rows],
        "n_features": train.n_features,
        "labels": job.comm.bcast(content.hexdigest()),
        "mean": f"{np.abs(pca.mean_).mean():.6e}",
        "variance": f"{pca.feature_variances_.mean():.6e}",
    }
