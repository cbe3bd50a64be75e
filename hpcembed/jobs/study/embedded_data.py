"""Rows with certified components: the common start of a study and of a search."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from mpi4py import MPI

from hpcembed.data.dataset import Dataset
from hpcembed.data.matrix import DataMatrix
from hpcembed.data.settings import GRAPH_FORMATS
from hpcembed.data.table import Table
from hpcembed.embedding import Embedding
from hpcembed.jobs.checkpoints.study_checkpoints import fit_checkpoints
from hpcembed.jobs.embedding_methods import METHODS, embedding_settings, largest_dimension
from hpcembed.jobs.job import Job
from hpcembed.jobs.run import fit, read
from hpcembed.jobs.study.content_digest import rows_digest
from hpcembed.jobs.study.trials import Trial, digest
from hpcembed.networks.training.recipe import Recipe
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError
from hpcembed.runtime.ranks import gather_rows
from hpcembed.runtime.stopping import stop_together

__all__ = ["EmbeddedData", "check_dimension", "embed_data", "fingerprint", "stored_fit"]


@dataclasses.dataclass(frozen=True, slots=True)
class EmbeddedData:
    """Training and test rows, and the fitted embedding, on every rank.

    Attributes
    ----------
    dataset : Dataset
    train, test : DataMatrix
    embedding : Embedding
    fingerprint : dict
        Settings and content of the data, for the digests of trials.
    settings : dict
        Settings of the embedding, for the digests of trials on it; empty for principal components.
    rivals : dict
        Settings of each rival projection, for the digests of trials on it.
    """

    dataset: Dataset
    train: DataMatrix
    test: DataMatrix
    embedding: Embedding
    fingerprint: dict[str, Any]
    settings: dict[str, Any]
    rivals: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def n_features(self) -> int:
        """Number of features of a row."""
        return self.train.n_features

    @property
    def n_classes(self) -> int:
        """Number of classes; 0 for a regression."""
        return len(self.train.class_names)

    @property
    def n_outputs(self) -> int:
        """Number of outputs of a network: the classes, or one target."""
        return max(1, self.n_classes)

    def digest(self, trial: Trial, recipe: Recipe) -> str:
        """Compute the name of a trial on these data; see :func:`~.trials.digest`."""
        recipe, data = recipe.for_rows(self.train.n_rows, self.n_classes), self.fingerprint
        if trial.input in ("spectral", "whitened") and self.settings:
            data = {**data, "embedding": self.settings}
        elif trial.input in self.rivals:
            data = {**data, "rival": self.rivals[trial.input]}
        return digest(trial, recipe, data)

    def destroy(self) -> None:
        """Free the rows.

        Collective.
        """
        self.train.destroy()
        self.test.destroy()


def embed_data(job: Job, *, allow_fewer: bool = False) -> EmbeddedData:
    """Read the data and compute its components.

    Collective.

    Parameters
    ----------
    allow_fewer : bool
        Compute fewer components than the job states if the data have fewer dimensions.

    Raises
    ------
    ConfigError
        The data have fewer dimensions than requested components, without `allow_fewer`.
    InputError
        There are no test rows.
    ConvergenceError
        The components are not certified.
    """
    digests = list[str]()

    def inspect(tables: Sequence[Table]) -> None:
        digests.extend(_digests(table, job.comm) for table in tables)

    dataset, train, test = read(job, inspect)
    k = job.config.embedding.n_components
    most = largest_dimension(job.config, train.n_rows, train.n_features)
    if k > most and allow_fewer:
        section = msgspec.structs.replace(job.config.embedding, n_components=most)
        config = msgspec.structs.replace(job.config, embedding=section)
        job = dataclasses.replace(job, config=config)
    check_dimension(job, most)
    if test.n_rows == 0:
        raise InputError(f"{dataset.name}: no test rows, which scores are measured on")
    embedding = stored_fit(job, train, test)
    stop_together(job.comm, "after the eigenpairs")
    if not embedding.certified_:
        raise ConvergenceError(embedding.failure_text(), embedding.result_)
    return EmbeddedData(
        dataset,
        train,
        test,
        embedding,
        fingerprint(job, train, test, digests),
        embedding_settings(job.config),
    )


def check_dimension(job: Job, most: int) -> None:
    """Refuse more components than the operator of a job has.

    Parameters
    ----------
    most : int
        Dimension of the operator.

    Raises
    ------
    ConfigError
    """
    k, unit = job.config.embedding.n_components, METHODS[job.config.embedding.method].dimension
    if k > most:
        raise ConfigError(
            f"{k} dimensions of {most} {'training rows' if unit == 'rows' else unit}: lower the "
            "largest of study.dimensions, or study.n_components"
        )


def stored_fit(job: Job, train: DataMatrix, test: DataMatrix) -> Embedding:
    """Fit the embedding of a job, or take the stored one of an unfinished study.

    Collective. That of rows in memory is not stored.
    """
    if job.tables:
        return fit(job, train, test)
    with fit_checkpoints(job) as checkpoints:
        return fit(job, train, test, checkpoints)


def _changed(section: Any) -> dict[str, Any]:
    """Select the keys of a section that differ from their defaults.

    A key that a later version adds then leaves the digests of finished trials unchanged.
    """
    return {
        one.name: getattr(section, one.name)
        for one in msgspec.structs.fields(section)
        if getattr(section, one.name) != one.default
    }


def _digests(table: Table, comm: MPI.Comm) -> str:
    """Return the digest of the rows of a table, and of its graph. Collective."""
    rows = rows_digest(table.rows, table.start, comm)
    if table.nodes is None:
        return rows
    graph = table.nodes.graph
    return f"{rows} {rows_digest(graph.rows, graph.start, comm)}"


def fingerprint(
    job: Job, train: DataMatrix, test: DataMatrix, digests: Sequence[str]
) -> dict[str, Any]:
    """Describe a data set by its settings and content, independent of the place of its files.

    Collective.

    Parameters
    ----------
    digests : sequence of str
        Digests of the rows before their scaling, which are the same on any number of ranks.
    """
    settings = _changed(job.config.data)
    for key in ("train", "train_labels", "test", "test_labels", "storage"):
        settings.pop(key, None)
    content = hashlib.sha256()
    for part in (train, test):
        labels = gather_rows(job.comm, np.asarray(part.labels))
        if labels is not None:
            content.update(np.ascontiguousarray(labels).tobytes())
    if job.config.data.format in GRAPH_FORMATS:
        settings["graph"] = _changed(job.config.graph)
    if job.config.resources.reproducible:
        settings["reproducible"] = True
    return {
        "settings": settings,
        "n_rows": [train.n_rows, test.n_rows],
        "n_features": train.n_features,
        "labels": job.comm.bcast(content.hexdigest()),
        "rows": list(digests),
    }
