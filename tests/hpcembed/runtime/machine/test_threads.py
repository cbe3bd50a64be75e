"""Threads per rank: the request, the environment, an equal share of the cores."""

import multiprocessing
import threading

import pytest

from hpcembed.runtime.machine import threads
from hpcembed.runtime.machine.threads import on_threads, threads_per_rank, training_threads

pytestmark = pytest.mark.mpi


def test_threads(comm, monkeypatch):
    assert threads_per_rank(comm, 5) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_per_rank(comm) == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "available_cores", lambda: {0, 1, 2, 3, 4, 5})
    assert threads_per_rank(comm) == 6 // comm.size


def test_threads_of_a_training(monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: {0, 1, 2})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert training_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert training_threads() == 2
    assert training_threads(5) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert training_threads() == 3


def test_arguments_at_once_and_results_in_order():
    together = threading.Barrier(3, timeout=10)

    def work(number):
        together.wait()
        return number * 10, threading.get_ident()

    for _ in range(2):
        results = on_threads(work, [1, 2, 3])
        assert [result for result, _ in results] == [10, 20, 30]
        assert results[0][1] == threading.get_ident()
        assert len({thread for _, thread in results}) == 3
    assert on_threads(lambda number: number, [7]) == [7]


def test_an_exception_waits_for_the_others():
    done = []

    def work(number):
        if number == 2:
            raise ValueError("two")
        done.append(number)

    for arguments in ([2, 1, 3], [1, 2, 3]):
        done.clear()
        with pytest.raises(ValueError, match="two"):
            on_threads(work, arguments)
        assert sorted(done) == [1, 3]


def _squares(_):
    return on_threads(abs, [-1, -2, -3])


def test_threads_of_a_forked_process(comm):
    if comm.size > 1:
        pytest.skip("processes of an MPI job are not forked")
    on_threads(abs, [1, 2, 3])
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map_async(_squares, [0]).get(timeout=20) == [[1, 2, 3]]
