"""The processes that a launcher started, read from its environment variables, without MPI.

Commands that communicate import mpi4py. ``--version``, ``--help`` and the prediction with numpy
alone do not: one process that no launcher started needs no MPI library.
"""

from __future__ import annotations

import os
import sys

from hpcembed.runtime.errors import LaunchError

__all__ = ["SingleProcess", "check_single", "is_launched", "launched_rank", "launched_size"]

#: Variables that launchers set for every process: Open MPI, Hydra (MPICH, Intel MPI), PMIx, srun,
#: MVAPICH, Cray PALS.
_RANK_VARIABLES = (
    *("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MPI_LOCALRANKID", "SLURM_PROCID"),
    *("MV2_COMM_WORLD_RANK", "PALS_RANKID"),
)
_SIZE_VARIABLES = (
    *("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE"),
    "SLURM_STEP_NUM_TASKS",
)


def is_launched() -> bool:
    """Return whether a launcher started this process, or it has started MPI itself."""
    return "mpi4py.MPI" in sys.modules or any(name in os.environ for name in _RANK_VARIABLES)


def check_single(remedy: str) -> None:
    """Raise an error if a launcher started several processes, which cannot communicate.

    Raises
    ------
    LaunchError
        The message contains the number of processes and the `remedy`.
    """
    count = launched_size()
    if count > 1:
        raise LaunchError(f"the launcher started {count} processes without mpi4py: {remedy}")


def launched_size() -> int:
    """Return the number of processes that the launcher started, 1 if no variable states it."""
    return max((_number(name) for name in _SIZE_VARIABLES), default=1) or 1


def launched_rank() -> int:
    """Return the number of this process among those of the launcher, 0 if no variable states it."""
    return next((_number(name) for name in _RANK_VARIABLES if name in os.environ), 0)


def _number(variable: str) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdigit() else 0


class SingleProcess:
    """The methods of a communicator that the end of a command needs, for one process without MPI.

    Examples
    --------
    >>> alone = SingleProcess()
    >>> alone.rank, alone.size, alone.Ibarrier().Test()
    (0, 1, True)
    """

    rank = 0
    size = 1

    def Ibarrier(self) -> SingleProcess:  # noqa: N802 (the name of mpi4py)
        """Return a request that is complete."""
        return self

    def Test(self) -> bool:  # noqa: N802
        """Return whether the request is complete."""
        return True

    def Abort(self, status: int) -> None:  # noqa: N802
        """End the process."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
