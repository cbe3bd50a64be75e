"""The benchmark: its generators, its judgement of answers, its profiles, and what it writes."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from petsc4py import PETSc
from scipy.io import mmwrite
from scipy.sparse import csr_matrix

import miramns
from miramns import bench
from miramns.bench import methods, problems
from miramns.bench.answer import Answer, RefusedError
from miramns.bench.files import BenchError, matrix_files
from miramns.bench.methods import Method
from miramns.bench.problems import file_problem
from miramns.bench.profiles import cost_table, geometric_mean, performance_profile, ratios
from miramns.bench.records import Record
from miramns.bench.reference import Reference, Spectrum, best_certified, reference_of
from miramns.bench.running import Settings, run_problem

mpi = pytest.mark.mpi

SMALL = (
    "laplacian-1d:n=31",
    "laplacian-2d:nx=7,ny=6",
    "laplacian-3d:nx=5,ny=4,nz=3",
    "random-graph:n=90,degree=6",
    "block-graph:n=121,blocks=4",
    "power-law-graph:n=100,degree=5",
    "random-walk:side=9",
    "spiked:n=64,spikes=5",
    "power-law:n=50,decay=0.5",
    "clustered:n=70",
    "multiple:n=60",
    "sparse-covariance:rows=80,columns=40,per_row=5",
)


def whole(A: PETSc.Mat, comm) -> np.ndarray:
    """The operator as an array on every rank, column by column."""
    x, y = A.createVecs()
    first, last = x.getOwnershipRange()
    columns = []
    for j in range(A.getSize()[1]):
        x.setArray((np.arange(first, last) == j).astype(float))
        A.mult(x, y)
        columns.append(np.concatenate(comm.allgather(y.getArray().copy())))
    x.destroy()
    y.destroy()
    return np.column_stack(columns)


def built(text: str, comm) -> np.ndarray:
    A = problems.generated(text).build(comm)
    M = whole(A, comm)
    A.destroy()
    return M


# ------------------------------------------------------------------------------------ problems


@mpi
@pytest.mark.parametrize("text", SMALL)
def test_generators_do_not_depend_on_the_number_of_ranks(comm, text):
    from mpi4py import MPI

    M = built(text, comm)
    np.testing.assert_allclose(M, built(text, MPI.COMM_SELF), atol=1e-13 * np.abs(M).max())
    problem = problems.generated(text)
    assert str(len(M)) in problem.name or "x" in problem.name or problem.group == "graph"
    if problem.hermitian:
        np.testing.assert_allclose(M, M.T, atol=1e-13 * np.abs(M).max())
        values = np.linalg.eigvalsh(M)
        if problem.definite:
            assert values[0] > -1e-12 * values[-1]
        if problem.eigenvalues is not None:
            known = np.sort(problem.eigenvalues())
            np.testing.assert_allclose(values, known, atol=1e-12 * values[-1])
    else:
        np.testing.assert_allclose(M.sum(axis=0), 1.0)  # a transposed transition matrix
        values = np.linalg.eigvals(M)
        np.testing.assert_allclose(np.sort(values.real)[[0, -1]], [-1.0, 1.0])


@mpi
@pytest.mark.parametrize("name", ["random-graph", "block-graph", "power-law-graph", "spiked"])
def test_the_seed_changes_the_problem(comm, name):
    first, again, other = (built(f"{name}:n=80,seed={seed}", comm) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


@mpi
def test_graphs_are_simple_and_have_the_degree_asked_for(comm):
    for text, degree in (
        ("random-graph:n=400,degree=8", 8.0),
        ("block-graph:n=400,blocks=4,inside=8,outside=2", 10.0),
        ("power-law-graph:n=400,degree=6", 6.0),
    ):
        M = built(text, comm)
        assert set(np.unique(M)) == {0.0, 1.0}
        assert not np.diag(M).any()
        # double edges and loops are lost: more of them where the degrees differ
        assert 0.75 * degree < M.sum() / len(M) <= degree
    M = built("block-graph:n=400,blocks=4,inside=8,outside=2", comm)
    block = np.arange(400) % 4
    share = M[block[:, None] == block].sum() / M.sum()
    assert 0.75 < share < 0.95  # 0.8 inside, and a quarter of the rest by chance


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "problem 'nothing' is not one of"),
        ("random-graph:m=3", "'m' is not one of n, degree, seed"),
        ("random-graph:n=x", "n='x' is no int"),
        ("random-graph:n=0", "need n > 0"),
        ("random-graph:degree=nan", "need degree > 0"),
        ("random-walk:side=1", "need side >= 2"),
        ("power-law-graph:exponent=2", "need exponent > 2"),
        ("block-graph:n=10,blocks=6", "need blocks <= n / 2"),
    ],
)
def test_problems_that_do_not_exist(text, message):
    with pytest.raises(BenchError, match=message):
        problems.select([text])


def test_selection_of_problems_and_methods():
    assert [one.group for one in problems.select(["laplacian-*", "laplacian-1d"])] == [
        "Laplacian 1-D", "Laplacian 2-D", "Laplacian 3-D",
    ]  # fmt: skip
    assert len(problems.select(["quick"])) == len(problems.PRESETS["quick"])
    assert len(problems.select(["usual", "big"])) == len(problems.PRESETS["usual"]) + len(
        problems.PRESETS["big"]
    )
    names = [one.name for one in methods.select(["ks", "miramns"])]
    assert names == ["miramns", "ks"]
    everything = [one.name for one in methods.available()]
    assert len(set(everything)) == len(everything)
    with pytest.raises(BenchError, match="method 'nothing' is not one of miramns"):
        methods.select(["nothing"])


@mpi
def test_matrices_from_files(comm, shared_tmp):
    rng = np.random.default_rng(0)
    general = np.where(rng.random((13, 13)) < 0.4, rng.standard_normal((13, 13)), 0.0)
    folder = shared_tmp / "matrices"
    if comm.rank == 0:
        folder.mkdir()
        mmwrite(folder / "general.mtx", csr_matrix(general))
        mmwrite(folder / "symmetric.mtx", csr_matrix(general + general.T), symmetry="symmetric")
        mmwrite(folder / "wide.mtx", csr_matrix(general[:5]))
        (folder / "broken.mtx").write_text("no matrix\n")
    comm.barrier()
    names = [path.name for path in matrix_files(comm, shared_tmp)]
    assert names == ["broken.mtx", "general.mtx", "symmetric.mtx", "wide.mtx"]
    for name, M in (("general", general), ("symmetric", general + general.T)):
        problem = file_problem(comm, folder / f"{name}.mtx")
        assert problem.hermitian is (name == "symmetric")
        A = problem.build(comm)
        np.testing.assert_allclose(whole(A, comm), M, atol=1e-14)
        A.destroy()
    with pytest.raises(BenchError, match="need a square real matrix, got 5 x 13"):
        file_problem(comm, folder / "wide.mtx")
    for path in (folder / "broken.mtx", folder / "absent.mtx"):
        with pytest.raises(BenchError, match="not a Matrix Market file"):
            file_problem(comm, path)
    with pytest.raises(BenchError, match=r"no \.mtx"):
        matrix_files(comm, folder)


# ----------------------------------------------------------------------------------- judgement


def changed(change: Callable[[Answer], Answer], **fields) -> Method:
    """Krylov-Schur's answer, changed, with its claim that all is well."""
    honest = methods.select(["ks"])[0]
    return replace(
        honest, name="liar", run=lambda A, task, watch: change(honest.run(A, task, watch)), **fields
    )


def values_off(answer: Answer) -> Answer:
    return replace(answer, values=answer.values * (1 + 1e-6))


def copied(answer: Answer) -> Answer:
    vectors, values = answer.vectors.copy(), answer.values.copy()
    vectors[:, -1], values[-1] = vectors[:, 0], values[0]
    return replace(answer, vectors=vectors, values=values)


def fewer(answer: Answer) -> Answer:
    return replace(answer, vectors=answer.vectors[:, :-1], values=answer.values[:-1])


def spoiled(answer: Answer) -> Answer:
    vectors = answer.vectors.copy()
    vectors[:1] = np.nan
    return replace(answer, vectors=vectors)


def long(answer: Answer) -> Answer:
    return replace(answer, vectors=2 * answer.vectors)


@mpi
@pytest.mark.parametrize(
    ("change", "status", "why"),
    [
        (values_off, "wrong", "residual"),
        (copied, "wrong", "orthogonality"),
        (fewer, "incomplete", "3 of 4 pairs"),
        (spoiled, "wrong", "not finite"),
        (long, "wrong", "orthogonality"),
        (lambda answer: replace(values_off(answer), claimed=False), "incomplete", "residual"),
    ],
)
def test_a_method_that_lies_is_marked_and_not_timed(comm, change, status, why):
    settings = Settings([4], "LM", 1e-8, repeats=2, limit=60.0)
    problem = problems.generated("spiked:n=200")
    honest = methods.select(["ks"])
    reported = []
    records = run_problem(comm, problem, [changed(change), *honest], settings, reported.append)
    liar, right = records
    assert reported == records
    assert (liar.status, right.status) == (status, "ok")
    assert why in liar.why
    assert liar.seconds is None
    assert liar.repeats_s == []
    assert len(right.repeats_s) == 2
    assert right.seconds == np.median(right.repeats_s)
    _, names, costs = cost_table(records, "n_matvec")
    assert names == ["liar", "ks"]
    assert np.isnan(costs[0, 0])
    assert costs[0, 1] == right.n_matvec


@mpi
@pytest.mark.parametrize("known", [True, False])
def test_a_missed_eigenvalue_is_noticed(comm, known):
    """Answers that are eigenpairs, but not the wanted ones: by reference and by consensus."""
    problem = problems.generated("multiple:n=3000,multiplicity=3")
    if not known:
        problem = replace(problem, eigenvalues=None)
    one_copy = methods.select(["miramns"])[0]
    # Without three copies of the first the fourth pair belongs to another eigenvalue.
    A = problem.build(comm)
    alone = miramns.solve(A, 4, hermitian=True, multiplicity_check="never")
    A.destroy()

    def single(A, task, watch):
        return replace(
            one_copy.run(A, task, watch), values=alone.eigenvalues, vectors=alone.eigenvectors
        )

    wrong = replace(one_copy, name="single", run=single)
    truth = np.repeat(np.geomspace(10.0, 2.0, 12), 3)[:4]

    def tell(A, task, watch):
        """All copies, from a subspace iteration on random blocks."""
        first, last = A.getOwnershipRange()
        X = np.column_stack([miramns.seeded_normal(5, first, last, j) for j in range(40)])
        x, y = A.createVecs()
        for _ in range(60):
            R = np.linalg.cholesky(comm.allreduce(X.T @ X)).T
            X = np.linalg.solve(R.T, X.T).T
            for j in range(40):
                x.setArray(X[:, j])
                A.mult(x, y)
                X[:, j] = y.getArray()
        R = np.linalg.cholesky(comm.allreduce(X.T @ X)).T
        X = np.linalg.solve(R.T, X.T).T
        AX = np.empty_like(X)
        for j in range(40):
            x.setArray(X[:, j])
            A.mult(x, y)
            AX[:, j] = y.getArray()
        x.destroy()
        y.destroy()
        values, S = np.linalg.eigh(comm.bcast(comm.allreduce(X.T @ AX)))
        vectors = np.asfortranarray(X @ S[:, ::-1][:, :4])
        return Answer(values[::-1][:4].copy(), vectors, True, 2400, None, None, 1.0, "subspace")

    complete = Method("complete", "", tell)
    settings = Settings([4], "LM", 1e-7, repeats=1, limit=60.0)
    records = run_problem(comm, problem, [wrong, complete], settings, lambda record: None)
    assert alone.converged
    missed = 4 - np.sum(np.abs(alone.eigenvalues - truth) < 1e-6)
    assert records[0].status == ("wrong" if missed else "ok")
    assert records[1].status == "ok", records[1].why
    assert records[1].n_missed == 0
    assert missed > 0
    assert records[0].why.startswith("missed")
    assert records[0].reference == ("exact" if known else "best of 2")


def test_matching_with_a_reference():
    reference = reference_of(Spectrum(np.array([3.0, -1.0, 1.0, 0.5, 2.0, 2.0]), np.ones(6), "x"),
                             4, "LM", 1e-8)  # fmt: skip
    np.testing.assert_array_equal(np.abs(reference.values), [3.0, 2.0, 2.0, 1.0])
    assert reference.missed(np.array([3.0, 2.0, 2.0, 1.0])) == 0
    assert reference.missed(np.array([3.0, 2.0, 2.0, -1.0])) == 0  # equally wanted
    assert reference.missed(np.array([3.0, 2.0, 1.0, -1.0])) == 1  # a copy is missing
    assert reference.missed(np.array([3.0, 2.0, 2.0, 0.5])) == 1
    assert reference.missed(np.array([3.0 + 1e-6, 2.0, 2.0, 1.0])) == 1
    assert reference.missed(np.empty(0)) == 4
    pair = Reference(np.array([1 + 2j, 1 - 2j]), np.full(2, 1e-8), "x", "LM")
    assert pair.missed(np.array([1 - 2j, 1 + 2j])) == 0


def test_consensus_is_the_set_that_reaches_furthest():
    sets = [np.array([3.0, 1.0]), np.array([3.0, 2.0]), np.array([9.0])]
    best = best_certified(sets, 2, "LR", hermitian=True)
    np.testing.assert_array_equal(best.values, [3.0, 2.0])
    assert best.source == "best of 2"
    assert best_certified(sets, 3, "LR", hermitian=True) is None
    low = best_certified([np.array([-3.0, 0.0]), np.array([-3.0, -1.0])], 2, "SR", hermitian=True)
    np.testing.assert_array_equal(low.values, [-3.0, -1.0])


@mpi
def test_a_method_without_end_is_stopped_and_one_that_refuses_is_noted(comm):
    def refuse(A, task, watch):
        raise RefusedError("not today")

    def endless(A, task, watch):
        while True:
            watch.look(often=True)

    chosen = [
        Method("endless", "", endless),
        Method("refuses", "", refuse),
        Method("serial", "", refuse, one_rank_only=True),
        *methods.select(["slepc-subspace", "slepc-lobpcg", "slepc-lanczos-full", "iram-2k"]),
    ]
    settings = Settings([5], "LM", 1e-10, repeats=2, limit=0.3)
    problem = problems.generated("laplacian-1d:n=3000")
    problem = replace(problem, definite=False)  # so that largest modulus is not known as an end
    records = run_problem(comm, problem, chosen, settings, lambda record: None)
    by_name = {one.method: one for one in records}
    for name in ("endless", "slepc-subspace", "slepc-lanczos-full", "iram-2k"):
        assert (by_name[name].status, by_name[name].why) == ("limit", "more than 0.3 s")
        assert by_name[name].seconds is None
    assert (by_name["refuses"].status, by_name["refuses"].why) == ("refused", "not today")
    assert by_name["slepc-lobpcg"].status == "unfit"
    assert by_name["serial"].status == ("refused" if comm.size == 1 else "unfit")


@mpi
def test_every_method_meets_the_same_tolerance(comm):
    """On an easy problem all are right, whatever their tolerance means."""
    problem = problems.generated("power-law:n=300")
    settings = Settings([3], "LR", 1e-7, repeats=1, limit=60.0)
    records = run_problem(comm, problem, methods.available(), settings, lambda record: None)
    for one in records:
        if one.status == "unfit":
            assert comm.size > 1
            continue
        assert one.status == "ok", (one.method, one.why)
        assert one.worst_residual <= 2e-7
        assert one.orthogonality <= 1e-6
        assert one.n_found == 3
        assert one.n_missed == 0
        assert one.n_matvec >= one.floor_matvec or not one.krylov
        np.testing.assert_allclose([z[0] for z in one.eigenvalues], [1, 1 / 2, 1 / 3], rtol=1e-6)
        assert one.timed is (one.method != "unrestarted")
    course = next(one for one in records if one.method == "ks").course
    assert course.products == sorted(course.products)
    assert course.measures[-1] <= 1e-7


@mpi
def test_nonsymmetric_problems(comm):
    settings = Settings([3, 4], "LM", 1e-8, repeats=1, limit=60.0)
    chosen = methods.select(["miramns", "ks", "slepc-arnoldi", "scipy", "published"])
    problem = problems.generated("random-walk:side=12")
    for one in run_problem(comm, problem, chosen, settings, lambda record: None):
        assert one.status == ("unfit" if one.method == "scipy" and comm.size > 1 else "ok"), one.why


# ------------------------------------------------------------------------- profiles and ratios


def test_performance_profile_of_a_table_made_by_hand():
    inf, nan = math.inf, math.nan
    costs = np.array([[1.0, 2.0, 4.0], [3.0, 3.0, inf], [nan, 5.0, 10.0], [inf, nan, inf]])
    factors, shares = performance_profile(costs)
    np.testing.assert_array_equal(factors, [1.0, 2.0, 4.0])
    third = 1 / 3
    np.testing.assert_allclose(
        shares, [[2 * third, 2 * third, 0.0], [2 * third, 1.0, third], [2 * third, 1.0, 2 * third]]
    )
    factors, shares = performance_profile(np.full((2, 2), nan))
    assert (factors.shape, shares.tolist()) == ((1,), [[0.0, 0.0]])


def record(method: str, seconds: float | None, products: int, problem: str = "p") -> Record:
    return Record(
        problem, "g", 10, True, "LM", 2, method, 1, 1e-8,
        status="ok" if seconds else "wrong", seconds=seconds, n_matvec=products,
        floor_matvec=10, floor_s=0.5,
    )  # fmt: skip


def test_ratios_leave_wrong_answers_out():
    records = [
        record("miramns", 2.0, 20), record("ks", 4.0, 40), record("ks-2k", 1.0, 80),
        record("ks-4k", None, 10), record("miramns", None, 20, "q"), record("ks", 4.0, 40, "q"),
    ]  # fmt: skip
    first, second = ratios(records)
    assert first.seconds == {"ks": 0.5, "ks-best": 2.0, "floor": 4.0}
    assert first.products == {"ks": 0.5, "ks-best": 0.25, "floor": 2.0}
    assert all(math.isnan(x) for x in second.seconds.values())
    mean, count = geometric_mean([first.seconds["ks"], second.seconds["ks"], 2.0])
    assert mean == pytest.approx(1.0)
    assert count == 2
    assert geometric_mean([])[1] == 0


# ------------------------------------------------------------------------------------ commands


@mpi
def test_a_run_writes_all_files(comm, shared_tmp, capsys):
    pytest.importorskip("matplotlib")
    out = shared_tmp / "out"
    words = [
        "--quick", "--problems", "laplacian-2d:nx=8,ny=7", "random-walk:side=8",
        "--k", "2,3", "--limit", "60", "--out", str(out),
    ]  # fmt: skip
    assert bench.main(words, comm) == 0
    comm.barrier()
    text = capsys.readouterr().out
    lines = (out / "records.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    keys = {(one["problem"], one["method"], one["k"]) for one in records}
    assert len(keys) == len(records)
    assert {one["problem"] for one in records} == {"laplacian 8x7", "random walk 36"}
    for one in records:
        assert one["ranks"] == comm.size
        assert one["product_s"] > 0
        assert one["n"] in (56, 36)
        if one["status"] == "ok" and one["timed"]:
            assert one["seconds"] > 0
            assert one["n_matvec"] > 0
        else:
            assert one["seconds"] is None
    with (out / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == [one["method"] for one in records]
    tables = (out / "tables.md").read_text()
    assert "## laplacian 8x7, k = 2" in tables
    assert "Geometric means" in tables
    assert json.loads((out / "environment.json").read_text())["ranks"] == comm.size
    pictures = ["profile-products", "profile-seconds"]
    pictures += [f"course-{name}-k{k}" for name in ("laplacian-8x7", "random-walk-36")
                 for k in (2, 3)]  # fmt: skip
    for name in pictures:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    if comm.rank == 0:
        assert "miramns" in text
        assert "products" in text
        assert "results in" in text
    assert bench.main(words, comm) == 2  # never on top of other results
    assert "holds results already" in capsys.readouterr().err or comm.rank


@mpi
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--k", "0"], "argument --k: need a positive whole number, got '0'"),
        (["--k", "2,x"], "argument --k: need a positive whole number, got 'x'"),
        (["--tol", "1"], "argument --tol: need a number between 0 and 1, got '1'"),
        (["--limit", "nan"], "argument --limit: need a positive number, got 'nan'"),
        (["--repeats", "-1"], "argument --repeats: "),
        (["--which", "SM"], "argument --which: invalid choice: 'SM'"),
        (["--methods", "magic"], "method 'magic' is not one of miramns"),
        (["--problems", "magic"], "problem 'magic' is not one of laplacian-1d"),
        (["--matrix", "absent.mtx"], "absent.mtx: not a Matrix Market file"),
        (["--data-dir", "absent"], "no .mtx or .mtx.gz file in absent"),
        (["--magic"], "unrecognized arguments: --magic"),
        (["--quick", "--out", "/dev/null/x"], "--out /dev/null/x: Not a directory"),
    ],
)
def test_bad_arguments_are_one_line(comm, capsys, words, message):
    assert bench.main(words, comm) == 2
    said = capsys.readouterr()
    assert said.out == ""
    if comm.rank == 0:
        assert said.err.startswith("miramns.bench: error: ")
        assert message in said.err
        assert said.err.count("\n") == 1
    else:
        assert said.err == ""


@mpi
def test_list_and_help(comm, capsys):
    assert bench.main(["--list"], comm) == 0
    text = capsys.readouterr().out
    assert bench.main(["--help"], comm) == 0
    usage = capsys.readouterr().out
    if comm.rank:
        assert (text, usage) == ("", "")
        return
    assert "--data-dir" in usage
    for name in (*problems.GENERATORS, *problems.PRESETS):
        assert f"  {name} " in text
    for method in methods.available():
        assert f"  {method.name} " in text


@pytest.mark.launch
def test_the_command_of_hpcembed_passes_its_arguments_on(run_mpi):
    finished = run_mpi(0, "-m", "hpcembed", "bench", "eigensolvers", "--k", "0")
    assert finished.status == 2
    assert (
        finished.err
        == "miramns.bench: error: argument --k: need a positive whole number, got '0'\n"
    )
    words = ["--quick", "--problems", "laplacian-1d:n=60", "--methods", "ks"]
    words += ["--no-figures", "--out", "out"]
    finished = run_mpi(2, "-m", "hpcembed", "bench", "eigensolvers", *words)
    assert finished.status == 0, finished.err
    assert "ks" in finished.out
    assert "products" in finished.out
    assert run_mpi(0, "-m", "miramns.bench", "--list").status == 0
