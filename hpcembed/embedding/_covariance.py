"""Base of PCA and TruncatedSVD: the plan, and the engines that find components of rows.

Each engine ends with a certificate: true residuals from products in double precision. See
:mod:`hpcembed.operators.covariance.covariance_plan` for the choice among the engines.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.embedding._eigensolver import Eigensolver, translated_errors
from hpcembed.embedding._linear import LinearEmbedding
from hpcembed.embedding._reproducible import reproducible_pairs, reproducible_plan
from hpcembed.operators.block_shell import BlockProducts, block_shell
from hpcembed.operators.cost import (
    SINGLE_TOLERANCE,
    EnginePlan,
    Machine,
    Shape,
    expected_products,
)
from hpcembed.operators.covariance.covariance import shifted_triangle, symmetric_mat
from hpcembed.operators.covariance.covariance_passes import (
    CovariancePasses,
    Moments,
    PassLimitError,
)
from hpcembed.operators.covariance.covariance_plan import (
    CERTIFICATE_SAMPLES,
    COVARIANCE_BLOCKS,
    COVARIANCE_ENGINES,
    block_width,
    plan_covariance,
)
from hpcembed.operators.covariance.flatness import pass_factor
from hpcembed.operators.covariance.gram import GramPasses
from hpcembed.operators.covariance.integer_covariance import has_integers, integer_triangle
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.runtime.arguments import check_choice
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.machine.threads import one_blas_thread
from hpcembed.runtime.ranks import ownership_range, timed
from miramns import EigenResult
from miramns.checkpointing import opened_store

__all__ = ["CovarianceEmbedding", "CovariancePairs"]


#: Multiply-adds of the orthogonalisation, per pass, up to which one thread of BLAS loses less time
#: than compiled passes lose to its waiting threads.
_LIGHT = 1e8

#: Tolerance of an iteration with a matrix in single precision, whose products are exact.
_TIGHT = 1e-8

#: Dimension of an assembled covariance up to which its eigenproblem gains little from threads.
_SMALL_SQUARE = 1500

#: Largest entry of ``|Q'Q - I|`` with which the certificate makes a basis orthonormal itself.
_NEARLY_ORTHONORMAL = 1e-4

Certificate = Literal["exact", "double", "sampled"]


@dataclass(frozen=True, slots=True)
class CovariancePairs:
    """Eigenpairs of the covariance, and moments of the features.

    Attributes
    ----------
    solver : Eigensolver
    result : EigenResult
        Rows of the vectors distributed as PETSc divides d.
    reference : EigenResult or None
    mean, variances : ndarray of shape (d,)
        Moments of the features, on every rank; the mean is zero where rows were not centred.
    certificate : {"exact", "double", "sampled"}
        Origin of the residuals.
    """

    solver: Eigensolver
    result: EigenResult
    reference: EigenResult | None
    mean: NDArray[np.float64]
    variances: NDArray[np.float64]
    certificate: Certificate


class CovarianceEmbedding(LinearEmbedding):
    """Base of estimators whose components are eigenvectors of ``(X - 1 m')'(X - 1 m')``.

    Subclasses set ``operator_name``; ``_centred`` is False where m is zero.
    """

    operator_name: str
    _centred = True
    _is_reproducible = True

    n_components: Any
    engine: str
    certify: str
    plan_: EnginePlan

    def _check_parameters(self) -> None:
        check_choice("certify", self.certify, ("auto", "double"))
        check_choice("engine", self.engine, ("auto", *COVARIANCE_ENGINES))
        super()._check_parameters()
        if self._settings.reproducible and self.engine not in ("auto", "assembled"):
            raise ConfigError(
                f"reproducible: products of the engine {self.engine} are added in the order of the "
                "ranks: use engine = auto or assembled"
            )

    def _plan(
        self, shape: Shape, machine: Machine, k: int, *, pass_factor: float = 1.0
    ) -> EnginePlan:
        """Return the plan for k components."""
        settings, engine, k = self._settings, self.engine, min(k, shape.n_features)
        if (settings.name == "lapack" or settings.reproducible) and engine == "auto":
            engine = "assembled"
        plan = plan_covariance(
            shape,
            k,
            machine,
            tol=settings.relative_to_largest(self._tolerance(shape.item_bytes)),
            n_reference=2 * expected_products(k) if settings.reference else 0,
            single_vector=settings.needs_single_vectors,
            engine=engine,
            operator=self.operator_name,
            pass_factor=pass_factor,
        )
        return reproducible_plan(plan, shape, machine) if settings.reproducible else plan

    def _find(
        self, X: RowSource, shape: Shape, machine: Machine, k: int, seed: int
    ) -> CovariancePairs:
        """Find k components by the engine of the plan. Collective."""
        plan = self._plan(shape, machine, k)
        is_free = self.engine == "auto" and plan.engine in ("block", "gram")
        other = plan.instead("assembled", machine) if is_free else None
        factor, spectrum = pass_factor(X) if is_free else (1.0, "")
        if factor > 1:
            plan, other = self._plan(shape, machine, k, pass_factor=factor), None
            plan = replace(plan, reason=f"{plan.reason}, for a {spectrum} spectrum")
        tol, memory = self._tolerance(shape.item_bytes), machine.available_bytes
        solver = Eigensolver(k, tol, seed, self._settings, memory, blocks=COVARIANCE_BLOCKS)
        self.seconds_ = {"operator": 0.0, "solve": 0.0}
        moments = Moments(X, centred=self._centred)
        if self._settings.reproducible:
            return self._found_reproducibly(X, plan, solver, moments, machine.threads)
        with translated_errors(), opened_store(X.comm, self._settings.checkpoint, None) as store:
            part = None if store is None else store.within(f"k-{k}")
            search = _CovarianceSearch(
                X, plan, other, replace(solver, checkpoint=part), moments, machine.threads,
                self.seconds_, self.certify,
            )  # fmt: skip
            found = search.run()
        self.plan_, self.certificate_ = search.plan, found.certificate
        return found

    def _found_reproducibly(
        self, X: RowSource, plan: EnginePlan, solver: Eigensolver, moments: Moments, threads: int
    ) -> CovariancePairs:
        """Find the components with the same bits on any number of ranks. Collective."""
        result, reference, is_exact = reproducible_pairs(X, solver, moments, threads, self.seconds_)
        assert moments.mean is not None
        assert moments.variances is not None
        certificate: Certificate = "exact" if is_exact else "double"
        self.plan_, self.certificate_ = plan, certificate
        return CovariancePairs(
            solver, result, reference, moments.mean, moments.variances, certificate
        )

    @property
    def operator_(self) -> str:
        """The operator and its engine."""
        return self.plan_.name


@dataclass
class _CovarianceSearch:
    """Search by the engine of a plan; ``mats`` are destroyed at its end.

    ``other`` replaces the plan if more passes than it is worth do not lead to convergence.
    """

    X: RowSource
    plan: EnginePlan
    other: EnginePlan | None
    solver: Eigensolver
    moments: Moments
    threads: int
    seconds: dict[str, float]
    certificate: str
    is_exact: bool = False
    mats: list[PETSc.Mat] = field(default_factory=list)

    @property
    def comm(self) -> MPI.Intracomm:
        return self.X.comm

    @property
    def single(self) -> type[np.floating[Any]]:
        """Type of passes in single precision: double where squares would leave its range."""
        return np.float32 if self.moments.fits_single else np.float64

    def run(self) -> CovariancePairs:
        """Find the pairs by the engine of the plan, then those of the reference."""
        try:
            with timed(self.comm, self.seconds, "solve"):
                result, operator = getattr(self, self.plan.engine)()
            reference = self.solver.reference(operator)
        finally:
            for mat in self.mats:
                mat.destroy()
        mean, variances = self.moments.mean, self.moments.variances
        if mean is None or variances is None:
            mean, variances = column_moments(self.X)
        certificate: Certificate = "exact" if self.is_exact else "double"
        if result.failure_probability > 0:
            certificate = "sampled"
        return CovariancePairs(self.solver, result, reference, mean, variances, certificate)

    def shell(self, dtype: type[np.floating[Any]], most: int | None = None) -> PETSc.Mat:
        """Return the covariance by passes over the rows, at most so many."""
        return self.kept(CovariancePasses(self.X, self.moments, dtype, self.threads, most))

    def kept(self, products: BlockProducts | NDArray[np.float64]) -> PETSc.Mat:
        """Return the matrix of products or of a triangle; it is destroyed at the end."""
        if isinstance(products, BlockProducts):
            mat = block_shell(products)
        else:
            mat = symmetric_mat(self.comm, products)
        self.mats.append(mat)
        return mat

    def assembled(self) -> tuple[EigenResult, PETSc.Mat]:
        """Form the covariance; one in single precision is certified by a pass in double."""
        solver, d = self.solver, self.X.n_features
        with timed(self.comm, self.seconds, "operator", within="solve"):
            lower, is_single = self._square()
            mat = self.kept(lower)
        # idle threads of BLAS take the cores of compiled passes, which certify a single square
        one = d <= _SMALL_SQUARE and (is_single or not solver.suits_lapack(d))
        with one_blas_thread() if one else nullcontext():
            if solver.suits_lapack(d):
                found = solver.lapack(mat, lower)
            elif is_single or not solver.settings.needs_single_vectors:
                width = block_width(solver.k, d)
                tol = max(_TIGHT, solver.tol / 10) if is_single else None
                found = solver.solve_by_blocks(mat, width, tol=tol)
            else:
                found = solver.solve(mat)
            if not is_single:
                return found, mat
            exact = self.shell(np.float64)
            n_samples = CERTIFICATE_SAMPLES if self.certificate == "auto" else 0
            return solver.certified(found, exact, n_samples=n_samples), exact

    def _square(self) -> tuple[NDArray[np.float64], bool]:
        """Return the lower triangle, and whether it is in single precision. Collective."""
        X, moments, store = self.X, self.moments, self.solver.checkpoint
        if isinstance(X, DataMatrix) and has_integers(X, centred=moments.centred):
            self.is_exact = True
            lower = integer_triangle(X, moments, self.threads, store)
        elif self.plan.single and self.single == np.float32:
            part = None if store is None else store.within("single")
            lower = shifted_triangle(X, moments, np.float32, self.threads, part)
            if np.isfinite(lower).all():
                return lower, True
            # perhaps beyond the range of single precision
        if not self.is_exact:
            lower = shifted_triangle(X, moments, np.float64, self.threads, store)
        if not np.isfinite(lower).all():
            raise InputError(
                f"the {self.plan.operator} has entries that are not finite: check the data for NaN "
                "or Inf"
            )
        return lower, False

    def matrix_free(self) -> tuple[EigenResult, PETSc.Mat]:
        """Multiply with single vectors in double precision, for any solver."""
        if self.moments.centred:
            self.moments.mean, self.moments.variances = column_moments(self.X)
        mat = self.shell(np.float64)
        return self.solver.solve(mat), mat

    def block(self) -> tuple[EigenResult, PETSc.Mat]:
        """Multiply with blocks of vectors: in single precision, certified in double precision."""
        # idle threads of BLAS take the cores of compiled passes
        width = self.plan.width
        columns = COVARIANCE_BLOCKS.passes(self.solver.k, width) * width
        is_light = self.X.n_features / self.comm.size * columns * width < _LIGHT
        try:
            with one_blas_thread() if is_light else nullcontext():
                return self._by_passes()
        except PassLimitError as limit:
            assert self.other is not None  # else there is no limit
            reason = f"no convergence in {limit.passes} block passes"
            self.plan = replace(self.other, reason=reason)
            return self.assembled()

    def _by_passes(self) -> tuple[EigenResult, PETSc.Mat]:
        width, most = self.plan.width, self._most_passes()
        if self.single == np.float64:
            exact = self.shell(np.float64, most)
            return self.solver.solve_by_blocks(exact, width), exact
        exact, approximation = self.shell(np.float64), self.shell(np.float32, most)
        return self.solver.solve_in_single(approximation, exact, width), exact

    def _most_passes(self) -> int | None:
        """Return the allowed passes: twice those expected, or as many as the other plan takes."""
        if self.other is None:
            return None
        expected = COVARIANCE_BLOCKS.passes(self.solver.k, self.plan.width)
        return math.ceil(expected * max(2.0, self.other.cost.seconds / self.plan.cost.seconds))

    def gram(self) -> tuple[EigenResult, PETSc.Mat]:
        """The same on the side of the rows, whose vectors are short for wide data."""
        X, moments, solver = self.X, self.moments, self.solver
        width, last = self.plan.width, GramPasses(X, moments, self.single, self.threads)
        if solver.tol >= SINGLE_TOLERANCE or self.single == np.float64:
            found = solver.solve_by_blocks(self.kept(last), width)
        else:
            approximation = self.kept(last)
            last = GramPasses(X, moments, np.float64, self.threads)
            found = solver.solve_in_single(approximation, self.kept(last), width)
        Q = _orthonormal(last.transposed(np.asarray(found.eigenvectors)))
        exact = self.shell(np.float64)
        first, end = ownership_range(X.n_features, self.comm)
        solver_name = f"{found.solver} of the Gram matrix"
        found = replace(found, eigenvectors=Q[first:end], solver=solver_name)
        return solver.certified(found, exact), exact


def _orthonormal(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a basis that is orthonormal or nearly so, the same on every rank."""
    norms = np.linalg.norm(vectors, axis=0)
    Q = vectors / np.where(norms > 0, norms, 1.0)
    if np.abs(Q.T @ Q - np.eye(Q.shape[1])).max() <= _NEARLY_ORTHONORMAL:
        return Q
    return np.asarray(np.linalg.qr(Q)[0])
