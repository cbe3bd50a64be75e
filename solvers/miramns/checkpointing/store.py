"""A store of checkpoints: the state of each long phase of a computation, under a name.

Problem: a run that is killed at any instant continues from its last checkpoint, on the same number
of ranks with the same bits.

Method. Each checkpoint is a folder with one file per array and a manifest. All ranks write their
rows in parallel, and nothing is gathered; a reader on another number of ranks reads the rows that
it owns. The folder gets its name when everything in it is on the disk. Two checkpoints of each name
are kept, and the newest one that is whole is read. The identity of the run (configuration, version,
data) is in every checkpoint, and a difference is refused. One process owns the store.

Every call is collective, and a failure on one rank is raised on all.
"""

from __future__ import annotations

import logging
import shutil
import time
import weakref
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import Any

from mpi4py import MPI
from numpy.typing import NDArray

from miramns.checkpointing.clock import CheckpointClock
from miramns.checkpointing.failures import agreed
from miramns.checkpointing.generations import (
    clean,
    generations,
    names,
    path_of,
    remove,
)
from miramns.checkpointing.lock import Lock
from miramns.checkpointing.manifest import (
    JSON,
    DamagedError,
    Manifest,
    checked_name,
    plain,
    read_manifest,
    require_same,
)
from miramns.checkpointing.snapshot import Saved, Snapshot, problem_of_files, write_snapshot
from miramns.errors import CheckpointError, StoppedAtCheckpointError

_log = logging.getLogger(__name__)


class CheckpointStore:
    """Checkpoints of one run in a folder.

    Collective, as is every method but :meth:`close`.

    Parameters
    ----------
    folder : path
        Created as needed, on a file system that all ranks share.
    identity : mapping of str to JSON value
        Whatever must not change between the parts of a run: configuration, version, data. That of
        rank 0 counts.
    comm : MPI.Comm
    keep : int
        Number of checkpoints of each name that are kept.
    every : float, optional
        Seconds between checkpoints; 0 for one at each opportunity. Default: chosen by
        :class:`CheckpointClock` so that the checkpoints take at most 2 % of the time.
    stop : callable, optional
        Returns whether this rank was asked to stop, for example by a signal. :meth:`offer` then
        saves, and raises an error, on all ranks.

    Attributes
    ----------
    folder : Path
    clock : CheckpointClock

    Raises
    ------
    CheckpointMismatchError
        The folder has checkpoints of another identity; ``differences`` lists them.
    CheckpointError
        Another process owns the folder, or the folder cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from miramns.checkpointing import CheckpointMismatchError, CheckpointStore
    >>> from mpi4py import MPI
    >>> folder = tempfile.TemporaryDirectory()
    >>> with CheckpointStore(folder.name, {"k": 50}, MPI.COMM_SELF) as store:
    ...     _ = store.save("solver", {"basis": np.ones((4, 2))}, state={"restarts": 3})
    >>> with CheckpointStore(folder.name, {"k": 50}, MPI.COMM_SELF) as store:
    ...     saved = store.newest("solver")
    ...     print(saved.state, saved.rows("basis", 1, 3).shape)
    {'restarts': 3} (2, 2)
    >>> try:
    ...     CheckpointStore(folder.name, {"k": 40}, MPI.COMM_SELF)
    ... except CheckpointMismatchError as error:
    ...     print(error.differences)
    {'k': (50, 40)}
    >>> folder.cleanup()
    """

    def __init__(
        self,
        folder: Path | str,
        identity: Mapping[str, JSON],
        comm: MPI.Comm,
        keep: int = 2,
        *,
        every: float | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        if keep < 1:
            raise CheckpointError(f"need keep >= 1, got {keep}")
        self.folder: Path = comm.bcast(Path(folder).absolute())
        self.clock = CheckpointClock(every)
        self.stop = stop
        self._comm, self._keep, self._prefix = comm, keep, ""
        self._whole: CheckpointStore | None = None
        self._damaged: set[tuple[str, int]] = set()
        self._identity: dict[str, JSON] = {}
        self._release: Callable[[], object] = _nothing
        with agreed(comm, self.folder, "open the checkpoints"):
            if comm.rank == 0:
                self._identity = plain(dict(identity), "the identity")
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = Lock(self.folder)
                self._release = weakref.finalize(self, lock.release)
                try:
                    clean(self.folder)
                    self._require_identity()
                except BaseException:
                    self._release()
                    raise

    def __enter__(self) -> CheckpointStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> CheckpointStore:
        """Return the same store: it is one open folder. scikit-learn copies parameters."""
        return self

    def close(self) -> None:
        """Release the lock of the folder. Not collective."""
        self._release()

    def within(self, prefix: str) -> CheckpointStore:
        """Return the same store for another part of the run: its names begin with `prefix`.

        Not collective. Lock, identity and clock are those of this store.
        """
        part = copy(self)
        part._whole = self._whole or self  # keeps the lock, which ends with the whole store
        part._prefix = f"{self._prefix}{checked_name(prefix)}."
        return part

    def save(
        self,
        name: str,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        *,
        shared: Mapping[str, NDArray[Any]] | None = None,
        state: JSON = None,
        identity: Mapping[str, JSON] | None = None,
    ) -> Path:
        """Write a checkpoint, and remove those that are older than the `keep` newest ones.

        Collective.

        Parameters
        ----------
        name : str
            Letters, digits, ``_``, ``.`` and ``-``.
        arrays, shared, state
            See :class:`Snapshot`.
        identity : mapping of str to JSON value, optional
            Whatever must not change for this name alone.

        Returns
        -------
        Path
            Folder of the checkpoint.

        Raises
        ------
        CheckpointError
            On all ranks, with the path and the bytes needed. Earlier checkpoints are unchanged.
        """
        began = time.perf_counter()
        folder = self._folder(name)
        content = Snapshot(dict(arrays or {}), dict(shared or {}), state)
        generation, size = write_snapshot(
            self._comm, folder, content, self._identity, dict(identity or {})
        )
        with agreed(self._comm, folder, "remove old checkpoints"):
            if self._comm.rank == 0:
                self._remove_old(folder)
        self.clock.written(size, time.perf_counter() - began)
        return path_of(folder, generation)

    def offer(
        self,
        name: str,
        snapshot: Callable[[], Snapshot | None],
        size: int = 0,
        *,
        identity: Mapping[str, JSON] | None = None,
    ) -> bool:
        """Save a checkpoint if one is due, or if a rank was asked to stop.

        Collective: one reduction if nothing is due. For boundaries between steps where the ranks
        communicate anyway.

        Parameters
        ----------
        snapshot : callable
            Makes the content, on every rank, if it is saved. None on all ranks: the state is not
            one to continue from, and earlier checkpoints stay.
        size : int
            Approximate bytes of the content on all ranks together.

        Returns
        -------
        bool
            Whether a checkpoint was written.

        Raises
        ------
        StoppedAtCheckpointError
            On all ranks, after the checkpoint, if ``stop()`` of a rank has returned True.
        """
        stop = (self._whole or self).stop
        asked = stop is not None and stop()
        due = self._comm.rank == 0 and self.clock.is_due(size)
        decision = self._comm.allreduce(2 if asked else int(due), op=MPI.MAX)
        if decision == 0:
            return False
        content, last = snapshot(), "without another checkpoint"
        if content is not None:
            path = self.save(
                name, content.arrays, shared=content.shared, state=content.state, identity=identity
            )
            last = f"after the checkpoint {path}"
        if decision == 2:
            raise StoppedAtCheckpointError(f"stopped as asked, {last}")
        return content is not None

    def newest(
        self,
        name: str,
        *,
        identity: Mapping[str, JSON] | None = None,
        required: bool = False,
    ) -> Saved | None:
        """Return the newest checkpoint of a name that is whole.

        Collective. All ranks together verify the digest of every file. A damaged checkpoint is
        left out with a warning.

        Parameters
        ----------
        identity : mapping of str to JSON value, optional
            As for :meth:`save`.
        required : bool
            Raise an error instead of returning None.

        Raises
        ------
        CheckpointMismatchError
            The checkpoint has another identity.
        CheckpointError
            `required`, and there is no whole checkpoint.
        """
        comm, folder = self._comm, self._folder(name)
        numbers: list[int] = []
        with agreed(comm, folder, "read the checkpoints"):
            if comm.rank == 0:
                numbers = generations(folder)
        for number in comm.bcast(numbers):
            path = path_of(folder, number)
            manifest, problem = self._read(path, identity)
            problem = problem or problem_of_files(comm, path, manifest)
            if not problem:
                return Saved(comm, path, number, manifest)
            self._damaged.add((folder.name, number))
            if comm.rank == 0:
                _log.warning("%s: damaged checkpoint left out: %s", path, problem)
        if required:
            raise CheckpointError(f"{folder}: no whole checkpoint to continue from")
        return None

    def drop(self, name: str) -> None:
        """Remove all checkpoints of a name. Collective."""
        folder = self._folder(name)
        with agreed(self._comm, folder, "remove checkpoints"):
            if self._comm.rank == 0 and folder.exists():
                remove(folder, generations(folder))
                shutil.rmtree(folder)

    def _folder(self, name: str) -> Path:
        return self.folder / checked_name(f"{self._prefix}{name}")

    def _remove_old(self, folder: Path) -> None:
        whole = [one for one in generations(folder) if (folder.name, one) not in self._damaged]
        remove(folder, set(generations(folder)) - set(whole[: self._keep]))

    def _require_identity(self) -> None:
        for folder in names(self.folder):
            for number in generations(folder):
                try:
                    stored = read_manifest(path_of(folder, number)).identity
                except DamagedError:
                    continue  # `newest` warns of it
                require_same(self.folder, stored, self._identity)

    def _read(self, path: Path, identity: Mapping[str, JSON] | None) -> tuple[Manifest, str]:
        """Return a manifest on every rank, and the reason if it is damaged. Collective."""
        manifest, problem = Manifest({}, {}, None, 0), ""
        with agreed(self._comm, path, "read the checkpoint"):
            if self._comm.rank == 0:
                try:
                    manifest = read_manifest(path)
                except DamagedError as error:
                    problem = str(error)
                else:
                    require_same(path, manifest.identity, self._identity)
                    require_same(path, manifest.part, plain(dict(identity or {}), "identity"))
        found: tuple[Manifest, str] = self._comm.bcast((manifest, problem))
        return found


def _nothing() -> None:
    """Release nothing: rank 0 owns the lock."""
