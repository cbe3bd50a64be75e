"""Rows as sums of the vectors of their features, features that share rows having similar vectors.

For tables without negative entries (counts or TF-IDF weights of documents, binary attributes): the
features' co-occurrence ``X'X`` becomes shifted positive pointwise mutual information M, and with
the eigenpairs ``M u = lambda u`` of largest modulus the coordinates of a row x are
``x U |Lambda|^p``. For documents this is the sum of word vectors, weighted as the rows are.

Rows of a table have no order, so words are near each other when they share a document; for windows
see :class:`~hpcembed.embedding.WordVectors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource, reading
from hpcembed.embedding.certificate import Certificate
from hpcembed.embedding.contract import LinearMap, Spectrum
from hpcembed.embedding.information import InformationSettings, information_pairs
from hpcembed.embedding.limits import check_limits
from hpcembed.embedding.linear import LinearEmbedding, available_bytes, n_nonzeros
from hpcembed.embedding.pca import seed_of
from hpcembed.embedding.solving import SolverSettings
from hpcembed.operators import BUFFER_BYTES, column_moments, sparse_feature_cooccurrence
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError
from hpcembed.runtime.memory import check_fits, format_bytes
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["CooccurrenceEmbedding", "CooccurrencePlan", "plan_cooccurrence"]

Self = TypeVar("Self", bound="CooccurrenceEmbedding")

#: Memory for each entry of the features' co-occurrence while it is made (measured), and for an
#: entry of the vectors: gathered, and as much on the way.
_ENTRY_BYTES = 80
_VECTOR_BYTES = 16

#: Mean square of the lengths of documents over the square of their mean.
_DISPERSION = 4.0


@dataclass(frozen=True, slots=True)
class CooccurrencePlan:
    """What finding the vectors will take.

    Attributes
    ----------
    bytes : int
        On one rank, beyond the data.
    n_entries : int
        Of the co-occurrence on all ranks, estimated.
    """

    bytes: int
    n_entries: int

    def describe(self) -> str:
        """One line for the terminal."""
        return (
            f"information of features that share rows: up to {self.n_entries:,} entries, "
            f"{format_bytes(self.bytes)} per rank"
        )


def plan_cooccurrence(
    n: int, d: int, k: int, n_nonzeros: int | None, *, ranks: int, available: int
) -> CooccurrencePlan:
    """What n rows of d features will take. Not collective.

    Raises
    ------
    MemoryLimitError
        When it does not fit.
    """
    pairs = float(d) ** 2
    if n_nonzeros is not None:
        pairs = min(pairs, _DISPERSION * float(n_nonzeros) ** 2 / max(n, 1))
    own = int(pairs) // ranks + d
    columns = 3 * k + 40
    needed = BUFFER_BYTES + _ENTRY_BYTES * own + _VECTOR_BYTES * d * k + 8 * columns * (d // ranks)
    remedy = "lower data.max_features, or use more ranks"
    check_fits(needed, available, "information of features that share rows", remedy)
    return CooccurrencePlan(needed, int(pairs))


class CooccurrenceEmbedding(Certificate, LinearEmbedding):
    """Sums of feature vectors from co-occurrence.

    Parameters
    ----------
    n_components : int
        At most the number of features.
    counts : {"weights", "presence"}
        What is counted of two features that share a row: the product of their entries, or one.
    shift, smoothing : float
        As for :class:`~hpcembed.embedding.WordVectors`.
    power : float
        p of ``U |Lambda|^p``.
    tol : float
        Largest true residual, relative to the largest modulus of an eigenvalue.
    random_state : int, RandomState or None
        Of the start vector; None is 0, so that results repeat.
    memory_limit : int, optional
        Bytes that one rank may take. Default: its share of what is free.
    solver : SolverSettings, optional

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        The features' vectors as columns, on every rank.
    eigenvalues_ : ndarray of shape (k,)
        Of the information, largest modulus first.
    residual_norms_ : ndarray of shape (k,)
        ``||M u - lambda u||`` in double.
    mean_, feature_means_, feature_variances_ : ndarray of shape (d,)
        What rows are centred on, which is zero; mean and variance of the features.
    coordinate_means_, coordinate_deviations_ : ndarray of shape (k,)
        Of the training rows.
    n_nonzeros_ : int
        Entries of the information.
    result_, reference_, comparison_, certified_, converged_reason_
        The solver's answer and the verdict on it.
    n_requested_, n_features_in_, n_samples_ : int
    plan_ : CooccurrencePlan
    seconds_ : dict of str to float
    """

    components_name = "co-occurrence vectors"
    operator_ = "pointwise mutual information, sparse"

    def __init__(
        self,
        n_components: int = 2,
        *,
        counts: Literal["weights", "presence"] = "weights",
        shift: float = 1.0,
        smoothing: float = 0.75,
        power: float = 0.5,
        tol: float = 1e-6,
        random_state: Any = None,
        memory_limit: int | None = None,
        solver: SolverSettings | None = None,
    ) -> None:
        self.n_components = n_components
        self.counts = counts
        self.shift = shift
        self.smoothing = smoothing
        self.power = power
        self.tol = tol
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.solver = solver

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the vectors of the features of `X`.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n_local, d)
            No entry below zero.
        y : ignored
        comm : MPI.Comm, optional
            Where `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError, ConfigError, MemoryLimitError, ConvergenceError
            As for :meth:`hpcembed.embedding.PCA.fit`; negative entries.
        """
        self._agree_on_settings(X, comm)
        settings = self._settings()
        data = self._matrix(X, comm)
        n, d, k = data.n_rows, data.n_features, settings.k
        if n < 2:
            raise InputError(f"co-occurrence needs at least 2 training rows, got {n}")
        if k > d:
            raise InputError(
                f"need 1 <= n_components <= features, got n_components={k} with {d} features"
            )
        self.plan_ = plan_cooccurrence(
            n,
            d,
            k,
            n_nonzeros(data),
            ranks=data.comm.size,
            available=available_bytes(data, self.memory_limit),
        )
        _refuse_negative(data)
        found = information_pairs(
            data.comm,
            lambda: sparse_feature_cooccurrence(data, binary=self.counts == "presence"),
            settings,
        )
        self.components_ = np.ascontiguousarray(found.vectors.T)
        self.eigenvalues_ = np.asarray(found.result.eigenvalues)
        self.residual_norms_ = np.asarray(found.result.residual_norms)
        self.n_nonzeros_, self.n_samples_ = found.n_nonzeros, n
        self.seconds_ = {"operator": found.seconds["information"], "solve": found.seconds["solve"]}
        self.mean_ = np.zeros(d)
        self.feature_means_, self.feature_variances_ = column_moments(data)
        self.coordinate_means_ = self.components_ @ self.feature_means_
        self.coordinate_deviations_ = self._deviations(data)
        self._judge(data.comm, found.result, found.reference, tol=self.tol, n_requested=k)
        if not self.certified_ and settings.solver.on_no_convergence == "raise":
            raise ConvergenceError(self.failure_text(), self.result_)
        return self

    def _settings(self) -> InformationSettings:
        """What is asked for, checked. Not collective; the same on all ranks."""
        check_limits(self.tol, self.memory_limit, None)
        if self.counts not in ("weights", "presence"):
            raise ConfigError(f"counts = {self.counts!r} is not one of weights, presence")
        settings = InformationSettings(
            self.n_components,
            self.shift,
            self.smoothing,
            self.power,
            self.tol,
            seed_of(self.random_state),
            self.solver or SolverSettings(),
        )
        settings.check()
        return settings

    def _deviations(self, X: RowSource) -> NDArray[np.float64]:
        squares = np.zeros(len(self.components_))
        with reading(X):
            for _, block in X.blocks():
                squares += np.square(block @ self.components_.T - self.coordinate_means_).sum(0)
        return np.sqrt(sum_over_ranks(X.comm, squares) / X.n_rows)

    def _unscaled(self, coordinates: NDArray[Any]) -> NDArray[Any]:
        """Undo the scales of the vectors twice, as those of the components come once more."""
        squares = np.abs(self.eigenvalues_) ** (2 * self.power)
        return np.where(squares > 0, coordinates / np.where(squares > 0, squares, 1.0), 0.0)

    @property
    def spectrum_(self) -> Spectrum:
        """Eigenvalues of the information, which are shares of nothing."""
        return Spectrum(self.eigenvalues_, "")

    @property
    def linear_map_(self) -> LinearMap:
        """What :meth:`transform` computes."""
        return LinearMap(self.components_, self.mean_)


def _refuse_negative(X: RowSource) -> None:
    """Collective."""
    smallest = 0.0
    with reading(X):
        for _, block in X.blocks():
            entries = block if isinstance(block, np.ndarray) else block.data
            smallest = min(smallest, float(entries.min(initial=0.0)))
    smallest = X.comm.allreduce(smallest, op=MPI.MIN)
    if smallest < 0:
        raise InputError(
            f"the rows hold {smallest:g}: co-occurrence needs entries that are not negative; give "
            "counts or weights, and data.scaling without centring"
        )
