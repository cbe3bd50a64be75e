"""Cores of a process, BLAS threads of a rank, and threads for compiled products."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

import scipy.linalg  # noqa: F401  its BLAS must be loaded before libraries are searched
from mpi4py import MPI
from threadpoolctl import ThreadpoolController

from hpcembed.runtime.ranks import compute_node

__all__ = [
    "available_cores",
    "blas_threads",
    "on_threads",
    "one_blas_thread",
    "threads_per_rank",
    "training_threads",
]

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def threads_per_rank(comm: MPI.Comm, requested: int = 0) -> int:
    """Return the number of BLAS threads of a rank: each core of a compute node is used once.

    Collective. The first of these that is set: `requested`; OMP_NUM_THREADS; an equal share of the
    cores on which the ranks of this compute node may run.
    """
    chosen = _chosen(requested)
    if chosen:
        return chosen
    node = compute_node(comm)
    cores = set().union(*node.allgather(available_cores()))
    share = max(1, len(cores) // node.size)
    node.Free()
    return share


def training_threads(requested: int = 0) -> int:
    """Return the number of threads of a training on this rank, while other ranks sleep.

    The first of these that is set: `requested`; OMP_NUM_THREADS; the cores of this process.
    """
    return _chosen(requested) or len(available_cores())


def _chosen(requested: int) -> int:
    """Return the number that the job or OMP_NUM_THREADS states, or 0."""
    variable = os.environ.get("OMP_NUM_THREADS", "")
    return requested or (int(variable) if variable.isdigit() else 0)


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


def on_threads(work: Callable[[Argument], Result], arguments: Sequence[Argument]) -> list[Result]:
    """Call a function for each argument, at once, and return the results in order.

    The function must release the GIL to gain from it. This thread takes the first argument; the
    others wait between calls, because to start one takes a millisecond where threads of BLAS spin.

    Examples
    --------
    >>> on_threads(abs, [1, -2, 3])
    [1, 2, 3]
    """
    if len(arguments) < 2:
        return [work(argument) for argument in arguments]
    others = [_pool(len(arguments)).submit(work, argument) for argument in arguments[1:]]
    try:
        first = work(arguments[0])
    finally:
        wait(others)
    return [first, *(other.result() for other in others)]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="products")


if hasattr(os, "register_at_fork"):
    # a forked process has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


@cache
def _libraries() -> ThreadpoolController:
    """Return the libraries of numpy and SciPy: to find them takes milliseconds."""
    return ThreadpoolController()
