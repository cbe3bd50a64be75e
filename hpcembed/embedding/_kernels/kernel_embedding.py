"""Base of kernel estimators: the kernel of given rows, and the engines of its exact eigenpairs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.embedding._eigensolver import Eigensolver
from hpcembed.embedding._estimator import RowEstimator
from hpcembed.embedding.protocol import Spectrum
from hpcembed.operators.block_shell import block_shell
from hpcembed.operators.cost import EnginePlan
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.operators.kernel.centred_kernel import KernelPasses, KernelRows
from hpcembed.operators.kernel.kernel_functions import KERNELS, Kernel, largest_entries
from hpcembed.operators.kernel.row_panels import RowsOfAll
from hpcembed.operators.kernel.sampled_rows import sampled_rows
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.arguments import check_choice, is_number
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import gather_rows, timed
from miramns import EigenResult

__all__ = ["Gamma", "KernelEmbedding", "KernelSearch", "check_rows"]

Gamma = float | Literal["auto", "scale", "median"] | None

#: Rows whose distances give the median.
_MEDIAN_ROWS = 1000


class KernelEmbedding(RowEstimator):
    """Base of estimators whose coordinates are principal ones in the space of a kernel.

    Subclasses set ``eigenvalues_`` and ``trace_``, of the centred kernel or its approximation.
    """

    components_name = "kernel principal components"

    kernel: Literal["linear", "poly", "rbf", "cosine"]
    gamma: Gamma
    degree: int
    coef0: float

    kernel_: Kernel
    gamma_: float | None
    trace_: float

    #: Coordinates are not an affine function of the features.
    linear_map_ = None

    def _check_parameters(self) -> None:
        gamma, degree = self.gamma, self.degree
        check_choice("kernel", self.kernel, KERNELS)
        if isinstance(gamma, str) and gamma not in ("auto", "scale", "median"):
            raise ConfigError(
                f"gamma = {gamma!r} is neither a number nor one of auto, scale, median"
            )
        if not (gamma is None or isinstance(gamma, str) or (is_number(gamma) and gamma > 0)):
            raise ConfigError(f"gamma must be a positive number, got {gamma!r}")
        if not (is_number(degree) and degree == int(degree) and 1 <= degree <= 100):
            raise ConfigError(f"degree must be a whole number from 1 to 100, got {degree!r}")
        if not is_number(self.coef0):
            raise ConfigError(f"coef0 must be a finite number, got {self.coef0!r}")
        super()._check_parameters()

    def _choose_kernel(
        self, X: RowSource, seed: int, *, shifted: bool
    ) -> NDArray[np.float64] | None:
        """Set ``kernel_`` and ``gamma_`` for these rows, which are checked.

        Collective.

        Parameters
        ----------
        shifted : bool
            Whether rows are shifted by their mean before ``rbf`` is evaluated.

        Returns
        -------
        ndarray of shape (d,) or None
            The mean of dense rows, for ``rbf`` that is shifted.

        Raises
        ------
        InputError
            On all ranks: rows that are not finite or, for the cosine, zero; no spread to scale by.
        """
        with agreement(X.comm):
            check_rows(X, self.kernel)
        gamma, origin, value = self.gamma, None, 1.0
        has_gamma = self.kernel in ("rbf", "poly")
        shifted = shifted and self.kernel == "rbf" and not X.is_sparse
        if shifted or (has_gamma and gamma == "scale"):
            mean, variances = column_moments(X)
            origin = mean if shifted else None
            n = X.n_rows
            spread = float(variances.mean()) * (n - 1) / n + float(mean.var())
        if has_gamma:
            value = 1.0 / X.n_features
            if gamma == "scale":
                value = 1.0 / (X.n_features * spread) if spread > 0 else 0.0
            elif gamma == "median":
                value = _median_gamma(X, seed)
            elif is_number(gamma):
                value = float(gamma)
            if not 0 < value < math.inf:
                raise InputError(
                    f"gamma = {gamma!r}: these rows have no spread, as most of them are equal: "
                    "give gamma as a number"
                )
        self.kernel_ = Kernel(self.kernel, value, int(self.degree), float(self.coef0))
        self.gamma_ = value if has_gamma else None
        return origin

    def _finish(
        self,
        X: RowSource,
        solver: Eigensolver,
        result: EigenResult,
        reference: EigenResult | None,
        n_requested: int,
    ) -> None:
        """Keep the moments of the features, and certify. Collective."""
        # of rows that only the cosine accepts, squares may be beyond the range
        with np.errstate(over="ignore", invalid="ignore"):
            self.feature_means_, self.feature_variances_ = column_moments(X)
        self._certify(X.comm, solver, result, reference, n_requested)

    @property
    def explained_variance_(self) -> NDArray[np.float64]:
        """Variances of the coordinates of the training rows."""
        return self.eigenvalues_ / max(self.n_samples_ - 1, 1)

    @property
    def explained_variance_ratio_(self) -> NDArray[np.float64]:
        """Shares of the variance in the space of the kernel."""
        return self.eigenvalues_ / (self.trace_ if self.trace_ > 0 else 1.0)

    @property
    def spectrum_(self) -> Spectrum:
        """Eigenvalues of the centred kernel, and their shares of its trace."""
        share = self.explained_variance_ratio_
        return Spectrum(self.eigenvalues_, "", share, share_of="kernel variance")

    @property
    def coordinate_means_(self) -> NDArray[np.float64]:
        """Means of the training rows' coordinates: zero, as they are centred."""
        return np.zeros(len(self.eigenvalues_))

    @property
    def coordinate_deviations_(self) -> NDArray[np.float64]:
        """Standard deviations of the training rows' coordinates."""
        return np.sqrt(np.maximum(self.eigenvalues_, 0.0) / self.n_samples_)


@dataclass
class KernelSearch:
    """Search for the eigenpairs of the centred kernel of rows by the engine of a plan.

    Attributes
    ----------
    X : DataMatrix
    kernel : Kernel
    origin : ndarray of shape (d,) or None
        Shift of the rows.
    plan : EnginePlan
    solver : Eigensolver
    seconds : dict of str to float
        Receives the wall time of ``operator`` and ``solve``.
    mats : list of PETSc.Mat
        Matrices of the search, which are destroyed at its end.
    row_means : ndarray of shape (n_local,)
        Means of this rank's rows of the kernel.
    trace : float
        Trace of the centred kernel.
    n_passes : int
        Passes over the kernel, in either precision.
    """

    X: DataMatrix
    kernel: Kernel
    origin: NDArray[np.float64] | None
    plan: EnginePlan
    solver: Eigensolver
    seconds: dict[str, float]
    mats: list[PETSc.Mat] = field(default_factory=list)
    row_means: NDArray[np.float64] = field(init=False)
    trace: float = field(init=False)
    n_passes: int = field(init=False)

    def run(self) -> tuple[EigenResult, EigenResult | None]:
        """Find the pairs, and those of the reference. Collective."""
        engine = self.plan.engine
        form = KernelPasses if engine == "matrix_free" else KernelRows
        formed: list[KernelPasses | KernelRows] = []
        reference = None
        try:
            with timed(self.X.comm, self.seconds, "solve"):
                if self.plan.single:
                    formed = [self.formed(form, np.float32), self.formed(KernelPasses, np.float64)]
                    approximation, certifying = self.mats
                    result = self.solver.solve_in_single(approximation, certifying, self.plan.width)
                else:
                    formed = [self.formed(form, np.float64)]
                    result = self.in_double(self.mats[0], formed[0])
                exact = formed[-1]
                if exact.row_means is None:  # no product in double precision was made
                    exact.mult_block(np.empty((self.X.n_local, 0)), np.empty((self.X.n_local, 0)))
            if engine != "matrix_free":
                reference = self.solver.reference(self.mats[0])
        finally:
            for mat in self.mats:
                mat.destroy()
        assert exact.row_means is not None  # set by the first product in double precision
        self.row_means, self.n_passes = exact.row_means, sum(one.n_passes for one in formed)
        trace = exact.rows.diagonal_sum() - float(exact.row_means.sum())
        self.trace = float(self.X.comm.allreduce(trace))
        return result, reference

    def formed(
        self, form: type[KernelPasses] | type[KernelRows], dtype: type[np.floating[Any]]
    ) -> KernelPasses | KernelRows:
        """Return the products of the kernel in some precision; their matrix is in ``mats``."""
        with timed(self.X.comm, self.seconds, "operator", within="solve"):
            products = form(RowsOfAll(self.X, self.kernel, self.origin, dtype))
        self.mats.append(block_shell(products))
        return products

    def in_double(self, mat: PETSc.Mat, products: KernelPasses | KernelRows) -> EigenResult:
        """Find the pairs of the kernel in double precision. Collective."""
        if self.plan.engine == "lapack":
            assert isinstance(products, KernelRows)  # LAPACK needs them stored
            return self.solver.lapack(mat, self.whole_kernel(products.stored))
        if self.solver.settings.needs_single_vectors:
            return self.solver.solve(mat)
        return self.solver.solve_by_blocks(mat, self.plan.width)

    def whole_kernel(self, stored: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return the centred kernel on rank 0, None on other ranks. Collective."""
        whole, is_finite = gather_rows(self.X.comm, stored), True
        if whole is not None and (is_finite := bool(np.isfinite(whole).all())):
            means = whole.mean(axis=0)
            whole -= means
            whole -= means[:, None] - means.mean()
        if not self.X.comm.bcast(is_finite):
            raise InputError(
                f"the kernel ({self.kernel.text}) is not finite: scale the data, or lower "
                "gamma, degree or coef0"
            )
        return whole


def check_rows(X: RowSource, kernel: str) -> None:
    """Raise InputError for a row of this rank that the kernel does not accept.

    Not collective: one pass over the rows.
    """
    for first, block in X.blocks():
        row = X.row_range[0] + first
        if kernel == "cosine":
            sizes = largest_entries(block)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                sizes = np.asarray(abs(block).sum(axis=1)).ravel()
        wrong = np.flatnonzero(~np.isfinite(sizes))
        if wrong.size:
            raise InputError(f"row {row + wrong[0]} is not finite: check the data for NaN or Inf")
        if kernel == "cosine" and not sizes.all():
            raise InputError(
                f"row {row + int(np.argmin(sizes))} is zero and has no direction: leave such rows "
                "out, or choose another kernel than cosine"
            )


def _median_gamma(X: RowSource, seed: int) -> float:
    """Return ``1 / (2 s^2)``, s the median distance of sampled rows. Collective."""
    rows = sampled_rows(X, min(_MEDIAN_ROWS, X.n_rows), seed)
    value = 0.0
    if X.comm.rank == 0:
        rows = rows - rows.mean(axis=0) if isinstance(rows, np.ndarray) else rows
        products = rows @ rows.T
        products = products if isinstance(products, np.ndarray) else products.toarray()
        squares = products.diagonal()
        distances = squares[:, None] + squares - 2.0 * products
        median = float(np.median(distances[np.triu_indices(len(distances), 1)]))
        # the remaining distance of equal rows is rounding
        value = 0.5 / median if median > 1e-12 * float(squares.max(initial=0.0)) else 0.0
    return float(X.comm.bcast(value, root=0))
