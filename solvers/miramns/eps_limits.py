"""What EPS can do and MIRAMns cannot: refused in one line where it is asked for.

Settings of other solvers (``setKrylovSchurRestart``, ``setGDBlockSize``, ...) have no effect, as
they have none on any type but their own.
"""
# The methods have SLEPc's names.
# ruff: noqa: N802

from __future__ import annotations

import warnings
from typing import Any, NoReturn

from slepc4py import SLEPc

from miramns.convergence import MiramnsError

__all__ = ["Limits"]

_PROBLEM = SLEPc.EPS.ProblemType
_PROBLEMS = (_PROBLEM.HEP, _PROBLEM.NHEP, _PROBLEM.GHEP, _PROBLEM.GNHEP)


def _refuse(what: str) -> NoReturn:
    raise MiramnsError(f"{what} is not supported by MIRAMns")


class Limits:
    """Methods of EPS that refuse, before an EPS in the order of base classes."""

    _nearest_imaginary = False

    def setType(self, eps_type: str) -> None:
        """Take ``"miramns"``; warn of any other name, which changes nothing.

        Logically collective. Scripts that choose one of SLEPc's solvers run all the same.
        """
        if eps_type != "miramns":
            warnings.warn(f"type {eps_type!r} has no effect: this object is MIRAMns", stacklevel=2)

    def setProblemType(self, problem_type: int) -> None:
        """Take HEP, NHEP, GHEP and GNHEP. Logically collective."""
        if problem_type not in _PROBLEMS:
            raise MiramnsError(
                f"problem type {problem_type} is not supported: use HEP, NHEP, GHEP or GNHEP"
            )
        super().setProblemType(problem_type)  # type: ignore[misc]

    def setConvergenceTest(self, conv: int) -> None:
        """Take ABS, REL and NORM. Logically collective."""
        if conv == SLEPc.EPS.Conv.USER:
            _refuse("a convergence test of the user")
        super().setConvergenceTest(conv)  # type: ignore[misc]

    def setWhichEigenpairs(self, which: int) -> None:
        """Take all but ALL. Logically collective."""
        if which == SLEPc.EPS.Which.ALL:
            _refuse("Which.ALL (all eigenvalues in an interval)")
        # SLEPc has this order for complex scalars only, so it is kept here
        self._nearest_imaginary = which == SLEPc.EPS.Which.TARGET_IMAGINARY
        if not self._nearest_imaginary:
            super().setWhichEigenpairs(which)  # type: ignore[misc]

    def getWhichEigenpairs(self) -> int:
        """Give which part of the spectrum is wanted; 0 before anything says so. Not collective."""
        if self._nearest_imaginary:
            return int(SLEPc.EPS.Which.TARGET_IMAGINARY)
        return int(super().getWhichEigenpairs())  # type: ignore[misc]

    def setInterval(self, inta: float, intb: float) -> None:
        """Refuse. Logically collective."""
        _refuse("an interval of eigenvalues")

    def setStoppingTest(self, stopping: Any, args: Any = None, kargs: Any = None) -> None:
        """Refuse anything but None. Logically collective."""
        if stopping is not None:
            _refuse("a stopping test of the user")

    def setArbitrarySelection(self, arbitrary: Any, args: Any = None, kargs: Any = None) -> None:
        """Refuse anything but None. Logically collective."""
        if arbitrary is not None:
            _refuse("arbitrary selection")

    def setTwoSided(self, twosided: bool = True) -> None:
        """Refuse left eigenvectors. Logically collective."""
        if twosided:
            _refuse("the two-sided variant")

    def setThreshold(self, thres: float, rel: bool = False) -> None:
        """Refuse. Logically collective."""
        _refuse("a threshold in place of nev")

    def setLeftInitialSpace(self, space: Any) -> None:
        """Refuse. Collective."""
        _refuse("a left initial space")

    def getLeftEigenvector(self, i: int, Wr: Any = None, Wi: Any = None) -> None:
        """Refuse. Collective."""
        _refuse("a left eigenvector")

    def check_limits(self) -> None:
        """Refuse what the options database or the setters of EPS may have set. Collective."""
        eps: Any = super()
        extraction = eps.getExtraction()
        if eps.getWhichEigenpairs() == SLEPc.EPS.Which.ALL:
            _refuse("Which.ALL (all eigenvalues in an interval)")
        if eps.getTwoSided():
            _refuse("the two-sided variant")
        if extraction and extraction != SLEPc.EPS.Extraction.RITZ:
            _refuse("an extraction other than Rayleigh-Ritz")
        if eps.getBalance()[0] != SLEPc.EPS.Balance.NONE:
            _refuse("balancing")
        if eps.getConvergenceTest() == SLEPc.EPS.Conv.USER:
            _refuse("a convergence test of the user")
        if eps.getProblemType() and eps.getProblemType() not in _PROBLEMS:
            _refuse(f"problem type {eps.getProblemType()}")
