"""A job and the machine that it runs on; a description of the run before it starts."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from mpi4py import MPI

from hpcembed.data.reading import Description, describe_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.data.table import Table
from hpcembed.embedding import Machine
from hpcembed.jobs.configuration import JobConfig, load_job, rename_files
from hpcembed.jobs.embedding_methods import METHODS
from hpcembed.jobs.memory_plan import described_shape, unread_budget
from hpcembed.networks.training.recipe import BATCH_KEYS
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.machine.memory import available_per_rank
from hpcembed.runtime.machine.threads import threads_per_rank
from hpcembed.runtime.output.files import check_free
from hpcembed.runtime.ranks import check_launcher
from hpcembed.runtime.settings import to_toml
from hpcembed.runtime.wording import counted

__all__ = ["Job", "describe_job", "first_lines", "known_dimension", "place", "prepare"]


#: Line of a description where the headers of the data do not have the shape of the rows.
MEMORY_UNKNOWN = "memory     not known before the data is read"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """A job, its ranks, its folders and the resources of one rank.

    Attributes
    ----------
    config : JobConfig
    comm : MPI.Intracomm
    data_dir, out : Path
    threads : int
        BLAS threads per rank.
    available_bytes : int
        Memory that one rank may allocate.
    seconds : dict
        Wall time of each finished step on the slowest rank.
    tables : tuple of Table
        Training and test rows, or rows to split, that the caller holds in memory. Empty: the files
        of the configuration are read.
    checkpoint_every : float or None
        Seconds between checkpoints; None: so that they take at most 2 % of the time.
    verify_data : bool
        Compare all bytes of the data files when a run continues.
    """

    config: JobConfig
    comm: MPI.Intracomm
    data_dir: Path
    out: Path
    threads: int
    available_bytes: int
    seconds: dict[str, float] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    checkpoint_every: float | None = None
    verify_data: bool = False

    def check_out(self) -> None:
        """Refuse an output folder that is not empty. Collective."""
        with agreement(self.comm):
            if self.comm.rank == 0:
                check_free(self.out)

    @property
    def machine(self) -> Machine:
        """Ranks and threads, and the memory that one rank may allocate."""
        return Machine(self.comm.size, self.threads, self.available_bytes)

    def log(self, line: str) -> None:
        """Log a line on rank 0."""
        if self.comm.rank == 0:
            _log.info(line)

    def remaining(self, held: int) -> int:
        """Return the memory left to one rank when each holds `held` bytes. Collective."""
        limit = int(self.config.resources.memory_gib * 2**30)
        free = available_per_rank(self.comm)
        return min(free, max(0, limit - self.comm.allreduce(held, op=MPI.MAX))) if limit else free

    def resolved_toml(self) -> str:
        """Return the job as TOML that repeats this run from any folder: paths are absolute."""
        return to_toml(msgspec.structs.replace(self.config, data=self.placed_data()))

    def placed_data(self) -> DataSettings:
        """Return the [data] section with absolute paths."""
        folder = self.data_dir.resolve()
        return rename_files(self.config.data, lambda name: str(folder / name) if name else "")


def prepare(
    path: Path,
    overrides: Sequence[str],
    data_dir: Path | None,
    out: Path | None,
    comm: MPI.Intracomm,
) -> Job:
    """Read a job file, and find the folders and resources of its run. Collective.

    Raises
    ------
    ConfigError, LaunchError
        On all ranks.
    """
    with agreement(comm):
        config = load_job(path, overrides)
        config.training.check_default(BATCH_KEYS, str(path), "hpcembed run")
    return place(config, path.parent, data_dir, out, comm)


def place(
    config: JobConfig,
    folder: Path,
    data_dir: Path | None,
    out: Path | None,
    comm: MPI.Intracomm,
    default_out: str = "",
) -> Job:
    """Find the folders and resources for the run of a job. Collective.

    Parameters
    ----------
    folder : Path
        Folder of the job file; `data_dir` replaces it if given.
    out : Path or None
        Output folder; None: the folder of the job, or else `default_out`.
    default_out : str
        By default a folder in runs/ named after data and time.

    Raises
    ------
    ConfigError, LaunchError
        On all ranks.
    """
    with agreement(comm):
        check_launcher(MPI.COMM_WORLD)  # `comm` may be this rank alone
        if data_dir is not None and not data_dir.is_dir():
            raise ConfigError(f"--data-dir {data_dir}: no such folder")
    stamp = comm.bcast(time.strftime("%Y%m%d-%H%M%S"))
    default_out = default_out or f"runs/{config.data.name}-{stamp}"
    limit = int(config.resources.memory_gib * 2**30)
    # the last bits of products depend on the number of threads
    threads = config.resources.threads or int(config.resources.reproducible)
    return Job(
        config=config,
        comm=comm,
        data_dir=data_dir or folder,
        out=out or Path(config.output.directory or default_out),
        threads=threads_per_rank(comm, threads),
        available_bytes=available_per_rank(comm, limit),
    )


def describe_job(job: Job) -> str:
    """Describe a run and its memory, from the headers of the data.

    Collective.

    Raises
    ------
    HpcembedError
        An error of the run that the headers of the data reveal.
    """
    config, comm = job.config, job.comm
    job.check_out()
    data = describe_dataset(config.data, job.data_dir, comm, config.graph)
    k, most = config.embedding.n_components, known_dimension(config, data)
    if most is not None and k > most:
        dimension = METHODS[config.embedding.method].dimension
        raise InputError(
            f"need 1 <= n_components <= {dimension}, got n_components={k} with {most} {dimension}"
        )
    lines = first_lines(job, data, f"job        {config.data.name}", f"k = {k}")
    shape = described_shape(data, config.data)
    if shape is None:
        return "\n".join([*lines, MEMORY_UNKNOWN])
    budget = unread_budget(config, shape, job.machine)
    lines += [f"operator   {budget.operator.describe()}", budget.describe()]
    return "\n".join([*lines, *budget.left_in_place()])


def known_dimension(config: JobConfig, data: Description) -> int | None:
    """Return the dimension of a job's operator; None if the headers of the data do not have it."""
    dimension = METHODS[config.embedding.method].dimension
    features = None if data.is_sparse else data.n_features
    rows = None if data.is_estimate else data.n_rows[0]
    return {"features": features, "rows": rows}[dimension]


def first_lines(job: Job, data: Description, title: str, dimensions: str) -> list[str]:
    """Return the lines of a description that need the headers of the data alone.

    Parameters
    ----------
    title : str
        Begin of the first line.
    dimensions : str
        Numbers of coordinates.
    """
    config, (n_train, n_test) = job.config, data.n_rows
    return [
        f"{title}: {config.embedding.method}, {dimensions}, "
        f"{config.solver.name} {config.solver.variant}, tol {config.solver.tol:g}",
        f"ranks      {job.comm.size} with {counted(job.threads, 'BLAS thread')} each",
        f"data       {data.format}, {_count(n_train)} training and {_count(n_test)} test rows of "
        f"{_count(data.n_features)} {'feature' if data.n_features == 1 else 'features'} "
        f"({data.dtype})" + (", numbers of rows estimated" if data.is_estimate else ""),
        f"output     {job.out}",
    ]


def _count(number: int | None) -> str:
    return "an unknown number of" if number is None else f"{number:,}"
