"""A fitted embedding in a checkpoint: what is equal on all ranks once, the rest for each rank.

It continues on as many ranks as it was stored by. On another number the fit is repeated from the
checkpoints of the solver.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix
from hpcembed.jobs.checkpoints.errors import checkpoint_errors
from hpcembed.jobs.checkpoints.stored_values import NotStorableError, pack, unpack
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.fault_injection import inject
from hpcembed.runtime.stopping import record_write
from hpcembed.runtime.wording import counted
from miramns.checkpointing import CheckpointStore, restoring

__all__ = ["FitCheckpoints", "restore_embedding", "store_embedding"]

_log = logging.getLogger(__name__)

_NAME = "embedding"
#: Begin of the names of the checkpoints of a fit.
_FIT = "fit"
#: Bytes from which on an array has a file of its own if it is equal on all ranks.
_LARGE = 1 << 16


class FitCheckpoints:
    """The checkpoints of one fit in a store of all ranks."""

    def __init__(self, store: CheckpointStore, comm: MPI.Intracomm) -> None:
        self._store, self._comm = store, comm

    @property
    def solver_store(self) -> CheckpointStore:
        """Store of the operator and the eigensolver."""
        return self._store.within(_FIT)

    def fit(self, embedding: Any, train: DataMatrix) -> None:
        """Restore a fitted embedding, or fit it from its checkpoints, and store it.

        Collective.

        Raises
        ------
        StoppedError
            The job must stop; the state of the fit is stored.
        """
        store, before = self._store, self._store.clock.seconds
        with checkpoint_errors(self._comm, "in the eigenproblem"):
            if restore_embedding(store, embedding, train):
                return
            embedding.fit(train)
            record_write(store.clock.seconds - before)
            inject("checkpoint", self._comm)
            if store_embedding(store, embedding, train):
                inject("checkpoint", self._comm, checkpoints=store.folder)
                with agreement(self._comm):
                    if self._comm.rank == 0:
                        for folder in store.folder.glob(f"{_FIT}.*"):
                            shutil.rmtree(folder)


def store_embedding(store: CheckpointStore, embedding: Any, train: DataMatrix) -> bool:
    """Store the fitted state of an embedding; return False if it has no stored form.

    Collective.
    """
    comm, reason = train.comm, ""
    content, arrays = None, dict[str, NDArray[Any]]()
    try:
        content, arrays = pack(_fitted(embedding), train)
    except NotStorableError as error:
        reason = str(error)
    if any(comm.allgather(reason)):
        _log.debug("the embedding is not stored: %s", reason)
        return False
    digests = {name: _digest(array) for name, array in arrays.items()}
    of_ranks = comm.allgather(digests)
    common = [
        name
        for name in digests
        if arrays[name].nbytes >= _LARGE and all(digests[name] == one.get(name) for one in of_ranks)
    ]
    own = {name: array for name, array in arrays.items() if name not in common}
    blob = np.frombuffer(
        safetensors.numpy.save(own, {"content": json.dumps(content)}), dtype=np.uint8
    )
    store.save(
        _NAME,
        {"ranks": blob},
        shared={name: arrays[name] for name in common},
        state={"sizes": comm.allgather(blob.size), "shared": common},
    )
    return True


def restore_embedding(store: CheckpointStore, embedding: Any, train: DataMatrix) -> bool:
    """Give an embedding the stored state; return False if there is none for as many ranks.

    Collective.
    """
    comm, saved = train.comm, store.newest(_NAME)
    if saved is None or saved.n_ranks != comm.size:
        return False
    with restoring(saved.path):
        sizes = [int(size) for size in saved.state["sizes"]]
        if len(sizes) != comm.size:  # on all ranks alike: the next step is collective
            raise ValueError(f"sizes of {counted(len(sizes), 'rank')}")
        first = sum(sizes[: comm.rank])
        blob = saved.rows("ranks", first, first + sizes[comm.rank]).tobytes()
        arrays = {name: saved.shared(name) for name in saved.state["shared"]}
    with checkpoint_errors(comm), agreement(comm), restoring(saved.path):
        arrays |= _loaded(blob)
        length = int.from_bytes(blob[:8], "little")
        header = json.loads(blob[8 : 8 + length])
        content = json.loads(header["__metadata__"]["content"])
        vars(embedding).update(unpack(content, arrays, train))
    return True


def _loaded(blob: bytes) -> dict[str, NDArray[Any]]:
    try:
        return safetensors.numpy.load(blob)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error


def _fitted(embedding: Any) -> dict[str, Any]:
    """Return the attributes that are not parameters."""
    parameters = set(embedding.get_params(deep=False))
    return {name: value for name, value in vars(embedding).items() if name not in parameters}


def _digest(array: NDArray[Any]) -> str:
    content = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()
