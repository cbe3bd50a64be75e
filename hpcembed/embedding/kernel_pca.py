"""Kernel principal components: dominant eigenpairs of the centred kernel of all rows, exact.

Names, numbers and signs are scikit-learn's. Rows may be distributed, and the kernel is not stored
where it does not fit: see :mod:`hpcembed.operators.kernel.centred_kernel`. For many rows the
approximations of :mod:`hpcembed.embedding.nystroem` cost a small part of it.

Reference: Schoelkopf, Smola, Mueller, "Nonlinear component analysis as a kernel eigenvalue
problem", Neural Computation 10 (1998).

Deviations from scikit-learn: ``degree`` is a whole number; rows that the cosine does not accept are
refused; there is no kernel by callable; eigenvalues that are not known to be positive have
coordinates of zero.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from hpcembed.data.matrix import DataMatrix, RowStream
from hpcembed.data.row_validation import assign
from hpcembed.embedding._eigensolver import Eigensolver
from hpcembed.embedding._estimator import wrapped
from hpcembed.embedding._kernel import Gamma, KernelEmbedding, KernelSearch, check_rows
from hpcembed.embedding._parameters import check_components
from hpcembed.embedding.protocol import Machine, Shape, shape_of
from hpcembed.operators.cost import EnginePlan
from hpcembed.operators.kernel.inverse_map import inverse_coefficients
from hpcembed.operators.kernel.kernel_plan import KERNEL_BLOCKS, KERNEL_ENGINES, plan_kernel
from hpcembed.operators.kernel.row_panels import RowsOfAll, kernel_coordinates
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.arguments import check_choice, check_count, is_number
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import sum_over_ranks, timed
from miramns import EigenResult

__all__ = ["KernelPCA"]

Self = TypeVar("Self", bound="KernelPCA")

#: Eigenvalues below this share of the largest are zero, as in scikit-learn.
_NEGLIGIBLE = 1e-12


@dataclass(eq=False, repr=False)
class KernelPCA(KernelEmbedding):
    """Kernel principal component analysis.

    Parameters
    ----------
    n_components : int, optional
        At most the number of rows. None: all whose eigenvalue is not zero.
    kernel : {"linear", "poly", "rbf", "cosine"}, default="linear"
    gamma : float, {"auto", "scale", "median"} or None, default=None
        Parameter of rbf and poly. auto and None: 1 / n_features. scale: 1 / (n_features times the
        variance of all entries). median: ``1 / (2 s^2)``, s the median distance between pairs of at
        most 1,000 rows, chosen by the seed.
    degree : int, default=3
        Parameter of poly.
    coef0 : float, default=1
        Parameter of poly.
    engine : {"auto", "matrix_free", "assembled", "lapack"}, default="auto"
        How the kernel is held and multiplied; auto follows the cost model
        (:mod:`hpcembed.operators.kernel.kernel_plan`).
    tol : float, optional
        Largest true residual, relative to the largest eigenvalue. Default: 1e-6 for rows in
        single precision or short integers, 1e-10 for double.
    alpha : float, default=1.0
        Ridge of the regression that inverts the coordinates.
    fit_inverse_transform : bool, default=False
        Fit that regression, for :meth:`inverse_transform`: rank 0 solves a dense system of all
        rows, which takes ``8 n^2`` bytes.
    copy_X : bool, default=True
        Copy an array, so that it may be changed after :meth:`fit`. A DataMatrix is never copied.
    remove_zero_eig : bool, default=False
        Drop components whose eigenvalue is zero, as for ``n_components=None``.
    random_state : int, RandomState or None, default=None
        Seed of the start vectors, and of gamma = "median"; None is 0, so that results repeat.
    memory_limit : int, optional
        Bytes that one rank may take. Default: its share of the free memory.
    n_threads : int, optional
        BLAS threads per rank. Default: those that BLAS uses.
    solver : SolverSettings, optional
        Settings of the eigensolver. A reference is made only where the kernel is stored: it uses
        single vectors, each of which would cost a kernel.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (k,)
        Eigenvalues of the centred kernel, largest first.
    eigenvectors_ : ndarray of shape (n_local, k)
        This rank's rows of unit vectors. The largest entry of each is positive.
    gamma_ : float or None
        The number in use; None for kernels without.
    kernel_ : Kernel
    trace_ : float
        Trace of the centred kernel.
    residual_norms_ : ndarray of shape (k,)
        ``||K v - lambda v||`` in double precision.
    negligible_ : ndarray of bool, shape (k,)
        Components whose eigenvalue is not known to be positive.
    explained_variance_, explained_variance_ratio_ : ndarray of shape (k,)
        Variance of the coordinates, and its share in the space of the kernel.
    converged_reason_ : str
    certified_ : bool
        Whether every pair meets its tolerance, and no reference has a larger eigenvalue at the
        same position.
    n_passes_ : int
        Number of passes over the kernel.
    n_requested_, n_features_in_, n_samples_ : int
    result_, reference_, comparison_, reference_sin_angle_
        Result of the solver, and that of the reference.
    plan_ : EnginePlan
    seconds_ : dict of str to float

    See Also
    --------
    Nystroem : Approximation by landmarks, for many rows.
    RandomFourierFeatures : Approximation of rbf by random features.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from hpcembed import KernelPCA
    >>> X = load_digits().data[:200] / 16
    >>> model = KernelPCA(2, kernel="rbf", gamma=0.05).fit(X)
    >>> model.eigenvalues_.round(3)
    array([10.596,  8.877])
    >>> model.certified_, model.transform(X[:3]).shape
    (True, (3, 2))
    """

    n_components: int | None = None
    _: KW_ONLY
    kernel: Literal["linear", "poly", "rbf", "cosine"] = "linear"
    gamma: Gamma = None
    degree: int = 3
    coef0: float = 1
    engine: Literal["auto", "matrix_free", "assembled", "lapack"] = "auto"
    alpha: float = 1.0
    fit_inverse_transform: bool = False
    remove_zero_eig: bool = False
    copy_X: bool = True  # noqa: N815 - scikit-learn's name
    memory_limit: int | None = None
    n_threads: int | None = None

    def plan(self, shape: Shape, machine: Machine) -> EnginePlan:
        """Return the plan that :meth:`fit` makes for data of this shape.

        Raises
        ------
        MemoryLimitError
            If the requested engine does not fit, or none does.
        """
        settings, engine, n = self._settings, self.engine, shape.n_train
        if settings.name == "lapack" and engine == "auto":
            engine = "lapack"
        return plan_kernel(
            shape,
            n if self.n_components is None else min(int(self.n_components), n),
            machine,
            tol=settings.relative_to_largest(self._tolerance(shape.item_bytes)),
            single_vector=settings.needs_single_vectors,
            no_lapack=not settings.allows_lapack,
            engine=engine,
        )

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the components of the rows of `X`, which are kept for transforms.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, or array or sparse matrix of shape (n_local, d)
        y : ignored
        comm : MPI.Comm, optional
            If `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError, ValueError
            Rows that cannot be used, fewer than two, or more components than rows.
        ConfigError
            Parameters that do not fit.
        MemoryLimitError
            Before anything large is allocated.
        ConvergenceError
            If a pair is unconverged and ``solver.on_no_convergence`` is "raise".
        """
        data, machine, seed = self._begin(X, comm, "a kernel")
        if isinstance(data, RowStream):
            raise InputError(
                "kernel PCA pairs every row with all rows: load them into memory, or use Nystroem"
            )
        n, shape = data.n_rows, shape_of(data)
        k = n if self.n_components is None else int(self.n_components)
        check_components(k, n, "rows")
        self.seconds_ = {"operator": 0.0, "solve": 0.0}
        with timed(data.comm, self.seconds_, "operator"):
            self._origin = self._choose_kernel(data, seed, shifted=True)
        self.plan_ = self.plan(shape, machine)
        tol, memory = self._tolerance(shape.item_bytes), machine.available_bytes
        solver = Eigensolver(k, tol, seed, self._settings, memory, blocks=KERNEL_BLOCKS)
        search = KernelSearch(data, self.kernel_, self._origin, self.plan_, solver, self.seconds_)
        result, reference = search.run()
        self._keep(data, result, search.row_means)
        self.n_passes_, self.trace_ = search.n_passes, search.trace
        self.__dict__.pop("_dual_coefficients", None)
        if self.fit_inverse_transform:
            self._dual_coefficients = inverse_coefficients(
                data, self._training_coordinates(), self.kernel_, self.alpha, memory
            )
        self._finish(data, solver, result, reference, k)
        return self

    def _check_parameters(self) -> None:
        check_count("n_components", self.n_components, optional=True)
        check_choice("engine", self.engine, ("auto", *KERNEL_ENGINES))
        if not (is_number(self.alpha) and self.alpha >= 0):
            raise ConfigError(f"alpha must be a number of at least 0, got {self.alpha!r}")
        super()._check_parameters()

    def _checked(self, X: Any, **settings: Any) -> Any:
        copy = self.copy_X and settings["reset"]
        return super()._checked(X, copy=copy, **settings)

    @property
    def operator_(self) -> str:
        """The operator and its engine."""
        return f"kernel ({self.kernel_.text}), {self.plan_.cost.name}"

    def _keep(self, X: DataMatrix, result: EigenResult, row_means: NDArray[np.float64]) -> None:
        """Keep the eigenpairs and the coefficients of transforms. Collective."""
        values = np.asarray(result.eigenvalues, dtype=np.float64)
        residuals = np.asarray(result.residual_norms)
        floor = _NEGLIGIBLE * max(float(np.max(values, initial=0.0)), 0.0)
        negligible = values <= np.maximum(floor, residuals)
        keep = np.ones(len(values), dtype=bool)
        if self.remove_zero_eig or self.n_components is None:
            keep = ~negligible
        self.residual_norms_, self.negligible_ = residuals[keep], negligible[keep]
        self.eigenvalues_ = np.where(negligible, np.maximum(values, 0.0), values)[keep]
        self.eigenvectors_ = np.ascontiguousarray(np.asarray(result.eigenvectors)[:, keep])
        self._train = X
        # zero where eigenvalues are negligible
        roots = np.sqrt(np.where(self.negligible_, 1.0, self.eigenvalues_))
        scaled = self.eigenvectors_ * np.where(self.negligible_, 0.0, 1.0 / roots)
        scaled -= sum_over_ranks(X.comm, scaled.sum(axis=0)) / X.n_rows
        self._coefficients = scaled
        self._offset = sum_over_ranks(X.comm, row_means @ scaled)

    def fit_transform(
        self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None
    ) -> NDArray[Any]:
        """Fit, and return the coordinates of the training rows. Collective as :meth:`fit`."""
        self.fit(X, comm=comm)
        return self._training_coordinates().astype(self._output_type(X, self._train, None))

    def _training_coordinates(self) -> NDArray[np.float64]:
        roots = np.sqrt(np.where(self.negligible_, 0.0, self.eigenvalues_))
        return self.eigenvectors_ * roots

    def transform(self, X: Any, dtype: type[np.floating[Any]] | None = None) -> NDArray[Any]:
        """Return the coordinates of rows in the components.

        Collective where the training rows are distributed: they are broadcast to all ranks, each
        of which transforms its own rows, possibly none. The coordinates of the DataMatrix that was
        fitted are those of the eigenvectors.

        Parameters
        ----------
        X : DataMatrix, or array or sparse matrix of shape (n_local, d)
        dtype : {float64, float32}, optional
            Type of the result. Default: float32 for float32 arrays, float64 otherwise.

        Returns
        -------
        ndarray of shape (n_local, k)

        Raises
        ------
        InputError, ValueError
            If the number of features of `X` differs from that of :meth:`fit`, or the kernel does
            not accept its rows.
        """
        check_is_fitted(self)
        if isinstance(X, RowStream):
            raise InputError("kernel PCA transforms rows in memory: load them, or use Nystroem")
        rows = self._given_rows(X)
        target = self._output_type(X, rows, dtype)
        embedded = np.empty((rows.n_local, self._coefficients.shape[1]), target)
        if X is self._train:
            coordinates = self._training_coordinates()
        else:
            train = RowsOfAll(self._train, self.kernel_, self._origin, np.float64)
            coordinates = kernel_coordinates(train, self._coefficients, rows) - self._offset
        with agreement(self.comm_):
            assign(embedded, coordinates)
        return embedded

    def inverse_transform(self, X: Any) -> NDArray[np.float64]:
        """Return rows whose coordinates are about those given, by kernel ridge regression.

        Collective where the training rows are distributed, as :meth:`transform`.

        Parameters
        ----------
        X : array of shape (n_local, k)
            Coordinates, possibly none.

        Returns
        -------
        ndarray of shape (n_local, d)

        Raises
        ------
        NotFittedError
            If ``fit_inverse_transform`` was False.
        InputError
            Coordinates of another shape, or not finite.
        """
        check_is_fitted(self)
        if not hasattr(self, "_dual_coefficients"):
            raise NotFittedError(
                "the inverse was not fitted: set fit_inverse_transform = True before fit"
            )
        k = len(self.eigenvalues_)
        with agreement(self.comm_):
            try:
                points = np.asarray(X, dtype=np.float64)
            except (ValueError, TypeError, RuntimeError) as error:
                raise InputError(f"coordinates must be numbers: {error}") from error
            if points.ndim != 2 or points.shape[1] != k or not np.isfinite(points).all():
                raise InputError(f"finite coordinates of shape (n, {k}) are needed")
        train = wrapped(self._training_coordinates(), self.comm_)
        of_all = RowsOfAll(train, self.kernel_, None, np.float64)
        return kernel_coordinates(of_all, self._dual_coefficients, wrapped(points, MPI.COMM_SELF))

    def _given_rows(self, X: Any) -> DataMatrix:
        """Return rows to transform; refused on all ranks or none. Collective if distributed."""
        with agreement(self.comm_):
            try:
                rows = self._rows(X)
            except (ValueError, TypeError, RuntimeError) as error:
                if self.comm_.size == 1:
                    raise
                raise InputError(str(error)) from error
            check_rows(rows, self.kernel)
        return rows  # type: ignore[return-value]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the training rows, which transforms need.

        Raises
        ------
        ConfigError
            If the training rows are distributed over several ranks.
        """
        train = self.__dict__.get("_train")
        state = dict(super().__getstate__())
        if train is not None:
            if train.comm.size > 1:
                raise ConfigError(
                    "the training rows are distributed over several ranks and cannot be copied "
                    "with the model: use Nystroem, whose models are small"
                )
            state["_train"] = (
                scipy.sparse.vstack([block for _, block in train.blocks()], format="csr")
                if train.is_sparse
                else train.dense_rows(np.float64)
            )
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_train" in state:
            self._train = wrapped(state["_train"], MPI.COMM_SELF)
