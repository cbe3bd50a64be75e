"""What a job, a study and a search need of an embedding, whatever it is made of.

An estimator keeps this contract by structure, without a base class; what most of them share is in
:mod:`hpcembed.embedding.certificate` (the verdict on an eigenproblem) and
:mod:`hpcembed.embedding.linear` (projections). :mod:`hpcembed.jobs.embedding_methods` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding.reference import Comparison
from miramns import EigenResult, IterationRecord

__all__ = ["Embedding", "LinearMap", "Machine", "OnCheck", "Plan", "Shape", "Spectrum"]

Vector = NDArray[np.float64]
OnCheck = Callable[[IterationRecord], None]


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of a data set, before or after it is read.

    Attributes
    ----------
    n_train, n_test, n_features : int
    n_nonzeros : int or None
        Stored entries of sparse training rows.
    row_bytes : int
        Memory of one row as it is held.
    """

    n_train: int
    n_test: int
    n_features: int
    n_nonzeros: int | None
    row_bytes: int

    @property
    def item_bytes(self) -> int:
        """Of a number as it is held."""
        return -(-self.row_bytes // self.n_features) if self.n_nonzeros is None else 8


@dataclass(frozen=True, slots=True)
class Machine:
    """What a job runs on: ranks, BLAS threads of each, bytes that one rank may take."""

    ranks: int
    threads: int
    available_bytes: int


class Plan(Protocol):
    """What finding an embedding will take, said before anything large is allocated."""

    @property
    def bytes(self) -> int:
        """Memory on one rank, beyond the data."""
        ...

    def describe(self) -> str:
        """One line for the terminal."""
        ...


@dataclass(frozen=True, slots=True)
class LinearMap:
    """Coordinates as ``(x - mean) @ components.T``: what folds into a network and is exported.

    Attributes
    ----------
    components : ndarray of shape (k, d)
    mean : ndarray of shape (d,)
        Zero where rows are not centred.
    """

    components: Vector
    mean: Vector


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Eigenvalues, and what may be said of them in tables and figures.

    Attributes
    ----------
    values : ndarray of shape (k,)
        In the order of the coordinates.
    meaning : str
        What an eigenvalue is: "variance", "mean square"; empty where it has no other name.
    share : ndarray of shape (k,) or None
        What each coordinate holds of a whole; they add up to 1 at most.
    share_of : str
        Of what: "variance" only where it is the variance of the features.
    """

    values: Vector
    meaning: str
    share: Vector | None = None
    share_of: str = ""

    @property
    def explained_variance_ratio(self) -> Vector | None:
        """Shares of the variance of the features, where that is what they are."""
        return self.share if self.share_of == "variance" else None

    @property
    def unexplained(self) -> Vector:
        """Share that the first 0, 1, ..., k coordinates leave; even steps where none is known."""
        k = len(self.values)
        if self.share is None:
            return np.linspace(1.0, 0.0, k + 1)
        return np.maximum(1.0 - np.concatenate([[0.0], np.cumsum(self.share)]), 0.0)


@runtime_checkable
class Embedding(Protocol):
    """An estimator as a job uses it; attributes ending in _ are there after :meth:`fit`.

    A fit that asked for ``on_no_convergence="keep"`` ends without an error where pairs missed their
    tolerance; ``certified_`` and :meth:`failure_text` say so. All attributes are the same on all
    ranks, but the rows of the vectors in ``result_``.

    Attributes
    ----------
    components_name : str
        What coordinates are called in the plural: "principal components".
    n_requested_, n_features_in_ : int
        Coordinates asked for, and features of the rows. Fewer coordinates than asked for are found
        where the solver gave up: ``len(spectrum_.values)``.
    operator_ : str
        The operator and how it was held: "covariance, matrix-free".
    spectrum_ : Spectrum
    coordinate_means_, coordinate_deviations_ : ndarray of shape (k,)
        Of the training rows' coordinates; they decide in which precision these travel.
    feature_means_, feature_variances_ : ndarray of shape (d,)
        Of the training rows, as :func:`hpcembed.operators.column_moments` gives them.
    linear_map_ : LinearMap or None
        None where coordinates are no affine function of the features: no model is exported.
    result_ : EigenResult
    reference_ : EigenResult or None
        Of a second solver, where the job asked for one.
    comparison_ : Comparison or None
    certified_ : bool
    seconds_ : mapping of str to float
        Wall time of ``operator`` and ``solve`` on the slowest rank.
    """

    @property
    def components_name(self) -> str: ...  # noqa: D102
    @property
    def n_requested_(self) -> int: ...  # noqa: D102
    @property
    def n_features_in_(self) -> int: ...  # noqa: D102
    @property
    def operator_(self) -> str: ...  # noqa: D102
    @property
    def spectrum_(self) -> Spectrum: ...  # noqa: D102
    @property
    def coordinate_means_(self) -> Vector: ...  # noqa: D102
    @property
    def coordinate_deviations_(self) -> Vector: ...  # noqa: D102
    @property
    def feature_means_(self) -> Vector: ...  # noqa: D102
    @property
    def feature_variances_(self) -> Vector: ...  # noqa: D102
    @property
    def linear_map_(self) -> LinearMap | None: ...  # noqa: D102
    @property
    def result_(self) -> EigenResult: ...  # noqa: D102
    @property
    def reference_(self) -> EigenResult | None: ...  # noqa: D102
    @property
    def comparison_(self) -> Comparison | None: ...  # noqa: D102
    @property
    def certified_(self) -> bool: ...  # noqa: D102
    @property
    def seconds_(self) -> Mapping[str, float]: ...  # noqa: D102

    def fit(self, X: DataMatrix, /) -> Embedding:
        """Find the embedding of the training rows. Collective."""
        ...

    def transform(
        self, X: DataMatrix, dtype: type[np.floating[Any]] | None = None, /
    ) -> NDArray[Any]:
        """Coordinates of this rank's rows, shape (n_local, k).

        All ranks call it at the same time, so it may be collective. An error that one rank alone
        may meet before a collective call must be agreed on
        (:func:`hpcembed.runtime.ranks.agreement`); after the last one the caller agrees.
        """
        ...

    def failure_text(self) -> str:
        """Which eigenpairs missed their tolerance, and what to do. Not collective."""
        ...
