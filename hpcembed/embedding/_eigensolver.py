"""The one adapter from operators to MIRAMns, for all estimators.

It decides solver and variant, convergence criterion, precision, refinement, certificate, LAPACK for
small dense operators, memory of the basis, reference solver, and error messages.

Precision. An approximation of an operator in single precision generates the Krylov space, and
products in double precision certify the pairs. A result that misses its tolerance in double is
refined in double from the vectors found so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from petsc4py import PETSc

import miramns
from hpcembed.embedding._parameters import SolverSettings
from hpcembed.operators.cost import SINGLE_TOLERANCE, BlockRule, suits_lapack
from hpcembed.runtime.errors import ConfigError, InputError, OutputError
from hpcembed.runtime.fault_injection import faulty_products, inject
from hpcembed.runtime.machine.threads import one_blas_thread
from miramns import EigenResult
from miramns.checkpointing import (
    CheckpointError,
    CheckpointMismatchError,
    CheckpointStore,
    StoppedAtCheckpointError,
    opened_store,
)

__all__ = ["Eigensolver", "translated_errors"]

#: Probability with which a bound from random combinations is exceeded.
_FAILURE = 1e-6

#: Dimension up to which LAPACK gains nothing from several threads.
_ONE_THREAD_DIMENSION = 256


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise errors of MIRAMns as errors of this package."""
    try:
        yield
    except StoppedAtCheckpointError:
        raise  # no error: the run was asked to stop
    except CheckpointMismatchError as error:
        raise ConfigError(str(error)) from error
    except CheckpointError as error:
        raise OutputError(str(error)) from error
    except miramns.OperatorError as error:
        raise InputError(str(error)) from error
    except miramns.MiramnsError as error:
        raise ConfigError(f"solver: {error}") from error


@dataclass(frozen=True)
class Eigensolver:
    """Solver of one estimator's eigenproblem: k dominant pairs of a symmetric operator.

    Attributes
    ----------
    k : int
        Number of pairs.
    tol : float
        Largest true residual, relative as ``settings.criterion`` states.
    seed : int
        Seed of the start vectors.
    settings : SolverSettings
    available_bytes : int
        Memory that one rank may take; half of it is for the basis.
    which : {"LA", "LM"}
        Largest eigenvalues, or largest moduli.
    blocks : BlockRule, optional
        Nested sizes for blocks of vectors, where the operator is multiplied with blocks.
    checkpoint : CheckpointStore, optional
        Where states of MIRAMns are saved, under a name for each of its solves in order. Default:
        that of the settings.
    """

    k: int
    tol: float
    seed: int
    settings: SolverSettings
    available_bytes: int
    which: Literal["LA", "LM"] = "LA"
    blocks: BlockRule | None = None
    checkpoint: CheckpointStore | None = None
    _numbers: Iterator[int] = field(default_factory=count, init=False, compare=False)

    @translated_errors()
    def solve(self, mat: PETSc.Mat, *, deflation: NDArray[np.float64] | None = None) -> EigenResult:
        """Find the pairs by products with single vectors, in double precision.

        Collective.

        Parameters
        ----------
        deflation : ndarray of shape (n_local, m), optional
            This rank's rows of known eigenvectors; results are orthogonal to them.

        Raises
        ------
        ConfigError
            If settings do not fit the operator.
        InputError
            If a product is not finite.
        """
        settings = self.settings
        settings.check(has_dense_operator=False)
        if settings.name == "krylovschur":
            limits = {"max_it": settings.max_it, "ncv": settings.ncv or None}
            return self._krylov_schur(mat, deflation=deflation, **limits)
        return self._miramns(mat, deflation=deflation)

    @translated_errors()
    def solve_pencil(self, A: PETSc.Mat, B: PETSc.Mat) -> EigenResult:
        """Find pairs of ``A v = lambda B v``, with A symmetric and B positive definite.

        Collective. Vectors are orthonormal in the inner product of B.
        """
        settings = self.settings
        if settings.name == "krylovschur":
            return self._krylov_schur(A, B=B, max_it=settings.max_it, ncv=settings.ncv or None)
        return self._miramns(A, B=B)

    @translated_errors()
    def solve_by_blocks(
        self, mat: PETSc.Mat, width: int, *, tol: float | None = None
    ) -> EigenResult:
        """Find the pairs by products with blocks of vectors.

        Collective.

        Parameters
        ----------
        width : int
            Vectors in a block.
        tol : float, optional
            Another tolerance than that of the pairs.
        """
        return self._miramns(mat, width=width, tol=tol)

    @translated_errors()
    def solve_in_single(
        self, approximation: PETSc.Mat, exact: PETSc.Mat, width: int = 0
    ) -> EigenResult:
        """Find the pairs by an operator in single precision, and certify them in double precision.

        Collective.

        Parameters
        ----------
        approximation : PETSc.Mat
            The operator in single precision.
        exact : PETSc.Mat
            The operator in double precision.
        width : int
            Vectors in a block; 0 for single vectors.
        """
        try:
            found = self._miramns(approximation, width=width, exact=exact, tol=self.loose_tol)
        except miramns.OperatorError:
            # beyond the range of single precision, or not finite in double precision either
            return self._miramns(exact, width=width)
        return self.refined(found, exact, at_tol=self.tol >= SINGLE_TOLERANCE)

    @translated_errors()
    def refined(self, found: EigenResult, exact: PETSc.Mat, *, at_tol: bool = True) -> EigenResult:
        """Return a converged result as it is, or continue in double precision from its vectors.

        Collective.

        Parameters
        ----------
        at_tol : bool
            Whether `found` was tested with the requested tolerance.
        """
        if found.converged and at_tol:
            return found
        width = min(self.k + max(2, self.k // 8), exact.getSize()[0])
        result = self._miramns(exact, width=width, start=np.asarray(found.eigenvectors))
        return replace(
            result,
            n_matvec=found.n_matvec + result.n_matvec,
            n_certificate_matvec=found.n_certificate_matvec + result.n_certificate_matvec,
            history=found.history + result.history,
            decisions=(*found.decisions, "continued in double precision", *result.decisions),
        )

    @translated_errors()
    def certified(self, found: EigenResult, exact: PETSc.Mat, *, n_samples: int = 0) -> EigenResult:
        """Return pairs of an approximation with true residuals in double precision.

        Collective. Pairs that miss their tolerance are refined.

        Parameters
        ----------
        n_samples : int
            Number of random combinations of the pairs that bound their residuals. For 0, or if the
            bound exceeds a tolerance, there is a product for every pair.
        """
        if 0 < n_samples < len(found.eigenvalues):
            bounded = miramns.certify_by_samples(
                exact,
                np.asarray(found.eigenvalues),
                np.asarray(found.eigenvectors),
                tol=self.tol,
                criterion=self.settings.convergence_criterion,
                solver=found.solver,
                n_samples=n_samples,
                failure_probability=_FAILURE,
                seed=self.seed,
            )
            found = _continued(found, bounded)
            if bounded.converged:
                return found
        vectors = np.asarray(found.eigenvectors)
        return self.refined(_continued(found, self.certify(exact, vectors, found.solver)), exact)

    def suits_lapack(self, dimension: int) -> bool:
        """Return whether LAPACK solves the assembled operator of this dimension."""
        suits = suits_lapack(dimension, self.k)
        return self.settings.name == "lapack" or (self.settings.allows_lapack and suits)

    @translated_errors()
    def lapack(self, mat: PETSc.Mat, lower: NDArray[np.float64] | None) -> EigenResult:
        """Find the pairs of a dense matrix by LAPACK, with true residuals.

        Collective. One rank solves, so that all ranks hold the same bits.

        Parameters
        ----------
        mat : PETSc.Mat
            The matrix.
        lower : ndarray of shape (n, n)
            Its lower triangle, on rank 0.
        """
        (n, _), k, comm = mat.getSize(), self.k, mat.getComm().tompi4py()
        inject("solve", comm)
        mat = faulty_products(mat)
        values, vectors = np.empty(k), np.empty((n, k))
        if comm.rank == 0:
            # the method for some pairs takes longer than that for all if many are wanted
            some = {"subset_by_index": (n - k, n - 1)} if k <= n // 3 else {"driver": "evd"}
            with one_blas_thread() if n <= _ONE_THREAD_DIMENSION else nullcontext():
                all_values, all_vectors = scipy.linalg.eigh(lower, lower=True, **some)
            values[:] = all_values[: -k - 1 : -1]
            vectors[:] = all_vectors[:, : -k - 1 : -1]
        comm.Bcast(values, root=0)
        comm.Bcast(vectors, root=0)
        first, last = mat.getOwnershipRange()
        return miramns.certify(
            mat,
            vectors[first:last],
            tol=self.tol,
            criterion=self.settings.convergence_criterion,
            solver="LAPACK",
            values=values,
        )

    @translated_errors()
    def certify(self, mat: PETSc.Mat, vectors: NDArray[np.float64], solver: str) -> EigenResult:
        """Return the pairs in the span of given vectors with true residuals. Collective."""
        criterion = self.settings.convergence_criterion
        return miramns.certify(
            mat, vectors, which=self.which, tol=self.tol, criterion=criterion, solver=solver
        )

    @translated_errors()
    def reference(
        self,
        mat: PETSc.Mat,
        *,
        deflation: NDArray[np.float64] | None = None,
        B: PETSc.Mat | None = None,
    ) -> EigenResult | None:
        """Return the result of the reference solver, if settings ask for one. Collective."""
        if not self.settings.reference:
            return None
        return self._krylov_schur(mat, deflation=deflation, B=B)

    @property
    def loose_tol(self) -> float:
        """The tolerance, or that which single precision reaches if it is larger."""
        return max(self.tol, SINGLE_TOLERANCE)

    def _krylov_schur(self, mat: PETSc.Mat, **settings: Any) -> EigenResult:
        """Call SLEPc's Krylov-Schur with further arguments of :func:`miramns.slepc`. Collective."""
        settings |= {"which": self.which, "tol": self.tol, "seed": self.seed}
        try:
            return miramns.slepc(mat, self.k, hermitian=True, **settings)
        except (PETSc.Error, SystemError) as error:
            # newer bindings wrap PETSc's error; the lines after its code are "[rank] text",
            # outermost function first
            text = str(error.__cause__ or error)
            lines = [line.partition("] ")[2] or line for line in text.splitlines()]
            raise ConfigError(
                f"SLEPc's solver: {lines[-1].strip()}; check --petsc, PETSC_OPTIONS, solver.ncv "
                "and solver.max_it"
            ) from error

    def _miramns(
        self,
        mat: PETSc.Mat,
        *,
        width: int = 0,
        tol: float | None = None,
        start: NDArray[np.float64] | None = None,
        B: PETSc.Mat | None = None,
        **options: Any,
    ) -> EigenResult:
        """Call MIRAMns with blocks of `width` vectors, or with single vectors for 0."""
        settings = self.settings
        inject("solve", mat.getComm().tompi4py())
        mat = faulty_products(mat)
        options |= {
            "criterion": settings.convergence_criterion,
            "memory_bytes": self.available_bytes // 2,
            "nested_sizes": settings.nested or None,
            "repeatable": settings.reproducible,
        }
        if width:
            assert self.blocks is not None  # operators with blocks come with their rule
            options |= {
                "nested_sizes": self.blocks.sizes(self.k, width, mat.getSize()[0]),
                "block_size": width,
                # blocks hold multiple eigenvalues, and the search uses single vectors
                "multiplicity_check": "never",
            }
        number = next(self._numbers)
        checkpoint = settings.checkpoint if self.checkpoint is None else self.checkpoint
        with opened_store(mat.getComm().tompi4py(), checkpoint, None) as store:
            return miramns.solve(
                mat,
                self.k,
                B=B,
                which=self.which,
                hermitian=True,
                tol=self.tol if tol is None else tol,
                max_it=settings.max_it,
                ncv=None if width else settings.ncv or None,
                variant="block" if width else settings.variant,
                seed=self.seed,
                start=start,
                monitor=settings.monitor,
                options=miramns.Options(**options),
                checkpoint=None if store is None else store.within(f"solve-{number}"),
            )


def _continued(found: EigenResult, certified: EigenResult) -> EigenResult:
    """Return the certified pairs with the work and the history of the solver that found them."""
    return replace(
        certified,
        n_matvec=found.n_matvec,
        n_reductions=found.n_reductions,
        n_restarts=found.n_restarts,
        history=found.history,
        decisions=found.decisions,
        n_certificate_matvec=found.n_certificate_matvec + certified.n_certificate_matvec,
        seconds=found.seconds + certified.seconds,
        tie_at_cut=found.tie_at_cut,
        multiplicity_checked=found.multiplicity_checked,
        n_found_missing=found.n_found_missing,
    )
