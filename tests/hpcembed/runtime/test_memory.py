"""Limits of memory, their messages, and the memory in use."""

import pytest

from hpcembed.runtime import memory
from hpcembed.runtime.errors import MemoryLimitError
from hpcembed.runtime.memory import available_per_rank, check_fits, format_bytes, peak_bytes
from hpcembed.runtime.ranks import ranks_on_compute_node


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (17, "17 B"), (1536, "1.5 KiB"), (3 * 2**40, "3.0 TiB")]
)
def test_format(count, text):
    assert format_bytes(count) == text


def test_message_has_sizes_and_remedy():
    with pytest.raises(MemoryLimitError, match=r"the basis needs 2.0 GiB per rank, 1.0 GiB .*: x"):
        check_fits(2**31, 2**30, "the basis", "x")
    check_fits(2**30, 2**30, "the basis", "x")


@pytest.mark.mpi
def test_memory_is_shared_by_the_ranks_of_a_compute_node(comm, monkeypatch):
    assert ranks_on_compute_node(comm) == comm.size
    monkeypatch.setattr(memory, "_available_on_compute_node", lambda: 6000)
    assert available_per_rank(comm) == 6000 // comm.size
    assert available_per_rank(comm, 100) == 100
    # The rank with the least memory decides.
    monkeypatch.setattr(memory, "_available_on_compute_node", lambda: 6000 * (comm.rank + 1))
    assert available_per_rank(comm) == 6000 // comm.size


def test_slurm_limit_counts(monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")
    assert memory._available_on_compute_node() <= 2**20


def test_peak_grows_with_use():
    before = peak_bytes()
    block = bytearray(64 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_bytes() >= before
    assert peak_bytes() > 64 * 2**20
