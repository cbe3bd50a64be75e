"""Record of one eigensolver on one problem for one k."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from miramns.bench.answer import Course
from miramns.bench.harness.records import Record


@dataclass(kw_only=True)
class EigensolverRecord(Record):
    """Record of an eigensolver; the status may also be ``incomplete``.

    Attributes
    ----------
    group : str
        Group of the problem.
    hermitian : bool
    which : str
    ranks : int
    solver : str
        Description by the solver itself.
    timed : bool
        False for a run that is made for its number of products only.
    krylov : bool
        Whether the method is a Krylov method with full orthogonalisation.
    tol, tol_used : float
        Tolerance of the benchmark, and the one given to the method so that its true residuals meet
        the former.
    n_matvec, n_reductions, n_restarts : int or None
    worst_residual, orthogonality : float or None
        As measured, see :class:`~miramns.bench.verdict.Measures`.
    n_found, n_missing : int or None
        Number of pairs, and of wanted eigenvalues that are missing.
    product_s, pass_on_s : float
        Seconds of one product, and seconds that the shell that counts products adds to it; all
        products of SLEPc's solvers pass through this shell.
    floor_matvec, floor_s : int and float, or None
        Fewest products of a right answer by a fully orthogonal Krylov method, and their seconds.
    eigenvalues : list of [real, imaginary]
    course : Course
    """

    group: str
    hermitian: bool
    which: str
    ranks: int
    tol: float
    solver: str = ""
    timed: bool = True
    krylov: bool = False
    tol_used: float | None = None
    n_matvec: int | None = None
    n_reductions: int | None = None
    n_restarts: int | None = None
    worst_residual: float | None = None
    orthogonality: float | None = None
    n_found: int | None = None
    n_missing: int | None = None
    product_s: float = math.nan
    pass_on_s: float = math.nan
    floor_matvec: int | None = None
    floor_s: float | None = None
    eigenvalues: list[list[float]] = field(default_factory=list)
    course: Course = field(default_factory=Course)
