"""Rows as sums of the vectors of their features; features that share rows have similar vectors.

For tables without negative entries (counts or TF-IDF weights of documents, binary attributes): the
features' co-occurrence ``X'X`` becomes shifted positive pointwise mutual information M, and with
the eigenpairs ``M u = lambda u`` of largest modulus the coordinates of a row x are
``x U |Lambda|^p``. For documents this is the sum of word vectors, weighted as the rows are.

Rows of a table have no order: words are near each other when they share a document. For windows see
:class:`~hpcembed.embedding.WordVectors`.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource, reading
from hpcembed.embedding._linear import LinearEmbedding
from hpcembed.embedding._mutual_information import InformationEmbedding
from hpcembed.embedding._parameters import check_components
from hpcembed.embedding.protocol import Machine, Shape, Spectrum, shape_of
from hpcembed.operators.cooccurrence.cooccurrence_plan import InformationPlan, plan_shared_rows
from hpcembed.operators.cooccurrence.feature_cooccurrence import sparse_feature_cooccurrence
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.runtime.arguments import check_choice
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["CooccurrenceEmbedding"]

Self = TypeVar("Self", bound="CooccurrenceEmbedding")


@dataclass(eq=False, repr=False)
class CooccurrenceEmbedding(InformationEmbedding, LinearEmbedding):
    """Sums of feature vectors from co-occurrence.

    Parameters
    ----------
    n_components : int, default=2
        At most the number of features.
    counts : {"weights", "presence"}, default="weights"
        Count of two features that share a row: the product of their entries, or one.
    shift, smoothing : float
        As for :class:`~hpcembed.embedding.WordVectors`.
    power : float, default=0.5
        p of ``U |Lambda|^p``.
    tol : float, default=1e-6
        Largest true residual, relative to the largest modulus of an eigenvalue.
    random_state : int, RandomState or None, default=None
        Seed of the start vector; None is 0, so that results repeat.
    memory_limit : int, optional
        Bytes that one rank may take. Default: its share of the free memory.
    solver : SolverSettings, optional

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        Vectors of the features as columns, on every rank.
    eigenvalues_ : ndarray of shape (k,)
        Eigenvalues of the information, largest modulus first.
    residual_norms_ : ndarray of shape (k,)
        ``||M u - lambda u||`` in double precision.
    mean_ : ndarray of shape (d,)
        Zero.
    feature_means_, feature_variances_ : ndarray of shape (d,)
    coordinate_means_, coordinate_deviations_ : ndarray of shape (k,)
        Moments of the training rows' coordinates.
    n_nonzeros_ : int
        Entries of the information.
    result_, reference_, comparison_, certified_, converged_reason_
        Result of the solver, and its certificate.
    n_requested_, n_features_in_, n_samples_ : int
    plan_ : InformationPlan
    seconds_ : dict of str to float

    See Also
    --------
    WordVectors : Vectors of words from windows over texts.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcembed.embedding import CooccurrenceEmbedding
    >>> rows = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 2.0]])
    >>> model = CooccurrenceEmbedding(2).fit(rows)
    >>> model.transform(rows).shape, model.n_nonzeros_
    ((4, 2), 8)
    """

    components_name = "co-occurrence vectors"
    operator_ = "pointwise mutual information, sparse"

    n_components: int = 2
    _: KW_ONLY
    counts: Literal["weights", "presence"] = "weights"
    shift: float = 1.0
    smoothing: float = 0.75
    power: float = 0.5
    tol: float = 1e-6
    memory_limit: int | None = None

    def plan(self, shape: Shape, machine: Machine) -> InformationPlan:
        """Return the plan that :meth:`fit` makes for data of this shape.

        Raises
        ------
        MemoryLimitError
            If counts and vectors do not fit.
        """
        return plan_shared_rows(shape, min(int(self.n_components), shape.n_features), machine)

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the vectors of the features of `X`.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n_local, d)
            No entry below zero.
        y : ignored
        comm : MPI.Comm, optional
            If `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError, ConfigError, MemoryLimitError, ConvergenceError
            As for :meth:`hpcembed.embedding.PCA.fit`; negative entries.
        """
        data, machine, seed = self._begin(X, comm, "co-occurrence")
        check_components(int(self.n_components), data.n_features, "features")
        self.plan_ = self.plan(shape_of(data), machine)
        _refuse_negative(data)
        is_binary = self.counts == "presence"
        vectors, found = self._find_vectors(
            data.comm,
            lambda: sparse_feature_cooccurrence(data, binary=is_binary),
            seed,
            machine.available_bytes,
        )
        self.components_ = np.ascontiguousarray(vectors.T)
        self.mean_ = np.zeros(data.n_features)
        self.feature_means_, self.feature_variances_ = column_moments(data)
        self.coordinate_means_ = self.components_ @ self.feature_means_
        self.coordinate_deviations_ = self._deviations(data)
        self._certify(data.comm, *found)
        return self

    def _check_parameters(self) -> None:
        check_choice("counts", self.counts, ("weights", "presence"))
        super()._check_parameters()

    def _deviations(self, X: RowSource) -> NDArray[np.float64]:
        squares = np.zeros(len(self.components_))
        with reading(X):
            for _, block in X.blocks():
                squares += np.square(block @ self.components_.T - self.coordinate_means_).sum(0)
        return np.sqrt(sum_over_ranks(X.comm, squares) / X.n_rows)

    def _unscaled(self, coordinates: NDArray[Any]) -> NDArray[Any]:
        """Remove the scales of the vectors twice: the components are scaled as well."""
        squares = np.abs(self.eigenvalues_) ** (2 * self.power)
        return np.where(squares > 0, coordinates / np.where(squares > 0, squares, 1.0), 0.0)

    @property
    def spectrum_(self) -> Spectrum:
        """Eigenvalues of the information, which are not shares of a whole."""
        return Spectrum(self.eigenvalues_, "")


def _refuse_negative(X: RowSource) -> None:
    """Raise InputError where the rows have a negative entry. Collective."""
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
