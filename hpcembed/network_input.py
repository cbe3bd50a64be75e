"""What networks are trained on, brought to rank 0: projections, and all features beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.embedding import Embedding
from hpcembed.job import Job
from hpcembed.matrix import DataMatrix
from hpcembed.memory import check_fits
from hpcembed.parallel import agreement, gather_rows
from hpcembed.precision import network_type

__all__ = ["Gathered", "gather", "project"]


@dataclass(slots=True)
class Gathered:
    """What rank 0 holds after the gather; empty on the others."""

    inputs: dict[str, tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict)
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
        check_fits(needed, available, what, "set classifier.baseline = false, or data.scaling")
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
) -> Gathered:
    """Bring to rank 0 what networks are trained on. Collective."""
    comm, classifier = job.comm, job.config.classifier
    gathered = Gathered()
    if not classifier.enabled:
        return gathered
    gathered.train_labels = gather_rows(comm, train.labels)
    gathered.test_labels = gather_rows(comm, test.labels)
    parts: dict[str, Callable[[], tuple[NDArray[Any], NDArray[Any]]]] = {
        "embedded": lambda: projected
    }
    if classifier.baseline:
        parts = {"full": lambda: _uncompressed(job, train, test, embedding), **parts}
    for name, rows in parts.items():
        pair = [gather_rows(comm, part) for part in rows()]
        if pair[0] is not None and pair[1] is not None:
            gathered.inputs[name] = (pair[0], pair[1])
    return gathered
