"""Principal components of rows on one computer or on many: dominant eigenpairs of the covariance.

The names and the contract are scikit-learn's. A written cost model chooses the engine, and a
certificate follows: ``residual_norms_`` are ``||C v - lambda v||`` from products in double
precision made for this purpose, or a bound of them.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.embedding._covariance import CovarianceEmbedding, CovariancePairs
from hpcembed.embedding._linear import GaussianModel
from hpcembed.embedding._parameters import check_components, check_tolerance
from hpcembed.embedding.protocol import LinearMap, Machine, Shape, Spectrum, shape_of
from hpcembed.operators.cost import EnginePlan
from hpcembed.runtime.arguments import is_integer, is_number
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import allgather_rows

__all__ = ["PCA", "estimate_memory"]

Self = TypeVar("Self", bound="PCA")

#: Components that a search for a share of the variance starts with where no whole spectrum is
#: cheap; doubled until they are enough.
_FIRST_GUESS = 32


@dataclass(eq=False, repr=False)
class PCA(CovarianceEmbedding, GaussianModel):
    """Principal component analysis.

    Parameters
    ----------
    n_components : int, float or None, default=None
        Number of components; or, between 0 and 1, as many as explain this share of the variance;
        None for min(n, d).
    whiten : bool, default=False
        Scale coordinates to unit variance. Components whose eigenvalue is not known to be positive
        (below ``max(n, d) eps lambda_1`` or its residual) are set to zero instead.
    eigenvalue_threshold : float, optional
        Keep only components with eigenvalues of at least this share of the largest.
    engine : {"auto", "assembled", "matrix_free", "block", "gram"}, default="auto"
        How the covariance is held and multiplied; auto follows the cost model
        (:mod:`hpcembed.operators.covariance.covariance_plan`).
    tol : float, optional
        Largest true residual, relative to the largest eigenvalue. Default: 1e-6 for rows in
        single precision or short integers, 1e-10 for double.
    certify : {"auto", "double"}, default="auto"
        Origin of the residuals of an assembled covariance in single precision. auto: a bound from a
        few random combinations of the components, multiplied in double precision, which fails with
        a probability of 1e-6; double: a product for every component.
    random_state : int, RandomState or None, default=None
        Seed of the start vectors; None is 0, so that results repeat.
    memory_limit : int, optional
        Bytes that one rank may take. Default: its share of the free memory.
    n_threads : int, optional
        BLAS threads per rank. Default: those that BLAS uses.
    solver : SolverSettings, optional
        Settings of the eigensolver.

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        Orthonormal rows, on every rank; the largest entry of each is positive.
    explained_variance_ : ndarray of shape (k,)
        Eigenvalues of the sample covariance, largest first; also ``eigenvalues_``.
    explained_variance_ratio_, singular_values_ : ndarray of shape (k,)
    mean_, feature_variances_ : ndarray of shape (d,)
    noise_variance_ : float
        Mean of the eigenvalues that were left out.
    n_components_, n_requested_, n_features_in_, n_samples_ : int
        Components found, and requested: fewer are found where the solver stopped early.
    residual_norms_ : ndarray of shape (k,)
        ``||C v - lambda v||`` in double precision, or their bound.
    certificate_ : {"exact", "double", "sampled"}
        Origin of `residual_norms_`: the covariance of short integers, which is exact; products in
        double precision; or a bound from random combinations of the components.
    negligible_ : ndarray of bool, shape (k,)
        Components whose eigenvalue is not known to be positive.
    converged_reason_ : str
    certified_ : bool
        Whether every pair meets its tolerance, and no reference has a larger eigenvalue at the
        same position.
    result_ : EigenResult
        Result of the solver with true residuals; rows of the vectors distributed.
    reference_, comparison_, reference_sin_angle_
        Result of the reference solver and differences, if ``solver.reference`` is set.
    plan_ : EnginePlan
        The engine, and the predicted costs of all engines.
    seconds_ : dict of str to float
        Wall time of ``operator`` and ``solve`` on the slowest rank.

    See Also
    --------
    TruncatedSVD : The same without centring.
    KernelPCA : Principal components in the space of a kernel.
    estimate_memory : Cost of every engine, from the shape of the data alone.

    Notes
    -----
    Under MPI each rank gives its own rows and a communicator, or all ranks share a DataMatrix.
    Components are the same on any number of ranks to rounding.

    References
    ----------
    .. [1] M. Tipping, C. Bishop, "Probabilistic principal component analysis", Journal of the
       Royal Statistical Society B 61 (1999): the model of :meth:`score`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from hpcembed import PCA
    >>> X = load_digits().data
    >>> pca = PCA(2).fit(X)
    >>> pca.explained_variance_.round(2)
    array([179.01, 163.72])
    >>> pca.certified_, pca.plan_.engine
    (True, 'assembled')
    >>> pca.transform(X).shape
    (1797, 2)
    """

    operator_name = "covariance"
    components_name = "principal components"

    n_components: int | float | None = None
    _: KW_ONLY
    whiten: bool = False
    eigenvalue_threshold: float | None = None
    engine: Literal["auto", "assembled", "matrix_free", "block", "gram"] = "auto"
    certify: Literal["auto", "double"] = "auto"
    memory_limit: int | None = None
    n_threads: int | None = None

    def plan(self, shape: Shape, machine: Machine) -> EnginePlan:
        """Return the plan that :meth:`fit` makes for data of this shape.

        Raises
        ------
        MemoryLimitError
            If the requested engine does not fit, or none does.
        ConfigError
            If parameters do not fit the data.
        """
        return self._plan(shape, machine, self._first_size(shape, machine))

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the components of the rows of `X`.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n_local, d)
        y : ignored
        comm : MPI.Comm, optional
            If `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError, ValueError
            Rows that cannot be used, fewer than two, or more components than features.
        ConfigError
            Parameters that do not fit.
        MemoryLimitError
            Before anything large is allocated.
        ConvergenceError
            If a pair is unconverged, or the reference has a larger eigenvalue at the same
            position, and ``solver.on_no_convergence`` is "raise".
        """
        data, machine, seed = self._begin(X, comm, "a covariance")
        if is_integer(self.n_components):
            check_components(self.n_components, data.n_features, "features")
        shape = shape_of(data)
        k = self._first_size(shape, machine)
        found = self._find(data, shape, machine, k, seed)
        while (n_kept := self._n_kept(found, data)) is None:
            k = min(2 * k, data.n_rows, data.n_features)
            found = self._find(data, shape, machine, k, seed)
        self._keep(found, data, n_kept)
        return self

    def _check_parameters(self) -> None:
        k = self.n_components
        if k is not None and not is_number(k):
            raise ConfigError(f"n_components must be a number or None, got {k!r}")
        if isinstance(k, float | np.floating) and not 0 < k < 1:
            raise ConfigError(
                f"n_components must be an integer, or a share of the variance between 0 and 1, "
                f"got {k!r}"
            )
        threshold = self.eigenvalue_threshold
        if threshold is not None and not 0 < threshold <= 1:
            raise ConfigError(f"eigenvalue_threshold must lie between 0 and 1, got {threshold!r}")
        super()._check_parameters()

    def _first_size(self, shape: Shape, machine: Machine) -> int:
        """Return the number of components to find first."""
        k, most = self.n_components, min(shape.n_train, shape.n_features)
        if is_integer(k):
            return int(k)
        if k is None and self.eigenvalue_threshold is None:
            return most
        # a whole spectrum that is formed anyway, or a guess to be doubled
        is_assembled = self._plan(shape, machine, most).engine == "assembled"
        return most if is_assembled else min(_FIRST_GUESS, most)

    def _n_kept(self, found: CovariancePairs, X: RowSource) -> int | None:
        """Return the number of components to keep; None where more are needed."""
        values, k = np.asarray(found.result.eigenvalues), self.n_components
        is_whole = len(values) >= min(X.n_rows, X.n_features)
        wanted = len(values)
        if isinstance(k, float | np.floating):
            explained = np.cumsum(values) / max(float(found.variances.sum()), np.finfo(float).tiny)
            reached = int(np.searchsorted(explained, float(k), side="right")) + 1
            if reached > len(values) and not is_whole:
                return None
            wanted = min(reached, len(values))
        if self.eigenvalue_threshold is not None:
            above = int(np.sum(values >= self.eigenvalue_threshold * values[0]))
            if above == len(values) and not is_whole and k is None:
                return None
            wanted = min(wanted, max(above, 1))
        return wanted

    def _keep(self, found: CovariancePairs, X: RowSource, k: int) -> None:
        """Keep k components, and certify them. Collective."""
        result, total = found.result, float(found.variances.sum())
        vectors: NDArray[Any] = allgather_rows(X.comm, np.ascontiguousarray(result.eigenvectors))
        self.components_ = np.ascontiguousarray(vectors.T[:k])
        self.mean_, self.feature_variances_ = found.mean, found.variances
        values = np.asarray(result.eigenvalues)[:k]
        n, d = X.n_rows, X.n_features
        floor = max(n, d) * np.finfo(float).eps * max(float(np.max(values, initial=0.0)), 0.0)
        self.residual_norms_ = np.asarray(result.residual_norms)[:k]
        self.negligible_ = values <= np.maximum(floor, self.residual_norms_)
        self.eigenvalues_ = self.explained_variance_ = np.maximum(values, 0.0)
        self.explained_variance_ratio_ = (
            self.eigenvalues_ / total if total > 0 else np.zeros_like(values)
        )
        self.singular_values_ = np.sqrt(self.eigenvalues_ * (n - 1))
        self.n_components_ = len(values)
        left = min(n, d) - len(values)
        rest = total - float(self.eigenvalues_.sum())
        self.noise_variance_ = max(rest, 0.0) / left if left > 0 else 0.0
        n_requested = self.n_components if is_integer(self.n_components) else len(values)
        self._certify(X.comm, found.solver, result, found.reference, int(n_requested))

    @property
    def spectrum_(self) -> Spectrum:
        """Variances, and the share of each in the variance of the features."""
        return Spectrum(
            self.eigenvalues_,
            "variance",
            self.explained_variance_ratio_,
            share_of="variance",
            trace=float(self.feature_variances_.sum()),
            rank_limit=min(self.n_samples_ - 1, self.n_features_in_),
        )

    @property
    def feature_means_(self) -> NDArray[np.float64]:
        """Mean of the features, which centres the rows."""
        return self.mean_

    @property
    def coordinate_means_(self) -> NDArray[np.float64]:
        """Means of the coordinates: zero, as rows are centred."""
        return np.zeros(len(self.eigenvalues_))

    @property
    def coordinate_deviations_(self) -> NDArray[np.float64]:
        """Standard deviations of the coordinates: 1 where these are whitened."""
        if self.whiten:
            return np.where(self.negligible_, 0.0, 1.0)
        return np.sqrt(self.eigenvalues_)

    @property
    def linear_map_(self) -> LinearMap:
        """The map that :meth:`transform` computes."""
        scale = self._whitening() if self.whiten else np.ones(len(self.eigenvalues_))
        return LinearMap(self.components_ * scale[:, None], self.mean_)

    def _scaled(self, embedded: NDArray[Any]) -> NDArray[Any]:
        if self.whiten:
            embedded *= self._whitening().astype(embedded.dtype)
        return embedded

    def _whitening(self) -> NDArray[np.float64]:
        known = ~self.negligible_
        return np.where(known, 1 / np.sqrt(np.where(known, self.explained_variance_, 1.0)), 0.0)

    def _unscaled(self, coordinates: NDArray[Any]) -> NDArray[Any]:
        if not self.whiten:
            return coordinates
        return coordinates * np.sqrt(np.where(self.negligible_, 0.0, self.explained_variance_))


def estimate_memory(
    n_rows: int,
    n_features: int,
    n_components: int,
    *,
    dtype: Any = np.float32,
    n_nonzeros: int | None = None,
    ranks: int = 1,
    threads: int = 1,
    tol: float | None = None,
    streamed: bool = False,
) -> EnginePlan:
    """Return memory and predicted seconds of every engine of PCA, on one rank, beyond the data.

    Nothing is read or allocated.

    Parameters
    ----------
    n_rows, n_features, n_components : int
    dtype : data-type, default=float32
        Type of the rows in memory.
    n_nonzeros : int, optional
        Stored entries of sparse rows.
    ranks, threads : int, default=1
        Number of ranks, and BLAS threads of each.
    tol : float, optional
        Default: the same as for :class:`~hpcembed.embedding.PCA`.
    streamed : bool, default=False
        Whether rows stay in files.

    Returns
    -------
    EnginePlan
        ``costs`` lists ``engine``, ``seconds`` and ``bytes`` of every engine that suits the data,
        ``engine`` is the one that would be chosen, ``describe()`` gives a line of text.

    Raises
    ------
    InputError
        If a size is not positive, or components exceed the features.

    Examples
    --------
    >>> from hpcembed import estimate_memory
    >>> plan = estimate_memory(50_000, 3_072, 50, threads=2)
    >>> plan.engine
    'block'
    >>> [cost.engine for cost in plan.costs]
    ['assembled', 'matrix_free', 'block']
    """
    check_tolerance(tol)
    sizes = (n_rows, n_features, n_components, ranks, threads)
    entries = 0 if n_nonzeros is None else n_nonzeros
    is_whole = all(isinstance(size, int | np.integer) for size in (*sizes, entries))
    if not (is_whole and min(sizes) >= 1 and entries >= 0) or n_components > n_features:
        raise InputError(
            f"need positive sizes and 1 <= n_components <= n_features, got {n_rows} x {n_features} "
            f"and n_components={n_components}"
        )
    item = np.dtype(dtype).itemsize
    row_bytes = item * n_features
    shape = Shape(n_rows, 0, n_features, n_nonzeros, row_bytes, item, is_streamed=streamed)
    return PCA(n_components, tol=tol).plan(shape, Machine(ranks, threads, 2**62))
