"""Errors of checkpoints as errors of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mpi4py import MPI

from hpcembed.runtime.errors import ConfigError, OutputError
from hpcembed.runtime.stopping import stop_together
from miramns.checkpointing import (
    CheckpointError,
    CheckpointMismatchError,
    StoppedAtCheckpointError,
)

__all__ = ["checkpoint_errors"]


@contextmanager
def checkpoint_errors(comm: MPI.Comm, where: str = "") -> Iterator[None]:
    """Raise errors of checkpoints as errors of this package.

    Collective if a store of these ranks stopped in the block.

    Parameters
    ----------
    where : str
        Place in the job, for the message of a stop.

    Raises
    ------
    StoppedError
        The store has stopped after a checkpoint.
    ConfigError
        The checkpoints are of another run.
    OutputError
        A checkpoint cannot be written or read.
    """
    try:
        yield
    except StoppedAtCheckpointError:
        stop_together(comm, where)
        raise
    except CheckpointMismatchError as error:
        raise ConfigError(str(error)) from error
    except CheckpointError as error:
        raise OutputError(str(error)) from error
