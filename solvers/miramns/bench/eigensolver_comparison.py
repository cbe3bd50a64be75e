"""Comparison of eigensolvers on one problem.

The tolerance of a method need not refer to the true residual. A method that reports convergence
although its true residuals are too large runs again with a smaller tolerance, so that all methods
are compared at the same true residual.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from miramns.bench.answer import Answer, Task
from miramns.bench.eigensolver_record import EigensolverRecord
from miramns.bench.harness.comparison import (
    EXPECTED_ERRORS,
    Case,
    Comparison,
    Settings,
    last_line,
)
from miramns.bench.krylov_schur_course import krylov_schur_course
from miramns.bench.methods import EigensolverMethod
from miramns.bench.problems.catalogue import Problem
from miramns.bench.product_cost import pass_on_seconds, product_seconds
from miramns.bench.reference import (
    LARGEST_DENSE,
    Reference,
    Spectrum,
    consensus_spectrum,
    dense_spectrum,
    reference_of,
)
from miramns.bench.time_limit import TimeLimit
from miramns.bench.verdict import Measures, measure, verdict
from miramns.selection import Which

#: Number of times that a method may run again with a smaller tolerance.
_TIGHTENINGS = 3
_SMALLEST_TOLERANCE = 1e-15

#: Counterparts of LA and SA for operators with complex eigenvalues.
_NONSYMMETRIC: dict[str, Which] = {"LA": "LR", "SA": "SR"}


@dataclass(frozen=True, kw_only=True)
class EigensolverSettings(Settings):
    """Settings of the benchmark of eigensolvers.

    Attributes
    ----------
    which : str
    tol : float
        Largest residual norm relative to the modulus of the eigenvalue.
    courses : bool
        Whether to run Krylov-Schur once more to record its course.
    """

    which: Which = "LM"
    tol: float = 1e-8
    courses: bool = True


@dataclass
class _Case(Case):
    method: EigensolverMethod
    record: EigensolverRecord
    answer: Answer | None = None
    measures: Measures | None = None


def compare_on_problem(
    comm: MPI.Comm,
    problem: Problem,
    methods: Sequence[EigensolverMethod],
    settings: EigensolverSettings,
    report: Callable[[EigensolverRecord], None],
) -> list[EigensolverRecord]:
    """Compare all methods for every k on one problem.

    Collective on `comm`.

    Parameters
    ----------
    report : callable
        Called on every rank with each record once it has its status, before the timed repeats.

    Returns
    -------
    list of EigensolverRecord
        The same on all ranks, except for times measured on each.
    """
    records: list[EigensolverRecord] = []
    A = problem.build(comm)
    try:
        n = A.getSize()[0]
        spectrum = _spectrum(A, problem)
        costs = product_seconds(A), pass_on_seconds(A)
        for k in settings.ks:
            cases = [
                _Case(
                    method,
                    EigensolverRecord(
                        problem=problem.name, n=n, k=k, method=method.name,
                        group=problem.group, hermitian=problem.hermitian, which=settings.which,
                        ranks=comm.size, tol=settings.tol,
                        timed=method.timed, krylov=method.krylov,
                        product_s=costs[0], pass_on_s=costs[1],
                    ),
                )
                for method in methods
            ]  # fmt: skip
            comparison = _EigensolverComparison(A, problem, k, spectrum, settings)
            comparison.compare(cases, report)
            _fill_floor([case.record for case in cases])
            comparison.record_courses(cases)
            records += [case.record for case in cases]
    finally:
        A.destroy()
    return records


def _spectrum(A: PETSc.Mat, problem: Problem) -> Spectrum | None:
    """Return the spectrum if it is known or small; None if a consensus is the reference."""
    if problem.eigenvalues is not None:
        values = problem.eigenvalues()
        return Spectrum(values, np.ones(len(values)), "exact")
    if A.getSize()[0] <= LARGEST_DENSE:
        return dense_spectrum(A, problem.hermitian)
    return None


class _EigensolverComparison(Comparison[_Case]):
    """Eigensolvers on one operator for one k. Collective on ``A.comm``."""

    def __init__(
        self,
        A: PETSc.Mat,
        problem: Problem,
        k: int,
        spectrum: Spectrum | None,
        settings: EigensolverSettings,
    ) -> None:
        which = settings.which
        if not problem.hermitian:
            which = _NONSYMMETRIC.get(which, which)
        self.A = A
        self.problem = problem
        self.settings = settings
        self.task = Task(k, which, problem.hermitian, settings.tol, settings.seed)
        # the first run is one of the timed runs
        reference = reference_of(spectrum, k, which, settings.tol)
        super().__init__(reference, turns=settings.repeats - 1)

    def unfit(self, case: _Case) -> str:
        unfit = case.method.unfit(self.problem, self.task.which, self.A.getComm().getSize())
        return unfit or ("k exceeds n" if self.task.k > self.A.getSize()[0] else "")

    def first_run(self, case: _Case) -> None:
        task = self.task
        for _ in range(1 + _TIGHTENINGS):
            answer = self._attempt(case, task)
            if answer is None:
                return
            measures = measure(self.A, answer, task.hermitian, self.settings.tol)
            case.answer, case.measures = answer, measures
            case.record.tol_used = task.tol
            too_large = answer.claimed and 1.0 < measures.excess < math.inf
            smaller = 0.5 * task.tol / measures.excess
            if not too_large or smaller < _SMALLEST_TOLERANCE:
                return
            task = replace(task, tol=smaller)

    def _attempt(self, case: _Case, task: Task) -> Answer | None:
        """Run a method under the time limit; set the status if there is no answer."""
        comm = self.A.getComm().tompi4py()
        limit = TimeLimit(comm, self.settings.limit, case.record.product_s)
        try:
            return case.method.run(self.A, task, limit)
        except EXPECTED_ERRORS as error:
            case.answer = case.measures = None
            # SLEPc may raise another error while the limit ends it
            case.record.status = "limit" if limit.exceeded else "refused"
            case.record.why = limit.reason if limit.exceeded else last_line(error)
            return None

    def consensus(self, cases: Sequence[_Case]) -> Reference | None:
        sets = [
            case.answer.values
            for case in cases
            if case.answer and case.measures and case.measures.passes
        ]
        task = self.task
        spectrum = consensus_spectrum(sets, task.k, task.which, task.hermitian)
        return reference_of(spectrum, task.k, task.which, task.tol)

    def evaluate(self, case: _Case) -> None:
        record, answer, measures = case.record, case.answer, case.measures
        if self.reference:
            record.reference = self.reference.source
        if answer is None or measures is None:
            return
        case.answer = None  # frees the vectors
        record.n_missing = self.reference.missing_from(answer.values) if self.reference else None
        record.status, record.why = verdict(answer, measures, record.n_missing, record.k)
        record.solver = answer.solver
        record.n_matvec = answer.n_matvec
        record.n_reductions = answer.n_reductions
        record.n_restarts = answer.n_restarts
        record.worst_residual = measures.worst_residual
        record.orthogonality = measures.orthogonality
        record.n_found = measures.found
        record.eigenvalues = [[float(z.real), float(z.imag)] for z in answer.values]
        record.course = answer.course
        if record.is_right and record.timed:
            record.add_run(answer.seconds)

    def may_repeat(self, case: _Case) -> bool:
        record = case.record
        if record.seconds is None:
            return False
        if max(record.repeats_s) > self.settings.limit:
            record.why = "not repeated: over the limit"
            return False
        return True

    def timed_run(self, case: _Case) -> None:
        task = replace(self.task, tol=case.record.tol_used or self.task.tol)
        no_limit = TimeLimit(self.A.getComm().tompi4py(), math.inf, 1.0)
        case.record.add_run(case.method.run(self.A, task, no_limit).seconds)

    def record_courses(self, cases: Sequence[_Case]) -> None:
        """Run Krylov-Schur with its default ncv again, if it was right, to record its course."""
        for case in cases:
            if self.settings.courses and case.method.name == "ks" and case.record.is_right:
                case.record.course = krylov_schur_course(self.A, self.task)


def _fill_floor(records: Sequence[EigensolverRecord]) -> None:
    products = [one.n_matvec for one in records if one.is_right and one.krylov and one.n_matvec]
    for record in records:
        if products:
            record.floor_matvec = min(products)
            record.floor_s = min(products) * record.product_s
