"""Requested faults: their form, their effect, and the end of the jobs that have one."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.sparse

from hpcembed.runtime import fault_injection
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.fault_injection import (
    KINDS,
    PHASES,
    Fault,
    check_fault,
    faulty_products,
    inject,
    requested,
)
from hpcembed.runtime.launcher import SingleProcess
from job_files import write_small

ALONE = SingleProcess()


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(fault_injection, "_happened", 0)
    monkeypatch.delenv("HPCEMBED_FAULT_LOG", raising=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("solve", "give RANK:PHASE:KIND"),
        ("1:solve", "give RANK:PHASE:KIND"),
        ("-1:solve:kill", "give RANK:PHASE:KIND"),
        ("\u0661:solve:kill", "give RANK:PHASE:KIND"),
        ("1:solved:kill", "phases: read, operator, solve"),
        ("1:solve:killed", "kinds: exception, nan, kill"),
        ("1:solve:kill:now", "give RANK:PHASE:KIND"),
        ("1:export:nan", "nan is a fault of solve, project, gather, train only"),
        ("1:solve:truncated", "truncated is a fault of checkpoint only"),
        ("2:solve:kill", "the job has the ranks 0 to 1"),
    ],
)
def test_malformed_requests_are_refused_in_one_line(text, words, monkeypatch):
    monkeypatch.setenv("HPCEMBED_FAULT", text)
    with pytest.raises(ConfigError) as caught:
        check_fault(2)
    assert str(caught.value).startswith(f"HPCEMBED_FAULT={text}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_phase_has_faults(monkeypatch):
    assert requested() is None
    check_fault(1)
    for phase in PHASES:
        for kind in ("exception", "kill", "disk_full", "slow"):
            monkeypatch.setenv("HPCEMBED_FAULT", f"0:{phase}:{kind}")
            check_fault(1)
            assert requested() == Fault(0, phase, kind)
    assert {"nan", "truncated"} == set(KINDS) - {"exception", "kill", "disk_full", "slow"}


@pytest.mark.parametrize("fault", ["0:solve:exception", "1:read:exception", "1:read:kill"])
def test_other_phases_and_ranks_go_on(fault, monkeypatch):
    monkeypatch.setenv("HPCEMBED_FAULT", fault)
    inject("read", ALONE)


def test_an_exception_happens_once(monkeypatch, tmp_path):
    monkeypatch.setenv("HPCEMBED_FAULT", "0:train:exception")
    monkeypatch.setenv("HPCEMBED_FAULT_LOG", str(tmp_path / "log"))
    with pytest.raises(RuntimeError, match="HPCEMBED_FAULT: train on rank 0"):
        inject("train", ALONE)
    inject("train", ALONE)
    ((moment, *words),) = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert words == ["0", "train", "exception"]
    assert abs(time.time() - float(moment)) < 60


def test_a_slow_rank_sleeps(monkeypatch):
    slept = []
    monkeypatch.setattr(fault_injection.time, "sleep", slept.append)
    monkeypatch.setenv("HPCEMBED_FAULT", "0:train:slow")
    inject("train", ALONE)
    assert slept == [fault_injection.SLEEP]


@pytest.mark.parametrize("kind", ["dense", "sparse", "integers", "none"])
def test_a_nan_is_written_to_the_first_array(kind, monkeypatch):
    monkeypatch.setenv("HPCEMBED_FAULT", "0:project:nan")
    arrays = [np.ones((3, 2)), np.ones((3, 2))]
    if kind == "sparse":
        arrays[0] = scipy.sparse.csr_array(np.eye(3))
    elif kind != "dense":
        arrays[0] = np.ones((3, 2), dtype=np.uint8) if kind == "integers" else np.ones((0, 2))
    inject("project", ALONE, *arrays)
    first = arrays[0].toarray() if kind == "sparse" else arrays[0]
    assert np.isnan(first).sum() == (kind in ("dense", "sparse"))
    assert np.isfinite(arrays[1]).all()


@pytest.mark.mpi
def test_a_product_has_a_nan_on_all_ranks_that_take_part(comm, monkeypatch):
    from petsc4py import PETSc

    mat = PETSc.Mat().createAIJ((6, 6), nnz=1, comm=comm)
    mat.setDiagonal(mat.createVecRight())
    mat.assemble()
    assert faulty_products(mat) is mat
    monkeypatch.setenv("HPCEMBED_FAULT", f"{comm.size - 1}:solve:nan")
    shell = faulty_products(mat)
    x, y = shell.createVecs()
    x.set(1.0)
    shell.mult(x, y)
    count = comm.allreduce(int(np.isnan(y.getArray()).sum()))
    assert count == 1
    assert np.isnan(y.getArray()).any() == (comm.rank == comm.size - 1)
    for one in (shell, mat, x, y):
        one.destroy()


def in_child(code, folder, **variables):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMPI_C", "PM"))}
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    start = "from hpcembed.runtime.fault_injection import inject; from pathlib import Path;"
    start += "from hpcembed.runtime.launcher import SingleProcess as S;"
    return subprocess.run(
        [sys.executable, "-c", start + code],
        env=kept | variables, cwd=folder, capture_output=True, text=True,
    )  # fmt: skip


def test_kill_ends_the_process(tmp_path):
    done = in_child("inject('read', S()); print('on')", tmp_path, HPCEMBED_FAULT="0:read:kill")
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


def test_writes_fail_on_a_full_disk(tmp_path):
    code = """
inject('read', S())
try:
    Path('x').write_text('y')
except OSError as error:
    print(error.errno)
"""
    done = in_child(code, tmp_path, HPCEMBED_FAULT="0:read:disk_full")
    assert done.stdout == f"{errno.EFBIG}\n", done.stderr


def test_the_newest_checkpoint_is_truncated(tmp_path):
    for number in (1, 2):
        folder = tmp_path / "store" / str(number)
        folder.mkdir(parents=True)
        (folder / "array.npy").write_bytes(bytes(100))
        (folder / "manifest.json").write_text("{}")
        os.utime(folder / "manifest.json", (number, number))
    code = "inject('checkpoint', S()); inject('checkpoint', S(), checkpoints=Path('store'))"
    done = in_child(code, tmp_path, HPCEMBED_FAULT="0:checkpoint:truncated")
    assert done.returncode == -signal.SIGKILL
    sizes = {path.parent.name: path.stat().st_size for path in tmp_path.rglob("array.npy")}
    assert sizes == {"1": 100, "2": 50}


@pytest.mark.parametrize("phase", ["gather", "train"])
def test_rows_that_are_not_finite_end_a_job_before_pytorch_is_imported(tmp_path, phase):
    write_small(tmp_path)
    code = """
import sys
from hpcembed.cli import main
words = ['run', 'small.toml', '--out', 'out', '--set', 'classifier.baseline=false']
print(main(words), 'torch' in sys.modules)
"""
    done = in_child(code, tmp_path, HPCEMBED_FAULT=f"0:{phase}:nan")
    assert done.stdout.splitlines()[-1:] == ["2 False"], done.stderr
    assert "training rows: row 0 contains NaN or infinity" in done.stderr


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("1:operator:exception", 1, "RuntimeError: fault requested by HPCEMBED_FAULT: operator"),
        ("1:solve:nan", 2, "hpcembed: error: product"),
        ("1:train:kill", 137, "signal 9"),
        ("0:export:disk_full", 2, "cannot write: File too large"),
        ("0:project:nan", 2, "[rank 0] the projected rows are not finite"),
        ("3:solve:kill", 2, "hpcembed: error: HPCEMBED_FAULT=3:solve:kill: the job has the ranks"),
    ],
)
@pytest.mark.launch(lambda folder: [], ranks=2)
def test_jobs_with_a_fault_end(fault, status, words, run_mpi, tmp_path):
    write_small(tmp_path)
    log = tmp_path / "fault.log"
    environment = {"HPCEMBED_FAULT": fault, "HPCEMBED_FAULT_LOG": str(log)}
    done = run_mpi(2, "-m", "hpcembed", "run", "small.toml", "--out", "out", env=environment)
    ended = time.time()
    assert done.status == status, done.err
    assert words in done.err
    messages = done.err.count("hpcembed: error:") + done.err.count("] Traceback (most recent")
    assert messages == (0 if status == 137 else 1), done.err
    assert log.exists() == ("3:" not in fault)
    if log.exists():
        # scripts/fault_table.py measures 10 s; here other jobs may run
        assert ended - float(log.read_text().split()[0]) < 40
