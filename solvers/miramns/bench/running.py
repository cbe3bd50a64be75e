"""Running all methods on one problem, in turns, and judging what each hands back.

First every method runs once, under the limit of time. Where a method says it is done but its true
residuals are too large, because its tolerance means something else, it runs again with a smaller
one: all are compared at the same true residual. Then the answers are judged. The right ones take
part in the remaining repeats, in which the methods take turns, so that whatever else the machine
does falls on all of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mpi4py import MPI
from petsc4py import PETSc

from miramns.bench.answer import Answer, RefusedError, Task
from miramns.bench.costs import pass_on_seconds, product_seconds
from miramns.bench.judging import Measured, measure, verdict
from miramns.bench.limit import LimitExceededError, Watch
from miramns.bench.methods import Method
from miramns.bench.monitored import krylov_schur_course
from miramns.bench.problems import Problem
from miramns.bench.records import Record
from miramns.bench.reference import (
    LARGEST_DENSE,
    Reference,
    Spectrum,
    best_certified,
    dense_spectrum,
    known_spectrum,
    reference_of,
)
from miramns.projected import Which

__all__ = ["Settings", "run_problem"]

#: How often a method may run again with a smaller tolerance.
_TIGHTENINGS = 3
_SMALLEST_TOLERANCE = 1e-15

#: What LA and SA mean for operators whose eigenvalues may be complex.
_NONSYMMETRIC: dict[str, Which] = {"LA": "LR", "SA": "SR"}

#: What a method may end with instead of an answer.
_EXPECTED = (
    LimitExceededError,
    RefusedError,
    PETSc.Error,
    SystemError,  # how newer bindings report PETSc's
    ValueError,  # also what MIRAMns and LAPACK raise
    RuntimeError,
    MemoryError,
)


@dataclass(frozen=True)
class Settings:
    """What holds for all cases.

    Attributes
    ----------
    ks : sequence of int
    which : str
    tol : float
        Largest residual relative to the eigenvalue.
    repeats : int
    limit : float
        Seconds a run may take.
    seed : int
        Of the start vector.
    courses : bool
        Whether to run Krylov-Schur once more to see how it converges.
    """

    ks: Sequence[int]
    which: Which
    tol: float
    repeats: int
    limit: float
    seed: int = 0
    courses: bool = True


@dataclass
class _Case:
    """One method at work."""

    method: Method
    record: Record
    answer: Answer | None = None
    measured: Measured | None = None


def run_problem(
    comm: MPI.Comm,
    problem: Problem,
    methods: Sequence[Method],
    settings: Settings,
    report: Callable[[Record], None],
) -> list[Record]:
    """Run all methods for every k on one problem.

    Collective on `comm`.

    Parameters
    ----------
    report : callable
        Called on every rank with each record once it is judged, before the further repeats.

    Returns
    -------
    list of Record
        The same on all ranks.
    """
    records: list[Record] = []
    A = problem.build(comm)
    try:
        n = A.getSize()[0]
        spectrum = _spectrum(A, problem)
        costs = product_seconds(A), pass_on_seconds(A, problem.hermitian)
        for k in settings.ks:
            cases = []
            for method in methods:
                record = Record(
                    problem.name, problem.group, n, problem.hermitian, settings.which, k,
                    method.name, comm.size, settings.tol,
                    timed=method.timed, krylov=method.krylov,
                    product_s=costs[0], pass_on_s=costs[1],
                )  # fmt: skip
                cases.append(_Case(method, record))
            _run_cases(A, problem, cases, spectrum, settings, report)
            records += [case.record for case in cases]
    finally:
        A.destroy()
    return records


def _spectrum(A: PETSc.Mat, problem: Problem) -> Spectrum | None:
    if problem.eigenvalues is not None:
        return known_spectrum(problem.eigenvalues())
    if A.getSize()[0] <= LARGEST_DENSE:
        return dense_spectrum(A, problem.hermitian)
    return None


def _run_cases(
    A: PETSc.Mat,
    problem: Problem,
    cases: list[_Case],
    spectrum: Spectrum | None,
    settings: Settings,
    report: Callable[[Record], None],
) -> None:
    """Run, judge and repeat all methods for one k; what they did is in their records."""
    k = cases[0].record.k
    which = settings.which
    if not problem.hermitian:
        which = _NONSYMMETRIC.get(which, which)
    task = Task(k, which, problem.hermitian, settings.tol, settings.seed)
    for case in cases:
        unfit = case.method.unfit(problem, which, A.getComm().getSize())
        if not unfit and k > A.getSize()[0]:
            unfit = "k exceeds n"
        if unfit:
            case.record.why = unfit
        else:
            _first_run(A, case, task, settings)
        if spectrum is not None:
            _judge(case, reference_of(spectrum, k, which, settings.tol))
            report(case.record)
    if spectrum is None:
        sets = [
            case.answer.values
            for case in cases
            if case.answer and case.measured and case.measured.certified
        ]
        best = best_certified(sets, k, which, problem.hermitian)
        for case in cases:
            _judge(case, reference_of(best, k, which, settings.tol) if best else None)
            report(case.record)
    for case in cases:
        case.answer = None  # the vectors are not needed any more
    _repeat(A, cases, task, settings)
    _fill_floor([case.record for case in cases])
    for case in cases:
        if settings.courses and case.method.name == "ks" and case.record.ok:
            case.record.course = krylov_schur_course(A, task)


def _first_run(A: PETSc.Mat, case: _Case, task: Task, settings: Settings) -> None:
    """Run a method under the limit, again with a smaller tolerance where it claims too much."""
    record = case.record
    for _ in range(1 + _TIGHTENINGS):
        answer = _attempt(A, case, task, settings.limit)
        if answer is None:
            return
        measured = measure(A, answer, task.hermitian, settings.tol)
        case.answer, case.measured = answer, measured
        record.tol_used = task.tol
        too_large = answer.claimed and 1.0 < measured.excess < math.inf
        smaller = 0.5 * task.tol / measured.excess
        if not too_large or smaller < _SMALLEST_TOLERANCE:
            return
        task = replace(task, tol=smaller)


def _attempt(A: PETSc.Mat, case: _Case, task: Task, limit: float) -> Answer | None:
    """Run a method; where there is no answer the record says why."""
    watch = Watch(A.getComm().tompi4py(), limit, case.record.product_s)
    try:
        return case.method.run(A, task, watch)
    except _EXPECTED as error:
        case.answer = case.measured = None
        case.record.status = "limit" if watch.expired else "refused"
        # SLEPc may trip over its own state while it is being stopped, so that is not the reason
        case.record.why = f"more than {limit:g} s" if watch.expired else _last_words(error)
        return None


def _last_words(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    return text.removeprefix("[0] ")[:160]


def _judge(case: _Case, reference: Reference | None) -> None:
    record, answer, measured = case.record, case.answer, case.measured
    if reference:
        record.reference = reference.source
    if answer is None or measured is None:
        return
    record.status, record.why, record.n_missed = verdict(answer, measured, reference, record.k)
    record.solver = answer.solver
    record.n_matvec = answer.n_matvec
    record.n_reductions = answer.n_reductions
    record.n_restarts = answer.n_restarts
    record.worst_residual = measured.worst_residual
    record.orthogonality = measured.orthogonality
    record.n_found = measured.found
    record.eigenvalues = [[float(z.real), float(z.imag)] for z in answer.values]
    record.course = answer.course
    if record.ok and case.method.timed:
        record.repeats_s = [answer.seconds]
        record.seconds = answer.seconds


def _repeat(A: PETSc.Mat, cases: list[_Case], task: Task, settings: Settings) -> None:
    """Repeat the right and timed runs in turns, without a limit; only times are kept."""
    for _ in range(settings.repeats - 1):
        for case in cases:
            record = case.record
            if record.seconds is None:
                continue
            if max(record.repeats_s) > settings.limit:
                record.why = "not repeated: over the limit"
                continue
            own = replace(task, tol=record.tol_used or task.tol)
            answer = case.method.run(A, own, Watch(A.getComm().tompi4py(), math.inf, 1.0))
            record.repeats_s.append(answer.seconds)
            record.seconds = statistics.median(record.repeats_s)


def _fill_floor(records: Sequence[Record]) -> None:
    products = [one.n_matvec for one in records if one.ok and one.krylov and one.n_matvec]
    for record in records:
        if products:
            record.floor_matvec = min(products)
            record.floor_s = min(products) * record.product_s
