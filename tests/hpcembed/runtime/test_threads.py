"""Threads per rank: the request, the environment, an equal share of the cores."""

import pytest

from hpcembed.runtime import threads
from hpcembed.runtime.threads import threads_per_rank

pytestmark = pytest.mark.mpi


def test_threads(comm, monkeypatch):
    assert threads_per_rank(comm, 5) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_per_rank(comm) == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "available_cores", lambda: {0, 1, 2, 3, 4, 5})
    assert threads_per_rank(comm) == 6 // comm.size
