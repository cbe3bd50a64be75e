"""The exact eigenpairs of a centred kernel, each with its certificate.

Tiles in single precision make the space, one pass in double judges it; a run that does not pass
goes on in double from where it stands. Blocks of vectors throughout, as a pass over a kernel that
is not stored costs the kernel.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

import miramns
from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding.kernel_choice import KernelChoice
from hpcembed.embedding.solving import SolverSettings, krylov_schur, solver_errors
from hpcembed.operators import (
    SINGLE_TOLERANCE,
    KernelPasses,
    KernelPlan,
    KernelRows,
    RowsOfAll,
    kernel_shell,
    kernel_sizes,
)
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import gather_rows
from miramns import EigenResult

__all__ = ["KernelComponents", "KernelRequest", "find_kernel_components"]


@dataclass(frozen=True)
class KernelRequest:
    """What is to be found.

    Attributes
    ----------
    k : int
    tol : float
    seed : int
    memory_bytes : int
        What one rank may take.
    solver : SolverSettings
    """

    k: int
    tol: float
    seed: int
    memory_bytes: int
    solver: SolverSettings


@dataclass(frozen=True)
class KernelComponents:
    """What was found.

    Attributes
    ----------
    result : EigenResult
        Eigenpairs of the centred kernel, rows of the vectors distributed as those of the data.
    reference : EigenResult or None
    row_means : ndarray of shape (n_local,)
        Of this rank's rows of the kernel.
    trace : float
        Of the centred kernel.
    n_passes : int
        Times that the kernel was gone through, in either precision.
    seconds : dict of str to float
        Wall time of ``operator`` and ``solve`` on the slowest rank.
    """

    result: EigenResult
    reference: EigenResult | None
    row_means: NDArray[np.float64]
    trace: float
    n_passes: int
    seconds: dict[str, float]


def find_kernel_components(
    X: DataMatrix, choice: KernelChoice, plan: KernelPlan, request: KernelRequest
) -> KernelComponents:
    """Find the k dominant eigenpairs of the centred kernel of the rows. Collective."""
    search = _Search(X, choice, plan, request)
    reference = None
    began = time.perf_counter()
    try:
        with solver_errors():
            result, exact = search.run()
            if exact.row_means is None:
                search.take_means(exact)
        total = time.perf_counter() - began
        if request.solver.reference and plan.kind != "matrix_free":
            reference = krylov_schur(search.mats[0], request.k, tol=request.tol, seed=request.seed)
    finally:
        for mat in search.mats:
            mat.destroy()
    assert exact.row_means is not None  # taken above
    passes = sum(product.n_passes for product in search.products)
    spent = np.array([search.forming, total - search.forming])
    X.comm.Allreduce(MPI.IN_PLACE, spent, op=MPI.MAX)
    trace = float(X.comm.allreduce(exact.rows.diagonal_sum() - float(exact.row_means.sum())))
    seconds = dict(zip(("operator", "solve"), spent.tolist(), strict=True))
    return KernelComponents(result, reference, exact.row_means, trace, passes, seconds)


class _Search:
    """Operators of one search, and what is to be freed."""

    def __init__(
        self, X: DataMatrix, choice: KernelChoice, plan: KernelPlan, request: KernelRequest
    ) -> None:
        self.X, self.choice, self.plan, self.request = X, choice, plan, request
        self.comm: MPI.Comm = X.comm
        self.mats: list[PETSc.Mat] = []
        self.products: list[KernelPasses | KernelRows] = []
        self.forming = 0.0

    def rows(self, dtype: type[np.floating[Any]]) -> RowsOfAll:
        return RowsOfAll(self.X, self.choice.kernel, self.choice.origin, dtype)

    def formed(
        self, dtype: type[np.floating[Any]], kind: type[KernelPasses] | type[KernelRows]
    ) -> KernelPasses | KernelRows:
        began = time.perf_counter()
        products = kind(self.rows(dtype))
        self.forming += time.perf_counter() - began
        return products

    def kept(self, products: KernelPasses | KernelRows) -> PETSc.Mat:
        mat = kernel_shell(products)
        self.mats.append(mat)
        self.products.append(products)
        return mat

    def run(self) -> tuple[EigenResult, KernelPasses | KernelRows]:
        """The eigenpairs, and the operator in double that judged them."""
        if self.plan.kind == "lapack":
            return self.lapack()
        form = KernelRows if self.plan.kind == "assembled" else KernelPasses
        if not self.plan.single:
            exact = self.formed(np.float64, form)
            mat = self.kept(exact)
            single = self.request.solver.needs_single_vectors
            return (self.singly(mat) if single else self.solve(mat)), exact
        approximate = self.kept(self.formed(np.float32, form))
        judge = self.formed(np.float64, KernelPasses)
        mat = self.kept(judge)
        try:
            found = self.solve(approximate, exact=mat)
        except miramns.OperatorError:
            # beyond the range of single precision, or not finite at all: double will tell
            return self.solve(mat), judge
        if found.converged:
            return found, judge
        return self.refined(mat, found), judge

    def solve(
        self, mat: PETSc.Mat, *, start: NDArray[np.float64] | None = None, **options: Any
    ) -> EigenResult:
        request, solver, width = self.request, self.request.solver, self.plan.width
        tol = max(request.tol, SINGLE_TOLERANCE) if "exact" in options else request.tol
        options = {
            "block_size": width,
            "nested_sizes": kernel_sizes(request.k, width, self.X.n_rows),
            **options,
        }
        return miramns.solve(
            mat,
            request.k,
            which="LA",
            hermitian=True,
            tol=tol,
            max_it=solver.max_it,
            seed=request.seed,
            start=start,
            variant="block",
            monitor=solver.on_check,
            options=miramns.Options(
                criterion=solver.criterion,
                memory_bytes=request.memory_bytes,
                # blocks hold multiple eigenvalues, and a search goes by single vectors
                multiplicity_check="never",
                **options,
            ),
        )

    def singly(self, mat: PETSc.Mat) -> EigenResult:
        """By single vectors, as settings of other solvers than blocks want it. Collective."""
        request, solver = self.request, self.request.solver
        if solver.name == "krylovschur":
            limits = {"max_it": solver.max_it, "ncv": solver.ncv or None}
            return krylov_schur(mat, request.k, tol=request.tol, seed=request.seed, **limits)
        published = solver.variant == "published"
        return miramns.solve(
            mat,
            request.k,
            which="LA",
            hermitian=True,
            tol=request.tol,
            max_it=solver.max_it,
            ncv=solver.ncv or None,
            variant=solver.variant,
            seed=request.seed,
            monitor=solver.on_check,
            options=miramns.Options(
                criterion="relative" if published else solver.criterion,
                nested_sizes=solver.nested or None,
                memory_bytes=request.memory_bytes,
            ),
        )

    def refined(self, mat: PETSc.Mat, found: EigenResult) -> EigenResult:
        """Go on in double from the vectors found so far. Collective."""
        k, n = self.request.k, self.X.n_rows
        width = min(k + max(2, k // 8), n)
        result = self.solve(
            mat,
            block_size=width,
            nested_sizes=kernel_sizes(k, width, n),
            start=np.asarray(found.eigenvectors),
        )
        return dataclasses.replace(
            result,
            n_matvec=found.n_matvec + result.n_matvec,
            n_certificate_matvec=found.n_certificate_matvec + result.n_certificate_matvec,
            history=found.history + result.history,
            decisions=(*found.decisions, "went on in double precision", *result.decisions),
        )

    def lapack(self) -> tuple[EigenResult, KernelRows]:
        """The whole kernel on one rank, and its vectors judged where the rows are."""
        products = self.formed(np.float64, KernelRows)
        assert isinstance(products, KernelRows)  # as asked
        mat = self.kept(products)
        vectors = self._leading(products.stored)
        result = miramns.certify(
            mat,
            vectors,
            which="LA",
            tol=self.request.tol,
            criterion=self.request.solver.criterion,
            solver="LAPACK",
        )
        return result, products

    def _leading(self, stored: NDArray[np.float64]) -> NDArray[np.float64]:
        """This rank's rows of the leading vectors; solved on one rank, so that all agree."""
        n, k, comm = self.X.n_rows, self.request.k, self.comm
        whole = gather_rows(comm, stored)
        vectors = np.empty((n, k))
        finite = True
        if whole is not None:
            finite = bool(np.isfinite(whole).all())
            if finite:
                means = whole.mean(axis=0)
                # a copy: on one rank these are the rows themselves
                whole = whole - means
                whole -= means[:, None] - means.mean()
                _, found = scipy.linalg.eigh(whole, subset_by_index=(n - k, n - 1))
                vectors[:] = found[:, ::-1]
        if not comm.bcast(finite):
            raise InputError(
                f"the kernel ({self.choice.kernel.text}) is not finite: scale the data, or lower "
                "gamma, degree or coef0"
            )
        comm.Bcast(vectors, root=0)
        first, last = self.X.row_range
        return vectors[first:last]

    def take_means(self, exact: KernelPasses | KernelRows) -> None:
        """Means of the kernel's rows, where no product in double has told them. Collective."""
        nothing = np.empty((self.X.n_local, 0))
        exact.mult_block(nothing, nothing)
