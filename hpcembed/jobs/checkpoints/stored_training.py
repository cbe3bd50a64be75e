"""The state of a training in a store of checkpoints.

Few tensors are large, so those of one type are joined to one array: a checkpoint has few files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.jobs.checkpoints.errors import checkpoint_errors
from hpcembed.runtime.stopping import record_write
from miramns.checkpointing import CheckpointStore, Snapshot, restoring

__all__ = ["StoredTraining"]

_Arrays = dict[str, NDArray[Any]]


class StoredTraining:
    """Place of the state of one training: a :class:`TrainingCheckpoint`.

    Parameters
    ----------
    store : CheckpointStore
        On the ranks that train together, with a function ``stop``.
    name : str
        Of the training, unique in the store.
    comm : MPI.Comm
        Of the store.
    on_restored : callable, optional
        Called with the number of finished epochs when the training begins.
    """

    def __init__(
        self,
        store: CheckpointStore,
        name: str,
        comm: MPI.Comm,
        on_restored: Callable[[int], None] | None = None,
    ) -> None:
        self._store, self._name, self._comm = store, name, comm
        self._on_restored = on_restored
        self._epochs = 0

    def restore(self, into: Callable[[_Arrays], None]) -> bool:
        """Call `into` with the last state that was stored; return False if there is none."""
        with checkpoint_errors(self._comm):
            saved = self._store.newest(self._name)
            if saved is not None:
                with restoring(saved.path):
                    joined = {name: saved.shared(name) for name in saved.shapes}
                    into(_parted(joined, saved.state["layout"]))
                    self._epochs = int(saved.state["epochs"])
        if self._on_restored is not None:
            self._on_restored(self._epochs)
        return saved is not None

    def epoch_done(self, state: Callable[[], _Arrays], *, ended: bool) -> None:
        """Store the state if that is due or the training has ended; then stop if asked to."""
        self._epochs += 1
        store, before = self._store, self._store.clock.seconds

        def snapshot() -> Snapshot:
            joined, layout = _joined(state())
            return Snapshot(shared=joined, state={"epochs": self._epochs, "layout": layout})

        where = f"after epoch {self._epochs} of {self._name}"
        with checkpoint_errors(self._comm, where):
            if ended:
                content = snapshot()
                store.save(self._name, shared=content.shared, state=content.state)
            else:
                store.offer(self._name, snapshot)
        if store.clock.seconds > before:
            record_write(store.clock.seconds - before)

    def part(self, name: str) -> StoredTraining:
        """Return the place of another training that belongs to the same one."""
        return StoredTraining(self._store, f"{self._name}.{name}", self._comm)


def _joined(arrays: _Arrays) -> tuple[_Arrays, list[list[Any]]]:
    """Join arrays of the same type; return them with names, types and shapes."""
    layout = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    kinds = dict.fromkeys(array.dtype for array in arrays.values())
    joined = {
        f"of_{kind.name}": np.concatenate(
            [array.reshape(-1) for array in arrays.values() if array.dtype == kind]
        )
        for kind in kinds
    }
    return joined, layout


def _parted(joined: _Arrays, layout: list[list[Any]]) -> _Arrays:
    """Return the arrays that :func:`_joined` was given."""
    arrays, places = _Arrays(), dict.fromkeys(joined, 0)
    for name, dtype, shape in layout:
        kind = f"of_{np.dtype(dtype).name}"
        first = places[kind]
        places[kind] = last = first + int(np.prod(shape, dtype=np.int64))
        arrays[name] = joined[kind][first:last].reshape(shape)
    return arrays
