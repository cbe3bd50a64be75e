"""Kernel principal components: dominant eigenpairs of the centred kernel of all rows, exact.

scikit-learn's names, numbers and sign rule, for rows on one computer or on many, without storing
the kernel where that does not fit: see :mod:`hpcembed.operators.kernel`. For many rows the
approximations of :mod:`hpcembed.embedding.kernel_features` cost a small part of it.

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
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hpcembed.embedding.kernel_base import KernelEmbedding
from hpcembed.embedding.kernel_choice import (
    Gamma,
    check_kernel,
    check_rows,
    choose_kernel,
)
from hpcembed.embedding.kernel_engines import (
    KernelComponents,
    KernelRequest,
    find_kernel_components,
)
from hpcembed.embedding.linear import available_bytes, n_nonzeros, wrapped
from hpcembed.embedding.solving import SolverSettings, engine_tolerance
from hpcembed.errors import ConfigError, InputError
from hpcembed.matrix import DataMatrix, RowStream
from hpcembed.operators import (
    KernelPlan,
    RowsOfAll,
    kernel_coordinates,
    plan_kernel,
)
from hpcembed.parallel import agreement, sum_over_ranks
from hpcembed.rows import assign

__all__ = ["KernelPCA"]

Self = TypeVar("Self", bound="KernelPCA")

_ENGINES = ("auto", "matrix_free", "assembled", "lapack")

#: Eigenvalues below this share of the largest are zero, as scikit-learn has it.
_NOTHING = 1e-12


class KernelPCA(KernelEmbedding):
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
        auto asks the cost model (:mod:`hpcembed.operators.kernel_cost`).
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

    def __getstate__(self) -> dict[str, Any]:
        """With the training rows, which transforms need; they must be all on this rank.

        Raises
        ------
        ConfigError
        """
        train = self.__dict__.get("_train")
        state = dict(super().__getstate__())
        if train is not None:
            if train.comm.size > 1:
                raise ConfigError(
                    "the training rows lie on several ranks and cannot be copied with the model: "
                    "use Nystroem, whose models are small"
                )
            state["_train"] = _held(train)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_train" in state:
            self._train = wrapped(state["_train"], MPI.COMM_SELF)

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
        self._keep(found, data)
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

    def _keep(self, found: KernelComponents, X: DataMatrix) -> None:
        result = found.result
        values = np.asarray(result.eigenvalues, dtype=np.float64)
        floor = _NOTHING * max(float(np.max(values, initial=0.0)), 0.0)
        residuals = np.asarray(result.residual_norms)
        negligible = values <= np.maximum(floor, residuals)
        keep = np.ones(len(values), dtype=bool)
        if self.remove_zero_eig or self.n_components is None:
            keep = ~negligible
        self.n_passes_, self.trace_ = found.n_passes, found.trace
        self.residual_norms_, self.negligible_ = residuals[keep], negligible[keep]
        self.eigenvalues_ = np.where(negligible, np.maximum(values, 0.0), values)[keep]
        self.eigenvectors_ = np.ascontiguousarray(np.asarray(result.eigenvectors)[:, keep])
        self._train = X
        # a zero in the place of what cannot be divided by
        roots = np.sqrt(np.where(self.negligible_, 1.0, self.eigenvalues_))
        scaled = self.eigenvectors_ * np.where(self.negligible_, 0.0, 1.0 / roots)
        scaled -= sum_over_ranks(X.comm, scaled.sum(axis=0)) / X.n_rows
        self._coefficients = scaled
        self._offset = sum_over_ranks(X.comm, found.row_means @ scaled)

    def fit_transform(
        self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None
    ) -> NDArray[Any]:
        """Coordinates of the training rows, which the eigenvectors hold. As :meth:`fit`."""
        self.fit(X, comm=comm)
        roots = np.sqrt(np.where(self.negligible_, 0.0, self.eigenvalues_))
        single = not isinstance(X, DataMatrix) and self._train.stored_type == np.float32
        return (self.eigenvectors_ * roots).astype(np.float32 if single else np.float64)

    def transform(self, X: Any, dtype: type[np.floating[Any]] | None = None) -> NDArray[Any]:
        """Coordinates of rows in the components.

        Collective where the training rows lie on several ranks: they travel to all of them, each
        of which transforms its own rows, perhaps none.

        Parameters
        ----------
        X : DataMatrix, or array or sparse matrix of shape (n_local, d)
        dtype : {float64, float32}, optional
            Of the result. Default: float32 for float32 arrays, float64 otherwise.

        Returns
        -------
        ndarray of shape (n_local, k)

        Raises
        ------
        InputError, ValueError
            When `X` has another number of features than the data of :meth:`fit`, or rows that the
            kernel cannot take.
        """
        check_is_fitted(self)
        if isinstance(X, RowStream):
            raise InputError("kernel PCA transforms rows in memory: load them, or use Nystroem")
        rows = self._given_rows(X)
        single = not isinstance(X, DataMatrix) and rows.stored_type == np.float32
        embedded = np.empty(
            (rows.n_local, self._coefficients.shape[1]), dtype or (np.float32 if single else float)
        )
        train = RowsOfAll(self._train, self.kernel_, self._origin, np.float64)
        coordinates = kernel_coordinates(train, self._coefficients, rows)
        with agreement(self.comm_):
            assign(embedded, coordinates - self._offset)
        return embedded

    def _given_rows(self, X: Any) -> DataMatrix:
        """Rows to transform; refused on all ranks or none. Collective where distributed."""
        with agreement(self.comm_):
            try:
                rows = self._rows(X)
            except (ValueError, TypeError) as error:
                if self.comm_.size == 1:
                    raise
                raise InputError(str(error)) from error
            check_rows(rows, self.kernel)
        return rows  # type: ignore[return-value]

    @property
    def operator_(self) -> str:
        """The operator and how it was held."""
        return f"kernel ({self.kernel_.text}), {self.plan_.kind.replace('_', '-')}"

    @property
    def _n_features_out(self) -> int:
        return int(self.eigenvalues_.shape[0])


def _held(X: DataMatrix) -> Any:
    """The scaled rows as one array or sparse matrix. Not collective."""
    if not X.is_sparse:
        return X.dense_rows(np.float64)
    return scipy.sparse.vstack([block for _, block in X.blocks()], format="csr")
