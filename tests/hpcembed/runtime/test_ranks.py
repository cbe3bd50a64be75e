"""Ownership, agreement, gathering and waiting, on 1, 2 and 3 ranks."""

import sys
import time

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from hpcembed.runtime import ranks
from hpcembed.runtime.agreement import agree, agreement, idle_while_root, on_rank
from hpcembed.runtime.errors import (
    ConfigError,
    ConvergenceError,
    HpcembedError,
    InputError,
    LaunchError,
    MemoryLimitError,
)
from hpcembed.runtime.ranks import (
    allgather_rows,
    check_launcher,
    gather_rows,
    ownership_range,
    sum_over_ranks,
)
from released_frames import releases_frames

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("n", [0, 1, 2, 7, 30])
def test_ownership_is_petscs(comm, n):
    vector = PETSc.Vec().createMPI(n, comm=comm)
    assert ownership_range(n, comm) == vector.getOwnershipRange()
    vector.destroy()


def test_no_error_raises_nothing(comm):
    agree(comm, None)
    with agreement(comm):
        pass


def test_one_failing_rank_raises_on_all_with_its_number(comm):
    last = comm.size - 1
    with pytest.raises(InputError) as caught:
        agree(comm, InputError("row 17 is bad") if comm.rank == last else None)
    assert str(caught.value) == (f"[rank {last}] " if comm.size > 1 else "") + "row 17 is bad"


def test_an_error_of_all_ranks_is_raised_without_a_rank(comm):
    with pytest.raises(ConfigError) as caught, agreement(comm):
        raise ConfigError("bad key")
    assert str(caught.value) == "bad key"


def test_different_errors_are_counted(comm):
    with pytest.raises(InputError) as caught, agreement(comm):
        raise InputError(f"row {comm.rank}")
    assert str(caught.value).startswith("[rank 0] row 0" if comm.size > 1 else "row 0")
    assert ("other message" in str(caught.value)) == (comm.size > 1)


def test_missing_file_becomes_one_line(comm, shared_tmp):
    with pytest.raises(InputError, match=r"none\.bin: No such file"), agreement(comm):
        (shared_tmp / "none.bin").read_bytes()


def test_a_defect_is_not_hidden(comm):
    with pytest.raises(ZeroDivisionError), agreement(comm):
        _ = 1 / 0


@pytest.mark.parametrize("message_bytes", [2**26, 64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_gather_in_pieces_keeps_order_and_empty_ranks(comm, monkeypatch, message_bytes, shape):
    monkeypatch.setattr(ranks, "MAX_MESSAGE_BYTES", message_bytes)
    counts = [5, 0, 9][: comm.size]
    start = sum(counts[: comm.rank])
    rows = np.arange(start, start + counts[comm.rank], dtype=np.float64)
    rows = rows.reshape(-1, *(1,) * len(shape)) * np.ones(shape)
    expected = np.arange(sum(counts), dtype=np.float64)
    expected = expected.reshape(-1, *(1,) * len(shape)) * np.ones(shape)
    gathered = gather_rows(comm, rows)
    if comm.rank == 0:
        np.testing.assert_array_equal(gathered, expected)
    else:
        assert gathered is None
    np.testing.assert_array_equal(allgather_rows(comm, rows), expected)


@pytest.mark.parametrize("message_bytes", [2**26, 40])
@pytest.mark.parametrize("order", ["C", "F"])
def test_sum_in_place(comm, monkeypatch, message_bytes, order):
    monkeypatch.setattr(ranks, "MAX_MESSAGE_BYTES", message_bytes)
    values = np.asarray(np.arange(12.0).reshape(3, 4) * (comm.rank + 1), order=order)
    result = sum_over_ranks(comm, values)
    total = comm.size * (comm.size + 1) / 2
    np.testing.assert_array_equal(values, np.arange(12.0).reshape(3, 4) * total)
    assert result is values
    sum_over_ranks(comm, np.empty(0))


def test_sum_needs_a_contiguous_array(comm):
    with pytest.raises(ValueError, match="contiguous"):
        sum_over_ranks(comm, np.zeros((4, 4))[:, ::2])


def test_root_works_while_others_sleep(comm):
    before = time.process_time()
    result = idle_while_root(comm, lambda: (time.sleep(0.5), 42)[1])
    assert result == (42 if comm.rank == 0 else None)
    # Half a second of waiting in a spinning barrier would use half a second of processor time.
    assert time.process_time() - before < 0.25


def test_error_of_root_reaches_all(comm):
    def work():
        raise InputError("training went wrong")

    with pytest.raises(InputError, match="training went wrong"):
        idle_while_root(comm, work)


def test_memory_errors_of_libraries_reach_all(comm):
    """Torch reports a failed allocation as a RuntimeError."""

    def work():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 TB")

    with pytest.raises(MemoryLimitError, match="out of memory: DefaultCPUAllocator"):
        idle_while_root(comm, work)
    with (
        pytest.raises(MemoryLimitError, match="out of memory: DefaultCPUAllocator"),
        agreement(comm),
    ):
        if comm.rank == comm.size - 1:
            work()


def test_foreign_launcher_is_named(comm, monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "4")
    if comm.size == 1:
        with pytest.raises(LaunchError, match=r"4 processes .* is a separate MPI job"):
            check_launcher(comm)
    else:
        check_launcher(comm)


def test_an_error_of_one_rank_alone_has_one_traceback():
    """The exception itself is raised where no rank number and no other type is needed."""
    error = InputError("row 3: not a number")
    with pytest.raises(InputError) as caught, agreement(MPI.COMM_SELF):
        raise error
    assert caught.value is error
    assert error.__cause__ is None
    with pytest.raises(InputError, match="no such place") as caught, agreement(MPI.COMM_SELF):
        raise OSError("no such place")
    assert isinstance(caught.value.__cause__, OSError)


def fail(message="row 17 is bad"):
    """Raise an error with a cause; both are variables of this frame, which they hold."""
    errors = []
    for number, text in enumerate(("no space", message)):
        try:
            raise InputError(text) from (errors[-1] if number else None)
        except InputError as error:
            errors.append(error)
    raise errors[-1]


def agreed_by(comm, failing):
    with agreement(comm):
        if comm.rank in failing:
            fail()


def agreed_on_a_variable(comm, failing):
    error = None
    try:
        if comm.rank in failing:
            fail()
    except InputError as caught:
        error = caught
    agree(comm, error)


@pytest.mark.parametrize("which", ["last", "all"])
@pytest.mark.parametrize("call", [agreed_by, agreed_on_a_variable])
def test_an_error_of_a_rank_leaves_no_frames(comm, call, which):
    if comm.size == 1:
        pytest.skip("on one rank the traceback has frames")
    failing = range(comm.size) if which == "all" else [comm.size - 1]
    assert releases_frames(lambda: call(comm, failing), InputError)


@pytest.mark.parametrize("call", [on_rank, idle_while_root])
def test_an_error_of_rank_0_leaves_no_frames(comm, call):
    if comm.size == 1:
        pytest.skip("on one rank the traceback has frames")
    arguments = (comm, 0, fail) if call is on_rank else (comm, fail)
    assert releases_frames(lambda: call(*arguments), InputError)


def test_a_defect_on_one_rank_has_its_place_on_all(comm):
    if comm.size == 1 or sys.version_info < (3, 11):
        pytest.skip("the traceback has the place, or there are no notes")
    with pytest.raises(InputError) as caught:
        on_rank(comm, comm.size - 1, fail)
    (note,) = caught.value.__notes__
    assert note.startswith(f"On rank {comm.size - 1}:\n")
    assert "raise errors[-1]" in note


def test_an_error_that_all_ranks_have_keeps_its_attributes(comm):
    error = ConvergenceError("pair 3 is unconverged", "a result")
    error.number = 3
    with pytest.raises(ConvergenceError, match="pair 3 is unconverged") as caught:
        agree(comm, error)
    assert caught.value.result == "a result"
    assert caught.value.number == 3
    assert (caught.value is error) == (comm.size == 1)
    assert caught.value.__cause__ is None


def test_the_traceback_of_one_rank_is_whole(comm):
    with pytest.raises(HpcembedError) as caught, agreement(MPI.COMM_SELF):
        fail()
    assert [entry.name for entry in caught.traceback][-1] == "fail"
