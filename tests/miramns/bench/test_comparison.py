"""Comparison of eigensolvers: wrong answers are marked and not timed, right ones are repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import miramns
from miramns.bench import methods
from miramns.bench.answer import Answer, RefusedError
from miramns.bench.eigensolver_comparison import EigensolverSettings, compare_on_problem
from miramns.bench.harness.methods import select_by_name
from miramns.bench.harness.performance_profile import cost_table
from miramns.bench.methods import EigensolverMethod
from miramns.bench.problems import catalogue

mpi = pytest.mark.mpi


def changed(change: Callable[[Answer], Answer], **fields) -> EigensolverMethod:
    """Return Krylov-Schur with a changed answer and an unchanged report of convergence."""
    honest = select_by_name(methods.available(), ["ks"])[0]
    return replace(
        honest,
        name="changed",
        run=lambda A, task, limit: change(honest.run(A, task, limit)),
        **fields,
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
def test_a_method_with_a_wrong_answer_is_marked_and_not_timed(comm, change, status, why):
    settings = EigensolverSettings(ks=[4], which="LM", tol=1e-8, repeats=2, limit=60.0)
    problem = catalogue.generated("spiked:n=200")
    honest = select_by_name(methods.available(), ["ks"])
    reported = []
    records = compare_on_problem(
        comm, problem, [changed(change), *honest], settings, reported.append
    )
    wrong, right = records
    assert reported == records
    assert (wrong.status, right.status) == (status, "ok")
    assert why in wrong.why
    assert wrong.seconds is None
    assert wrong.repeats_s == []
    assert len(right.repeats_s) == 2
    assert right.seconds == np.median(right.repeats_s)
    _, names, costs = cost_table(records, "n_matvec")
    assert names == ["changed", "ks"]
    assert np.isnan(costs[0, 0])
    assert costs[0, 1] == right.n_matvec


@mpi
@pytest.mark.parametrize("known", [True, False])
def test_a_missing_eigenvalue_is_noticed(comm, known):
    """Eigenpairs that are not the wanted ones, with a known reference and with a consensus."""
    problem = catalogue.generated("multiple:n=3000,multiplicity=3")
    if not known:
        problem = replace(problem, eigenvalues=None)
    one_copy = select_by_name(methods.available(), ["miramns"])[0]
    # without the three copies of the first value the fourth pair belongs to another value
    A = problem.build(comm)
    alone = miramns.solve(A, 4, hermitian=True, options=miramns.Options(multiplicity_check="never"))
    A.destroy()

    def single(A, task, limit):
        return replace(
            one_copy.run(A, task, limit), values=alone.eigenvalues, vectors=alone.eigenvectors
        )

    wrong = replace(one_copy, name="single", run=single)
    expected = np.repeat(np.geomspace(10.0, 2.0, 12), 3)[:4]

    def subspace_iteration(A, task, limit):
        """Compute all copies by a subspace iteration on random blocks."""
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

    complete = EigensolverMethod("complete", "", subspace_iteration)
    settings = EigensolverSettings(ks=[4], which="LM", tol=1e-7, repeats=1, limit=60.0)
    records = compare_on_problem(comm, problem, [wrong, complete], settings, lambda record: None)
    assert alone.converged
    missing = 4 - np.sum(np.abs(alone.eigenvalues - expected) < 1e-6)
    assert records[0].status == ("wrong" if missing else "ok")
    assert records[1].status == "ok", records[1].why
    assert records[1].n_missing == 0
    assert missing > 0
    assert records[0].why.startswith("missing")
    assert records[0].reference == ("exact" if known else "best of 2")


@mpi
def test_a_method_without_end_is_stopped_and_one_that_refuses_is_noted(comm):
    def refuse(A, task, limit):
        raise RefusedError("not today")

    def endless(A, task, limit):
        while True:
            limit.enforce(now=True)

    chosen = [
        EigensolverMethod("endless", "", endless),
        EigensolverMethod("refuses", "", refuse),
        EigensolverMethod("serial", "", refuse, one_rank_only=True),
        *select_by_name(
            methods.available(), ["slepc-subspace", "slepc-lobpcg", "slepc-lanczos-full", "iram-2k"]
        ),
    ]
    settings = EigensolverSettings(ks=[5], which="LM", tol=1e-10, repeats=2, limit=0.3)
    problem = catalogue.generated("laplacian-1d:n=3000")
    problem = replace(problem, definite=False)  # the largest modulus is then no extreme
    records = compare_on_problem(comm, problem, chosen, settings, lambda record: None)
    by_name = {one.method: one for one in records}
    for name in ("endless", "slepc-subspace", "slepc-lanczos-full", "iram-2k"):
        assert (by_name[name].status, by_name[name].why) == ("limit", "more than 0.3 s")
        assert by_name[name].seconds is None
    assert (by_name["refuses"].status, by_name["refuses"].why) == ("refused", "not today")
    assert by_name["slepc-lobpcg"].status == "unfit"
    assert by_name["serial"].status == ("refused" if comm.size == 1 else "unfit")


@mpi
def test_every_method_meets_the_same_tolerance(comm):
    """On an easy problem all answers are right, whatever the meaning of their tolerance."""
    problem = catalogue.generated("power-law:n=300")
    settings = EigensolverSettings(ks=[3], which="LR", tol=1e-7, repeats=1, limit=60.0)
    records = compare_on_problem(comm, problem, methods.available(), settings, lambda record: None)
    for one in records:
        if one.status == "unfit":
            assert comm.size > 1
            continue
        assert one.status == "ok", (one.method, one.why)
        assert one.worst_residual <= 2e-7
        assert one.orthogonality <= 1e-6
        assert one.n_found == 3
        assert one.n_missing == 0
        assert one.n_matvec >= one.floor_matvec or not one.krylov
        np.testing.assert_allclose([z[0] for z in one.eigenvalues], [1, 1 / 2, 1 / 3], rtol=1e-6)
        assert one.timed is (one.method != "unrestarted")
    course = next(one for one in records if one.method == "ks").course
    assert course.products == sorted(course.products)
    assert course.measures[-1] <= 1e-7


@mpi
def test_nonsymmetric_problems(comm):
    settings = EigensolverSettings(ks=[3, 4], which="LM", tol=1e-8, repeats=1, limit=60.0)
    chosen = select_by_name(
        methods.available(), ["miramns", "ks", "slepc-arnoldi", "scipy", "published"]
    )
    problem = catalogue.generated("random-walk:side=12")
    for one in compare_on_problem(comm, problem, chosen, settings, lambda record: None):
        assert one.status == ("unfit" if one.method == "scipy" and comm.size > 1 else "ok"), one.why
