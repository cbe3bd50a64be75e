"""The job files and launch scripts that come with the project."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcembed.jobs.configuration import load_job
from hpcembed.jobs.study.settings import load_study

JOBS = Path(__file__).parents[3] / "jobs"
TEXTS = ("20_newsgroups", "sst2")
STUDIES = ("digits", "mnist", "cifar10", "date_fruit", "fetal_health", *TEXTS)
NAMES = ("digits", "mnist", "cifar10", "date_fruit", "fetal_health", "radar", "diabetes", *TEXTS)


def test_all_jobs_are_there():
    assert {path.stem for path in JOBS.glob("*.toml")} >= set(NAMES)
    assert {path.stem for path in JOBS.glob("study_*.toml")} == {f"study_{n}" for n in STUDIES}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("recipe", ["default", "published"])
def test_study_is_valid(name, recipe):
    study = load_study(JOBS / f"study_{name}.toml", [f"study.recipe={recipe}"])
    assert study.study.baseline == (name not in TEXTS)  # thousands of terms, dense
    # The same data as the job of that name.
    assert study.data == load_job(JOBS / f"{name}.toml").data


@pytest.mark.parametrize("path", [JOBS / f"{name}.toml" for name in NAMES], ids=NAMES)
def test_job_is_valid(path):
    job = load_job(path)
    assert job.data.name == path.stem
    assert job.classifier.baseline == (path.stem not in TEXTS)
    assert job.solver.reference == (path.stem != "20_newsgroups")


def shell(script, *arguments, **environment):
    bash = shutil.which("bash")
    assert bash
    return subprocess.run(
        [bash, str(JOBS / script), *arguments],
        capture_output=True,
        text=True,
        cwd=JOBS.parent,
        env={"PATH": "/usr/bin:/bin", **environment},
        timeout=30,
        check=False,
    )


def test_slurm_script_dry():
    done = shell(
        "slurm.sbatch", "jobs/digits.toml", "--dry-run", DRY_RUN="1", SLURM_CPUS_PER_TASK="4"
    )
    assert done.returncode == 0, done.stderr
    assert "srun --cpus-per-task=4" in done.stdout
    assert "OMP_NUM_THREADS=4" in done.stdout
    assert "-m hpcembed run jobs/digits.toml --dry-run" in done.stdout


SRUN = """#!/bin/bash
printf '%s\\n' "$OMP_NUM_THREADS" "$@"
"""
COMMANDS = {
    "run": ("jobs/digits.toml", "--out", "a folder"),
    "study": ("jobs/study_digits.toml",),
    "compress": ("jobs/digits.toml", "--max-loss", "1"),
    "compress-model": ("README.md", "--data", "rows.npy"),
    "complete": ("README.md",),
    "predict": ("jobs", "README.md"),
    "export": ("jobs", "--out", "model"),
    "bench": ("pca", "--help"),
    "info": (),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_slurm_script_starts_every_command(tmp_path, command):
    srun = tmp_path / "srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    arguments = COMMANDS[command]
    done = shell(
        "slurm.sbatch", command, *arguments,
        PATH=f"{tmp_path}:/usr/bin:/bin", SLURM_CPUS_PER_TASK="3", PYTHON="py",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "3", "--cpus-per-task=3", "--kill-on-bad-exit=1", "py", "-m", "hpcembed", command,
        *arguments,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("slurm.sbatch", (), "usage"),
        ("slurm.sbatch", ("none.toml",), "no job file none.toml"),
        ("slurm.sbatch", ("study",), "no job file"),
        ("slurm.sbatch", ("compress", "none.csv"), "no file none.csv"),
        ("run_local.sh", (), "usage"),
        ("run_local.sh", ("two", "jobs/digits.toml"), "RANKS must be a positive number"),
        ("run_local.sh", ("2", "none.toml"), "no job file none.toml"),
    ],
)
def test_scripts_refuse_in_one_line(script, arguments, words):
    done = shell(script, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


#: Starts the ranks under mpiexec, and passes signals on to them, as srun does.
RANKS_OF_SRUN = """#!/bin/bash
echo "srun $SLURM_RESTART_COUNT" >>"$TRACE"
while [[ $1 == -* ]]; do shift; done
"$@" &
process=$!
for name in USR1 USR2 TERM; do trap "kill -s $name $process" $name; done
while true; do
    status=0
    wait $process || status=$?
    kill -0 $process 2>/dev/null || exit $status
done
"""
SCONTROL = """#!/bin/bash
if [[ $1 == requeue ]]; then echo "scontrol $*" >>"$TRACE"; fi
"""


def start_slurm(folder, restart, *arguments, **environment):
    """Start the script of a SLURM job, in a folder with srun and scontrol."""
    for name, text in (("srun", RANKS_OF_SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    job_id = {"SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": str(restart)}
    return subprocess.Popen(
        [shutil.which("bash"), str(JOBS / "slurm.sbatch"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={
            **os.environ, **job_id, "PATH": f"{folder}:{os.environ['PATH']}",
            "PYTHON": sys.executable, "TRACE": str(folder / "trace"), **environment,
        },
    )  # fmt: skip


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.launch
@pytest.mark.slow
def test_slurm_script_requeues_a_job_that_stops_and_then_continues_it(tmp_path):
    job = [str(JOBS / "digits.toml"), "--checkpoint-every", "0s"]
    for change in ("output.figures=false", "classifier.hidden=[[8]]", "training.epochs=60"):
        job += ["--set", change]
    out, trace = tmp_path / "runs" / "digits-77", tmp_path / "trace"
    process = start_slurm(tmp_path, 0, *job)
    wait_for(out / "metrics.jsonl", process)
    process.send_signal(signal.SIGUSR1)  # Slurm, before the time limit
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 0, text
    assert "stopped by SIGUSR1" in text
    assert "job 77 goes into the queue again" in text
    assert trace.read_text().splitlines() == ["srun 0", "scontrol requeue 77"]
    assert not list(tmp_path.glob(".hpcembed-stopped*"))
    again = start_slurm(tmp_path, 1, *job)
    text = again.communicate(timeout=120)[0]
    assert again.returncode == 0, text
    assert "continues the unfinished run" in text
    assert (out / "run.json").exists()
    assert trace.read_text().splitlines()[2:] == ["srun 1"]


@pytest.mark.launch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "changes", "words"),
    [
        (signal.SIGTERM, {}, "stopped by SIGTERM"),
        (signal.SIGUSR1, {"MOST_REQUEUES": "0"}, "submit the same command again"),
    ],
)
def test_slurm_script_does_not_requeue(tmp_path, number, changes, words):
    job = [str(JOBS / "digits.toml"), "--set", "training.epochs=1000", "--out", "out"]
    process = start_slurm(tmp_path, 0, *job, **changes)
    wait_for(tmp_path / "out" / "metrics.jsonl", process)
    process.send_signal(number)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 85, text
    assert words in text
    assert (tmp_path / "trace").read_text() == "srun 0\n"
