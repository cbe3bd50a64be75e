"""A failed allocation is one line with its size and a remedy, and an exit status of 2."""

import numpy as np
import pytest

from hpcembed.data.file_validation import library_errors, named_errors
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import MemoryLimitError
from hpcembed.runtime.machine.memory import is_memory_error
from hpcembed.runtime.termination import exit_status


class AbortedError(Exception):
    pass


class Rank:
    """A communicator whose abortion can be observed."""

    rank, size = 1, 3

    def Abort(self, status):  # noqa: N802 (as in MPI)
        raise AbortedError(status)


def of_numpy():
    np.empty(2**46)


def of_torch():
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


class PetscError(RuntimeError):
    ierr = 55


def of_petsc():
    raise PetscError("error code 55")


@pytest.mark.parametrize(
    ("allocate", "words"),
    [(of_numpy, "Unable to allocate 512. TiB"), (of_torch, "8 bytes"), (of_petsc, "code 55")],
)
def test_memory_error_of_one_rank_is_one_line(capsys, allocate, words):
    with pytest.raises(AbortedError, match="2"):
        exit_status(Rank(), allocate)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hpcembed: error: [rank 1] out of memory")
    assert words in line
    assert "use more ranks" in line


def test_a_defect_still_has_its_traceback(capsys):
    with pytest.raises(AbortedError, match="1"):
        exit_status(Rank(), lambda: 1 // 0)
    assert "Traceback" in capsys.readouterr().err
    assert not is_memory_error(RuntimeError("shapes differ"))


@pytest.mark.parametrize(
    "errors", [named_errors, lambda name: library_errors(name, "HDF5", OSError)]
)
def test_the_file_that_is_read_is_named(errors):
    words = r"rows.npy: out of memory: Unable to .*; the process uses .*: use more ranks"
    with pytest.raises(MemoryLimitError, match=words), errors("rows.npy"):
        of_numpy()


@pytest.mark.mpi
def test_all_ranks_agree_on_the_memory_error_of_one(comm):
    where = "" if comm.size == 1 else rf"\[rank {comm.size - 1}\] "
    words = rf"^{where}out of memory: Unable to allocate"
    with pytest.raises(MemoryLimitError, match=words), agreement(comm):
        if comm.rank == comm.size - 1:
            of_numpy()
