"""Principal components of rows on one computer or on many: dominant eigenpairs of the covariance.

scikit-learn's names and contract, an engine chosen by a written cost model, and a certificate:
``residual_norms_`` are ``||C v - lambda v||`` from products in double precision, made for that.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.embedding.certificate import Certificate
from hpcembed.embedding.contract import LinearMap, Spectrum
from hpcembed.embedding.engines import Components, Request, find_components
from hpcembed.embedding.estimate import default_tolerance
from hpcembed.embedding.gaussian import GaussianModel
from hpcembed.embedding.limits import check_limits
from hpcembed.embedding.linear import available_bytes, n_nonzeros
from hpcembed.embedding.reference import subspace_sin_angle
from hpcembed.embedding.solving import SolverSettings, engine_tolerance
from hpcembed.operators import EnginePlan, expected_products, plan_engine
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError
from hpcembed.runtime.ranks import allgather_rows

__all__ = ["PCA", "seed_of", "subspace_sin_angle"]

Self = TypeVar("Self", bound="PCA")

#: Components that a search for a share of the variance starts with where no whole spectrum is
#: cheap; doubled until they are enough.
_FIRST_GUESS = 32

_ENGINES = ("auto", "assembled", "matrix_free", "block", "gram")


class PCA(Certificate, GaussianModel):
    """Principal component analysis.

    Parameters
    ----------
    n_components : int, float or None
        How many; or, between 0 and 1, as many as explain this share of the variance; None for
        min(n, d).
    whiten : bool
        Scale coordinates to unit variance. Components whose eigenvalue is not known to be positive
        (below ``max(n, d) eps lambda_1`` or its residual) are set to zero instead.
    eigenvalue_threshold : float, optional
        Keep only components with eigenvalues of at least this share of the largest.
    eigen_solver : {"auto", "assembled", "matrix_free", "block", "gram"}
        The engine; auto asks the cost model (:mod:`hpcembed.operators.cost`).
    tol : float, optional
        Largest true residual, relative to the largest eigenvalue. Default: 1e-6 for rows in
        single precision or short integers, 1e-10 for double.
    random_state : int, RandomState or None
        Of the start vectors; None is 0, so that results repeat.
    memory_limit : int, optional
        Bytes that one rank may take. Default: its share of what is free.
    n_threads : int, optional
        BLAS threads per rank. Default: those that BLAS uses.
    solver : SolverSettings, optional
        How the eigenproblem is solved, for those who want to say.

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
        Components found, and asked for: fewer are found where the solver gave up.
    residual_norms_ : ndarray of shape (k,)
        ``||C v - lambda v||`` in double.
    negligible_ : ndarray of bool, shape (k,)
        Components whose eigenvalue is not known to be positive.
    converged_reason_ : str
    certified_ : bool
        Every pair meets its tolerance, and no reference has a larger eigenvalue in its place.
    result_ : EigenResult
        The solver's answer with its certificate; rows of the vectors distributed.
    reference_, comparison_, reference_sin_angle_
        Of a reference solver, where ``solver.reference`` asked for it.
    plan_ : EnginePlan
        The engine with its predicted cost, beside the others.
    seconds_ : dict of str to float
        Wall time of ``operator`` and ``solve`` on the slowest rank.
    """

    operator_name = "covariance"
    components_name = "principal components"

    def __init__(
        self,
        n_components: int | float | None = None,
        *,
        whiten: bool = False,
        eigenvalue_threshold: float | None = None,
        eigen_solver: Literal["auto", "assembled", "matrix_free", "block", "gram"] = "auto",
        tol: float | None = None,
        random_state: Any = None,
        memory_limit: int | None = None,
        n_threads: int | None = None,
        solver: SolverSettings | None = None,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.eigenvalue_threshold = eigenvalue_threshold
        self.eigen_solver = eigen_solver
        self.tol = tol
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_threads = n_threads
        self.solver = solver

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the components of the rows of `X`.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n_local, d)
        y : ignored
        comm : MPI.Comm, optional
            Where `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError, ValueError
            Rows that cannot be used, fewer than two, or more components than features.
        ConfigError
            Settings that do not fit.
        MemoryLimitError
            Before anything large is allocated.
        ConvergenceError
            When a pair missed its tolerance, or the reference has a larger eigenvalue in its
            place, and ``solver.on_no_convergence`` is "raise".
        """
        self._agree_on_settings(X, comm)
        self._check_settings()
        data = self._matrix(X, comm)
        if data.n_rows < 2:
            raise InputError(f"a covariance needs at least 2 training rows, got {data.n_rows}")
        k, share = self._wanted(data)
        while True:
            found = self._find(data, k)
            enough = self._enough(found, share, data)
            if enough is not None:
                break
            k = min(2 * k, min(data.n_rows, data.n_features))
        self._keep(found, data, enough)
        if not self.certified_ and self._settings.on_no_convergence == "raise":
            raise ConvergenceError(self.failure_text(), self.result_)
        return self

    @property
    def _settings(self) -> SolverSettings:
        return self.solver or SolverSettings()

    def _check_settings(self) -> None:
        k = self.n_components
        is_number = isinstance(k, int | float | np.integer | np.floating)
        if k is not None and (isinstance(k, bool) or not is_number):
            raise ConfigError(f"n_components must be a number or None, got {k!r}")
        if isinstance(k, float | np.floating) and not 0 < k < 1:
            raise ConfigError(
                f"n_components must be an integer, or a share of the variance between 0 and 1, "
                f"got {k!r}"
            )
        if self.eigen_solver not in _ENGINES:
            raise ConfigError(
                f"eigen_solver = {self.eigen_solver!r} is not one of {', '.join(_ENGINES)}"
            )
        check_limits(self.tol, self.memory_limit, self.n_threads)
        threshold = self.eigenvalue_threshold
        if threshold is not None and not 0 < threshold <= 1:
            raise ConfigError(f"eigenvalue_threshold must lie between 0 and 1, got {threshold!r}")
        seed_of(self.random_state)
        self._settings.check()

    def _wanted(self, X: RowSource) -> tuple[int, float | None]:
        """Components to look for first, and the share of the variance to reach, if any."""
        n, d = X.n_rows, X.n_features
        k = self.n_components
        if isinstance(k, int | np.integer):
            if not 1 <= k <= d:
                raise InputError(
                    f"need 1 <= n_components <= features, got n_components={k} with {d} features"
                )
            return int(k), None
        most = min(n, d)
        if k is None and self.eigenvalue_threshold is None:
            return most, None
        # a whole spectrum that is formed anyway, or a guess to be doubled
        assembled = self._plan(X, most).kind == "assembled"
        return (most if assembled else min(_FIRST_GUESS, most)), None if k is None else float(k)

    def _enough(self, found: Components, share: float | None, X: RowSource) -> int | None:
        """How many of the components to keep; None where more must be looked for."""
        values = np.asarray(found.result.eigenvalues)
        whole = len(values) >= min(X.n_rows, X.n_features)
        wanted = len(values)
        if share is not None:
            explained = np.cumsum(values) / max(float(found.variances.sum()), np.finfo(float).tiny)
            reached = int(np.searchsorted(explained, share, side="right")) + 1
            if reached > len(values) and not whole:
                return None
            wanted = min(reached, len(values))
        if self.eigenvalue_threshold is not None:
            above = int(np.sum(values >= self.eigenvalue_threshold * values[0]))
            fixed = isinstance(self.n_components, int | np.integer)
            if above == len(values) and not whole and not fixed and share is None:
                return None
            wanted = min(wanted, max(above, 1))
        return wanted

    def plan(self, X: RowSource) -> EnginePlan:
        """What :meth:`fit` would do with rows that are there. Collective."""
        return self._plan(X, self._wanted(X)[0])

    def _plan(self, X: RowSource, k: int) -> EnginePlan:
        reference = 2 * expected_products(k) if self._settings.reference else 0
        return plan_engine(
            X.n_rows,
            X.n_features,
            k,
            ranks=X.comm.size,
            threads=self._threads(self.n_threads, X.comm),
            available_bytes=available_bytes(X, self.memory_limit),
            n_nonzeros=n_nonzeros(X),
            streamed=X.is_streamed,
            item_bytes=X.stored_type.itemsize,
            tol=engine_tolerance(
                self._tolerance(X), relative=self._settings.criterion == "relative"
            ),
            n_reference=reference,
            single_vector=self._settings.needs_single_vectors,
            kind=self.eigen_solver,
            operator=self.operator_name,
        )

    def _tolerance(self, X: RowSource) -> float:
        if self.tol is not None:
            return self.tol
        return default_tolerance(X.stored_type.itemsize)

    def _find(self, X: RowSource, k: int) -> Components:
        self.plan_ = self._plan(X, k)
        request = Request(
            k=k,
            tol=self._tolerance(X),
            seed=seed_of(self.random_state),
            centred=True,
            threads=self._threads(self.n_threads, X.comm),
            memory_bytes=self.memory_limit,
            solver=self._settings,
        )
        return find_components(X, self.plan_, request)

    def _keep(self, found: Components, X: RowSource, k: int) -> None:
        comm, total = X.comm, float(found.variances.sum())
        result = found.result
        self.seconds_ = found.seconds
        vectors: NDArray[Any] = allgather_rows(comm, np.ascontiguousarray(result.eigenvectors))
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
        self.n_samples_, self.n_components_ = n, len(values)
        left = min(n, d) - len(values)
        rest = total - float(self.eigenvalues_.sum())
        self.noise_variance_ = max(rest, 0.0) / left if left > 0 else 0.0
        asked = self.n_components
        n_requested = int(asked) if isinstance(asked, int | np.integer) else len(values)
        tol = self._tolerance(X)
        self._judge(comm, result, found.reference, tol=tol, n_requested=n_requested)

    @property
    def spectrum_(self) -> Spectrum:
        """Variances, and what each component explains of the whole."""
        return Spectrum(
            self.eigenvalues_, "variance", self.explained_variance_ratio_, share_of="variance"
        )

    @property
    def operator_(self) -> str:
        """The operator and how it was held."""
        return self.plan_.name

    @property
    def feature_means_(self) -> NDArray[np.float64]:
        """What rows are centred on."""
        return self.mean_

    @property
    def coordinate_means_(self) -> NDArray[np.float64]:
        """Zero: rows are centred."""
        return np.zeros(len(self.eigenvalues_))

    @property
    def coordinate_deviations_(self) -> NDArray[np.float64]:
        """Of the training rows' coordinates, 1 where these are whitened."""
        if self.whiten:
            return np.where(self.negligible_, 0.0, 1.0)
        return np.sqrt(self.eigenvalues_)

    @property
    def linear_map_(self) -> LinearMap:
        """What :meth:`transform` computes."""
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


def seed_of(random_state: Any) -> int:
    """The seed that a random_state of scikit-learn's kinds stands for; None is 0.

    Raises
    ------
    ConfigError
    """
    if random_state is None:
        return 0
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if isinstance(random_state, bool) or not isinstance(random_state, int | np.integer):
        raise ConfigError(f"random_state must be an integer or None, got {random_state!r}")
    if not 0 <= random_state < 2**63:
        raise ConfigError(f"seed must lie between 0 and 2^63 - 1, got {random_state}")
    return int(random_state)
