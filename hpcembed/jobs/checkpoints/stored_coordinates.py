"""Coordinates of all rows in a rival projection, stored until the study is finished.

A projection is stored under the digest of everything that determines its coordinates: another study
in the same folder finds none of another one. Each rank reads its rows, so that a study continues on
any number of ranks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

import hpcembed
from hpcembed.data.matrix import DataMatrix
from hpcembed.jobs.checkpoints.errors import checkpoint_errors
from hpcembed.jobs.checkpoints.run_checkpoints import FOLDER
from hpcembed.jobs.job import Job
from hpcembed.runtime.agreement import agreement
from miramns.checkpointing import CheckpointStore, restoring

__all__ = ["StoredCoordinates"]

_NAME = "coordinates"
_PARTS = ("train", "test")


class StoredCoordinates:
    """The coordinates of training and test rows in one projection.

    Parameters
    ----------
    job : Job
        Of a study with an output folder.
    train, test : DataMatrix
    identity : mapping of str to JSON value
        Data, settings of the projection, seed and number of coordinates.
    """

    def __init__(
        self, job: Job, train: DataMatrix, test: DataMatrix, identity: Mapping[str, Any]
    ) -> None:
        self._comm, self._parts = job.comm, dict(zip(_PARTS, (train, test), strict=True))
        self._identity = {"version": hpcembed.__version__, **msgspec.to_builtins(dict(identity))}
        text = json.dumps(self._identity, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        self._folder = job.out / FOLDER / f"rival-{digest}"

    def restore(self) -> tuple[list[NDArray[Any]], float] | None:
        """Return the coordinates of this rank's rows, and the seconds of their fit.

        Collective.

        Returns
        -------
        tuple or None
            None if they are not stored.

        Raises
        ------
        OutputError
            A checkpoint cannot be read.
        """
        with self._store() as store:
            saved = store.newest(_NAME)
            if saved is None:
                return None
            local, seconds = list[NDArray[Any]](), 0.0
            with agreement(self._comm), restoring(saved.path):
                local = [saved.rows(name, *part.row_range) for name, part in self._parts.items()]
                seconds = float(saved.state["seconds"])
            return local, seconds

    def store(self, local: list[NDArray[Any]], seconds: float) -> None:
        """Store the coordinates of this rank's rows.

        Collective.

        Raises
        ------
        OutputError
            They cannot be written.
        """
        with self._store() as store:
            rows = {
                name: np.ascontiguousarray(part) for name, part in zip(_PARTS, local, strict=True)
            }
            store.save(_NAME, rows, state={"seconds": seconds})

    @contextmanager
    def _store(self) -> Iterator[CheckpointStore]:
        with (
            checkpoint_errors(self._comm),
            CheckpointStore(self._folder, self._identity, self._comm, keep=1) as store,
        ):
            yield store
