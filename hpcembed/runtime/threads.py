"""Cores of a process and BLAS threads of a rank."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import scipy.linalg  # noqa: F401  its BLAS must be loaded before libraries are searched
from mpi4py import MPI
from threadpoolctl import ThreadpoolController

from hpcembed.runtime.ranks import compute_node

__all__ = ["available_cores", "blas_threads", "one_blas_thread", "threads_per_rank"]


def threads_per_rank(comm: MPI.Comm, requested: int = 0) -> int:
    """Return the number of BLAS threads of a rank: each core of a compute node is used once.

    Collective. The first of these that is set: `requested`; OMP_NUM_THREADS; an equal share of the
    cores on which the ranks of this compute node may run.
    """
    if requested > 0:
        return requested
    variable = os.environ.get("OMP_NUM_THREADS", "")
    if variable.isdigit() and int(variable) > 0:
        return int(variable)
    node = compute_node(comm)
    cores = set().union(*node.allgather(available_cores()))
    share = max(1, len(cores) // node.size)
    node.Free()
    return share


def available_cores() -> set[int]:
    """Return the cores on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS and LAPACK use one thread.

    Threads of OpenBLAS wait for work by spinning. They take the cores of other threads, and where
    other processes run, small problems take many times longer on several threads than on one.
    """
    context: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return context


def blas_threads() -> int | None:
    """Return the largest number of threads of a BLAS in use, or None if none is known."""
    running = [info["num_threads"] for info in _libraries().info() if info["user_api"] == "blas"]
    return max(running, default=None)


@cache
def _libraries() -> ThreadpoolController:
    """Return the libraries of numpy and SciPy: to find them takes milliseconds."""
    return ThreadpoolController()
