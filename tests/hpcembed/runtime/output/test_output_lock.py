"""An output belongs to one job at a time; the marker of a job that has ended does not block."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from mpi4py import MPI

from hpcembed.runtime.errors import OutputExistsError
from hpcembed.runtime.output import lock as output_lock
from hpcembed.runtime.output.files import check_free
from hpcembed.runtime.output.lock import marker_of, owned_output
from miramns.checkpointing import lock as store_lock

HOLD = """
import sys
from mpi4py import MPI
from pathlib import Path
from hpcembed.runtime.output.lock import owned_output
with owned_output(MPI.COMM_SELF, Path(sys.argv[1])):
    print("owned", flush=True)
    sys.stdin.readline()
"""


def holding(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "owned\n"
    return process


def test_second_job_is_refused_until_the_first_one_ends(tmp_path):
    out = tmp_path / "runs" / "out"
    first = holding(out)
    refused = rf"out: in use by another job, process {first.pid} on .* since 20.*: choose another"
    with pytest.raises(OutputExistsError, match=refused), owned_output(MPI.COMM_SELF, out):
        raise AssertionError
    first.communicate("\n", timeout=30)
    assert list(tmp_path.iterdir()) == []
    with owned_output(MPI.COMM_SELF, out):
        assert marker_of(out).is_file()
    assert list(tmp_path.iterdir()) == []


def test_marker_of_a_killed_job_is_taken_over_with_a_message(tmp_path, caplog):
    first = holding(tmp_path / "out")
    first.kill()
    first.communicate(timeout=30)
    assert marker_of(tmp_path / "out").is_file()
    with owned_output(MPI.COMM_SELF, tmp_path / "out"):
        text = f"taken over from process {first.pid}, which started at 20"
        assert text in caplog.text
        assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock"]


def test_marker_of_a_job_that_is_not_waited_for_is_taken_over(tmp_path):
    """A launcher may leave a killed process as a zombie."""
    first = holding(tmp_path / "out")
    first.kill()
    stat = Path(f"/proc/{first.pid}/stat")
    deadline = time.monotonic() + 30
    while stat.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    with owned_output(MPI.COMM_SELF, tmp_path / "out"):
        pass
    first.communicate(timeout=30)


def marked(path, **changes):
    owner = msgspec.structs.replace(output_lock._this_process(), **changes)
    marker_of(path).write_bytes(msgspec.json.encode(owner))


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({}, False),
        ({"started": "1"}, True),  # another process with the same number
        ({"process": 2**22 + 1}, True),
        ({"process": 2**22 + 1, "host": "elsewhere"}, False),
        ({"job": "17", "host": "elsewhere", "restarts": 0}, True),  # requeued
        ({"job": "17", "host": "elsewhere", "restarts": 1}, False),  # a step of the same job
        ({"job": "18", "host": "elsewhere"}, False),
    ],
)
def test_which_owners_have_ended(tmp_path, monkeypatch, changes, free):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    marked(tmp_path / "out", **changes)
    if free:
        with owned_output(MPI.COMM_SELF, tmp_path / "out"):
            pass
        assert list(tmp_path.iterdir()) == []
    else:
        with pytest.raises(OutputExistsError, match="in use"):
            owned_output(MPI.COMM_SELF, tmp_path / "out").__enter__()
        assert marker_of(tmp_path / "out").is_file()


def test_marker_that_another_job_has_replaced_is_kept(tmp_path, monkeypatch):
    """Between reading the marker of an ended job and renaming it, another job takes it over."""
    marked(tmp_path / "out", process=2**22 + 1)
    ended = output_lock._has_ended

    def slow(owner):
        marked(tmp_path / "out", since="now")
        return ended(owner)

    monkeypatch.setattr(output_lock, "_has_ended", slow)
    with pytest.raises(OutputExistsError, match="since now"):
        owned_output(MPI.COMM_SELF, tmp_path / "out").__enter__()
    assert b'"now"' in marker_of(tmp_path / "out").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]


def test_the_same_folder_by_another_name(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    with (
        owned_output(MPI.COMM_SELF, Path()),
        pytest.raises(OutputExistsError, match="in use"),
        owned_output(MPI.COMM_SELF, tmp_path / "out"),
    ):
        raise AssertionError


def test_folder_whose_parent_is_not_writable_holds_its_marker(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with owned_output(MPI.COMM_SELF, out):
        assert [path.name for path in out.iterdir()] == [".out.lock"]
        check_free(out)
    assert list(out.iterdir()) == []


@pytest.mark.mpi
def test_all_ranks_are_refused(comm, shared_tmp):
    if comm.rank == 0:
        marked(shared_tmp / "out", host="elsewhere")
    with pytest.raises(OutputExistsError, match="on elsewhere"):
        owned_output(comm, shared_tmp / "out").__enter__()
    comm.barrier()
    with owned_output(comm, shared_tmp / "free"):
        assert comm.bcast(marker_of(shared_tmp / "free").is_file())
    with owned_output(comm, None):
        pass


@pytest.mark.parametrize("process", [2**31, 10**30, -1, 0])
def test_marker_of_a_process_that_cannot_be_is_taken_over(tmp_path, process):
    marker = marker_of(tmp_path / "out")
    owner = msgspec.structs.replace(output_lock._this_process(), process=1)
    content = msgspec.json.encode(owner).replace(b'"process":1', f'"process":{process}'.encode())
    marker.write_bytes(content)
    with owned_output(MPI.COMM_SELF, tmp_path / "out"):
        pass
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"\xff", b'{"host": "\xff"}', b"[" * 10**5, b"{}"])
def test_markers_that_are_not_complete_are_respected(tmp_path, content):
    marker_of(tmp_path / "out").write_bytes(content)
    refused = "out: in use by another job: choose another path, or remove"
    with (
        pytest.raises(OutputExistsError, match=refused),
        owned_output(MPI.COMM_SELF, tmp_path / "out"),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    "changes",
    [{}, {"process": 1}, {"started": "1"}, {"started": ""}, {"host": "far"},
     {"host": "far", "restarts": 0}, {"host": "far", "job": "18", "restarts": 0}],
)  # fmt: skip
def test_the_lock_of_stores_describes_a_process_in_the_same_way(monkeypatch, changes):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    mine = msgspec.structs.replace(output_lock._this_process(), **changes)
    other = dataclasses.replace(store_lock._this_process(), **changes)
    assert msgspec.structs.asdict(mine) | {"since": ""} == dataclasses.asdict(other) | {"since": ""}
    has_ended = store_lock._has_ended(other, store_lock._this_process())
    assert output_lock._has_ended(mine) == has_ended


def test_both_locks_recognise_a_process_that_has_ended():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert output_lock._start_of(done.pid) is store_lock._start_of(done.pid) is None
