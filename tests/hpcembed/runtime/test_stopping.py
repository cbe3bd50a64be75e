"""Requests to stop: signals, the time limit, and their agreement by all ranks."""

import os
import signal
import sys
import time

import pytest
from mpi4py import MPI

from hpcembed.runtime.agreement import agree, idle_while_root
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.stopping import (
    StoppedError,
    continue_with,
    record_write,
    stop,
    stop_alone,
    stop_flagged,
    stop_noticed,
    stop_requested,
    stop_together,
    watching,
)
from hpcembed.runtime.stopping.time_limit import parse_duration, slurm_end, time_limit
from hpcembed.runtime.termination import exit_status

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_at_the_next_boundary_with_the_command_that_goes_on(capsys, number):
    before = signal.getsignal(number)

    def steps():
        with watching(MPI.COMM_SELF):
            continue_with("hpcembed run --resume runs/x")
            stop_together(MPI.COMM_SELF, "after step 1")  # no request yet
            signal.raise_signal(number)
            stop_together(MPI.COMM_SELF, "after step 2")
        return 0

    assert exit_status(MPI.COMM_SELF, steps) == 85
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        f"hpcembed: stopped by {number.name} after step 2; go on with: hpcembed run --resume runs/x"
    )
    assert signal.getsignal(number) is before


def test_a_file_takes_the_place_of_the_exit_status(tmp_path, monkeypatch):
    def steps():
        with watching(MPI.COMM_SELF):
            signal.raise_signal(signal.SIGUSR1)
            stop_together(MPI.COMM_SELF)
        return 0

    monkeypatch.setenv("HPCEMBED_STOP_FILE", str(tmp_path / "stopped"))
    assert exit_status(MPI.COMM_SELF, steps) == 0
    assert (tmp_path / "stopped").read_text() == "stopped by SIGUSR1\n"
    monkeypatch.setenv("HPCEMBED_STOP_FILE", str(tmp_path / "missing" / "stopped"))
    assert exit_status(MPI.COMM_SELF, steps) == 85


@pytest.fixture
def usual_interrupt():
    """The handler of an interrupt; a process in the background may ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("usual_interrupt")
def test_a_second_interrupt_ends_at_once(capsys):
    def steps():
        with watching(MPI.COMM_SELF):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

    assert exit_status(MPI.COMM_SELF, steps) == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class TwoRanks:
    """Rank 0 of two, which exchange no message."""

    rank, size = 0, 2

    def Dup(self):  # noqa: N802
        return self

    def Free(self):  # noqa: N802
        pass

    def allreduce(self, value):
        return value


@pytest.mark.parametrize("ends", [False, True])
def test_the_launcher_ends_a_job_without_another_message(capfd, monkeypatch, ends):
    """After an error of one rank the launcher sends TERM to the others, and soon KILL."""
    monkeypatch.setattr(stop, "_LAUNCHER_SECONDS", 0.3)
    watch = stop._Watch(TwoRanks(), None, 0.0)
    watch.handle(signal.SIGTERM, None)
    assert capfd.readouterr().err == ""
    if ends:
        watch.close()
    time.sleep(0.6)
    expected = "" if ends else "hpcembed: SIGTERM: the job stops at the end of its step\n"
    assert capfd.readouterr().err == expected
    stop._Watch(TwoRanks(), None, 0.0).handle(signal.SIGUSR1, None)
    assert capfd.readouterr().err == "hpcembed: SIGUSR1: the job stops at the end of its step\n"


def test_without_watching_signals_are_not_touched():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not stop_requested(MPI.COMM_SELF)
    assert not stop_noticed()
    assert not stop_flagged()
    stop_alone()


def test_the_time_limit_leaves_time_for_a_step_and_a_checkpoint():
    with watching(MPI.COMM_SELF, time.time() + 60.0, 60.0):
        assert not stop_flagged()
        record_write(15.0)
        assert not stop_flagged()
        record_write(40.0)  # twice this does not fit
        assert stop_flagged()
        with pytest.raises(StoppedError, match="stopped by the time limit here"):
            stop_together(MPI.COMM_SELF, "here")
    with watching(MPI.COMM_SELF, time.time() + 2.0, 2.0):
        assert not stop_requested(MPI.COMM_SELF)
        time.sleep(1.1)
        assert stop_requested(MPI.COMM_SELF)  # the next step would take as long


def test_an_early_step_is_no_measure_of_the_last_ones():
    with watching(MPI.COMM_SELF, time.time() + 3.0, 3.0):
        time.sleep(1.2)
        for _ in range(10):
            assert not stop_requested(MPI.COMM_SELF)
        time.sleep(0.6)  # after 1.8 s the first step would not fit
        assert not stop_requested(MPI.COMM_SELF)


@pytest.mark.mpi
def test_a_signal_to_one_rank_stops_all_of_them_at_the_same_step(comm):
    steps = 0
    with pytest.raises(StoppedError, match="by SIGUSR2"), watching(comm):
        for steps in range(1, 10):
            if comm.rank == comm.size - 1 and steps == 4:
                os.kill(os.getpid(), signal.SIGUSR2)
            stop_together(comm)
    assert comm.allgather(steps) == [4] * comm.size


@pytest.mark.mpi
def test_a_signal_to_one_rank_reaches_ranks_that_work_on_their_own(comm):
    error = None
    with watching(comm):
        if comm.rank == comm.size - 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                stop_alone(f"at a place of rank {comm.rank}")
                time.sleep(0.005)
        except StoppedError as caught:
            error = caught
        with pytest.raises(StoppedError, match=r"^stopped by SIGUSR1 at a place of rank 0$"):
            agree(comm, error)


@pytest.mark.mpi
def test_a_signal_to_a_sleeping_rank_stops_the_work_of_rank_0(comm):
    def work():
        for _ in range(2000):
            stop_alone("in the work")
            time.sleep(0.005)

    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM in the work$"), watching(comm):
        if comm.rank == comm.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        idle_while_root(comm, work)


@pytest.mark.parametrize("text", ["", "90", "1h x", "-5m", "0s", "1:2:3", "1e9h", "1:75x", "nan"])
def test_durations_that_are_refused(text):
    with pytest.raises(ConfigError, match="give a duration such as 90m"):
        parse_duration(text)


def test_durations():
    assert parse_duration("45s") == 45.0
    assert parse_duration("1.5h") == 5400.0
    assert parse_duration("2-01:00:00") == 2 * 86400 + 3600
    assert parse_duration("0s", least=0.0) == 0.0


@pytest.mark.mpi
def test_limit_of_a_job(comm, monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_JOB_END_TIME"):
        monkeypatch.delenv(name, raising=False)
    assert time_limit(comm, "") == (None, 0.0)
    assert time_limit(comm, "none") == (None, 0.0)
    deadline, seconds = time_limit(comm, "10m")
    assert seconds == 600.0
    assert deadline == pytest.approx(time.time() + 600, abs=60)
    assert set(comm.allgather(deadline)) == {deadline}
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 500))
    deadline, seconds = time_limit(comm, "")
    assert 0 < seconds <= 500


@pytest.mark.parametrize("program", ["scontrol", "squeue"])
def test_end_of_a_slurm_job_from_its_commands(tmp_path, monkeypatch, program):
    end = int(time.time()) + 1000
    shown = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(end))
    text = f"JobId=7 StartTime=Unknown EndTime={shown} X=1" if program == "scontrol" else shown
    script = tmp_path / program
    script.write_text(f"#!{sys.executable}\nprint({text!r})\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_end({"SLURM_JOB_ID": "7"}) == end
    script.write_text(f"#!{sys.executable}\nraise SystemExit(1)\n")
    assert slurm_end({"SLURM_JOB_ID": "7"}) is None
    assert slurm_end({}) is None
