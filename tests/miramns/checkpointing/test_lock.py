"""One process owns a store; the lock of an ended one is taken over."""

import json
import os
import subprocess
import sys

import pytest
from mpi4py import MPI

from miramns.checkpointing import CheckpointError, CheckpointStore
from miramns.checkpointing.lock import FILE_NAME


def opened(folder):
    return CheckpointStore(folder, {}, MPI.COMM_SELF)


def owner(folder):
    return json.loads((folder / FILE_NAME).read_text())


def change(folder, **fields):
    (folder / FILE_NAME).write_text(json.dumps(owner(folder) | fields))


def ended_process():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_second_one_is_refused_until_the_first_is_closed(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    first = opened(tmp_path)
    assert owner(tmp_path)["process"] == os.getpid()
    with pytest.raises(CheckpointError) as caught:
        opened(tmp_path)
    text = str(caught.value)
    assert f"in use by process {os.getpid()} of job 4711 on " in text
    assert f"run: rm {tmp_path / FILE_NAME}" in text
    part = first.within("x")
    del first  # the part keeps the lock
    with pytest.raises(CheckpointError, match="in use"):
        opened(tmp_path)
    part.close()
    opened(tmp_path).close()
    assert os.listdir(tmp_path) == []


def test_a_forgotten_store_gives_its_lock_back(tmp_path):
    opened(tmp_path)
    opened(tmp_path).close()


@pytest.mark.parametrize("fields", [{"process": None}, {"started": "1"}])
def test_the_lock_of_an_ended_process_is_taken_over(tmp_path, caplog, fields):
    first = opened(tmp_path)
    if "process" in fields:
        fields = {"process": ended_process()}
    change(tmp_path, **fields)
    second = opened(tmp_path)
    assert "taken over" in caplog.text
    assert owner(tmp_path)["process"] == os.getpid()
    first.close()
    second.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("fields", "taken"),
    [({"job": "7", "restarts": 0}, True), ({"job": "7", "restarts": 1}, False),
     ({"job": "8", "restarts": 0}, False), ({"job": "", "restarts": 0}, False)],
)  # fmt: skip
def test_another_machine(tmp_path, monkeypatch, fields, taken):
    first = opened(tmp_path)
    change(tmp_path, host="far", process=ended_process(), **fields)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    if taken:
        opened(tmp_path).close()
    else:
        with pytest.raises(CheckpointError, match="on far since"):
            opened(tmp_path)
    first.close()  # not its lock any more
    assert (tmp_path / FILE_NAME).exists() != taken


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"host": 1}', b"\xff" * 20_000])
def test_an_unreadable_lock_is_not_taken_over(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(CheckpointError, match="in use by another process"):
        opened(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_without_hard_links(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    first = opened(tmp_path)
    with pytest.raises(CheckpointError, match="in use"):
        opened(tmp_path)
    first.close()
    assert os.listdir(tmp_path) == []
