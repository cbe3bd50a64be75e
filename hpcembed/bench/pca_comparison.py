"""Comparison of PCAs on one table.

Each method fits first in a process of its own, which measures its peak of memory and is killed at
the time limit; then once in this process, which loads its libraries, and that answer is tested. The
timed repeats follow after a pause, so that the threads of the previous method are idle.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.bench.data_sets import DataSet, load
from hpcembed.bench.methods import PcaAnswer, PcaMethod, PcaTask
from hpcembed.bench.pca_record import PcaRecord
from hpcembed.bench.reference import Covariance, PcaReference, reference_of
from hpcembed.bench.separate_fit import EXPECTED_PCA_ERRORS, fit_separately, set_threads
from hpcembed.bench.verdict import measure, verdict
from hpcembed.runtime.machine.memory import available_per_rank
from miramns.bench.harness.comparison import Case, Comparison, Settings, last_line


@dataclass(frozen=True, kw_only=True)
class PcaSettings(Settings):
    """Settings of the benchmark of PCAs.

    Attributes
    ----------
    threads : int
        Threads of every library.
    memory : bool
        Whether to measure peaks of memory, in processes of their own.
    pause : float
        Seconds before each timed run.
    data_dir : Path
    """

    threads: int
    memory: bool = True
    pause: float = 0.2
    data_dir: Path = Path()


@dataclass
class _Case(Case):
    method: PcaMethod
    record: PcaRecord
    fit: Callable[[PcaTask], PcaAnswer] | None = None
    answer: PcaAnswer | None = None
    coordinates: NDArray[Any] | None = None


def compare_on_rows(
    data: DataSet,
    methods: Sequence[PcaMethod],
    settings: PcaSettings,
    report: Callable[[PcaRecord], None],
    announce: Callable[[str], None],
) -> list[PcaRecord]:
    """Compare all methods for every k on one table.

    Parameters
    ----------
    report : callable
        Called with each record once it has its status, and again once it has its times.
    announce : callable
        Called with a line about the next step.
    """
    announce(f"{data.name}: loading the rows")
    rows = load(data, settings.data_dir, settings.seed)
    set_threads(settings.threads)
    n, d = rows.shape
    announce(f"{data.name}: {n} x {d} {rows.dtype}; computing the reference")
    C = Covariance(rows)
    reference = reference_of(C, max(settings.ks))
    announce(f"{data.name}: reference from {reference.source}")
    sparse = scipy.sparse.issparse(rows)
    parts = (rows.data, rows.indices, rows.indptr) if sparse else (rows,)
    records: list[PcaRecord] = []
    for k in settings.ks:
        cases = [
            _Case(
                method,
                PcaRecord(
                    problem=data.name, n=n, d=d, dtype=str(rows.dtype),
                    nonzeros=int(rows.nnz) if sparse else None,
                    data_bytes=sum(int(part.nbytes) for part in parts),
                    k=k, method=method.name, group=method.group, threads=settings.threads,
                    reference=reference.source,
                ),
            )
            for method in methods
        ]  # fmt: skip
        comparison = _PcaComparison(data, C, reference.first(k), settings, announce)
        comparison.compare(cases, report)
        records += [case.record for case in cases]
        for record in records:
            if record.k == k and record.seconds is not None:
                report(record)
    return records


class _PcaComparison(Comparison[_Case]):
    """PCAs on one table for one k."""

    def __init__(
        self,
        data: DataSet,
        C: Covariance,
        reference: PcaReference,
        settings: PcaSettings,
        announce: Callable[[str], None],
    ) -> None:
        super().__init__(reference, turns=settings.repeats, pause=settings.pause)
        self.data = data
        self.C = C
        self.settings = settings
        self.announce = announce
        self.task = PcaTask(C.rows, len(reference.values), settings.threads, settings.seed)

    def unfit(self, case: _Case) -> str:
        return case.method.unfit(self.C.rows, self.task.k, available_per_rank(MPI.COMM_SELF))

    def first_run(self, case: _Case) -> None:
        if self.settings.memory and not self._fits_separately(case):
            return
        record, limit = case.record, self.settings.limit
        try:
            case.fit = case.method.load()
            set_threads(self.settings.threads)
            began = time.perf_counter()
            answer = case.fit(self.task)
            seconds = time.perf_counter() - began
            record.detail = answer.detail
            if seconds > limit:
                record.status, record.why = "limit", f"{seconds:.3g} s, more than {limit:g} s"
            elif answer.transform is None:
                record.status = "bound"
            else:
                case.coordinates = answer.transform(self.task.rows)
                case.answer = answer
        except EXPECTED_PCA_ERRORS as error:
            record.status, record.why = "refused", last_line(error)

    def _fits_separately(self, case: _Case) -> bool:
        """Measure the memory of a fit in a process of its own; False if it does not succeed."""
        order = {
            "data": self.data.name,
            "data_dir": str(self.settings.data_dir),
            "method": case.method.name,
            "k": self.task.k,
            "threads": self.settings.threads,
            "seed": self.settings.seed,
        }
        outcome = fit_separately(order, self.settings.limit)
        case.record.peak_bytes = outcome.peak_bytes
        if outcome.status != "ok":
            case.record.status, case.record.why = outcome.status, outcome.why
        return outcome.status == "ok"

    def evaluate(self, case: _Case) -> None:
        record, answer, coordinates = case.record, case.answer, case.coordinates
        if answer is None or coordinates is None:
            return
        case.answer = case.coordinates = None  # frees them
        measures = measure(self.C, answer, coordinates, self.reference)
        record.status, record.why = verdict(measures, answer.certified, self.task.k)
        record.deficit, record.captured = measures.deficit, 1.0 - measures.deficit
        record.sin_angle, record.residual = measures.sin_angle, measures.residual
        record.orthogonality = measures.orthogonality
        if answer.variances is None and record.is_right:
            record.why = "reports no variances"

    def before_turn(self, turn: int, n_cases: int) -> None:
        set_threads(self.settings.threads)  # all libraries are loaded
        self.announce(
            f"{self.data.name} k={self.task.k}: repeat {turn + 1} of {self.turns}, "
            f"{n_cases} methods"
        )

    def timed_run(self, case: _Case) -> None:
        assert case.fit is not None  # loaded by the first run
        gc.collect()
        try:
            began = time.perf_counter()
            answer = case.fit(self.task)
            fitted = time.perf_counter()
            case.record.add_run(fitted - began)
            if answer.transform is not None:
                answer.transform(self.task.rows)
                case.record.add_transform(time.perf_counter() - fitted)
        except EXPECTED_PCA_ERRORS as error:  # although the first run succeeded
            case.record.status, case.record.why = "refused", last_line(error)
            case.record.remove_runs()
