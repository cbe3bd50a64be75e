"""Limits of memory, their messages, and the memory in use."""

import subprocess
import sys

import pytest

from hpcembed.runtime.errors import MemoryLimitError
from hpcembed.runtime.machine import memory
from hpcembed.runtime.machine.memory import available_per_rank, check_fits, format_bytes, peak_bytes
from hpcembed.runtime.machine.memory_limits import cgroup_left, slurm_limit
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


@pytest.mark.parametrize(
    ("variables", "mebibytes"),
    [
        ({"SLURM_MEM_PER_NODE": "4000"}, 4000),
        ({"SLURM_MEM_PER_CPU": "500", "SLURM_CPUS_ON_NODE": "4"}, 2000),
        ({"SLURM_MEM_PER_NODE": "0"}, None),  # all memory of the compute node
        ({"SLURM_MEM_PER_CPU": "500"}, None),
        ({}, None),
    ],
)
def test_limit_of_slurm(variables, mebibytes):
    limit = slurm_limit(variables)
    assert limit == (None if mebibytes is None else mebibytes * 2**20)


def test_limit_of_slurm_is_divided_and_lessened_by_the_memory_in_use(monkeypatch):
    monkeypatch.setattr(memory, "slurm_limit", lambda: 2**40)
    monkeypatch.setattr(memory, "process_left", lambda: None)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 2**30)
    assert memory._left_to_process(4) == 2**38 - 2**30
    monkeypatch.setattr(memory, "process_left", lambda: 2**20)
    assert memory._left_to_process(4) == 2**20


def test_address_space_in_use_does_not_count_as_left():
    """In a process of its own, because a limit cannot be raised again by every user."""
    program = (
        "import resource, mmap; from hpcembed.runtime.machine.memory_limits import process_left;"
        "assert process_left() is None or process_left() > 0;"
        "limit = 2**40; resource.setrlimit(resource.RLIMIT_AS, (limit, limit));"
        "before = process_left(); block = mmap.mmap(-1, 2**28); print(before - process_left())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert 2**28 <= int(done.stdout) < 2**29


def group(folder, limit, used, *, droppable=0, version=2):
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {droppable}\n")


def process_in(root, line):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"12:cpuset:/elsewhere\n{line}\n")


def test_most_restricted_ancestor_of_nested_control_groups(tmp_path):
    process_in(tmp_path, "0::/slurm/job/step")
    mount = tmp_path / "sys/fs/cgroup"
    group(mount / "slurm/job/step", "max", 10)
    group(mount / "slurm/job", 1000, 400, droppable=100)
    group(mount / "slurm", 5000, 4500)
    group(mount / "slurm/job/other", 1, 1)
    assert cgroup_left(tmp_path) == 500
    group(mount / "slurm", 50000, 4500)
    assert cgroup_left(tmp_path) == 700


def test_control_groups_of_version_1_and_without_a_limit(tmp_path):
    process_in(tmp_path, "4:memory,hugetlb:/job")
    mount = tmp_path / "sys/fs/cgroup/memory"
    group(mount, 2**63 - 4096, 10, version=1)
    assert cgroup_left(tmp_path) is None
    group(mount / "job", 300, 100, droppable=50, version=1)
    assert cgroup_left(tmp_path) == 250


def test_container_whose_group_is_not_below_the_mount_point(tmp_path):
    process_in(tmp_path, "0::/../docker/abc")
    group(tmp_path / "sys/fs/cgroup", 800, 300)
    assert cgroup_left(tmp_path) == 500


def test_peak_grows_with_use():
    before = peak_bytes()
    block = bytearray(64 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_bytes() >= before
    assert peak_bytes() > 64 * 2**20
