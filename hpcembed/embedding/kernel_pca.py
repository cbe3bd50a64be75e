"""Kernel principal components: dominant eigenpairs of the centred kernel of all rows, exact.

scikit-learn's names, numbers and sign rule, for rows on one computer or on many, without storing
the kernel where that does not fit: see :mod:`hpcembed.operators.kernel.kernel`. For many rows the
approximations of :mod:`hpcembed.embedding.nystroem` cost a small part of it.

Reference: Schoelkopf, Smola, Mueller, "Nonlinear component analysis as a kernel eigenvalue
problem", Neural Computation 10 (1998).

Deviations from scikit-learn: ``degree`` is a whole number; rows that the cosine cannot take are
refused; there is no inverse map and no kernel by callable; eigenvalues that are not known to be
positive have coordinates of zero.
"""

from __future__ import annotations

import time
from typing import Any, Literal, TypeVar

import numpy as np
from mpi4py import MPI

from hpcembed.data.matrix import DataMatrix, RowStream
from hpcembed.embedding.kernel_choice import (
    Gamma,
    check_kernel,
    choose_kernel,
)
from hpcembed.embedding.kernel_engines import (
    KernelRequest,
    find_kernel_components,
)
from hpcembed.embedding.kernel_model import KernelModel
from hpcembed.embedding.linear import available_bytes, n_nonzeros
from hpcembed.embedding.solving import SolverSettings, engine_tolerance
from hpcembed.operators import (
    KernelPlan,
    plan_kernel,
)
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["KernelPCA"]

Self = TypeVar("Self", bound="KernelPCA")

_ENGINES = ("auto", "matrix_free", "assembled", "lapack")


class KernelPCA(KernelModel):
    """Kernel principal component analysis.

    Parameters
    ----------
    n_components : int, optional
        At most the number of rows. None: all whose eigenvalue is not zero.
    kernel : {"linear", "poly", "rbf", "cosine"}
    gamma : float, {"auto", "scale", "median"} or None
        Of rbf and poly. auto and None: 1 / n_features. scale: 1 / (n_features times the variance of
        all entries). median: ``1 / (2 s^2)``, s the median distance of seeded rows.
    degree : int
        Of poly.
    coef0 : float
        Of poly.
    eigen_solver : {"auto", "matrix_free", "assembled", "lapack"}
        auto asks the cost model (:mod:`hpcembed.operators.kernel.cost`).
    tol : float, optional
        Largest true residual, relative to the largest eigenvalue. Default: 1e-6 for rows in
        single precision or short integers, 1e-10 for double.
    remove_zero_eig : bool
        Leave components out whose eigenvalue is zero; so it is done where `n_components` is None.
    random_state : int, RandomState or None
        Of the start vectors, and of gamma = "median"; None is 0, so that results repeat.
    memory_limit : int, optional
        Bytes that one rank may take. Default: its share of what is free.
    n_threads : int, optional
        BLAS threads per rank. Default: those that BLAS uses.
    solver : SolverSettings, optional
        How the eigenproblem is solved, for those who want to say. A reference is made only where
        the kernel is stored: it goes by single vectors, each of which would cost a kernel.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (k,)
        Of the centred kernel, largest first.
    eigenvectors_ : ndarray of shape (n_local, k)
        Unit vectors: of this rank's training rows. The largest entry of each is positive.
    gamma_ : float or None
        The number that was used; None for kernels without.
    kernel_ : Kernel
    residual_norms_ : ndarray of shape (k,)
        ``||K v - lambda v||`` in double.
    negligible_ : ndarray of bool, shape (k,)
        Components whose eigenvalue is not known to be positive.
    explained_variance_, explained_variance_ratio_ : ndarray of shape (k,)
        Variance of the coordinates, and its share of that in the space of the kernel.
    converged_reason_ : str
    certified_ : bool
        Every pair meets its tolerance, and no reference has a larger eigenvalue in its place.
    n_passes_ : int
        Times that the kernel was gone through.
    n_requested_, n_features_in_, n_samples_ : int
    result_, reference_, comparison_, reference_sin_angle_
        The solver's answer, and that of the reference.
    plan_ : KernelPlan
    seconds_ : dict of str to float
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        kernel: Literal["linear", "poly", "rbf", "cosine"] = "linear",
        gamma: Gamma = None,
        degree: int = 3,
        coef0: float = 1,
        eigen_solver: Literal["auto", "matrix_free", "assembled", "lapack"] = "auto",
        tol: float | None = None,
        remove_zero_eig: bool = False,
        random_state: Any = None,
        memory_limit: int | None = None,
        n_threads: int | None = None,
        solver: SolverSettings | None = None,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.eigen_solver = eigen_solver
        self.tol = tol
        self.remove_zero_eig = remove_zero_eig
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_threads = n_threads
        self.solver = solver

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the components of the rows of `X`, which are kept, not copied, for transforms.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, or array or sparse matrix of shape (n_local, d)
        y : ignored
        comm : MPI.Comm, optional
            Where `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError, ValueError
            Rows that cannot be used, fewer than two, or more components than rows.
        ConfigError
            Settings that do not fit.
        MemoryLimitError
            Before anything large is allocated.
        ConvergenceError
            When a pair missed its tolerance and ``solver.on_no_convergence`` is "raise".
        """
        data, seed = self._begin(X, comm)
        if isinstance(data, RowStream):
            raise InputError(
                "kernel PCA reads all rows for each of them: load them into memory, or use Nystroem"
            )
        k = self._wanted(data)
        began = time.perf_counter()
        choice = choose_kernel(data, self.kernel, self.gamma, self.degree, self.coef0, seed)
        self.kernel_, self._origin = choice.kernel, choice.origin
        self.gamma_ = choice.kernel.gamma if self.kernel in ("rbf", "poly") else None
        self.plan_ = self._plan(data, k)
        request = KernelRequest(
            k=k,
            tol=self._tolerance(data),
            seed=seed,
            memory_bytes=available_bytes(data, self.memory_limit),
            solver=self._settings,
        )
        chosen = data.comm.allreduce(time.perf_counter() - began, op=MPI.MAX)
        found = find_kernel_components(data, choice, self.plan_, request)
        self.seconds_ = {**found.seconds, "operator": chosen + found.seconds["operator"]}
        self.n_passes_ = found.n_passes
        drop = self.remove_zero_eig or self.n_components is None
        self._keep(found, data, drop_zeros=drop)
        self._end(data, found.result, found.reference, k)
        return self

    def _check_settings(self) -> None:
        k = self.n_components
        if k is not None and (isinstance(k, bool) or not isinstance(k, int | np.integer)):
            raise ConfigError(f"n_components must be an integer or None, got {k!r}")
        if self.eigen_solver not in _ENGINES:
            raise ConfigError(
                f"eigen_solver = {self.eigen_solver!r} is not one of {', '.join(_ENGINES)}"
            )
        check_kernel(self.kernel, self.gamma, self.degree, self.coef0)
        super()._check_settings()

    def _wanted(self, X: DataMatrix) -> int:
        k = self.n_components
        if k is None:
            return X.n_rows
        if not 1 <= k <= X.n_rows:
            raise InputError(
                f"need 1 <= n_components <= rows, got n_components={k} with {X.n_rows} rows"
            )
        return int(k)

    def plan(self, X: DataMatrix) -> KernelPlan:
        """What :meth:`fit` would do with rows that are there. Collective."""
        return self._plan(X, self._wanted(X))

    def _plan(self, X: DataMatrix, k: int) -> KernelPlan:
        settings = self._settings
        return plan_kernel(
            X.n_rows,
            X.n_features,
            k,
            ranks=X.comm.size,
            threads=self._threads(self.n_threads, X.comm),
            available_bytes=available_bytes(X, self.memory_limit),
            n_nonzeros=n_nonzeros(X),
            tol=engine_tolerance(self._tolerance(X), relative=settings.criterion == "relative"),
            single_vector=settings.needs_single_vectors,
            no_lapack=settings.name != "auto",
            kind=self.eigen_solver,
        )

    @property
    def operator_(self) -> str:
        """The operator and how it was held."""
        return f"kernel ({self.kernel_.text}), {self.plan_.kind.replace('_', '-')}"
