"""Errors of jobs on the command line: one line, the same on all ranks, and no results."""

import pytest
import safetensors.numpy

from job_files import JOBS, settings, write_job, write_small, write_table

RUN = ["-m", "hpcembed", "run"]


def error_lines(done):
    return [line for line in done.err.splitlines() if "hpcembed: error:" in line]


@pytest.mark.launch
def test_petsc_options_that_slepc_refuses(run_mpi, tmp_path):
    done = run_mpi(2, *RUN, write_small(tmp_path), "--out", "out", "--petsc", "-eps_type foo")
    assert done.status == 2
    (line,) = error_lines(done)
    assert "foo" in line
    assert "check --petsc" in line
    assert "Traceback" not in done.err


def wide_network(folder):
    wide = ["--set", "classifier.hidden=[[1_000_000_000]]"]
    return [["run", write_small(folder), "--out", "out", *wide]]


@pytest.mark.launch(wide_network, ranks=1)
def test_networks_beyond_memory_are_refused_before_the_eigenvectors(launched):
    done = launched.done
    assert done.status == 2
    assert "this data: classifier.hidden: layers 3-1000000000-2 have" in done.err
    assert "Traceback" not in done.err


def little_memory():
    limit = ["--set", "resources.memory_gib=0.0005"]
    return [["run", JOBS / "digits.toml", "--out", "out", *limit]]


@pytest.mark.launch(little_memory, ranks=2)
def test_a_job_beyond_the_memory_limit_is_refused(launched):
    done = launched.done
    assert done.status == 2
    assert done.err.count("hpcembed: error:") == 1
    assert "per rank" in done.err
    assert "are available" in done.err


def bad_cell(folder):
    job = write_small(folder)
    path = folder / "small.csv"
    lines = path.read_text().split("\n")
    lines[25] = "1.0,2 cm,2.0,x"
    path.write_text("\n".join(lines))
    return [["run", job, "--out", "out"]]


@pytest.mark.launch(bad_cell, ranks=None)
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_bad_cell_is_named_by_file_and_row(launched, ranks):
    done = launched.done
    assert done.status == 2
    errors = [line for line in done.err.splitlines() if "error" in line]
    assert len(errors) == 1, done.err
    assert "small.csv" in errors[0]
    assert "row 25" in errors[0]
    assert "Traceback" not in done.err


BAD_TABLES = {
    "missing": "no such file",
    "empty": "empty",
    "header only": "row",
    "width": "31",
    "one class": "one class",
}


def bad_table(folder, kind):
    job = write_small(folder)
    path = folder / "small.csv"
    text = path.read_text()
    if kind == "missing":
        path.unlink()
    else:
        spoilt = {
            "empty": "",
            "header only": text.split("\n")[0] + "\n",
            "width": text + "1,2,3,4,x\n",
            "one class": text.replace(",y\n", ",x\n"),
        }
        path.write_text(spoilt[kind])
    return [["run", job, "--out", "out"]]


@pytest.mark.launch(bad_table, ranks=3)
@pytest.mark.parametrize("kind", BAD_TABLES)
def test_bad_tables_are_refused_on_all_ranks(launched, kind):
    done = launched.done
    assert done.status == 2, done.err
    (line,) = error_lines(done)
    assert "small.csv" in line
    assert BAD_TABLES[kind] in line
    assert "Traceback" not in done.err


def unknown_key(folder):
    return [["run", write_small(folder, extra="[solver]\ntoll = 1e-3\n"), "--out", "out"]]


@pytest.mark.launch(unknown_key, ranks=3)
def test_an_unknown_key_is_reported_once(launched):
    assert launched.done.status == 2
    assert launched.done.err.count("did you mean solver.tol?") == 1


def unknown_command():
    return [["runn"]]


@pytest.mark.launch(unknown_command, ranks=3)
def test_a_wrong_command_line_is_reported_once(launched):
    assert launched.done.status == 2
    assert launched.done.err.count("invalid choice") == 1


REFUSED = (
    (2, "data.label_column=none", "no column 'none'"),
    (4, "", "n_components=4 with 3 features"),
    (2, "solver.ncv=2", "solver: need a largest subspace"),
)


def refused_then_accepted(folder):
    write_table(folder)
    commands = []
    for number, (k, assignment, _) in enumerate(REFUSED):
        place = folder / str(number)
        place.mkdir()
        options = settings(assignment) if assignment else []
        commands.append(["run", write_job(place, k=k), "--data-dir", ".", "--out", "out", *options])
    commands.append(["run", write_job(folder), "--out", "out"])
    return commands


@pytest.mark.launch(refused_then_accepted, ranks=1)
def test_a_refused_run_writes_nothing_into_its_folder(launched):
    *refused, accepted = launched.all
    for done, (_, _, words) in zip(refused, REFUSED, strict=True):
        assert done.status == 2
        assert words in done.err
        assert done.left == []
    assert accepted.status == 0


def refused_by_dry_run(folder):
    job = write_small(folder)
    more = ["--set", "embedding.n_components=4"]
    return [
        ["run", job, "--out", ".", "--dry-run"],
        ["run", job, "--out", "out", "--dry-run", *more],
        ["run", job, "--out", "out", *more],
    ]


@pytest.mark.launch(refused_by_dry_run, ranks=2)
def test_dry_run_refuses_the_same_as_the_run(launched):
    too_many = "n_components=4 with 3 features"
    words_of_each = ("not empty; choose another folder", too_many, too_many)
    for done, words in zip(launched.all, words_of_each, strict=True):
        assert done.status == 2
        assert words in done.err
        assert done.err.count("error") == 1
        assert "Traceback" not in done.err


@pytest.mark.launch
def test_a_foreign_launcher_is_named(run_mpi, tmp_path):
    done = run_mpi(0, *RUN, write_small(tmp_path, rows=7), "--out", "out", env={"PMI_SIZE": "4"})
    assert done.status == 2
    assert "is a separate MPI job" in done.err


# ------------------------------------------------------------- errors of one rank, and its death

CRASH = """
import sys
import hpcembed.jobs.run as experiment
from mpi4py import MPI
from hpcembed.cli import main

original = experiment.{name}

def {name}(*arguments, **keywords):
    if MPI.COMM_WORLD.rank == {rank}:
        {action}
    return original(*arguments, **keywords)

experiment.{name} = {name}
sys.exit(main(["run", sys.argv[1], "--out", sys.argv[2]]))
"""
KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def crash(run_mpi, tmp_path):
    """Run a small job in which one rank takes an action in place of a step."""

    def run(ranks, *, name, rank, action):
        script = tmp_path / "crash.py"
        script.write_text(CRASH.format(name=name, rank=rank, action=action))
        return run_mpi(ranks, script, write_small(tmp_path), "out", timeout=90)

    return run


@pytest.mark.launch
@pytest.mark.parametrize("name", ["read", "fit", "gather", "write_results"])
def test_an_exception_on_one_rank_ends_the_job(crash, name):
    rank = 0 if name == "write_results" else 1
    done = crash(3, name=name, rank=rank, action='raise RuntimeError("boom")')
    assert done.status != 0
    assert f"[rank {rank}/3] Traceback" in done.err
    assert done.err.count("RuntimeError: boom") == 1


@pytest.mark.launch
def test_a_user_error_on_one_rank_ends_the_job(crash):
    action = 'from hpcembed.runtime.errors import ConfigError; raise ConfigError("only here")'
    done = crash(3, name="read", rank=2, action=action)
    assert done.status == 2
    assert "hpcembed: error: [rank 2] only here" in done.err


@pytest.mark.launch
@pytest.mark.parametrize("ranks", [0, 2])
def test_an_interrupt_is_one_line(crash, ranks):
    done = crash(ranks, name="fit", rank=0, action="raise KeyboardInterrupt")
    assert done.status == 130
    assert done.err.count("hpcembed: interrupted") == 1
    assert "Traceback" not in done.err


@pytest.mark.launch
def test_a_killed_rank_ends_the_job(crash):
    assert crash(3, name="fit", rank=1, action=KILL).status != 0


@pytest.mark.launch
def test_a_kill_during_training_loses_no_eigenpair(crash, tmp_path):
    done = crash(2, name="train_networks", rank=0, action=KILL)
    assert done.status != 0
    out = tmp_path / "out"
    left = {path.name for path in out.iterdir()}
    written = {"job.toml", "projection.safetensors", "eigenvalues.csv", "convergence.csv"}
    assert left == {*written, "checkpoints"}
    projection = safetensors.numpy.load_file(out / "projection.safetensors")
    assert projection["components"].shape == (2, 3)
