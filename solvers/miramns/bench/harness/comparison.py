"""Run all methods on one problem for one k, test their answers, and time the right ones in turn.

1. Each method that applies to the problem runs once, under a time limit.
2. Its answer is compared with a reference: one that is known beforehand, or the consensus of all
   answers. A wrong answer is marked and not timed.
3. The methods with right answers run again in turn, in an order that rotates, so that other load on
   the machine affects all of them alike.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from petsc4py import PETSc

from miramns.bench.harness.methods import Method
from miramns.bench.harness.records import Record

#: Errors by which a method refuses a problem. MIRAMns and LAPACK raise ``ValueError``, recent
#: bindings of PETSc ``SystemError``.
EXPECTED_ERRORS: tuple[type[Exception], ...] = (
    PETSc.Error,
    SystemError,
    ValueError,
    RuntimeError,
    MemoryError,
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a benchmark.

    Attributes
    ----------
    ks : sequence of int
        Numbers of eigenpairs or components.
    repeats : int
        Timed runs of each method.
    limit : float
        Time limit of one run in seconds.
    seed : int
    """

    ks: Sequence[int]
    repeats: int
    limit: float
    seed: int = 0


@dataclass
class Case:
    """One method on the problem, and its record."""

    method: Method
    record: Record


C = TypeVar("C", bound=Case)


class Comparison(ABC, Generic[C]):
    """Comparison of methods on one problem for one k; subclasses supply the runs and the verdict.

    Collective where the problem is distributed: all ranks call the same methods in the same order.

    Parameters
    ----------
    reference : object or None
        Reference for all answers; None if the answers themselves supply it.
    turns : int
        Number of timed runs after the first one.
    pause : float
        Seconds of sleep before each timed run.
    """

    def __init__(self, reference: Any, *, turns: int, pause: float = 0.0) -> None:
        self.reference = reference
        self.turns = turns
        self.pause = pause

    @abstractmethod
    def unfit(self, case: C) -> str:
        """Return why the method does not apply; an empty text if it does."""

    @abstractmethod
    def first_run(self, case: C) -> None:
        """Run the method once and keep its answer; set the status if there is none."""

    @abstractmethod
    def evaluate(self, case: C) -> None:
        """Compare the answer of a case, if there is one, with the reference; fill the record."""

    @abstractmethod
    def timed_run(self, case: C) -> None:
        """Run the method again and add its seconds to the record."""

    def consensus(self, cases: Sequence[C]) -> Any:
        """Return a reference taken from all answers; None if there is none."""
        return None

    def may_repeat(self, case: C) -> bool:
        """Return whether the case is part of the timed runs."""
        return case.record.is_right

    def before_turn(self, turn: int, n_cases: int) -> None:
        """Prepare a turn of the timed runs; nothing by default."""

    def compare(self, cases: Sequence[C], report: Callable[[Any], None]) -> None:
        """Fill the records of all cases.

        Parameters
        ----------
        report : callable
            Called with each record once it has its status, before the timed runs.
        """
        for case in cases:
            case.record.why = self.unfit(case)
            if not case.record.why:
                self.first_run(case)
            if self.reference is not None:
                self.evaluate(case)
                report(case.record)
        if self.reference is None:
            self.reference = self.consensus(cases)
            for case in cases:
                self.evaluate(case)
                report(case.record)
        self._take_turns(cases)

    def _take_turns(self, cases: Sequence[C]) -> None:
        if not self.turns:
            return
        running = [case for case in cases if self.may_repeat(case)]
        for turn in range(self.turns):
            self.before_turn(turn, len(running))
            first = turn * max(1, len(running) // self.turns)
            for position in range(len(running)):
                case = running[(first + position) % len(running)]
                if self.may_repeat(case):
                    time.sleep(self.pause)
                    self.timed_run(case)


def last_line(error: BaseException | str) -> str:
    """Return the last line of an error, at most 160 characters; its type if it has no text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    return text.removeprefix("[0] ")[:160]
