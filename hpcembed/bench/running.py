"""Running all methods on one table, in turns, and judging what each hands back.

Each method first fits once in a process of its own, which tells its peak of memory and is ended
when it takes too long; then once here, to warm up, and that answer is judged. What is wrong takes
no part in the timed repeats, in which the methods take turns in an order that rotates, with a
pause before each so that threads of the one before have gone to sleep.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from petsc4py import PETSc
from threadpoolctl import threadpool_limits

from hpcembed.bench.child import run_apart
from hpcembed.bench.data_sets import DataSet, load
from hpcembed.bench.judging import Answer, Measured, measure, verdict
from hpcembed.bench.methods import Fitted, Method, Task
from hpcembed.bench.records import Record
from hpcembed.bench.truth import Covariance, Reference, reference_of
from hpcembed.runtime.memory import available_per_rank

__all__ = ["EXPECTED", "Settings", "last_words", "run_table", "set_threads", "small_rows"]

#: What a method may end with instead of an answer.
EXPECTED = (
    PETSc.Error,
    SystemError,  # how newer bindings report PETSc's
    ArithmeticError,  # also hpcembed.runtime.errors.ConvergenceError
    ValueError,
    RuntimeError,
    MemoryError,
    TypeError,
    NotImplementedError,
    np.linalg.LinAlgError,
)

_PAUSE = 0.2


@dataclass(frozen=True)
class Settings:
    """What holds for all cases.

    Attributes
    ----------
    ks : sequence of int
    threads, repeats, seed : int
    limit : float
        Seconds that a fit may take.
    memory : bool
        Whether to measure peaks of memory, in processes of their own.
    pause : float
        Seconds before each timed run.
    data_dir : Path
    """

    ks: Sequence[int]
    threads: int
    repeats: int
    limit: float
    seed: int = 0
    memory: bool = True
    pause: float = _PAUSE
    data_dir: Path = Path()


@dataclass
class _Case:
    """One method at work."""

    method: Method
    record: Record
    fit: Callable[[Task], Fitted] | None = None


def set_threads(count: int) -> None:
    """Give every library that is loaded the same number of threads."""
    threadpool_limits(count)
    if "torch" in sys.modules:
        import_module("hpcembed.bench.torch_peers").set_threads(count)
    if "sklearnex" in sys.modules:
        import_module("daal4py").daalinit(count)


def small_rows(rows: Any) -> Any:
    """A small table of the same kind, to load libraries with."""
    wide = rows.shape[0] < rows.shape[1]
    small = np.random.default_rng(0).standard_normal((30, 60) if wide else (60, 30))
    small = small.astype(rows.dtype)
    return scipy.sparse.csr_matrix(small) if scipy.sparse.issparse(rows) else small


def last_words(error: BaseException) -> str:
    """The last line of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:160]


def run_table(
    data: DataSet,
    methods: Sequence[Method],
    settings: Settings,
    report: Callable[[Record], None],
    say: Callable[[str], None],
) -> list[Record]:
    """Run all methods for every k on one table.

    Parameters
    ----------
    report : callable
        Called with each record as soon as its status is known and again when it has its times.
    say : callable
        Called with a line about what is being done.
    """
    say(f"{data.name}: making the rows")
    rows = load(data, settings.data_dir, settings.seed)
    set_threads(settings.threads)
    say(f"{data.name}: {rows.shape[0]} x {rows.shape[1]} {rows.dtype}; finding the optimum")
    C = Covariance(rows)
    reference = reference_of(C, max(settings.ks))
    say(f"{data.name}: optimum from {reference.source}")
    records: list[Record] = []
    for k in settings.ks:
        cases = [
            _Case(method, _record(data, rows, k, method, settings.threads)) for method in methods
        ]
        _run_cases(data, C, reference.first(k), cases, settings, report, say)
        records += [case.record for case in cases]
    return records


def _record(data: DataSet, rows: Any, k: int, method: Method, threads: int) -> Record:
    sparse = scipy.sparse.issparse(rows)
    parts = (rows.data, rows.indices, rows.indptr) if sparse else (rows,)
    return Record(
        data=data.name,
        n=rows.shape[0],
        d=rows.shape[1],
        dtype=str(rows.dtype),
        nonzeros=int(rows.nnz) if sparse else None,
        data_bytes=sum(int(part.nbytes) for part in parts),
        k=k,
        method=method.name,
        group=method.group,
        threads=threads,
    )


def _run_cases(
    data: DataSet,
    C: Covariance,
    reference: Reference,
    cases: list[_Case],
    settings: Settings,
    report: Callable[[Record], None],
    say: Callable[[str], None],
) -> None:
    """Fill the records of all methods for one k."""
    k = len(reference.values)
    task = Task(C.rows, k, settings.threads, settings.seed)
    for case in cases:
        case.record.reference = reference.source
        unfit = case.method.unfit(C.rows, k, available_per_rank(MPI.COMM_SELF))
        if unfit:
            case.record.why = unfit
            report(case.record)
            continue
        if settings.memory and not _apart(data, case, settings):
            report(case.record)
            continue
        _warm_up(C, reference, case, task, settings)
        report(case.record)
    running = [case for case in cases if case.record.timed]
    set_threads(settings.threads)  # by now all libraries are loaded
    for repeat in range(settings.repeats):
        say(f"{data.name} k={k}: repeat {repeat + 1} of {settings.repeats}, {len(running)} methods")
        first = repeat * max(1, len(running) // settings.repeats)
        for i in range(len(running)):
            _timed(running[(first + i) % len(running)], task, settings.pause)
    for case in running:
        if case.record.timed:
            case.record.fit_s = statistics.median(case.record.fit_repeats_s)
            if case.record.transform_repeats_s:
                case.record.transform_s = statistics.median(case.record.transform_repeats_s)
            report(case.record)


def _apart(data: DataSet, case: _Case, settings: Settings) -> bool:
    """Measure the memory in another process; False where the method is to be left alone."""
    outcome = run_apart(
        {
            "data": data.name,
            "data_dir": str(settings.data_dir),
            "method": case.method.name,
            "k": case.record.k,
            "threads": settings.threads,
            "seed": settings.seed,
        },
        settings.limit,
    )
    case.record.peak_bytes = outcome.peak_bytes
    if outcome.status == "ok":
        return True
    case.record.status, case.record.why = outcome.status, outcome.why
    return False


def _warm_up(
    C: Covariance, reference: Reference, case: _Case, task: Task, settings: Settings
) -> None:
    """Run once, and judge the answer."""
    record = case.record
    try:
        case.fit = case.method.load()
        set_threads(settings.threads)
        began = time.perf_counter()
        fitted = case.fit(task)
        taken = time.perf_counter() - began
        if taken > settings.limit:
            record.status, record.why = "limit", f"{taken:.3g} s, more than {settings.limit:g} s"
            return
        record.detail = fitted.detail
        if fitted.components is None or fitted.transform is None:
            record.status = "bound"
            return
        answer = Answer(
            fitted.components, fitted.variances, fitted.transform(task.rows),
            fitted.certified, fitted.centred, fitted.detail,
        )  # fmt: skip
    except EXPECTED as error:
        record.status, record.why = "refused", last_words(error)
        return
    measured = measure(C, answer, reference)
    record.status, record.why = verdict(measured, answer, task.k)
    _note(record, measured)
    if fitted.variances is None and record.timed:
        record.why = "tells no variances"


def _note(record: Record, measured: Measured) -> None:
    """Put what was measured into the record."""
    record.deficit, record.captured = measured.deficit, 1.0 - measured.deficit
    record.sin_angle, record.residual = measured.sin_angle, measured.residual
    record.orthogonality = measured.orthogonality


def _timed(case: _Case, task: Task, pause: float) -> None:
    """One timed fit and transform."""
    if case.fit is None or not case.record.timed:
        return
    gc.collect()
    time.sleep(pause)
    try:
        began = time.perf_counter()
        fitted = case.fit(task)
        done = time.perf_counter()
        case.record.fit_repeats_s.append(done - began)
        if fitted.transform is not None:
            fitted.transform(task.rows)
            case.record.transform_repeats_s.append(time.perf_counter() - done)
    except EXPECTED as error:  # although it had gone well before
        case.record.status, case.record.why = "refused", last_words(error)
        case.record.fit_repeats_s.clear()
        case.record.transform_repeats_s.clear()
