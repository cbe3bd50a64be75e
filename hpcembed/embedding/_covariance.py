"""Base of PCA and TruncatedSVD: the plan, and the engines that find components of rows.

Each engine ends with a certificate: true residuals from products in double precision. See
:mod:`hpcembed.operators.covariance.covariance_plan` for the choice among the engines.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.embedding._eigensolver import LAPACK_DIMENSION, Eigensolver
from hpcembed.embedding._linear import LinearEmbedding
from hpcembed.operators.block_shell import BlockProducts, block_shell
from hpcembed.operators.cost import (
    SINGLE_TOLERANCE,
    EnginePlan,
    Machine,
    Shape,
    expected_products,
)
from hpcembed.operators.covariance.byte_covariance import byte_triangle, has_bytes
from hpcembed.operators.covariance.covariance import shifted_triangle, symmetric_mat
from hpcembed.operators.covariance.covariance_passes import CovariancePasses, Moments
from hpcembed.operators.covariance.covariance_plan import (
    COVARIANCE_BLOCKS,
    COVARIANCE_ENGINES,
    plan_covariance,
)
from hpcembed.operators.covariance.gram import GramPasses
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.runtime.arguments import check_choice
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range, timed
from miramns import EigenResult

__all__ = ["CovarianceEmbedding", "CovariancePairs"]


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
    """

    solver: Eigensolver
    result: EigenResult
    reference: EigenResult | None
    mean: NDArray[np.float64]
    variances: NDArray[np.float64]


class CovarianceEmbedding(LinearEmbedding):
    """Base of estimators whose components are eigenvectors of ``(X - 1 m')'(X - 1 m')``.

    Subclasses set ``operator_name``; ``_centred`` is False where m is zero.
    """

    operator_name: str
    _centred = True

    n_components: Any
    engine: str
    plan_: EnginePlan

    def _check_parameters(self) -> None:
        check_choice("engine", self.engine, ("auto", *COVARIANCE_ENGINES))
        super()._check_parameters()

    def _plan(self, shape: Shape, machine: Machine, k: int) -> EnginePlan:
        """Return the plan for k components."""
        settings, engine, k = self._settings, self.engine, min(k, shape.n_features)
        if settings.name == "lapack" and engine == "auto":
            engine = "assembled"
        return plan_covariance(
            shape,
            k,
            machine,
            tol=settings.relative_to_largest(self._tolerance(shape.item_bytes)),
            n_reference=2 * expected_products(k) if settings.reference else 0,
            single_vector=settings.needs_single_vectors,
            engine=engine,
            operator=self.operator_name,
        )

    def _find(
        self, X: RowSource, shape: Shape, machine: Machine, k: int, seed: int
    ) -> CovariancePairs:
        """Find k components by the engine of the plan. Collective."""
        self.plan_ = self._plan(shape, machine, k)
        tol, memory = self._tolerance(shape.item_bytes), machine.available_bytes
        solver = Eigensolver(k, tol, seed, self._settings, memory, blocks=COVARIANCE_BLOCKS)
        self.seconds_ = {"operator": 0.0, "solve": 0.0}
        moments = Moments(X, centred=self._centred)
        return _CovarianceSearch(
            X, self.plan_, solver, moments, machine.threads, self.seconds_
        ).run()

    @property
    def operator_(self) -> str:
        """The operator and its engine."""
        return self.plan_.name


@dataclass
class _CovarianceSearch:
    """Search by the engine of a plan; ``mats`` are destroyed at its end."""

    X: RowSource
    plan: EnginePlan
    solver: Eigensolver
    moments: Moments
    threads: int
    seconds: dict[str, float]
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
        return CovariancePairs(self.solver, result, reference, mean, variances)

    def shell(self, dtype: type[np.floating[Any]]) -> PETSc.Mat:
        """Return the covariance by passes over the rows."""
        return self.kept(CovariancePasses(self.X, self.moments, dtype, self.threads))

    def kept(self, products: BlockProducts | NDArray[np.float64]) -> PETSc.Mat:
        """Return the matrix of products or of a triangle; it is destroyed at the end."""
        if isinstance(products, BlockProducts):
            mat = block_shell(products)
        else:
            mat = symmetric_mat(self.comm, products)
        self.mats.append(mat)
        return mat

    def assembled(self) -> tuple[EigenResult, PETSc.Mat]:
        """Form the covariance; in single precision, a pass in double precision certifies."""
        X, moments, solver = self.X, self.moments, self.solver
        d, exact, lower = X.n_features, None, None
        with timed(self.comm, self.seconds, "operator", within="solve"):
            if isinstance(X, DataMatrix) and has_bytes(X, centred=moments.centred):
                lower = byte_triangle(X, moments)
            # few features: the square in double costs less than the pass that would certify it
            elif self.plan.single and self.single == np.float32 and d > LAPACK_DIMENSION:
                lower = shifted_triangle(X, moments, np.float32)
                exact = self.shell(np.float64)
            if lower is None or not np.isfinite(lower).all():  # perhaps beyond single precision
                exact = None
                lower = shifted_triangle(X, moments, np.float64)
        if not np.isfinite(lower).all():
            raise InputError(
                f"the {self.plan.operator} has entries that are not finite: check the data for NaN "
                "or Inf"
            )
        if solver.suits_lapack(d):
            vectors = solver.lapack_vectors(self.comm, lower, d, ownership_range(d, self.comm))
            with timed(self.comm, self.seconds, "operator", within="solve"):
                mat = self.kept(lower) if exact is None else exact
            result = solver.certify(mat, vectors, "LAPACK")
            return (result if exact is None else solver.refined(result, exact)), mat
        with timed(self.comm, self.seconds, "operator", within="solve"):
            mat = self.kept(lower)
        del lower
        if exact is None:
            return solver.solve(mat), mat
        return solver.solve_in_single(mat, exact), exact

    def matrix_free(self) -> tuple[EigenResult, PETSc.Mat]:
        """Multiply with single vectors in double precision, for any solver."""
        if self.moments.centred:
            self.moments.mean, self.moments.variances = column_moments(self.X)
        mat = self.shell(np.float64)
        return self.solver.solve(mat), mat

    def block(self) -> tuple[EigenResult, PETSc.Mat]:
        """Multiply with blocks of vectors: in single precision, certified in double precision."""
        exact = self.shell(np.float64)
        if self.single == np.float64:
            return self.solver.solve_by_blocks(exact, self.plan.width), exact
        approximation = self.shell(np.float32)
        return self.solver.solve_in_single(approximation, exact, self.plan.width), exact

    def gram(self) -> tuple[EigenResult, PETSc.Mat]:
        """The same on the side of the rows, whose vectors are short for wide data."""
        X, moments, solver = self.X, self.moments, self.solver
        products = GramPasses(X, moments, self.single)
        is_loose = solver.tol >= SINGLE_TOLERANCE
        last = products if is_loose else GramPasses(X, moments, np.float64)
        found = solver.solve_by_blocks(self.kept(products), self.plan.width, loose=True)
        Q = _orthonormal(last.transposed(np.asarray(found.eigenvectors)))
        exact = self.shell(np.float64)
        first, end = ownership_range(X.n_features, self.comm)
        result = solver.certify(exact, Q[first:end], f"{found.solver} of the Gram matrix")
        result = replace(
            result,
            n_matvec=found.n_matvec,
            n_reductions=found.n_reductions,
            n_restarts=found.n_restarts,
            history=found.history,
            decisions=found.decisions,
            n_certificate_matvec=found.n_certificate_matvec + result.n_certificate_matvec,
        )
        return solver.refined(result, exact), exact


def _orthonormal(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthonormal basis, the same on every rank."""
    norms = np.linalg.norm(vectors, axis=0)
    return np.asarray(np.linalg.qr(vectors / np.where(norms > 0, norms, 1.0))[0])
