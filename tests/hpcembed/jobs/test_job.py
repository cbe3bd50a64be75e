"""Whole jobs through the command line: what they leave, on 0, 1, 2 and 3 ranks."""

import json

import numpy as np
import pytest
import safetensors.numpy
from sklearn.datasets import load_digits

from hpcembed.data.synthetic import write_winnipeg_like
from hpcembed.jobs.configuration import (
    ClassifierConfig,
    EmbeddingConfig,
    JobConfig,
    SolverConfig,
)
from hpcembed.jobs.job import prepare
from hpcembed.jobs.memory_plan import Shape, job_budget
from hpcembed.jobs.run import read
from hpcembed.runtime.errors import MemoryLimitError

pytestmark = pytest.mark.launch

FAST = ["--set", "training.epochs=2", "--set", "output.figures=false"]
RUN = ["-m", "hpcembed", "run"]


@pytest.fixture
def jobs(request):
    return request.config.rootpath / "jobs"


def load(out):
    run = json.loads((out / "run.json").read_text())
    return run, safetensors.numpy.load_file(out / "projection.safetensors")


def test_digits_end_to_end(run_mpi, tmp_path, jobs):
    out = tmp_path / "out"
    done = run_mpi(2, *RUN, jobs / "digits.toml", "--out", out, "--set", "training.epochs=15")
    assert done.status == 0, done.err
    assert "certified: 20 of 20 eigenpairs" in done.out
    assert "covariance assembled" in done.err
    assert "memory per rank:" in done.err
    run, projection = load(out)

    assert run["dataset"] == {
        "name": "digits",
        "n_train": 1438,
        "n_test": 359,
        "n_features": 64,
        "n_classes": 10,
    }
    embedding = run["embedding"]
    assert embedding["n_components"] == 20
    assert embedding["operator"] == "covariance, assembled"
    assert embedding["solver"].startswith("MIRAMns default")
    assert len(embedding["eigenvalues"]) == 20
    assert embedding["eigenvalues"] == sorted(embedding["eigenvalues"], reverse=True)
    assert len(embedding["explained_variance_ratio"]) == 20
    assert 0.85 < sum(embedding["explained_variance_ratio"]) < 0.95
    assert max(embedding["residual_norms"]) <= 1e-10
    assert embedding["orthogonality"] <= 1e-12
    assert embedding["n_matvec"] >= 20
    assert embedding["n_restarts"] == 0
    assert embedding["converged_reason"] == "CONVERGED_TOL"
    assert set(embedding["seconds"]) == {"read", "operator", "solve", "project", "gather"}
    assert all(value > 0 for value in embedding["seconds"].values())
    reference = embedding["reference"]
    assert reference["solver"] == "SLEPc krylovschur"
    assert reference["max_relative_eigenvalue_error"] <= 1e-10
    assert reference["max_subspace_sin_angle"] <= 1e-6
    assert reference["n_matvec"] >= 20
    assert reference["seconds"] > 0

    full, embedded = run["classifiers"]
    assert (full["input"], embedded["input"]) == ("full", "embedded")
    assert full["hidden"] == embedded["hidden"] == [64, 64]
    assert full["parameters"] - embedded["parameters"] == (64 - 20) * 64
    for network in (full, embedded):
        assert network["train_seconds"] > 0
        assert network["validation_accuracy"] > 0.8
        assert network["test_accuracy"] > 0.8
    environment = run["environment"]
    assert environment["ranks"] == 2
    assert len(environment["peak_bytes_per_rank"]) == 2
    # PyTorch costs hundreds of megabytes: only rank 0 may load it.
    assert environment["peak_bytes_per_rank"][1] < 600e6

    assert projection["components"].shape == (20, 64)
    for name in (
        "job.toml",
        "eigenvalues.csv",
        "convergence.csv",
        "classifier-full-64-64.safetensors",
        "classifier-embedded-64-64.safetensors",
        "figures/spectrum.png",
        "figures/convergence.png",
        "figures/training.png",
    ):
        assert (out / name).stat().st_size > 100, name
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == 2 * 15
    assert not list(out.glob("**/.partial*"))

    again = run_mpi(1, *RUN, jobs / "digits.toml", "--out", out)
    assert again.status == 2
    assert "not empty; choose another --out" in again.err


def test_same_answer_on_any_number_of_ranks(run_mpi, tmp_path, jobs):
    """No rank count changes an eigenvalue by 1e-12 or the subspace by 1e-10."""
    answers = []
    for ranks in (1, 2, 3):
        out = tmp_path / str(ranks)
        options = [*FAST, "--set", "classifier.enabled=false", "--set", "embedding.n_components=8"]
        done = run_mpi(ranks, *RUN, jobs / "digits.toml", "--out", out, *options)
        assert done.status == 0, done.err
        answers.append(load(out))
    (first, projection), *others = answers
    V = projection["components"].T
    for run, other in others:
        np.testing.assert_allclose(
            run["embedding"]["eigenvalues"], first["embedding"]["eigenvalues"], rtol=1e-12
        )
        W = other["components"].T
        assert np.linalg.norm(W - V @ (V.T @ W), 2) <= 1e-10
        # Signs are fixed too.
        np.testing.assert_allclose(W, V, atol=1e-8)
        assert run["embedding"]["n_matvec"] == first["embedding"]["n_matvec"]


@pytest.fixture
def small_csv(tmp_path):
    """Seven rows: with three ranks or more, and a split, some rank has no training row."""

    def write(rows=7, name="small.csv"):
        rng = np.random.default_rng(0)
        lines = ["a,b,c,kind"]
        lines += [
            ",".join(f"{x:.6f}" for x in rng.standard_normal(3)) + f",{'xy'[i % 2]}"
            for i in range(rows)
        ]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture
def small_job(tmp_path):
    def write(extra="", k=2, train="small.csv"):
        path = tmp_path / "small.toml"
        path.write_text(
            f'[data]\nname = "small"\ntrain = ["{train}"]\nlabel_column = "kind"\n'
            f"test_fraction = 0.3\n[embedding]\nn_components = {k}\n"
            "[classifier]\nhidden = [[4]]\n[training]\nepochs = 1\nvalidation_fraction = 0.3\n"
            f"[output]\nfigures = false\n{extra}"
        )
        return path

    return write


def test_more_ranks_than_rows(run_mpi, tmp_path, small_csv, small_job):
    small_csv()
    answers = []
    for ranks in (1, 5):
        done = run_mpi(ranks, *RUN, small_job(), "--out", tmp_path / str(ranks))
        assert done.status == 0, done.err
        answers.append(load(tmp_path / str(ranks)))
    (one, P), (five, Q) = answers
    np.testing.assert_allclose(
        five["embedding"]["eigenvalues"], one["embedding"]["eigenvalues"], rtol=1e-12
    )
    np.testing.assert_allclose(Q["components"], P["components"], atol=1e-10)
    assert one["dataset"] == five["dataset"]


@pytest.mark.parametrize(
    ("factor", "offsets"), [(1.0, 1e8), (1.0, 1e10 * np.arange(64)), (1e-50, 0.0), (1e38, 0.0)]
)
def test_networks_learn_whatever_offset_and_unit_the_data_have(
    run_mpi, tmp_path, jobs, factor, offsets
):
    images, digits = load_digits(return_X_y=True)
    np.savez(tmp_path / "digits.npz", x=images * factor + offsets, y=digits)
    options = [*FAST, "--set", "data.format=npz", "--set", "data.train=digits.npz"]
    options += ["--set", "data.scaling=none", "--set", "training.epochs=15"]
    options += ["--data-dir", tmp_path, "--out", tmp_path / "out"]
    done = run_mpi(2, *RUN, jobs / "digits.toml", *options)
    assert done.status == 0, done.err
    full, embedded = load(tmp_path / "out")[0]["classifiers"]
    assert full["test_accuracy"] > 0.9
    assert embedded["test_accuracy"] > 0.9


def test_radar_job_on_a_generated_file(run_mpi, tmp_path, jobs):
    write_winnipeg_like(tmp_path / "WinnipegDataset.txt", n_rows=300, seed=0)
    out = tmp_path / "out"
    hidden = ["--set", "classifier.hidden=[[16, 16, 8]]"]
    done = run_mpi(
        2, *RUN, jobs / "radar.toml", "--data-dir", tmp_path, "--out", out, *FAST, *hidden
    )
    assert done.status == 0, done.err
    run, _ = load(out)
    assert run["dataset"]["n_features"] == 174
    assert run["dataset"]["n_classes"] == 7
    assert (run["dataset"]["n_train"], run["dataset"]["n_test"]) == (240, 60)
    assert run["embedding"]["n_components"] == 10
    assert max(run["embedding"]["residual_norms"]) <= 1e-10


def test_unconverged_pairs_end_with_status_3_and_leave_everything(run_mpi, tmp_path, jobs):
    out = tmp_path / "out"
    stingy = ["--set", "solver.ncv=22", "--set", "solver.max_it=1", "--set", "solver.tol=1e-13"]
    done = run_mpi(2, *RUN, jobs / "digits.toml", "--out", out, *FAST, *stingy)
    assert done.status == 3
    assert "NOT certified" in done.out
    assert done.err.count("hpcembed: error: eigenpairs") == 1
    assert "raise max_it or ncv" in done.err
    run, _ = load(out)
    assert run["embedding"]["converged_reason"] == "DIVERGED_ITS"
    assert len(run["classifiers"]) == 2


PASSES_OVER = """
import dataclasses, sys
import numpy as np
import miramns
from hpcembed.cli import main

solve = miramns.solve

def passes_over_the_second(mat, k, **settings):
    found = solve(mat, k + 1, **settings)
    rest = {name: np.delete(getattr(found, name), 1)
            for name in ("eigenvalues", "residual_norms", "residual_tolerances", "error_bounds")}
    vectors = np.asfortranarray(np.delete(found.eigenvectors, 1, axis=1))
    return dataclasses.replace(found, eigenvectors=vectors, **rest)

miramns.solve = passes_over_the_second
sys.exit(main(sys.argv[1:]))
"""


def test_a_passed_over_eigenpair_is_not_certified(run_mpi, tmp_path, small_csv, small_job):
    small_csv(30)
    script = tmp_path / "passes_over.py"
    script.write_text(PASSES_OVER)
    done = run_mpi(2, script, "run", small_job(), "--out", tmp_path / "out")
    assert done.status == 3
    assert "NOT certified: 1 of 2 eigenpairs" in done.out
    assert "SLEPc krylovschur has a larger eigenvalue: 2" in done.out
    assert "hpcembed: error: eigenpairs 2 are not the dominant ones" in done.err
    run, _ = load(tmp_path / "out")
    assert run["embedding"]["reference"]["max_relative_eigenvalue_error"] > 1e-3


def test_solvers_that_find_no_pair_at_all(run_mpi, tmp_path, jobs):
    five = ["--set", "embedding.n_components=5"]
    none = [*five, "--petsc", "-eps_max_it 1 -eps_ncv 6"]
    out = tmp_path / "reference"
    done = run_mpi(1, *RUN, jobs / "digits.toml", "--out", out, *FAST, *none)
    assert done.status == 0, done.err
    assert "SLEPc krylovschur found no pair to compare with" in done.out
    assert load(out)[0]["embedding"]["reference"]["n_compared"] == 0
    out = tmp_path / "solver"
    none = [*five, "--set", "output.figures=true", "--set", "solver.name=krylovschur"]
    none += ["--set", "solver.max_it=1", "--set", "solver.ncv=6"]
    done = run_mpi(1, *RUN, jobs / "digits.toml", "--out", out, *FAST, *none)
    assert done.status == 3, done.err
    assert "NOT certified: 0 of 5 eigenpairs" in done.out
    assert "hpcembed: error: eigenpairs 1, 2, 3" in done.err
    assert len(load(out)[0]["classifiers"]) == 1


def test_published_variant_and_slepc_as_solver(run_mpi, tmp_path, jobs):
    for name, option in [
        ("published", "solver.variant=published"),
        ("slepc", "solver.name=krylovschur"),
    ]:
        out = tmp_path / name
        off = ["--set", "classifier.enabled=false"]
        done = run_mpi(2, *RUN, jobs / "digits.toml", "--out", out, *FAST, *off, "--set", option)
        assert done.status == 0, done.err
        run, _ = load(out)
        assert max(run["embedding"]["residual_norms"]) <= 1e-8
        assert run["embedding"]["reference"]["max_subspace_sin_angle"] <= 1e-6
        assert run["classifiers"] == []


def test_dry_run_says_what_it_would_take_and_leaves_nothing(run_mpi, tmp_path, jobs):
    done = run_mpi(2, *RUN, jobs / "digits.toml", "--out", tmp_path / "out", "--dry-run")
    assert done.status == 0, done.err
    for words in (
        "ranks      2 with",
        "1,438 training and 359 test",
        "assembled",
        "memory per rank",
    ):
        assert words in done.out
    assert not (tmp_path / "out").exists()


def test_petsc_options_reach_slepc_and_nothing_else_does(run_mpi, tmp_path, jobs):
    petsc = ["--petsc", "-eps_view -options_left"]
    off = ["--set", "classifier.enabled=false"]
    done = run_mpi(1, *RUN, jobs / "digits.toml", "--out", tmp_path / "out", *FAST, *off, *petsc)
    assert done.status == 0, done.err
    assert "EPS Object" in done.out
    assert "there are no unused options" in done.out.lower() + done.err.lower()


def test_petsc_options_that_slepc_refuses_are_one_line(run_mpi, tmp_path, small_csv, small_job):
    small_csv(30)
    done = run_mpi(2, *RUN, small_job(), "--out", tmp_path / "out", "--petsc", "-eps_type foo")
    assert done.status == 2
    (line,) = [line for line in done.err.splitlines() if "hpcembed: error:" in line]
    assert "foo" in line
    assert "check --petsc" in line
    assert "Traceback" not in done.err


def test_absurd_networks_are_refused_before_the_eigenvectors(
    run_mpi, tmp_path, small_csv, small_job
):
    small_csv(30)
    wide = ["--set", "classifier.hidden=[[1_000_000_000]]"]
    done = run_mpi(1, *RUN, small_job(), "--out", tmp_path / "out", *wide)
    assert done.status == 2
    assert "this data: classifier.hidden: layers 3-1000000000-2 have" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("ranks", [0, 2])
def test_an_interrupt_is_one_line(run_mpi, tmp_path, small_csv, small_job, ranks):
    small_csv(30)
    script = tmp_path / "crash.py"
    script.write_text(CRASH.format(name="fit", rank=0, action="raise KeyboardInterrupt"))
    done = run_mpi(ranks, script, small_job(), tmp_path / "out", timeout=30)
    assert done.status == 130
    assert done.err.count("hpcembed: interrupted") == 1
    assert "Traceback" not in done.err


def test_a_reader_who_goes_away_is_no_failure(run_mpi, tmp_path, small_csv, small_job):
    small_csv(30)
    script = tmp_path / "closed.py"
    script.write_text(
        "import os, sys\nr, w = os.pipe()\nos.close(r)\nos.dup2(w, 1)\n"
        "from hpcembed.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    done = run_mpi(0, script, "run", small_job(), "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert "Traceback" not in done.err


def test_info(run_mpi):
    done = run_mpi(2, "-m", "hpcembed", "info")
    assert done.status == 0, done.err
    for words in (
        "petsc_scalar       float64",
        "petsc_index",
        "mpi ",
        "ranks              2",
        "numpy",
    ):
        assert words in done.out


def test_memory_limit_is_refused_before_it_is_taken(run_mpi, tmp_path, jobs):
    limit = ["--set", "resources.memory_gib=0.0005"]
    done = run_mpi(2, *RUN, jobs / "digits.toml", "--out", tmp_path / "out", *limit)
    assert done.status == 2
    assert done.err.count("hpcembed: error:") == 1
    assert "per rank" in done.err
    assert "are available" in done.err


@pytest.mark.parametrize(("limit", "status"), [(0.08, 2), (0.5, 0)])
def test_rows_that_are_there_twice_are_counted_twice(run_mpi, tmp_path, small_job, limit, status):
    rng = np.random.default_rng(0)
    for name, n in (("train.npz", 60_000), ("test.npz", 20)):
        np.savez(tmp_path / name, x=rng.standard_normal((n, 100)), y=np.arange(n) % 2)
    options = [f"resources.memory_gib={limit}", "data.label_column=", "classifier.enabled=false"]
    options += ["data.train=train.npz", "data.test=test.npz"]
    options = [word for option in options for word in ("--set", option)]
    done = run_mpi(1, *RUN, small_job(), "--out", tmp_path / "out", *options)
    assert done.status == status, done.err
    assert ("a copy of the rows in double, beside those" in done.err) == (status == 2)


def test_a_subspace_is_never_counted_larger_than_the_space():
    shape = Shape(100, 20, 64, None, 512)
    for solver in (SolverConfig(ncv=10**6), SolverConfig(nested=(10, 10**6))):
        job = JobConfig(solver=solver)
        budget = job_budget(job, shape, ranks=1, threads=1, available_bytes=2**30)
        assert budget.basis == 8 * 65 * 64


def test_inputs_that_rank_0_cannot_hold_are_left_on_their_ranks():
    shape = Shape(90_000, 10_000, 64, None, 64)  # gathered at k = 32: 19.2 MB, full: 38.4 MB more

    def budget(available, **classifier):
        job = JobConfig(
            embedding=EmbeddingConfig(n_components=32), classifier=ClassifierConfig(**classifier)
        )
        return job_budget(job, shape, ranks=2, threads=1, available_bytes=available)

    both, one, none = budget(10_000_000), budget(40_000_000), budget(60_000_000)
    assert both.training == {"embedded": "data_parallel", "full": "data_parallel"}
    assert one.training == {"embedded": "gather", "full": "data_parallel"}
    assert none.training == {"embedded": "gather", "full": "gather"}
    both.check(10_000_000)
    lines = both.left_in_place(2, 10_000_000)
    assert len(lines) == 2
    assert "the projection: trained data-parallel by 2 ranks" in lines[0]
    assert "would take 18.3 MiB, 9.5 MiB are available" in lines[0]
    assert "projection 6.1 MiB" in both.describe(10_000_000)
    assert none.left_in_place(2, 60_000_000) == []
    asked = budget(60_000_000, parallel="data_parallel", baseline=False)
    assert asked.training == {"embedded": "data_parallel"}
    assert budget(60_000_000, enabled=False).training == {}
    with pytest.raises(MemoryLimitError, match=r"projection on rank 0 .* set classifier"):
        budget(10_000_000, parallel="gather").check(10_000_000)
    with pytest.raises(MemoryLimitError, match=r"the projection needs .*use more ranks"):
        budget(5_000_000).check(5_000_000)


def test_a_job_that_rank_0_cannot_hold_trains_on_all_ranks(run_mpi, tmp_path, small_job):
    rng = np.random.default_rng(0)
    centres = rng.uniform(60, 200, (3, 64))
    for name, n in (("train.npz", 100_000), ("test.npz", 500)):
        y = np.arange(n) % 3
        x = np.clip(centres[y] + rng.normal(0, 40, (n, 64)), 0, 255)
        np.savez(tmp_path / name, x=x.astype(np.uint8), y=y)
    options = ["resources.memory_gib=0.0205", "data.label_column=", "embedding.n_components=32"]
    options += ["data.train=train.npz", "data.test=test.npz", "training.batch_size=2048"]
    options += ["training.epochs=1", "classifier.hidden=[[16]]", "output.figures=false"]
    options = [word for option in options for word in ("--set", option)]
    done = run_mpi(2, *RUN, small_job(), "--out", tmp_path / "out", *options, timeout=180)
    assert done.status == 0, done.err
    for what in ("projection", "uncompressed input"):
        assert done.err.count(f"networks on the {what}: trained data-parallel by 2 ranks") == 1
    run, _ = load(tmp_path / "out")
    assert run["environment"]["training"] == {"full": "data_parallel", "embedded": "data_parallel"}
    full, embedded = run["classifiers"]
    assert (full["input"], embedded["input"]) == ("full", "embedded")
    assert min(full["test_accuracy"], embedded["test_accuracy"]) > 0.7
    assert (tmp_path / "out" / "model").is_dir()
    metrics = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert len(metrics) == 2


def test_read_rows_are_let_go_when_they_are_taken_over(comm, tmp_path, jobs):
    job = prepare(jobs / "digits.toml", [], None, tmp_path / "out", comm)
    dataset, train, test = read(job)
    assert dataset.train.rows.shape == dataset.test.rows.shape == (0, 64)
    assert (train.n_rows, test.n_rows) == (1438, 359)


@pytest.mark.parametrize("ranks", [1, 3])
def test_bad_cell_is_one_line_with_file_and_row(run_mpi, tmp_path, small_csv, small_job, ranks):
    path = small_csv(30)
    lines = path.read_text().split("\n")
    lines[25] = "1.0,nan,2.0,x"
    path.write_text("\n".join(lines))
    done = run_mpi(ranks, *RUN, small_job(), "--out", tmp_path / "out")
    assert done.status == 2
    errors = [line for line in done.err.splitlines() if "error" in line]
    assert len(errors) == 1, done.err
    assert "small.csv" in errors[0]
    assert "row 25" in errors[0]
    assert "Traceback" not in done.err


def spoil(kind, path):
    text = path.read_text()
    if kind == "missing":
        path.unlink()
    elif kind == "empty":
        path.write_text("")
    elif kind == "header only":
        path.write_text(text.split("\n")[0] + "\n")
    elif kind == "width":
        path.write_text(text + "1,2,3,4,x\n")
    elif kind == "one class":
        path.write_text(text.replace(",y\n", ",x\n"))


def test_bad_tables_are_refused_on_all_ranks(run_each, tmp_path, small_csv, small_job):
    kinds = {
        "missing": "no such file",
        "empty": "empty",
        "header only": "row",
        "width": "31",
        "one class": "one class",
    }
    job, commands = small_job(), []
    for kind in kinds:
        folder = tmp_path / kind
        folder.mkdir()
        path = folder / "small.csv"
        small_csv(30).rename(path)
        spoil(kind, path)
        commands.append(["run", job, "--data-dir", folder, "--out", tmp_path / f"out {kind}"])
    for done, words in zip(run_each(3, commands), kinds.values(), strict=True):
        assert done.status == 2, done.err
        errors = [line for line in done.err.splitlines() if "hpcembed: error:" in line]
        assert len(errors) == 1, done.err
        assert "small.csv" in errors[0]
        assert words in errors[0]
        assert "Traceback" not in done.err


def test_constant_columns_are_fine(run_mpi, tmp_path, small_csv, small_job):
    path = small_csv(30)
    lines = [
        line.replace(line.split(",")[1], "5.0", 1) for line in path.read_text().split("\n")[1:-1]
    ]
    path.write_text("a,b,c,kind\n" + "\n".join(lines) + "\n")
    scaling = ["--set", "data.scaling=standard"]
    done = run_mpi(2, *RUN, small_job(k=3), "--out", tmp_path / "out", *scaling)
    assert done.status == 0, done.err
    assert "certified: 3 of 3" in done.out


def test_unknown_key_is_said_once(run_mpi, tmp_path, small_csv, small_job):
    small_csv()
    done = run_mpi(3, *RUN, small_job(extra="[solver]\ntoll = 1e-3\n"), "--out", tmp_path / "out")
    assert done.status == 2
    assert done.err.count("did you mean tol?") == 1


def test_wrong_command_line_is_said_once(run_mpi):
    done = run_mpi(3, "-m", "hpcembed", "runn")
    assert done.status == 2
    assert done.err.count("invalid choice") == 1


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


@pytest.mark.parametrize("name", ["read", "fit", "gather", "write_results"])
def test_exception_on_one_rank_ends_the_job(run_mpi, tmp_path, small_csv, small_job, name):
    small_csv(30)
    rank = 0 if name == "write_results" else 1
    script = tmp_path / "crash.py"
    script.write_text(CRASH.format(name=name, rank=rank, action='raise RuntimeError("boom")'))
    done = run_mpi(3, script, small_job(), tmp_path / "out", timeout=30)
    assert done.status != 0
    assert f"[rank {rank}/3] Traceback" in done.err
    assert done.err.count("RuntimeError: boom") == 1


def test_user_error_that_one_rank_has_alone_ends_the_job(run_mpi, tmp_path, small_csv, small_job):
    small_csv(30)
    script = tmp_path / "crash.py"
    action = 'from hpcembed.runtime.errors import ConfigError; raise ConfigError("only here")'
    script.write_text(CRASH.format(name="read", rank=2, action=action))
    done = run_mpi(3, script, small_job(), tmp_path / "out", timeout=30)
    assert done.status == 2
    assert "hpcembed: error: [rank 2] only here" in done.err


def test_a_kill_during_training_loses_no_eigenpair(run_mpi, tmp_path, small_csv, small_job):
    small_csv(30)
    script = tmp_path / "crash.py"
    action = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    script.write_text(CRASH.format(name="train_networks", rank=0, action=action))
    done = run_mpi(2, script, small_job(), tmp_path / "out", timeout=30)
    assert done.status != 0
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"job.toml", "projection.safetensors", "eigenvalues.csv", "convergence.csv"}
    projection = safetensors.numpy.load_file(tmp_path / "out" / "projection.safetensors")
    assert projection["components"].shape == (2, 3)


def test_a_refused_run_leaves_its_folder_free(run_mpi, tmp_path, small_csv, small_job):
    small_csv(30)
    out = tmp_path / "out"
    for k, spoilt, words in (
        (2, "data.label_column=none", "no column 'none'"),
        (4, "", "n_components=4 with 3 features"),
        (2, "solver.ncv=2", "solver: need a largest subspace"),
    ):
        options = ["--set", spoilt] if spoilt else []
        done = run_mpi(1, *RUN, small_job(k=k), "--out", out, *options)
        assert done.status == 2
        assert words in done.err
        assert not out.exists() or not list(out.iterdir())
    assert run_mpi(1, *RUN, small_job(), "--out", out).status == 0


def test_the_resolved_job_runs_from_anywhere(run_mpi, tmp_path, small_csv, small_job):
    small_csv(30)
    data, job = tmp_path / "data", small_job()
    data.mkdir()
    (tmp_path / "small.csv").rename(data / "small.csv")
    first, second = tmp_path / "first", tmp_path / "second"
    done = run_mpi(1, *RUN, job, "--data-dir", "data", "--out", first)
    assert done.status == 0, done.err
    done = run_mpi(1, *RUN, first / "job.toml", "--out", second)
    assert done.status == 0, done.err
    assert load(first)[0]["embedding"]["eigenvalues"] == load(second)[0]["embedding"]["eigenvalues"]


def test_dry_run_refuses_what_the_run_would(run_each, tmp_path, small_csv, small_job):
    small_csv(30)
    job = small_job()
    more = ["--set", "embedding.n_components=4"]
    commands = [
        ["run", job, "--out", tmp_path, "--dry-run"],
        ["run", job, "--out", tmp_path / "out", "--dry-run", *more],
        ["run", job, "--out", tmp_path / "out", *more],
    ]
    too_many = "n_components=4 with 3 features"
    for done, words in zip(
        run_each(2, commands),
        ("not empty; choose another --out", too_many, too_many),
        strict=True,
    ):
        assert done.status == 2
        assert words in done.err
        assert done.err.count("error") == 1
        assert "Traceback" not in done.err


def test_killed_rank_ends_the_job(run_mpi, tmp_path, small_csv, small_job):
    small_csv(30)
    script = tmp_path / "crash.py"
    action = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    script.write_text(CRASH.format(name="fit", rank=1, action=action))
    done = run_mpi(3, script, small_job(), tmp_path / "out", timeout=30)
    assert done.status != 0


def test_foreign_launcher_is_named(run_mpi, tmp_path, small_csv, small_job):
    small_csv()
    done = run_mpi(0, *RUN, small_job(), "--out", tmp_path / "out", env={"PMI_SIZE": "4"})
    assert done.status == 2
    assert "alone in its MPI world" in done.err
