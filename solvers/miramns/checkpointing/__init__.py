"""Checkpoints: the state of a long computation in files, written in parallel, never half taken.

``store.py`` is the interface, ``clock.py`` the interval, ``snapshot.py`` the content of one
checkpoint, ``generations.py`` the folders, ``manifest.py`` the description of a checkpoint and its
check, ``array_files.py`` the parallel files and ``lock.py`` the owner of a store.
"""

from miramns.checkpointing.clock import CheckpointClock
from miramns.checkpointing.failures import restoring
from miramns.checkpointing.generations import stored_identity
from miramns.checkpointing.opening import opened_store
from miramns.checkpointing.snapshot import Saved, Snapshot
from miramns.checkpointing.store import CheckpointStore
from miramns.errors import CheckpointError, CheckpointMismatchError, StoppedAtCheckpointError

__all__ = [
    "CheckpointClock",
    "CheckpointError",
    "CheckpointMismatchError",
    "CheckpointStore",
    "Saved",
    "Snapshot",
    "StoppedAtCheckpointError",
    "opened_store",
    "restoring",
    "stored_identity",
]
