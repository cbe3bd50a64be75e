"""The checkpoints of a run, in the folder ``checkpoints`` of its output folder.

The folder has the job (``job.toml``), a store of the steps that all ranks take together (``run``),
and a store of the networks that rank 0 trains alone (``networks``). It is removed when all results
are written: an output folder with it is that of an unfinished run, which the same command, or
``hpcembed run --resume FOLDER``, continues.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from mpi4py import MPI

from hpcembed.jobs.checkpoints.errors import checkpoint_errors
from hpcembed.jobs.checkpoints.identity import run_identity
from hpcembed.jobs.checkpoints.stored_embedding import FitCheckpoints
from hpcembed.jobs.checkpoints.stored_training import StoredTraining
from hpcembed.jobs.job import Job
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError, HpcembedError
from hpcembed.runtime.output import output_error, write_whole
from hpcembed.runtime.stopping import continue_with, stop_flagged, stop_noticed
from miramns.checkpointing import CheckpointStore, stored_identity

__all__ = ["FOLDER", "RunCheckpoints", "is_verified", "unfinished_job"]

_log = logging.getLogger(__name__)

FOLDER = "checkpoints"
JOB = "job.toml"


def unfinished_job(folder: Path) -> Path:
    """Return the job file of an unfinished run.

    Raises
    ------
    ConfigError
        There is no unfinished run in the folder.
    """
    path = folder / FOLDER / JOB
    if path.is_file():
        return path
    if (folder / "run.json").is_file():
        raise ConfigError(f"--resume {folder}: this run is finished")
    raise ConfigError(
        f"--resume {folder}: no unfinished run there; start the job with --out {folder}"
    )


def is_verified(comm: MPI.Intracomm, folder: Path, requested: bool) -> bool:
    """Return whether all bytes of the data are compared, as at the start of the run.

    Collective.

    Parameters
    ----------
    folder : Path
        A store of checkpoints, perhaps none.
    requested : bool
        Whether ``--verify-data`` is given.

    Raises
    ------
    ConfigError
        It is given, and the run began without it.
    """
    with agreement(comm):
        identity = stored_identity(folder) if comm.rank == 0 else None
        if comm.rank == 0 and identity and identity.get("data"):
            began = any("contents" in one for one in identity["data"].values())
            if requested and not began:
                raise ConfigError(
                    f"{folder}: the run began without --verify-data, so the sizes, times and ends "
                    "of its files can be compared only: omit --verify-data"
                )
            requested = began
    return bool(comm.bcast(requested))


class RunCheckpoints:
    """The checkpoints of one run.

    Collective.

    Parameters
    ----------
    job : Job

    Attributes
    ----------
    is_resumed : bool
        Whether the output folder has an unfinished run of this job.

    Raises
    ------
    ConfigError
        The unfinished run there is of another configuration, version or data.
    OutputExistsError
        The output folder is not empty, and has no unfinished run.
    """

    def __init__(self, job: Job) -> None:
        self.job, self._folder = job, job.out / FOLDER
        self._store: CheckpointStore | None = None
        self._alone: CheckpointStore | None = None
        self._identity: dict[str, Any] = {}
        found = _is_unfinished(job.out) if job.comm.rank == 0 else False
        self.is_resumed = bool(job.comm.bcast(found))
        if self.is_resumed:
            self._open()
            job.log(f"{job.out}: continues the unfinished run there")
        else:
            job.check_out()

    def __enter__(self) -> RunCheckpoints:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Release the locks; after an error before any checkpoint, leave an empty folder."""
        for store in (self._store, self._alone):
            if store is not None:
                store.close()
        if isinstance(error, HpcembedError) and self.job.comm.rank == 0 and not self._has_any():
            with contextlib.suppress(OSError):
                shutil.rmtree(self._folder)

    def begin(self) -> RunFolder:
        """Make the output folder, and open the stores. Collective."""
        with agreement(self.job.comm):
            if self.job.comm.rank == 0:
                if self.is_resumed:
                    _remove_unfinished(self.job.out)
                else:
                    RunFolder.create(self.job.out)
                write_whole(self._folder / JOB, self.job.resolved_toml().encode())
        if self._store is None:
            self._open()
        continue_with(f"hpcembed run --resume {shlex.quote(str(self.job.out))}")
        return RunFolder(self.job.out)

    def _open(self) -> None:
        job, folder = self.job, self._folder / "run"
        whole = is_verified(job.comm, folder, job.verify_data)
        config = msgspec.structs.replace(job.config, data=job.placed_data())
        self._identity = run_identity(job, config, whole=whole)
        with checkpoint_errors(job.comm):
            self._store = CheckpointStore(
                folder, self._identity, job.comm, every=job.checkpoint_every, stop=stop_flagged
            )

    @property
    def store(self) -> CheckpointStore:
        """Store of the steps that all ranks take together."""
        assert self._store is not None  # after begin
        return self._store

    @property
    def of_fit(self) -> FitCheckpoints:
        """Checkpoints of the fit of the embedding."""
        return FitCheckpoints(self.store, self.job.comm)

    def training(
        self, name: str, on_restored: Callable[[int], None], *, alone: bool
    ) -> StoredTraining:
        """Return the place of the state of a training.

        Collective unless `alone`: then rank 0 trains, and calls this alone.
        """
        if not alone:
            return StoredTraining(self.store, f"train.{name}", self.job.comm, on_restored)
        if self._alone is None:
            with checkpoint_errors(MPI.COMM_SELF):
                self._alone = CheckpointStore(
                    self._folder / "networks",
                    self._identity,
                    MPI.COMM_SELF,
                    every=self.job.checkpoint_every,
                    stop=stop_noticed,
                )
        return StoredTraining(self._alone, name, MPI.COMM_SELF, on_restored)

    def remove(self) -> None:
        """Remove all checkpoints: the run is finished. Collective."""
        self.store.close()
        with agreement(self.job.comm):
            if self.job.comm.rank == 0:
                if self._alone is not None:
                    self._alone.close()
                try:
                    # first the job: a folder without it is no unfinished run
                    (self._folder / JOB).unlink(missing_ok=True)
                    shutil.rmtree(self._folder)
                except OSError as error:
                    raise output_error(self._folder, error) from error

    def _has_any(self) -> bool:
        return any(_manifests(self._folder))


def _is_unfinished(out: Path) -> bool:
    """Return whether a folder has checkpoints of a run, and nothing else in their folder."""
    folder = out / FOLDER
    if folder.is_symlink() or not folder.is_dir():
        return False
    if not {path.name for path in folder.iterdir()} <= {JOB, f".partial-{JOB}", "run", "networks"}:
        return False
    return (folder / JOB).is_file() or not (out / "run.json").exists()


def _manifests(folder: Path) -> Iterator[Path]:
    return folder.glob("*/*/*/manifest.json")


def _remove_unfinished(out: Path) -> None:
    """Remove files that a killed run was writing, and a model, which is written at the end."""
    for path in out.glob(".partial-*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if (out / "model").is_dir() and not (out / "model").is_symlink():
        shutil.rmtree(out / "model")
