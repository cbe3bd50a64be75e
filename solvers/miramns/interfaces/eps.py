"""MIRAMns with the methods of SLEPc's EPS: a script changes the class and nothing else.

The class is a subclass of slepc4py's EPS, so that SLEPc keeps and checks the settings, in every
form of its release, and functions that expect an EPS accept it. MIRAMns solves, and provides the
results. Differences from SLEPc's solvers:

* The pairs found are nev, or one more to complete a conjugate pair; SLEPc may find others.
* ``ncv`` limits the subspace; without it, sizes are chosen during the iteration. ``mpd`` is kept
  and has no effect, because there is one subspace only.
* An iteration is a cycle between restarts. Monitors are called at every test of a nested size,
  which may be several times per cycle.
* Residuals are true residuals of the given problem. Vectors are always purified.
* Each call of ``solve`` is a new solve.
* Eigenvalues of Hermitian problems are float, as in newer releases of slepc4py.
* Settings of other solvers (``setKrylovSchurRestart``, ...) have no effect, as in EPS.
"""
# The methods have SLEPc's names.
# ruff: noqa: N802, N815

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from miramns.errors import MiramnsError
from miramns.interfaces import eps_results, eps_solve, eps_view
from miramns.interfaces.eps_options import apply_options
from miramns.interfaces.eps_refusals import (
    ALL_EIGENVALUES,
    PROBLEM_TYPES,
    TWO_SIDED,
    USER_TEST,
    ExistingEPS,
    check_supported,
    refuse,
    refused,
)
from miramns.interfaces.eps_solve import MethodSettings, setting
from miramns.problem import require_real_scalars
from miramns.products import vector_like
from miramns.result import EigenResult, IterationRecord
from miramns.transform.spectral import Transformation, set_up

_WHICH = SLEPc.EPS.Which

#: Default tolerance, and default number of cycles between restarts.
_TOL, _MAX_IT = 1e-8, 500

#: A user function with its arguments and keyword arguments.
_Callback = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class MIRAMns(ExistingEPS):
    """Eigensolver object with the methods of ``slepc4py.SLEPc.EPS``.

    Methods that are not listed here are inherited from EPS. Settings without a method in EPS are
    the same as for :func:`miramns.solve`: ``setVariant``, ``setNestedSizes``, ``setBlockSize``,
    ``setOrthogonalization``, ``setMultiplicityCheck``, ``setSeed``. They are checked at the solve.

    Examples
    --------
    >>> from petsc4py import PETSc
    >>> from miramns import MIRAMns
    >>> A = PETSc.Mat().createAIJ((50, 50), nnz=1, comm=PETSc.COMM_SELF)
    >>> for i in range(50):
    ...     A[i, i] = i + 1.0
    >>> A.assemble()
    >>> E = MIRAMns().create(PETSc.COMM_SELF)
    >>> E.setOperators(A)
    >>> E.setProblemType(MIRAMns.ProblemType.HEP)
    >>> E.setDimensions(2)
    >>> E.solve()
    >>> [round(E.getEigenvalue(i), 6) for i in range(E.getConverged())]
    [50.0, 49.0]
    """

    class Type(SLEPc.EPS.Type):
        """The types of SLEPc, and this one."""

        MIRAMNS = "miramns"

    def __init__(self) -> None:
        self.method = MethodSettings()
        self._forget_result()
        self._monitors: list[_Callback] = []
        self._prints_monitor = False
        self._has_operators = False
        self._nearest_imaginary = False
        self._transformation = Transformation("shift")

    def create(self, comm: Any = None) -> MIRAMns:
        """Create the object, on PETSc's default communicator by default. Collective."""
        require_real_scalars()
        super().create(comm)
        return self

    def reset(self) -> None:
        """Remove operators, spaces and results; keep settings. Collective."""
        super().reset()
        self._forget_result()
        self._has_operators = False
        self.method.start = self.method.deflation = None

    def _forget_result(self) -> None:
        self._result: EigenResult | None = None
        self._its = 0
        self._norms: tuple[float, float] | None = None
        self._bv_filled = False

    def setOperators(self, A: PETSc.Mat, B: PETSc.Mat | None = None) -> None:
        """Set the matrices of ``A x = lambda x`` or ``A x = lambda B x``. Collective."""
        super().setOperators(A, B)
        self._has_operators = True
        self._forget_result()

    def setProblemType(self, problem_type: int) -> None:
        """Set HEP, NHEP, GHEP or GNHEP. Logically collective."""
        if problem_type not in PROBLEM_TYPES:
            raise MiramnsError(
                f"problem type {problem_type} is not supported: use HEP, NHEP, GHEP or GNHEP"
            )
        super().setProblemType(problem_type)

    def setWhichEigenpairs(self, which: int) -> None:
        """Set the wanted part of the spectrum, any but ALL. Logically collective."""
        if which == _WHICH.ALL:
            refuse(ALL_EIGENVALUES)
        # SLEPc supports TARGET_IMAGINARY for complex scalars only, so it is stored here
        self._nearest_imaginary = which == _WHICH.TARGET_IMAGINARY
        if not self._nearest_imaginary:
            super().setWhichEigenpairs(which)

    def getWhichEigenpairs(self) -> int:
        """Return the wanted part of the spectrum; 0 if it is not set."""
        if self._nearest_imaginary:
            return int(_WHICH.TARGET_IMAGINARY)
        return int(super().getWhichEigenpairs())

    def setEigenvalueComparison(
        self,
        comparison: Callable[..., int] | None,
        args: Any = None,
        kargs: dict[str, Any] | None = None,
    ) -> None:
        """Set the function that compares two eigenvalues for ``Which.USER``. Logically collective.

        It is called on one rank, as ``comparison(a, b, args, **kargs)``: negative if `a` is wanted
        more than `b`, 0 if they tie.
        """
        function = None if comparison is None else (comparison, args or (), kargs or {})
        self.method.comparison = function

    def setInitialSpace(self, space: PETSc.Vec | Sequence[PETSc.Vec]) -> None:
        """Set start vectors for the next solve. Collective.

        There is one start vector: the sum of these, each at unit length.
        """
        self.method.start = eps_solve.unit_sum(space)

    def setDeflationSpace(self, space: PETSc.Vec | Sequence[PETSc.Vec]) -> None:
        """Set vectors to stay orthogonal to, for the next solve. Collective."""
        self.method.deflation = eps_solve.columns_of(space)

    def setType(self, eps_type: str) -> None:
        """Accept ``"miramns"``; any other name gives a warning and has no effect.

        Logically collective. Scripts that choose a solver of SLEPc run unchanged.
        """
        if eps_type != "miramns":
            warnings.warn(f"type {eps_type!r} has no effect: this object is MIRAMns", stacklevel=2)

    def getType(self) -> str:
        """Return ``"miramns"``."""
        return "miramns"

    setVariant, getVariant = setting("variant", 'the variant: "default", "published" or "block"')
    setSeed, getSeed = setting("seed", "the seed of the start vector", int)
    setNestedSizes, getNestedSizes = setting(
        "nested_sizes",
        "the nested subspace sizes, None for those of the variant",
        lambda sizes: None if sizes is None else tuple(sizes),
    )
    setBlockSize, getBlockSize = setting(
        "block_size", "the columns of a block, None for a choice by measurement"
    )
    setOrthogonalization, getOrthogonalization = setting(
        "orthogonalization", "the method of orthogonalisation"
    )
    setMultiplicityCheck, getMultiplicityCheck = setting(
        "multiplicity_check", "the effort of the search for missing pairs"
    )

    def setConvergenceTest(self, conv: int) -> None:
        """Set ABS, REL or NORM. Logically collective."""
        if conv == SLEPc.EPS.Conv.USER:
            refuse(USER_TEST)
        super().setConvergenceTest(conv)

    def getDimensions(self) -> tuple[int, int, int]:
        """Return ``nev, ncv, mpd``; after a solve, ncv is the largest subspace tested."""
        nev, ncv, mpd = super().getDimensions()
        if ncv <= 0 and self._result is not None and self._result.history:
            ncv = max(record.size for record in self._result.history)
        return max(nev, 1), ncv, mpd if mpd > 0 else ncv

    def getTolerances(self) -> tuple[float, int]:
        """Return the tolerance and the largest number of cycles between restarts."""
        tol, max_it = super().getTolerances()
        return (tol if tol > 0 else _TOL), (max_it if max_it > 0 else _MAX_IT)

    setInterval = refused("an interval of eigenvalues")
    setThreshold = refused("a threshold in place of nev")
    setLeftInitialSpace = refused("a left initial space")
    getLeftEigenvector = refused("a left eigenvector")
    setStoppingTest = refused("a stopping test of the user", accepts_off=True)
    setArbitrarySelection = refused("arbitrary selection", accepts_off=True)
    setTwoSided = refused(TWO_SIDED, accepts_off=True)

    def setMonitor(
        self,
        monitor: Callable[..., Any] | None,
        args: tuple[Any, ...] | None = None,
        kargs: dict[str, Any] | None = None,
    ) -> None:
        """Add ``monitor(eps, its, nconv, eig, err, *args, **kargs)``. Logically collective."""
        if monitor is not None:
            self._monitors.append((monitor, args or (), kargs or {}))

    def getMonitor(self) -> list[_Callback] | None:
        """Return the monitors with their arguments, or None."""
        return self._monitors or None

    def cancelMonitor(self) -> None:
        """Remove all monitors. Logically collective."""
        super().cancelMonitor()
        self._monitors = []
        self._prints_monitor = False

    def setFromOptions(self) -> None:
        """Read settings from the options database. Collective.

        ``-eps_...`` and ``-st_...`` as for EPS, and ``-miramns_...``, each with the options prefix
        before it; see :mod:`miramns.interfaces.eps_options`.
        """
        apply_options(self, super().setFromOptions)

    def print_monitor(self) -> None:
        """Print a line at each test of a nested size. Logically collective."""
        self._prints_monitor = True

    def setUp(self) -> None:
        """Check that the settings fit together, and set up the ST. Collective.

        Raises
        ------
        MiramnsError
            For settings that do not fit together or are not supported.
        """
        if not self._has_operators:
            raise MiramnsError("setOperators must be called first")
        B = self.getOperators()[1]
        kind = super().getProblemType()
        resolved = eps_solve.resolved_problem_type(kind, bool(self.isGeneralized()), B)
        if resolved != kind:
            self.setProblemType(resolved)
        check_supported(self)
        eps_solve.check_agreement(self)
        st = self.getST()
        # a Krylov space does not depend on a shift
        is_plain = st.getType() in (None, "shift") and not self.isGeneralized()
        self._transformation = Transformation("shift") if is_plain else set_up(st)
        if not self.getWhichEigenpairs():
            defaults = _WHICH.LARGEST_MAGNITUDE, _WHICH.TARGET_MAGNITUDE
            self.setWhichEigenpairs(defaults[self._transformation.kind != "shift"])

    def solve(self) -> None:
        """Find the eigenpairs; ``result`` has all of them with their residuals. Collective."""
        self._forget_result()
        self.setUp()
        monitor = self._report if self._monitors or self._prints_monitor else None
        self._result = eps_solve.solve_with(self, self.method, self._transformation, monitor)
        self.method.start = self.method.deflation = None
        eps_view.view_from_options(self)

    def _report(self, record: IterationRecord) -> None:
        """Print a line about a record, and call the monitors with it."""
        self._its = record.restart + 1
        if self._prints_monitor:
            PETSc.Sys.Print(
                f"{self._its:3d} MIRAMns size={record.size} nconv={record.n_converged} "
                f"largest error {record.measure:.4e}",
                comm=self.getComm(),
            )
        values = self._transformation.back(np.asarray(record.values))
        for monitor, args, kargs in self._monitors:
            eig, err = [complex(value) for value in values], list(record.estimates)
            monitor(self, self._its, record.n_converged, eig, err, *args, **kargs)

    @property
    def result(self) -> EigenResult:
        """All requested pairs, converged or not, with their residuals."""
        if self._result is None:
            raise MiramnsError("there is no result yet: call solve() first")
        return self._result

    def getConverged(self) -> int:
        """Return the number of converged pairs."""
        return 0 if self._result is None else self._result.n_converged

    def getConvergedReason(self) -> int:
        """Return the ``EPS.ConvergedReason`` of the last solve."""
        if self._result is None:
            return int(SLEPc.EPS.ConvergedReason.CONVERGED_ITERATING)
        return int(eps_results.REASONS[self._result.reason])

    def getIterationNumber(self) -> int:
        """Return the number of cycles between restarts."""
        return self._its if self._result is None else self._result.n_restarts + 1

    def getEigenvalue(self, i: int) -> complex | float:
        """Return the i-th converged value: float for Hermitian problems, else complex."""
        place = eps_results.place_of(self._result, i)
        return self.result.eigenvalues[place].item()  # type: ignore[no-any-return]

    def getEigenvector(self, i: int, Vr: PETSc.Vec = None, Vi: PETSc.Vec = None) -> None:
        """Store real and imaginary part of the i-th vector in the given vectors. Collective.

        Unit length, or unit length in the inner product of B for GHEP.
        """
        place = eps_results.place_of(self._result, i)
        column = self.result.eigenvectors[:, place]
        for vector, part in ((Vr, column.real), (Vi, column.imag)):
            if vector is not None:
                vector.setArray(part)

    def getEigenpair(self, i: int, Vr: PETSc.Vec = None, Vi: PETSc.Vec = None) -> complex | float:
        """Return the i-th value, and store its vector as :meth:`getEigenvector`. Collective."""
        self.getEigenvector(i, Vr, Vi)
        return self.getEigenvalue(i)

    def getErrorEstimate(self, i: int) -> float:
        """Return the residual norm of the i-th pair in the units of the convergence test."""
        place = eps_results.place_of(self._result, i)
        test, tol = self.getConvergenceTest(), float(self.getTolerances()[0])
        return eps_results.error_estimate(self.result, place, test, tol)

    def computeError(self, i: int, etype: int | None = None) -> float:
        """Return the error of the i-th pair from its true residual ``||A x - lambda B x||``.

        Collective. ABSOLUTE is the residual, RELATIVE (the default) its ratio to ``||lambda x||``,
        BACKWARD to ``(||A|| + |lambda| ||B||) ||x||`` in infinity norms.
        """
        place = eps_results.place_of(self._result, i)
        if etype == SLEPc.EPS.ErrorType.ABSOLUTE:
            return float(self.result.residual_norms[place])
        norms = None
        if etype == SLEPc.EPS.ErrorType.BACKWARD:
            if self._norms is None:
                A, B = self.getOperators()
                self._norms = eps_results.infinity_norm(A), eps_results.infinity_norm(B)
            norms = self._norms
        comm = self.getComm().tompi4py()
        return eps_results.relative_error(self.result, place, comm, norms)

    def getInvariantSubspace(self) -> list[PETSc.Vec]:
        """Return an orthonormal basis of the converged vectors. Collective.

        The first j span the space of the first j pairs, unless that separates a conjugate pair. For
        GHEP the basis is orthonormal in the inner product of B. The caller destroys the vectors.
        """
        columns = eps_results.real_columns(self.result)
        if not self.isHermitian():
            columns = eps_results.orthonormal_columns(self.getComm().tompi4py(), columns)
        A = self.getOperators()[0]
        return [vector_like(A, column) for column in columns.T]

    def getBV(self) -> SLEPc.BV:
        """Return the BV, which holds the converged vectors after a solve. Collective.

        As in EPS for real scalars, a conjugate pair takes two columns: real and imaginary part.
        """
        bv = super().getBV()
        if not self.getConverged() or self._bv_filled:
            return bv
        columns = eps_results.real_columns(self.result)
        filled = eps_results.filled_bv(bv, self.getOperators()[0], columns)
        super().setBV(filled)
        self._bv_filled = True
        return filled

    view = eps_view.view_settings
    errorView = eps_view.view_errors
    valuesView = eps_view.view_values
    vectorsView = eps_view.view_vectors
