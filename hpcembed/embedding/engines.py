"""The engines that find the components of distributed rows, each ending with a certificate.

Single precision makes the space, double judges it: a run whose vectors do not pass is taken on in
double from where it stands, so no precision is stagnated in.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

import miramns
from hpcembed.data.matrix import RowSource
from hpcembed.embedding.solving import (
    SolverSettings,
    krylov_schur,
    leading_vectors,
    solver_errors,
)
from hpcembed.operators import (
    SINGLE_TOLERANCE,
    CovariancePasses,
    EnginePlan,
    GramPasses,
    Moments,
    block_sizes,
    block_width,
    column_moments,
    covariance_shell,
    gram_shell,
    shifted_triangle,
    symmetric_mat,
)
from hpcembed.operators.covariance.covariance import covariance
from hpcembed.runtime.ranks import ownership_range
from miramns import EigenResult

__all__ = ["Components", "Request", "find_components"]

#: Features up to which an assembled covariance goes to LAPACK, and the share of pairs from which.
_LAPACK_FEATURES = 300
_LAPACK_SHARE = 0.2


@dataclass(frozen=True)
class Request:
    """What is to be found.

    Attributes
    ----------
    k : int
    tol : float
    seed : int
    centred : bool
        False for X'X / (n - 1) in place of the covariance.
    threads : int
    memory_bytes : int or None
        What one rank may take.
    solver : SolverSettings
    """

    k: int
    tol: float
    seed: int
    centred: bool
    threads: int
    memory_bytes: int | None
    solver: SolverSettings


@dataclass(frozen=True)
class Components:
    """What was found.

    Attributes
    ----------
    result : EigenResult
        Eigenpairs of the covariance, rows of the vectors distributed as PETSc divides d.
    reference : EigenResult or None
    mean, variances : ndarray of shape (d,)
        Of the features, on every rank; the mean is zero where rows were not centred.
    seconds : dict of str to float
        Wall time of ``operator`` and ``solve`` on the slowest rank.
    """

    result: EigenResult
    reference: EigenResult | None
    mean: NDArray[np.float64]
    variances: NDArray[np.float64]
    seconds: dict[str, float]


def find_components(X: RowSource, plan: EnginePlan, request: Request) -> Components:
    """Find the k dominant eigenpairs of the covariance of the rows. Collective."""
    return _Search(X, plan, request).run()


class _Search:
    """The state that engines share: moments, the exact operator, and what is to be freed."""

    def __init__(self, X: RowSource, plan: EnginePlan, request: Request) -> None:
        self.X, self.plan, self.request = X, plan, request
        self.comm: MPI.Comm = X.comm
        self.moments = Moments(X, centred=request.centred)
        self.mats: list[PETSc.Mat] = []
        self.operator_seconds = 0.0
        self.single = np.float32 if self.moments.fits_single else np.float64

    def run(self) -> Components:
        began = _collective_time(self.comm)
        engine: Callable[[], tuple[EigenResult, PETSc.Mat]] = {
            "assembled": self.assembled,
            "matrix_free": self.matrix_free,
            "block": self.block,
            "gram": self.gram,
        }[self.plan.kind]
        reference = None
        try:
            with solver_errors():
                result, operator = engine()
            ended = _collective_time(self.comm)
            if self.request.solver.reference:
                settings = {"tol": self.request.tol, "seed": self.request.seed}
                reference = krylov_schur(operator, self.request.k, **settings)
        finally:
            for mat in self.mats:
                mat.destroy()
        mean, variances = self.moments.mean, self.moments.variances
        if mean is None or variances is None:
            mean, variances = column_moments(self.X)
        seconds = {
            "operator": self.operator_seconds,
            "solve": ended - began - self.operator_seconds,
        }
        return Components(result, reference, mean, variances, seconds)

    def shell(self, dtype: type[np.floating[Any]]) -> PETSc.Mat:
        """The covariance by passes over the rows."""
        passes = CovariancePasses(self.X, self.moments, dtype, self.request.threads)
        return self._kept(covariance_shell(self.X, passes))

    def _kept(self, mat: PETSc.Mat) -> PETSc.Mat:
        self.mats.append(mat)
        return mat

    def assembled(self) -> tuple[EigenResult, PETSc.Mat]:
        """The covariance formed; in single precision certified by a pass in double."""
        began = _collective_time(self.comm)
        X, moments = self.X, self.moments
        exact = lower = None
        # few features: the square in double costs less than the pass that would certify it
        if self.plan.single and self.single == np.float32 and X.n_features > _LAPACK_FEATURES:
            lower = shifted_triangle(X, moments, np.float32)
            exact = self.shell(np.float64)
        if lower is None or not np.isfinite(lower).all():  # beyond single precision, perhaps
            exact = None
            lower = shifted_triangle(X, moments, np.float64)
        if not np.isfinite(lower).all():
            raise miramns.OperatorError(
                f"the {self.plan.operator} has entries that are not finite: look for NaN or Inf in "
                "the data"
            )
        if self._suits_lapack():
            vectors = self._lapack_vectors(lower)
            mat = self._kept(symmetric_mat(self.comm, lower)) if exact is None else exact
            self.operator_seconds = _collective_time(self.comm) - began
            result = self._certify(mat, vectors, "LAPACK")
            return (result if result.converged or exact is None else self._refine(result)), mat
        mat = self._kept(symmetric_mat(self.comm, lower))
        del lower
        self.operator_seconds = _collective_time(self.comm) - began
        if exact is None:
            return self._solve(mat), mat
        result = self._solve(mat, exact=exact)
        return (result if result.converged else self._refine(result)), exact

    def _suits_lapack(self) -> bool:
        """Whether the assembled covariance goes to LAPACK."""
        settings, d = self.request.solver, self.X.n_features
        small = d <= _LAPACK_FEATURES or self.request.k > _LAPACK_SHARE * d
        automatic = settings.name == "auto" and not settings.needs_single_vectors
        return settings.name == "lapack" or (automatic and small)

    def _lapack_vectors(self, lower: NDArray[np.float64]) -> NDArray[np.float64]:
        """This rank's rows of the leading eigenvectors; solved on one rank, so all agree."""
        d, k = len(lower), self.request.k
        vectors = leading_vectors(lower, k) if self.comm.rank == 0 else np.empty((d, k))
        self.comm.Bcast(vectors, root=0)
        first, last = ownership_range(d, self.comm)
        return vectors[first:last]

    def matrix_free(self) -> tuple[EigenResult, PETSc.Mat]:
        """Products with single vectors in double, for any solver."""
        if not self.request.centred:
            mat = self.shell(np.float64)
            return self._solve(mat), mat
        operator = covariance(self.X, "matrix_free")
        self.moments.mean, self.moments.variances = operator.mean, operator.variances
        mat = self._kept(operator.mat)
        return self._solve(mat), mat

    def _solve(self, mat: PETSc.Mat, exact: PETSc.Mat | None = None) -> EigenResult:
        request, solver = self.request, self.request.solver
        if solver.name == "krylovschur":
            limits = {"max_it": solver.max_it, "ncv": solver.ncv or None}
            return krylov_schur(mat, request.k, tol=request.tol, seed=request.seed, **limits)
        return self._miramns(
            mat,
            exact=exact,
            ncv=solver.ncv or None,
            nested_sizes=solver.nested or None,
            variant=solver.variant,
        )

    def _miramns(
        self,
        mat: PETSc.Mat,
        *,
        tol: float = 0.0,
        variant: Literal["default", "published", "block"] = "default",
        ncv: int | None = None,
        start: NDArray[np.float64] | None = None,
        **options: Any,
    ) -> EigenResult:
        request, solver = self.request, self.request.solver
        memory = request.memory_bytes
        if variant == "block":
            # blocks hold multiple eigenvalues, and a search goes by single vectors
            options["multiplicity_check"] = "never"
        published = variant == "published"
        return miramns.solve(
            mat,
            request.k,
            which="LA",
            hermitian=True,
            tol=tol or request.tol,
            max_it=solver.max_it,
            ncv=ncv,
            variant=variant,
            seed=request.seed,
            start=start,
            monitor=solver.on_check,
            options=miramns.Options(
                criterion="relative" if published else solver.criterion,
                memory_bytes=memory // 2 if memory else None,
                **options,
            ),
        )

    def block(self) -> tuple[EigenResult, PETSc.Mat]:
        """Blocks of vectors: the space in single precision, the verdict in double."""
        exact = self.shell(np.float64)
        k, d = self.request.k, self.X.n_features
        width = block_width(k, d)
        settings: dict[str, Any] = {"block_size": width, "nested_sizes": block_sizes(k, width, d)}
        if self.single == np.float64:
            return self._miramns(exact, variant="block", **settings), exact
        try:
            result = self._miramns(
                self.shell(np.float32),
                exact=exact,
                tol=max(self.request.tol, SINGLE_TOLERANCE),
                variant="block",
                **settings,
            )
        except miramns.OperatorError:
            # beyond the range of single precision, or not finite at all: double will tell
            return self._miramns(exact, variant="block", **settings), exact
        return (result if self._passes(result) else self._refine(result)), exact

    def _passes(self, result: EigenResult) -> bool:
        return result.converged and self.request.tol >= SINGLE_TOLERANCE

    def _refine(self, found: EigenResult) -> EigenResult:
        """Go on in double from the vectors found so far. Collective."""
        k, d = self.request.k, self.X.n_features
        width = min(k + max(2, k // 8), d)
        result = self._miramns(
            self.shell(np.float64),
            variant="block",
            block_size=width,
            nested_sizes=block_sizes(k, width, d),
            start=np.asarray(found.eigenvectors),
        )
        return dataclasses.replace(
            result,
            n_matvec=found.n_matvec + result.n_matvec,
            n_certificate_matvec=found.n_certificate_matvec + result.n_certificate_matvec,
            history=found.history + result.history,
            decisions=(*found.decisions, "went on in double precision", *result.decisions),
        )

    def gram(self) -> tuple[EigenResult, PETSc.Mat]:
        """The same on the side of the rows, whose vectors are short for wide data."""
        X, k = self.X, self.request.k
        single = GramPasses(X, self.moments, self.single)
        loose = self.request.tol >= SINGLE_TOLERANCE
        last = single if loose else GramPasses(X, self.moments, np.float64)
        mat = self._kept(gram_shell(X, single))
        width = block_width(k, X.n_rows)
        found = self._miramns(
            mat,
            tol=max(self.request.tol, SINGLE_TOLERANCE),
            variant="block",
            block_size=width,
            nested_sizes=block_sizes(k, width, X.n_rows),
        )
        Q = _orthonormal(last.transposed(np.asarray(found.eigenvectors)))
        first, end = ownership_range(X.n_features, self.comm)
        exact = self.shell(np.float64)
        result = self._certify(exact, Q[first:end], found.solver + " of the Gram matrix")
        result = dataclasses.replace(
            result,
            n_matvec=found.n_matvec,
            n_reductions=found.n_reductions,
            n_restarts=found.n_restarts,
            history=found.history,
            decisions=found.decisions,
            n_certificate_matvec=found.n_certificate_matvec + result.n_certificate_matvec,
        )
        return (result if result.converged else self._refine(result)), exact

    def _certify(self, mat: PETSc.Mat, vectors: NDArray[np.float64], name: str) -> EigenResult:
        criterion = self.request.solver.criterion
        return miramns.certify(
            mat, vectors, which="LA", tol=self.request.tol, criterion=criterion, solver=name
        )


def _orthonormal(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """An orthonormal basis, the same on every rank. Not collective."""
    norms = np.linalg.norm(vectors, axis=0)
    return np.asarray(np.linalg.qr(vectors / np.where(norms > 0, norms, 1.0))[0])


def _collective_time(comm: MPI.Comm) -> float:
    """Time at which all ranks have arrived here."""
    comm.Barrier()
    return time.perf_counter()
