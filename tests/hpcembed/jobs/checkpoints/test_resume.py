"""A run that is stopped and continued has the results of an uninterrupted one, bit for bit."""

import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from hpcembed.cli import main
from hpcembed.jobs.checkpoints.stored_training import StoredTraining
from hpcembed.jobs.compress.command import CompressRequest, run_compress
from hpcembed.jobs.job import prepare
from hpcembed.jobs.run import run_job
from hpcembed.jobs.study import trial_inputs
from hpcembed.jobs.study.command import run_study
from hpcembed.runtime.logging import Progress
from hpcembed.runtime.stopping import StoppedError, watching
from job_files import JOBS, settings, write_small
from miramns.checkpointing import CheckpointStore

SMALL = (
    "classifier.hidden=[[6]]", "training.epochs=6", "output.figures=false", "solver.tol=1e-8",
    "resources.threads=1",
)  # fmt: skip
#: Files whose bytes are compared; run.json has times.
SAME = ("projection.safetensors", "eigenvalues.csv", "convergence.csv")


def results(out):
    """Return the contents of all results that do not depend on time."""
    run = json.loads((out / "run.json").read_text())
    scores = [
        {key: one[key] for key in one if "seconds" not in key and key != "history"}
        for one in run["classifiers"]
    ]
    names = [*SAME, *sorted(path.name for path in out.glob("classifier-*"))]
    assert len(names) > len(SAME)
    return {name: (out / name).read_bytes() for name in names}, scores


def stop_at_epoch(monkeypatch, epoch, number):
    """Send a signal to this process after some epochs."""
    count, usual = [0], StoredTraining.epoch_done

    def epoch_done(self, state, *, ended):
        count[0] += 1
        if count[0] == epoch:
            os.kill(os.getpid(), number)
            time.sleep(0.01)
        usual(self, state, ended=ended)

    monkeypatch.setattr(StoredTraining, "epoch_done", epoch_done)


# --------------------------------------------------------------------------- one process, commands


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(["run", str(JOBS / "digits.toml"), *settings(*SMALL), "--out", str(out)]) == 0
    assert not (out / "checkpoints").exists()
    return results(out)


@pytest.fixture
def run(tmp_path, capsys, restored_loggers):
    """Run ``hpcembed run`` on the digits, or with other words; return status and errors."""

    def command(*words, out="out"):
        given = words[:1] == ("--resume",)
        job = [] if given else [str(JOBS / "digits.toml"), *settings(*SMALL)]
        place = [] if given else ["--out", str(tmp_path / out)]
        status = main(["run", *job, *map(str, words), *place])
        return status, capsys.readouterr().err

    return command


@pytest.mark.parametrize(
    ("number", "epoch"),
    [(signal.SIGTERM, 1), (signal.SIGINT, 3), (signal.SIGUSR1, 6), (signal.SIGUSR2, 8),
     (signal.SIGHUP, 12)],
)  # fmt: skip
def test_each_signal_and_the_run_that_continues(run, tmp_path, monkeypatch, whole, number, epoch):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        stop_at_epoch(patched, epoch, number)
        status, text = run()
    if epoch == 12:  # the last one: nothing is left to stop
        assert status in (0, 85)
    else:
        assert status == 85
        assert text.splitlines()[-1].startswith(f"hpcembed: stopped by {number.name} ")
        assert text.endswith(f"; go on with: hpcembed run --resume {out}\n")
        assert not (out / "run.json").exists()
    if status == 85:
        status, text = run("--resume", out)
        assert status == 0
        assert "continues the unfinished run" in text
    assert results(out) == whole
    assert not (out / "checkpoints").exists()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [one["epoch"]["epoch"] for one in lines] == [*range(1, 7)] * 2


def test_the_same_command_continues_and_another_one_is_refused(run, tmp_path, monkeypatch, whole):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        stop_at_epoch(patched, 8, signal.SIGTERM)
        assert run()[0] == 85
    before = sorted(path for path in out.rglob("*"))
    status, text = run("--set", "training.epochs=7", "--set", "solver.seed=3")
    assert status == 2
    assert "configuration.training.epochs was 6, is 7" in text
    assert "configuration.solver.seed was 0, is 3" in text
    assert sorted(path for path in out.rglob("*")) == before
    monkeypatch.setattr("hpcembed.__version__", "0.0.1")
    status, text = run()
    assert status == 2
    assert re.search(r"version was .*, is .0\.0\.1", text)
    monkeypatch.undo()
    # the eigenproblem is not solved again
    monkeypatch.setattr("hpcembed.embedding.pca.PCA.fit", None)
    assert run("--set", "resources.memory_gib=1.5")[0] == 0  # resources may change
    assert results(out) == whole
    status, text = run()
    assert status == 2
    assert "not empty" in text
    status, text = run("--resume", out)
    assert status == 2
    assert "this run is finished" in text


def test_resume_without_a_run(run, tmp_path):
    status, text = run("--resume", tmp_path)
    assert status == 2
    assert "no unfinished run there" in text
    status, text = run("--resume", tmp_path, "--out", "x")
    assert status == 2
    assert "omit JOB.toml and --out" in text
    status, text = run("--resume", tmp_path, "--dry-run")
    assert status == 2
    assert "--dry-run describes a new run" in text
    assert main(["run"]) == 2


def test_an_error_before_the_first_checkpoint_leaves_an_empty_folder(run, tmp_path):
    status, _ = run("--set", "embedding.n_components=65")
    assert status == 2
    left = list((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else []
    assert left == []
    assert run()[0] == 0


def test_the_time_limit(run, tmp_path):
    began = time.monotonic()
    words = ("--set", "training.epochs=100000", "--time-limit", "3s")
    status, text = run(*words)
    assert status == 85
    assert "stopped by the time limit after epoch" in text
    assert time.monotonic() - began < 10
    status, text = run("--time-limit", "soon", out="other")
    assert status == 2
    assert "give a duration such as 90m" in text


def test_a_second_interrupt(run, tmp_path):
    def interrupt():
        while not (tmp_path / "out" / "metrics.jsonl").exists():
            time.sleep(0.01)
        # the handler of the first one must have run: signals of a kind are not counted
        for _ in range(2):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.2)

    blocked = StoredTraining.epoch_done

    def slow(self, state, *, ended):
        time.sleep(1.0)
        blocked(self, state, ended=ended)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StoredTraining, "epoch_done", slow)
        status, text = run()
    thread.join()
    assert status == 130
    assert text.endswith("hpcembed: interrupted\n")
    assert run()[0] == 0


@pytest.mark.parametrize("verifies", [False, True])
def test_changed_data(tmp_path, monkeypatch, capsys, restored_loggers, verifies):
    job, out = write_small(tmp_path, 300, extra=""), tmp_path / "out"
    words = ["run", str(job), "--set", "training.epochs=4", "--out", str(out)]
    words += ["--verify-data"] if verifies else []
    with monkeypatch.context() as patched:
        stop_at_epoch(patched, 2, signal.SIGTERM)
        assert main(words) == 85
    table, (content, status) = tmp_path / "small.csv", (b"", None)
    content, status = table.read_bytes(), table.stat()
    os.utime(table, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    capsys.readouterr()
    if not verifies:
        assert main(words) == 2  # only the time has changed
        assert f"data.{table}.modified was" in capsys.readouterr().err
        assert main([*words, "--verify-data"]) == 2
        assert "began without --verify-data" in capsys.readouterr().err
        os.utime(table, ns=(status.st_atime_ns, status.st_mtime_ns))
    table.write_bytes(content[:-20] + content[-20:].replace(b"1", b"2").replace(b"3", b"4"))
    os.utime(table, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = table.read_bytes() != content
    assert changed
    assert main(words) == 2
    kind = "contents" if verifies else "times_and_ends"
    assert f"data.{table}.{kind} was" in capsys.readouterr().err
    table.write_bytes(content)
    os.utime(table, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert main(words) == 0


# ------------------------------------------------------------------------------------ several ranks


def prepared(comm, out, *changes):
    overrides = [*SMALL, "solver.reference=false", *changes]
    return prepare(JOBS / "digits.toml", overrides, None, out, comm)


@pytest.mark.mpi
@pytest.mark.parametrize("parallel", ["gather", "data_parallel"])
def test_runs_of_several_ranks(comm, shared_tmp, monkeypatch, parallel):
    change = f"classifier.parallel={parallel}"
    run_job(prepared(comm, shared_tmp / "whole", change))
    stopped = comm.size - 1 if parallel == "data_parallel" else 0
    with monkeypatch.context() as patched:
        if comm.rank == stopped:
            stop_at_epoch(patched, 8, signal.SIGUSR1)
        with pytest.raises(StoppedError, match="stopped by SIGUSR1"), watching(comm):
            run_job(prepared(comm, shared_tmp / "out", change))
    run_job(prepared(comm, shared_tmp / "out", change))
    comm.barrier()
    if comm.rank == 0:
        assert results(shared_tmp / "out") == results(shared_tmp / "whole")
    comm.barrier()


def stop_at_offer(monkeypatch, number):
    """Send a signal to this process when a store of all ranks is offered a checkpoint."""
    count, usual = [0], CheckpointStore.offer

    def offer(self, name, *arguments, **settings):
        count[0] += 1
        if count[0] == number:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        return usual(self, name, *arguments, **settings)

    monkeypatch.setattr(CheckpointStore, "offer", offer)


def first_products(comm, out, changes):
    """Run a job; return the products of the first iteration record on rank 0."""
    products = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Progress, "update", lambda _self, n, *_, **__: products.append(n))
        run_job(prepared(comm, out, *changes))
    return products[0]


FREE = ("embedding.engine=matrix_free", "solver.ncv=24")


@pytest.mark.mpi
@pytest.mark.parametrize("changes", [FREE, ("embedding.engine=block",)])
def test_an_eigenproblem_continues(comm, shared_tmp, monkeypatch, changes):
    first = first_products(comm, shared_tmp / "whole", changes)
    with monkeypatch.context() as patched:
        if comm.rank == comm.size - 1:
            stop_at_offer(patched, 3)
        with pytest.raises(StoppedError, match="SIGHUP in the eigenproblem"), watching(comm):
            run_job(prepared(comm, shared_tmp / "out", *changes))
    comm.barrier()
    if comm.rank == 0:
        assert list((shared_tmp / "out" / "checkpoints" / "run").glob("fit.*"))
        assert not (shared_tmp / "out" / "eigenvalues.csv").exists()
    # the solver does not begin anew
    assert first_products(comm, shared_tmp / "out", changes) > first or comm.rank
    comm.barrier()
    if comm.rank == 0:
        assert results(shared_tmp / "out") == results(shared_tmp / "whole")
    comm.barrier()


@pytest.mark.mpi
def test_a_run_continues_on_another_number_of_ranks(comm, shared_tmp, monkeypatch):
    whole, out = shared_tmp / "whole", shared_tmp / "out"
    run_job(prepared(comm, whole))
    with monkeypatch.context() as patched:
        if comm.rank == 0:
            stop_at_epoch(patched, 8, signal.SIGTERM)
        with pytest.raises(StoppedError), watching(comm):
            run_job(prepared(comm, out))
    comm.barrier()
    if comm.rank == 0:
        run_job(prepared(MPI.COMM_SELF, out))
        pair = [
            np.loadtxt(one / "eigenvalues.csv", delimiter=",", skiprows=1) for one in (whole, out)
        ]
        np.testing.assert_allclose(pair[0][:, 1], pair[1][:, 1], rtol=1e-10)
        scores = [results(one)[1] for one in (whole, out)]
        assert scores[0][0]["test_accuracy"] == pytest.approx(
            scores[1][0]["test_accuracy"], abs=0.02
        )
    comm.barrier()


STUDY = ("study.dimensions=[2,5]", "study.networks=[[6]]", "study.seeds=3", "output.figures=false",
         "training.epochs=6")  # fmt: skip


def trials(out):
    lines = (out / "trials.csv").read_text().splitlines()
    skipped = lines[0].split(",").index("train_seconds")
    return [[cell for i, cell in enumerate(line.split(",")) if i != skipped] for line in lines]


@pytest.mark.mpi
def test_a_study_continues_within_its_trials(comm, shared_tmp, monkeypatch):
    path = JOBS / "study_digits.toml"
    run_study(path, STUDY, None, shared_tmp / "whole", comm)
    with monkeypatch.context() as patched:
        if comm.rank == comm.size - 1:  # in its first batch
            stop_at_epoch(patched, 3, signal.SIGTERM)
        with pytest.raises(StoppedError, match="stopped by SIGTERM"), watching(comm):
            run_study(path, STUDY, None, shared_tmp / "out", comm)
    comm.barrier()
    if comm.rank == 0:
        assert list((shared_tmp / "out" / "checkpoints" / "trials").iterdir())
    fits = []
    monkeypatch.setattr("hpcembed.embedding.pca.PCA.fit", lambda *_: fits.append(1))
    run_study(path, STUDY, None, shared_tmp / "out", comm)
    assert not fits
    comm.barrier()
    if comm.rank == 0:
        assert trials(shared_tmp / "out") == trials(shared_tmp / "whole")
        assert not (shared_tmp / "out" / "checkpoints").exists()
    comm.barrier()


RIVALS = (*STUDY, 'study.rivals=["lda","autoencoder","dct"]', "study.seeds=2")


@pytest.mark.mpi
def test_a_study_continues_with_the_fits_of_its_rivals(comm, shared_tmp, monkeypatch):
    path = JOBS / "study_digits.toml"
    run_study(path, RIVALS, None, shared_tmp / "whole", comm)
    with monkeypatch.context() as patched:
        if comm.rank == comm.size - 1:
            stop_at_epoch(patched, 3, signal.SIGTERM)
        with pytest.raises(StoppedError, match="stopped by SIGTERM"), watching(comm):
            run_study(path, RIVALS, None, shared_tmp / "out", comm)
    comm.barrier()
    seconds = json.loads((shared_tmp / "out" / "rivals.json").read_text())["seconds"]
    if comm.rank == 0:
        # lda, and the autoencoder for two seeds and two numbers of coordinates
        assert len(list((shared_tmp / "out" / "checkpoints").glob("rival-*"))) == 5
    fits, usual = [], trial_inputs.linear_rival
    monkeypatch.setattr(trial_inputs, "autoencoder_rows", lambda *_: fits.append("autoencoder"))
    monkeypatch.setattr(
        trial_inputs, "linear_rival", lambda *given: fits.append(given[2]) or usual(*given)
    )
    run_study(path, RIVALS, None, shared_tmp / "out", comm)
    assert set(fits) <= {"dct"}  # costs nothing
    comm.barrier()
    if comm.rank == 0:
        after = json.loads((shared_tmp / "out" / "rivals.json").read_text())["seconds"]
        for name in ("lda", "autoencoder"):
            assert after[name] == seconds[name]
        assert trials(shared_tmp / "out") == trials(shared_tmp / "whole")
        assert not (shared_tmp / "out" / "checkpoints").exists()
    comm.barrier()


@pytest.mark.mpi
def test_a_search_continues(comm, shared_tmp, monkeypatch):
    overrides = ("classifier.hidden=[[6],[12]]", "training.epochs=5", "training.batch_size=64")
    request = CompressRequest(
        JOBS / "digits.toml", 30.0, seeds=3, max_seeds=5, max_components=4, overrides=overrides
    )
    status = run_compress(request, None, shared_tmp / "whole", comm)
    with monkeypatch.context() as patched:
        if comm.rank == 0:
            stop_at_epoch(patched, 8, signal.SIGTERM)
        with pytest.raises(StoppedError, match="stopped by SIGTERM"), watching(comm):
            run_compress(request, None, shared_tmp / "out", comm)
    assert run_compress(request, None, shared_tmp / "out", comm) == status
    comm.barrier()
    if comm.rank == 0:
        whole, out = shared_tmp / "whole", shared_tmp / "out"
        for name in ("compress.json", "projection.safetensors"):
            assert (whole / name).exists() == (out / name).exists()
        assert (
            json.loads((whole / "compress.json").read_text())["answer"]
            == (json.loads((out / "compress.json").read_text())["answer"])
        )
        stored = [
            sorted(
                (one["digest"], one["validation_score"], one["test_score"], one["train_loss"])
                for path in (folder / "trials").glob("*.jsonl")
                for one in map(json.loads, path.read_text().splitlines())
            )
            for folder in (whole, out)
        ]
        assert stored[0] == stored[1]
        assert not (out / "checkpoints").exists()
    comm.barrier()


# ------------------------------------------------------------------------------------- killed jobs


@pytest.mark.launch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        (0, ("run", JOBS / "digits.toml", *settings("classifier.hidden=[[8]]"))),
        (2, ("run", JOBS / "digits.toml", *settings("classifier.parallel=data_parallel"))),
        (2, ("study", JOBS / "study_digits.toml", *settings("study.seeds=2"))),
    ],
)
def test_killed_jobs_continue_with_the_same_bits(run_mpi, ranks, words):
    script = Path(__file__).parents[4] / "scripts" / "kill_and_resume.py"
    options = ("--kills", 2, "--ranks", ranks, "--work", "work", "--seed", ranks)
    changes = settings("output.figures=false", "training.epochs=8")
    done = run_mpi(0, script, *options, *words, *changes, timeout=400)
    assert done.status == 0, done.out + done.err
    assert "2 of 2 equal the uninterrupted run" in done.out
