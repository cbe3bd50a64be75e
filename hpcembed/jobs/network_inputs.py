"""Inputs of the networks: projections, and all features.

Each input is gathered on rank 0 where its memory suffices; else its rows stay on their ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding import Embedding
from hpcembed.jobs.job import Job
from hpcembed.jobs.memory_plan import Training
from hpcembed.networks.training.input_scaling import network_type
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError, MemoryLimitError
from hpcembed.runtime.fault_injection import inject
from hpcembed.runtime.machine.memory import check_fits
from hpcembed.runtime.ranks import gather_rows
from hpcembed.runtime.wording import counted

__all__ = ["NetworkInputs", "gather", "project"]


@dataclass(slots=True)
class NetworkInputs:
    """Training and test rows of each input of the networks.

    Attributes
    ----------
    names : list of str
        All inputs in the order of training; the same on all ranks.
    gathered : dict
        Training and test rows of all ranks, with their labels; empty but on rank 0.
    local : dict
        Training and test rows of this rank, with their labels, of inputs that are not gathered:
        projections, or matrices that are converted batch by batch.
    """

    names: list[str] = field(default_factory=list)
    gathered: dict[str, list[tuple[Any, Any]]] = field(default_factory=dict)
    local: dict[str, list[tuple[NDArray[Any] | DataMatrix, NDArray[Any]]]] = field(
        default_factory=dict
    )

    def arrays(self, name: str) -> list[Any]:
        """Return the training and test rows of an input on this rank; none without any."""
        parts = self.local.get(name) or self.gathered.get(name) or []
        return [rows for rows, _ in parts]

    def training(self) -> dict[str, Training]:
        """Return how networks are trained on each input."""
        return {name: "data_parallel" if name in self.local else "gather" for name in self.names}


def project(
    embedding: Embedding, train: DataMatrix, test: DataMatrix
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the coordinates of this rank's rows, in a precision that networks need.

    Collective.

    Raises
    ------
    InputError
        A coordinate is not finite.
    """
    dtype = network_type(embedding.coordinate_means_, embedding.coordinate_deviations_)
    projected = []
    with agreement(train.comm):
        projected = [embedding.transform(part, dtype) for part in (train, test)]
    inject("project", train.comm, *projected)
    with agreement(train.comm):
        # found before the networks are trained, and on the rank that has it
        if not all(np.isfinite(part).all() for part in projected):
            raise InputError("the projected rows are not finite: check the data for NaN or Inf")
    return projected[0], projected[1]


def gather(
    job: Job,
    train: DataMatrix,
    test: DataMatrix,
    embedding: Embedding,
    projected: tuple[NDArray[Any], NDArray[Any]],
    training: Mapping[str, Training],
) -> NetworkInputs:
    """Gather on rank 0 the inputs of the networks that are trained there.

    Collective.

    Parameters
    ----------
    projected : tuple of ndarray
        Of :func:`project`.
    training : mapping
        For each input how networks are trained on it.
    """
    comm, classifier = job.comm, job.config.classifier
    inputs = NetworkInputs()
    inject("gather", comm, *projected)
    if not classifier.enabled:
        return inputs
    parts: dict[str, Callable[[], tuple[NDArray[Any], NDArray[Any]]]] = {
        "embedded": lambda: projected
    }
    if classifier.baseline:
        parts = {"full": lambda: _uncompressed(job, train, test, embedding), **parts}
    labels: tuple[NDArray[Any], NDArray[Any]] = train.labels, test.labels
    all_labels: list[NDArray[Any] | None] = []
    for name, rows in parts.items():
        inputs.names.append(name)
        if training[name] == "gather":
            try:
                whole = [gather_rows(comm, part) for part in rows()]
                all_labels = all_labels or [gather_rows(comm, part) for part in labels]
                if comm.rank == 0:
                    inputs.gathered[name] = list(zip(whole, all_labels, strict=True))
                continue
            except MemoryLimitError as error:
                if classifier.parallel != "auto" or job.config.resources.reproducible:
                    raise
                ranks = counted(comm.size, "rank")
                job.log(f"{name} networks are trained data-parallel by {ranks}: {error}")
        local = projected if name == "embedded" else (train, test)
        inputs.local[name] = list(zip(local, labels, strict=True))
    return inputs


def _uncompressed(
    job: Job, train: DataMatrix, test: DataMatrix, embedding: Embedding
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return all features of this rank's rows, in a precision that networks need. Collective."""
    comm = job.comm
    dtype = network_type(embedding.feature_means_, np.sqrt(embedding.feature_variances_))
    if dtype is np.float64:
        rows = train.n_rows + test.n_rows
        rows += -(-rows // comm.size)
        available = job.remaining(train.stored_bytes + test.stored_bytes)
        # The plan counted float32; a float32 copy is made of the doubles.
        step = "the uncompressed input on rank 0, which float32 cannot hold,"
        needed = 12 * rows * train.n_features
        remedy = "set classifier.baseline = false, classifier.parallel = auto, or data.scaling"
        check_fits(needed, available, step, remedy)
    dense = []
    with agreement(comm):
        dense = [part.dense_rows(dtype) for part in (train, test)]
    return dense[0], dense[1]
