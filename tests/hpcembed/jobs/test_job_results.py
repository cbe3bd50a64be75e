"""Whole jobs from the command line: their results, on 0, 1, 2, 3 and 5 ranks."""

import json
import re

import numpy as np
import pytest
from sklearn.datasets import load_digits

from hpcembed.embedding import Machine, Shape
from hpcembed.jobs.configuration import (
    ClassifierConfig,
    EmbeddingConfig,
    JobConfig,
    SolverConfig,
)
from hpcembed.jobs.job import prepare
from hpcembed.jobs.memory_plan import job_budget
from hpcembed.jobs.run import read
from hpcembed.runtime.errors import MemoryLimitError
from job_files import FAST, JOBS, WITHOUT_NETWORKS, load_run, settings, write_small
from synthetic_data import write_winnipeg_like

DIGITS = JOBS / "digits.toml"
RUN = ["-m", "hpcembed", "run"]


@pytest.mark.launch
def test_digits_end_to_end(run_mpi, tmp_path):
    out = tmp_path / "out"
    done = run_mpi(2, *RUN, DIGITS, "--out", out, "--set", "training.epochs=15")
    assert done.status == 0, done.err
    assert "certified: 20 of 20 eigenpairs" in done.out
    assert re.search("seconds: read .*, operator .*, solve .*, project .*, gather .*; ", done.out)
    assert "covariance assembled" in done.err
    assert "memory per rank:" in done.err
    run, projection = load_run(out)

    assert run["dataset"] == {
        "name": "digits",
        "n_train": 1438,
        "n_test": 359,
        "n_features": 64,
        "n_classes": 10,
        "task": "classification",
        "columns": None,
    }
    embedding = run["embedding"]
    assert embedding["n_components"] == 20
    assert embedding["operator"] == "covariance, assembled"
    assert embedding["solver"].startswith("MIRAMns block")
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

    assert "has not learnt" not in done.out
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

    again = run_mpi(1, *RUN, DIGITS, "--out", out)
    assert again.status == 2
    assert "not empty; choose another folder" in again.err


def digits_on(ranks):
    options = [*WITHOUT_NETWORKS, "--set", "embedding.n_components=8"]
    return [["run", DIGITS, "--out", str(ranks), *options]]


@pytest.mark.launch(digits_on, ranks=(1, 2, 3))
def test_same_result_on_any_number_of_ranks(launched):
    """The number of ranks changes no eigenvalue by 1e-12 and no subspace by 1e-10."""
    results = []
    for ranks in (1, 2, 3):
        (done,) = launched[ranks]
        assert done.status == 0, done.err
        results.append(load_run(launched.folder / str(ranks)))
    (first, projection), *others = results
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


def seven_rows_on(folder, ranks):
    """With three ranks or more, and a split, some rank has no training row."""
    return [["run", write_small(folder, rows=7), "--out", str(ranks)]]


@pytest.mark.launch(seven_rows_on, ranks=(1, 5))
def test_more_ranks_than_rows(launched):
    for ranks in (1, 5):
        (done,) = launched[ranks]
        assert done.status == 0, done.err
    (one, P), (five, Q) = (load_run(launched.folder / name) for name in ("1", "5"))
    np.testing.assert_allclose(
        five["embedding"]["eigenvalues"], one["embedding"]["eigenvalues"], rtol=1e-12
    )
    np.testing.assert_allclose(Q["components"], P["components"], atol=1e-10)
    assert one["dataset"] == five["dataset"]


def shifted_digits(folder, factor, offsets):
    images, digits = load_digits(return_X_y=True)
    np.savez(folder / "digits.npz", x=images * factor + offsets, y=digits)
    options = [*FAST, *settings("data.format=npz", "data.train=digits.npz")]
    options += settings("data.scaling=none", "training.epochs=15")
    return [["run", DIGITS, *options, "--data-dir", ".", "--out", "out"]]


@pytest.mark.launch(shifted_digits, ranks=2)
@pytest.mark.parametrize(
    ("factor", "offsets"), [(1.0, 1e8), (1.0, 1e10 * np.arange(64)), (1e-50, 0.0), (1e38, 0.0)]
)
def test_networks_learn_at_any_offset_and_unit_of_the_data(launched, factor, offsets):
    assert launched.done.status == 0, launched.done.err
    full, embedded = load_run(launched.folder / "out")[0]["classifiers"]
    assert full["test_accuracy"] > 0.9
    assert embedded["test_accuracy"] > 0.9


def generated_radar(folder):
    write_winnipeg_like(folder / "WinnipegDataset.txt", n_rows=300, seed=0)
    options = [*FAST, "--set", "classifier.hidden=[[16, 16, 8]]", "--data-dir", "."]
    return [["run", JOBS / "radar.toml", "--out", "out", *options]]


@pytest.mark.launch(generated_radar, ranks=2)
def test_radar_job_on_a_generated_file(launched):
    assert launched.done.status == 0, launched.done.err
    run, _ = load_run(launched.folder / "out")
    assert run["dataset"]["n_features"] == 174
    assert run["dataset"]["n_classes"] == 7
    assert (run["dataset"]["n_train"], run["dataset"]["n_test"]) == (240, 60)
    assert run["embedding"]["n_components"] == 10
    assert max(run["embedding"]["residual_norms"]) <= 1e-10


def too_few_iterations():
    few = settings("solver.ncv=22", "solver.max_it=1", "solver.tol=1e-13")
    return [["run", DIGITS, "--out", "out", *FAST, *few]]


@pytest.mark.launch(too_few_iterations, ranks=2)
def test_unconverged_pairs_end_with_status_3_and_all_results(launched):
    done = launched.done
    assert done.status == 3
    assert "NOT certified" in done.out
    assert done.err.count("hpcembed: error: eigenpairs") == 1
    assert "raise max_it or ncv" in done.err
    run, _ = load_run(launched.folder / "out")
    assert run["embedding"]["converged_reason"] == "DIVERGED_ITS"
    assert len(run["classifiers"]) == 2


SECOND_PAIR_MISSING = """
import dataclasses, sys
import numpy as np
import miramns
from hpcembed.cli import main

solve = miramns.solve

def without_the_second(mat, k, **settings):
    found = solve(mat, k + 1, **settings)
    rest = {name: np.delete(getattr(found, name), 1)
            for name in ("eigenvalues", "residual_norms", "residual_tolerances", "error_bounds")}
    vectors = np.asfortranarray(np.delete(found.eigenvectors, 1, axis=1))
    return dataclasses.replace(found, eigenvectors=vectors, **rest)

miramns.solve = without_the_second
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.launch
def test_a_missing_eigenpair_is_not_certified(run_mpi, tmp_path):
    script = tmp_path / "second_pair_missing.py"
    script.write_text(SECOND_PAIR_MISSING)
    done = run_mpi(2, script, "run", write_small(tmp_path), "--out", tmp_path / "out")
    assert done.status == 3
    assert "NOT certified: 1 of 2 eigenpairs" in done.out
    assert "SLEPc krylovschur has a larger eigenvalue: 2" in done.out
    assert "hpcembed: error: eigenpairs 2 are not the dominant ones" in done.err
    run, _ = load_run(tmp_path / "out")
    assert run["embedding"]["reference"]["max_relative_eigenvalue_error"] > 1e-3


@pytest.mark.launch
def test_a_reference_without_pairs(run_mpi, tmp_path):
    none = ["--set", "embedding.n_components=5", "--petsc", "-eps_max_it 1 -eps_ncv 6"]
    out = tmp_path / "out"
    done = run_mpi(1, *RUN, DIGITS, "--out", out, *FAST, *none)
    assert done.status == 0, done.err
    assert "SLEPc krylovschur found no pair to compare with" in done.out
    assert load_run(out)[0]["embedding"]["reference"]["n_compared"] == 0


def solver_without_pairs():
    none = settings("embedding.n_components=5", "output.figures=true")
    none += settings("solver.name=krylovschur", "solver.max_it=1", "solver.ncv=6")
    return [["run", DIGITS, "--out", "out", *FAST, *none]]


@pytest.mark.launch(solver_without_pairs, ranks=1)
def test_a_solver_without_pairs(launched):
    done = launched.done
    assert done.status == 3, done.err
    assert "NOT certified: 0 of 5 eigenpairs" in done.out
    assert "hpcembed: error: eigenpairs 1, 2, 3" in done.err
    assert len(load_run(launched.folder / "out")[0]["classifiers"]) == 1


SOLVERS = {"published": "solver.variant=published", "slepc": "solver.name=krylovschur"}


def digits_by(solver):
    options = [*WITHOUT_NETWORKS, "--set", SOLVERS[solver]]
    return [["run", DIGITS, "--out", "out", *options]]


@pytest.mark.launch(digits_by, ranks=2)
@pytest.mark.parametrize("solver", SOLVERS)
def test_published_variant_and_slepc_as_solver(launched, solver):
    assert launched.done.status == 0, launched.done.err
    run, _ = load_run(launched.folder / "out")
    assert max(run["embedding"]["residual_norms"]) <= 1e-8
    assert run["embedding"]["reference"]["max_subspace_sin_angle"] <= 1e-6
    assert run["classifiers"] == []


def dry_run():
    return [["run", DIGITS, "--out", "out", "--dry-run"]]


@pytest.mark.launch(dry_run, ranks=2)
def test_dry_run_prints_the_plan_and_writes_nothing(launched):
    assert launched.done.status == 0, launched.done.err
    for words in (
        "ranks      2 with",
        "1,438 training and 359 test",
        "assembled",
        "memory per rank",
    ):
        assert words in launched.done.out
    assert not (launched.folder / "out").exists()


@pytest.mark.launch
def test_petsc_options_reach_slepc_and_no_other_words_do(run_mpi, tmp_path):
    petsc = ["--petsc", "-eps_view -options_left"]
    done = run_mpi(1, *RUN, DIGITS, "--out", tmp_path / "out", *WITHOUT_NETWORKS, *petsc)
    assert done.status == 0, done.err
    assert "EPS Object" in done.out
    assert "there are no unused options" in done.out.lower() + done.err.lower()


def info():
    return [["info"]]


@pytest.mark.launch(info, ranks=2)
def test_info(launched):
    assert launched.done.status == 0, launched.done.err
    for words in (
        "petsc_scalar       float64",
        "petsc_index",
        "mpi ",
        "ranks              2",
        "numpy",
    ):
        assert words in launched.done.out


def twice_the_rows(folder, limit):
    rng = np.random.default_rng(0)
    for name, n in (("train.npz", 60_000), ("test.npz", 20)):
        np.savez(folder / name, x=rng.standard_normal((n, 100)), y=np.arange(n) % 2)
    options = settings(f"resources.memory_gib={limit}", "data.label_column=")
    options += settings("data.train=train.npz", "data.test=test.npz", "classifier.enabled=false")
    return [["run", write_small(folder), "--out", "out", *options]]


@pytest.mark.launch(twice_the_rows, ranks=1)
@pytest.mark.parametrize(("limit", "status"), [(0.08, 2), (0.5, 0)])
def test_rows_that_are_held_twice_are_counted_twice(launched, limit, status):
    done = launched.done
    assert done.status == status, done.err
    step = "a copy of the rows in double precision, in addition to those"
    assert (step in done.err) == (status == 2)


def test_a_subspace_is_never_counted_larger_than_the_space():
    shape = Shape(100, 20, 64, None, 512)
    for solver in (SolverConfig(ncv=10**6), SolverConfig(nested=(10, 10**6))):
        job = JobConfig(solver=solver)
        budget = job_budget(job, shape, Machine(1, 1, 2**30))
        assert budget.basis == 8 * 65 * 64


def test_inputs_that_rank_0_cannot_hold_are_left_on_their_ranks():
    shape = Shape(90_000, 10_000, 64, None, 64)  # gathered at k = 32: 19.2 MB, full: 38.4 MB more

    def budget(available, **classifier):
        job = JobConfig(
            embedding=EmbeddingConfig(n_components=32), classifier=ClassifierConfig(**classifier)
        )
        return job_budget(job, shape, Machine(2, 1, available))

    both, one, none = budget(10_000_000), budget(40_000_000), budget(60_000_000)
    assert both.training == {"embedded": "data_parallel", "full": "data_parallel"}
    assert one.training == {"embedded": "gather", "full": "data_parallel"}
    assert none.training == {"embedded": "gather", "full": "gather"}
    both.check()
    lines = both.left_in_place()
    assert len(lines) == 2
    assert "the projection: trained data-parallel by 2 ranks" in lines[0]
    assert "would take 18.3 MiB, 9.5 MiB are available" in lines[0]
    assert "projection 6.1 MiB" in both.describe()
    assert none.left_in_place() == []
    asked = budget(60_000_000, parallel="data_parallel", baseline=False)
    assert asked.training == {"embedded": "data_parallel"}
    assert budget(60_000_000, enabled=False).training == {}
    with pytest.raises(MemoryLimitError, match=r"projection on rank 0 .* set classifier"):
        budget(10_000_000, parallel="gather").check()
    with pytest.raises(MemoryLimitError, match=r"the projection needs .*use more ranks"):
        budget(5_000_000).check()


def more_rows_than_rank_0_holds(folder):
    rng = np.random.default_rng(0)
    centres = rng.uniform(60, 200, (3, 64))
    for name, n in (("train.npz", 100_000), ("test.npz", 500)):
        y = np.arange(n) % 3
        x = np.clip(centres[y] + rng.normal(0, 40, (n, 64)), 0, 255)
        np.savez(folder / name, x=x.astype(np.uint8), y=y)
    options = settings("resources.memory_gib=0.0205", "data.label_column=")
    options += settings("data.train=train.npz", "data.test=test.npz", "embedding.n_components=32")
    options += settings("training.batch_size=2048", "training.epochs=1")
    options += settings("classifier.hidden=[[16]]", "output.figures=false")
    return [["run", write_small(folder), "--out", "out", *options]]


@pytest.mark.launch(more_rows_than_rank_0_holds, ranks=2)
def test_a_job_that_rank_0_cannot_hold_trains_on_all_ranks(launched):
    done, out = launched.done, launched.folder / "out"
    assert done.status == 0, done.err
    for what in ("projection", "uncompressed input"):
        assert done.err.count(f"networks on the {what}: trained data-parallel by 2 ranks") == 1
    run, _ = load_run(out)
    assert run["environment"]["training"] == {"full": "data_parallel", "embedded": "data_parallel"}
    full, embedded = run["classifiers"]
    assert (full["input"], embedded["input"]) == ("full", "embedded")
    assert min(full["test_accuracy"], embedded["test_accuracy"]) > 0.7
    assert (out / "model").is_dir()
    metrics = (out / "metrics.jsonl").read_text().splitlines()
    assert len(metrics) == 2


def test_read_rows_are_released_when_they_are_copied(comm, tmp_path):
    job = prepare(DIGITS, [], None, tmp_path / "out", comm)
    dataset, train, test = read(job)
    assert dataset.train.rows.shape == dataset.test.rows.shape == (0, 64)
    assert (train.n_rows, test.n_rows) == (1438, 359)


def constant_columns(folder):
    job = write_small(folder, k=3)
    path = folder / "small.csv"
    lines = [
        line.replace(line.split(",")[1], "5.0", 1) for line in path.read_text().split("\n")[1:-1]
    ]
    path.write_text("a,b,c,kind\n" + "\n".join(lines) + "\n")
    return [["run", job, "--out", "out", "--set", "data.scaling=standard"]]


@pytest.mark.launch(constant_columns, ranks=2)
def test_constant_columns(launched):
    assert launched.done.status == 0, launched.done.err
    assert "certified: 3 of 3" in launched.done.out


def resolved_job(folder):
    job = write_small(folder)
    (folder / "data").mkdir()
    (folder / "small.csv").rename(folder / "data" / "small.csv")
    return [
        ["run", job, "--data-dir", "data", "--out", "first"],
        ["run", "first/job.toml", "--out", "second"],
    ]


@pytest.mark.launch(resolved_job, ranks=1)
def test_the_resolved_job_runs_from_anywhere(launched):
    for done in launched.all:
        assert done.status == 0, done.err
    first, second = (load_run(launched.folder / name)[0] for name in ("first", "second"))
    assert first["embedding"]["eigenvalues"] == second["embedding"]["eigenvalues"]


CLOSED_PIPE = """
import os, sys
r, w = os.pipe()
os.close(r)
os.dup2(w, 1)
from hpcembed.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.launch
def test_a_closed_pipe_is_no_failure(run_mpi, tmp_path):
    script = tmp_path / "closed_pipe.py"
    script.write_text(CLOSED_PIPE)
    done = run_mpi(0, script, "run", write_small(tmp_path), "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert "Traceback" not in done.err


@pytest.mark.launch
def test_networks_that_have_not_learnt_are_named(run_mpi, tmp_path):
    changes = ["training.epochs=1", "training.learning_rate=1e-9"]
    options = [word for change in changes for word in ("--set", change)]
    done = run_mpi(2, *RUN, DIGITS, "--out", tmp_path / "out", *options)
    assert done.status == 0, done.err
    lines = [line for line in done.out.splitlines() if "has not learnt" in line]
    assert lines[0].startswith("warning: network 64-64 on 64 inputs (full) has not learnt: ")
    assert "A comparison with it means nothing." in lines[0]


def digits_with_figures():
    networks = ["--set", "classifier.hidden=[[16]]", "--set", "training.epochs=2"]
    return [["run", DIGITS, "--out", "out", *networks]]


@pytest.mark.launch(digits_with_figures, ranks=2)
def test_run_draws_its_networks(launched):
    assert launched.done.status == 0, launched.done.err
    out = launched.folder / "out"
    names = {path.name for path in (out / "figures").iterdir()}
    assert names >= {"accuracy_over_size.png", "accuracy_over_size.csv", "confusion.png"}
    lines = (out / "figures" / "confusion.csv").read_text().splitlines()
    counts = np.array([line.split(",") for line in lines[1:]], dtype=int)
    assert counts.shape == (100, 3)
    assert counts[:, 2].sum() == 359
    right = counts[counts[:, 0] == counts[:, 1], 2].sum() / 359
    run = json.loads((out / "run.json").read_text())
    (embedded,) = (one for one in run["classifiers"] if one["input"] == "embedded")
    assert right == pytest.approx(embedded["test_accuracy"], abs=1e-12)
    sizes = (out / "figures" / "accuracy_over_size.csv").read_text()
    assert f"16,20,True,{embedded['parameters'] + 20 * 64}," in sizes
    # A folder with run.json is complete: it is the newest file.
    newest = max(
        (path for path in out.rglob("*") if path.is_file()), key=lambda p: p.stat().st_mtime_ns
    )
    assert newest.name == "run.json"
