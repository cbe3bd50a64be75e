"""What networks are trained on: projections, and all features beside them.

Each is brought to rank 0 where that holds it; else its rows stay on their ranks.
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
from hpcembed.jobs.network_precision import network_type
from hpcembed.jobs.steps import say
from hpcembed.runtime.errors import MemoryLimitError
from hpcembed.runtime.memory import check_fits
from hpcembed.runtime.ranks import agreement, gather_rows

__all__ = ["Gathered", "gather", "project"]

#: Rows of one rank: projected, or as they were read, converted when they are asked for.
LocalRows = NDArray[Any] | DataMatrix


@dataclass(slots=True)
class Gathered:
    """What networks are trained on.

    Attributes
    ----------
    names : list of str
        All inputs in the order in which networks are trained; the same on all ranks.
    inputs : dict
        Training and test rows that were gathered; empty but on rank 0.
    local : dict
        This rank's training and test rows of inputs that stay where they are.
    local_labels : tuple of ndarray of int64
        Of this rank's training and test rows.
    train_labels, test_labels : ndarray of int64 or None
        Of all rows; None but on rank 0, and where nothing was gathered.
    """

    names: list[str] = field(default_factory=list)
    inputs: dict[str, tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict)
    local: dict[str, tuple[LocalRows, LocalRows]] = field(default_factory=dict)
    local_labels: tuple[NDArray[np.int64], ...] = ()
    train_labels: NDArray[np.int64] | None = None
    test_labels: NDArray[np.int64] | None = None


def project(
    embedding: Embedding, train: DataMatrix, test: DataMatrix
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Coordinates of this rank's rows, in a precision that networks need. Collective."""
    dtype = network_type(embedding.coordinate_means_, embedding.coordinate_deviations_)
    projected = []
    with agreement(train.comm):
        projected = [embedding.transform(part, dtype) for part in (train, test)]
    return projected[0], projected[1]


def _uncompressed(
    job: Job, train: DataMatrix, test: DataMatrix, embedding: Embedding
) -> tuple[NDArray[Any], NDArray[Any]]:
    """All features of this rank's rows, in a precision that keeps what tells them apart."""
    comm = job.comm
    dtype = network_type(embedding.feature_means_, np.sqrt(embedding.feature_variances_))
    if dtype is np.float64:
        rows = train.n_rows + test.n_rows
        rows += -(-rows // comm.size)
        available = job.remaining(train.stored_bytes + test.stored_bytes)
        # What float32 holds was counted beforehand; a float32 copy is made of the doubles.
        what = "the uncompressed input on rank 0, which float32 cannot hold,"
        needed = 12 * rows * train.n_features
        remedy = "set classifier.baseline = false, classifier.parallel = auto, or data.scaling"
        check_fits(needed, available, what, remedy)
    dense = []
    with agreement(comm):
        dense = [part.dense_rows(dtype) for part in (train, test)]
    return dense[0], dense[1]


def gather(
    job: Job,
    train: DataMatrix,
    test: DataMatrix,
    embedding: Embedding,
    projected: tuple[NDArray[Any], NDArray[Any]],
    training: Mapping[str, Training],
) -> Gathered:
    """Bring to rank 0 what networks are trained on there. Collective."""
    comm, classifier = job.comm, job.config.classifier
    gathered = Gathered()
    if not classifier.enabled:
        return gathered
    parts: dict[str, Callable[[], tuple[NDArray[Any], NDArray[Any]]]] = {
        "embedded": lambda: projected
    }
    if classifier.baseline:
        parts = {"full": lambda: _uncompressed(job, train, test, embedding), **parts}
    gathered.local_labels = (train.labels, test.labels)
    in_place: dict[str, tuple[LocalRows, LocalRows]] = {
        "embedded": projected,
        "full": (train, test),
    }
    for name, rows in parts.items():
        gathered.names.append(name)
        if training[name] == "data_parallel":
            gathered.local[name] = in_place[name]
            continue
        try:
            pair = [gather_rows(comm, part) for part in rows()]
        except MemoryLimitError as error:
            if classifier.parallel != "auto":
                raise
            say(job, f"networks on it are trained data-parallel by {comm.size} ranks: {error}")
            gathered.local[name] = in_place[name]
            continue
        if pair[0] is not None and pair[1] is not None:
            gathered.inputs[name] = (pair[0], pair[1])
    if len(gathered.local) < len(parts):
        gathered.train_labels = gather_rows(comm, train.labels)
        gathered.test_labels = gather_rows(comm, test.labels)
    return gathered
