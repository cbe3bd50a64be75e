"""MIRAMns with the interface of SLEPc's EPS: in a script, the class is all that has to be replaced.

>>> E = MIRAMns().create()                          # doctest: +SKIP
>>> E.setOperators(A)                               # doctest: +SKIP
>>> E.setProblemType(MIRAMns.ProblemType.HEP)       # doctest: +SKIP
>>> E.setFromOptions()                              # doctest: +SKIP
>>> E.solve()                                       # doctest: +SKIP

The class is one of slepc4py's EPS, so that settings are kept and checked by SLEPc itself, in every
form that its release knows, and so that functions that ask for an EPS take it. What is solved and
what is handed out is MIRAMns. It differs from SLEPc's solvers in this:

* The pairs found are nev, or one more where a conjugate pair would be cut; SLEPc may find others.
* ``ncv`` bounds the subspace; where it is not set, sizes are chosen while running. ``mpd`` is kept
  and has no effect, as there is one subspace only.
* An iteration is a cycle between restarts; the monitor is called at every look at the projected
  problem, which may be several times in a cycle.
* Residuals are always true ones, of the given problem. Vectors are always purified.
* A solve is a new one at each call.
* Eigenvalues of Hermitian problems are float, as newer releases of slepc4py have it.
"""
# The methods have SLEPc's names.
# ruff: noqa: N802

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from slepc4py import SLEPc

from miramns.convergence import MiramnsError
from miramns.eps_limits import Limits
from miramns.eps_method import MethodSettings
from miramns.eps_options import apply_options
from miramns.eps_results import Results
from miramns.eps_view import view_from_options, view_settings
from miramns.method import solve
from miramns.ordering import through, wanted_by
from miramns.pencil import Pencil, solve_pencil
from miramns.problem import need_real_scalars
from miramns.result import Check, EigenResult
from miramns.transform import Transformation, inverse_of, operator_of, set_up

__all__ = ["MIRAMns"]

_WHICH = SLEPc.EPS.Which
_PROBLEM = SLEPc.EPS.ProblemType

_CRITERIA: dict[int, Literal["relative", "absolute", "norm"]] = {
    SLEPc.EPS.Conv.REL: "relative",
    SLEPc.EPS.Conv.ABS: "absolute",
    SLEPc.EPS.Conv.NORM: "norm",
}

#: Values where nobody says otherwise: tolerance, and cycles.
_TOL, _MAX_IT = 1e-8, 500


class MIRAMns(Limits, MethodSettings, Results, SLEPc.EPS):
    """Eigensolver object with the methods of ``slepc4py.SLEPc.EPS``.

    Methods that are not listed here are those of EPS. The settings that EPS has no word for are
    those of :func:`miramns.solve`: ``setVariant``, ``setNestedSizes``, ``setOrthogonalization``,
    ``setMultiplicityCheck``, ``setSeed``.
    """

    class Type(SLEPc.EPS.Type):
        """SLEPc's types, and this one."""

        MIRAMNS = "miramns"

    def __init__(self) -> None:
        self._forget()
        self._monitors: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self._own_monitor = False
        self._has_operators = False
        self._comparison: tuple[Callable[..., int], Any, dict[str, Any]] | None = None
        self._initial: NDArray[np.float64] | None = None
        self._deflation: NDArray[np.float64] | None = None
        self.method_from_scratch()
        self._transformation = Transformation("shift")

    def create(self, comm: Any = None) -> MIRAMns:
        """Create the object, on PETSc's default communicator if none is given. Collective."""
        need_real_scalars()
        super().create(comm)
        return self

    def reset(self) -> None:
        """Forget operators, spaces and results; keep settings. Collective."""
        super().reset()
        self._forget()
        self._has_operators = False
        self._initial = self._deflation = None

    def setOperators(self, A: PETSc.Mat, B: PETSc.Mat | None = None) -> None:
        """Set the matrices of ``A x = lambda x`` or ``A x = lambda B x``. Collective."""
        super().setOperators(A, B)
        self._has_operators = True
        self._forget()

    def getType(self) -> str:
        """``"miramns"``. Not collective."""
        return "miramns"

    def setInitialSpace(self, space: PETSc.Vec | Sequence[PETSc.Vec]) -> None:
        """Set vectors to start from, for the next solve only. Collective.

        There is one start vector, so it is the sum of these, each at unit length.
        """
        columns = _columns(space)
        lengths = [vector.norm() or 1.0 for vector in _listed(space)]
        self._initial = np.asarray((columns / lengths).sum(axis=1))

    def setDeflationSpace(self, space: PETSc.Vec | Sequence[PETSc.Vec]) -> None:
        """Set vectors to stay orthogonal to, for the next solve only. Collective."""
        self._deflation = _columns(space)

    def setEigenvalueComparison(
        self,
        comparison: Callable[..., int] | None,
        args: Any = None,
        kargs: dict[str, Any] | None = None,
    ) -> None:
        """Set the function that ranks two eigenvalues for ``Which.USER``. Logically collective.

        Called on one rank, as ``comparison(a, b, args, **kargs)``: negative where `a` is wanted
        more than `b`.
        """
        self._comparison = None if comparison is None else (comparison, args or (), kargs or {})

    def setMonitor(
        self,
        monitor: Callable[..., Any] | None,
        args: tuple[Any, ...] | None = None,
        kargs: dict[str, Any] | None = None,
    ) -> None:
        """Add ``monitor(eps, its, nconv, eig, err, *args, **kargs)``. Logically collective."""
        if monitor is not None:
            self._monitors.append((monitor, args or (), kargs or {}))

    def getMonitor(self) -> list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] | None:
        """Monitors with their arguments, or None. Not collective."""
        return self._monitors or None

    def cancelMonitor(self) -> None:
        """Remove all monitors. Logically collective."""
        super().cancelMonitor()
        self._monitors = []
        self._own_monitor = False

    def use_own_monitor(self) -> None:
        """Print a line at each look at the projected problem. Logically collective."""
        self._own_monitor = True

    def setFromOptions(self) -> None:
        """Take settings from the options database. Collective.

        ``-eps_...`` and ``-st_...`` as for EPS, and ``-miramns_...``, each with the options prefix
        before it; see :mod:`miramns.eps_options`.
        """
        apply_options(self, super().setFromOptions)

    def getDimensions(self) -> tuple[int, int, int]:
        """``nev, ncv, mpd``; after a solve, ncv is the largest subspace that was looked at."""
        nev, ncv, mpd = super().getDimensions()
        if ncv <= 0 and self._result is not None and self._result.history:
            ncv = max(check.size for check in self._result.history)
        return max(nev, 1), ncv, mpd if mpd > 0 else ncv

    def getTolerances(self) -> tuple[float, int]:
        """Tolerance, and the largest number of cycles. Not collective."""
        tol, max_it = super().getTolerances()
        return (tol if tol > 0 else _TOL), (max_it if max_it > 0 else _MAX_IT)

    def setUp(self) -> None:
        """Check that the settings fit together, and prepare the ST. Collective.

        Raises
        ------
        MiramnsError
            Naming what does not fit or is not supported.
        """
        if not self._has_operators:
            raise MiramnsError("setOperators must be called first")
        self._settle_problem_type(self.getOperators()[1])
        self.check_limits()
        st = self.getST()
        if self.isGeneralized() or st.getType() not in (None, "shift"):
            self._transformation = set_up(st)
        else:
            # a Krylov space does not depend on a shift
            self._transformation = Transformation("shift")
        if not self.getWhichEigenpairs():
            inverted = self._transformation.kind != "shift"
            self.setWhichEigenpairs(
                _WHICH.TARGET_MAGNITUDE if inverted else _WHICH.LARGEST_MAGNITUDE
            )

    def solve(self) -> None:
        """Find the eigenpairs. Collective. See ``result`` for all that is known about them."""
        self._forget()
        self.setUp()
        A, B = self.getOperators()
        self._result = self._found(A, B)
        self._initial = self._deflation = None
        view_from_options(self)

    def view(self, viewer: PETSc.Viewer | None = None) -> None:
        """Print the settings. Collective."""
        view_settings(self, viewer)

    def _settle_problem_type(self, B: PETSc.Mat | None) -> None:
        kind = super().getProblemType()
        hermitian = kind in (_PROBLEM.HEP, _PROBLEM.GHEP)
        if B is None and (not kind or self.isGeneralized()):
            # as EPS: the standard problem where there is no B, nonsymmetric where nobody says
            self.setProblemType(_PROBLEM.HEP if hermitian else _PROBLEM.NHEP)
        elif B is not None and not kind:
            self.setProblemType(_PROBLEM.GNHEP)
        elif B is not None and not self.isGeneralized():
            raise MiramnsError("two matrices were given: the problem type must be GHEP or GNHEP")

    def _found(self, A: PETSc.Mat, B: PETSc.Mat | None) -> EigenResult:
        n = A.getSize()[0]
        dimension = n - (0 if self._deflation is None else self._deflation.shape[1])
        nev, ncv, _mpd = super().getDimensions()
        tol, cycles = self.getTolerances()
        k = min(max(nev, 1), dimension)
        settings: dict[str, Any] = {
            "tol": tol,
            "criterion": _CRITERIA[self.getConvergenceTest()],
            "max_it": cycles - 1,
            # EPS takes ncv = nev + 1, the method needs one more
            "ncv": min(max(ncv, k + 2), dimension) if ncv > 0 else None,
            **self.method_settings(),
            "start": self._initial,
            "deflation": self._deflation,
            "on_check": self._report if self._monitors or self._own_monitor else None,
        }
        hermitian = bool(self.isHermitian())
        wanted = wanted_by(
            self.getWhichEigenpairs(), float(self.getTarget()), self._comparison, hermitian
        )
        order = through(wanted, self._transformation)
        if B is None and self._transformation.kind == "shift":
            return solve(A, k, which=order, hermitian=hermitian, **settings)
        st, inverts = self.getST(), self._transformation.kind != "shift"
        shells = [operator_of(st, A)] + ([inverse_of(st, A)] if inverts else [])
        try:
            pencil = Pencil(A, B, hermitian, shells[0], self._transformation, *shells[1:])
            return solve_pencil(pencil, k, which=order, **settings)
        finally:
            for shell in shells:
                shell.destroy()

    def _report(self, check: Check) -> None:
        """Hand a look at the projected problem to the monitors."""
        self._its = check.restart + 1
        nev = self.getDimensions()[0]
        values = self._transformation.back(np.asarray(check.values or [np.nan] * nev))
        errors = check.estimates or [check.measure] * nev
        if self._own_monitor:
            PETSc.Sys.Print(
                f"{self._its:3d} MIRAMns size={check.size} nconv={check.n_converged} "
                f"largest error {check.measure:.4e}",
                comm=self.getComm(),
            )
        for monitor, args, kargs in self._monitors:
            eig, err = [complex(value) for value in values], [float(error) for error in errors]
            monitor(self, self._its, check.n_converged, eig, err, *args, **kargs)


def _listed(space: PETSc.Vec | Sequence[PETSc.Vec]) -> list[PETSc.Vec]:
    return [space] if isinstance(space, PETSc.Vec) else list(space)


def _columns(space: PETSc.Vec | Sequence[PETSc.Vec]) -> NDArray[np.float64]:
    """This rank's rows of some vectors, copied."""
    vectors = _listed(space)
    if not vectors:
        raise MiramnsError("a space needs at least one vector")
    return np.column_stack([vector.getArray(readonly=1) for vector in vectors])
