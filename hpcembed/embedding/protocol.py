"""Contract of an embedding: the attributes and methods of an estimator that jobs use.

An estimator implements :class:`Embedding` without a base class. Estimators of this package share
their parts in :mod:`hpcembed.embedding._estimator` (parameters, certificate, input) and
:mod:`hpcembed.embedding._linear` (projection).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.embedding._eigen_results import ReferenceComparison
from hpcembed.operators.cost import Machine, Shape
from miramns import EigenResult, IterationRecord

__all__ = ["Embedding", "LinearMap", "Machine", "Monitor", "Plan", "Shape", "Spectrum", "shape_of"]

Vector = NDArray[np.float64]

#: Function that receives each iteration record of the solver.
Monitor = Callable[[IterationRecord], None]


def shape_of(X: RowSource, test: DataMatrix | None = None) -> Shape:
    """Return the shape of training rows and, optionally, of test rows.

    Collective.
    """
    item, d = X.stored_type.itemsize, X.n_features
    shape = Shape(X.n_rows, 0, d, None, item * d, item, X.is_streamed)
    if not isinstance(X, DataMatrix):
        return shape
    tables = [X] if test is None else [X, test]
    stored = X.comm.allreduce(sum(table.stored_bytes for table in tables))
    return replace(
        shape,
        n_test=0 if test is None else test.n_rows,
        n_nonzeros=X.n_nonzeros if X.is_sparse else None,
        row_bytes=-(-stored // max(sum(table.n_rows for table in tables), 1)),
        n_nodes=None if X.nodes is None else X.nodes.graph.n_nodes,
    )


class Plan(Protocol):
    """Predicted cost of a fit, known before anything large is allocated."""

    @property
    def bytes(self) -> int:
        """Memory on one rank, beyond the data."""
        ...

    def describe(self) -> str:
        """Return the plan as one line of text."""
        ...


@dataclass(frozen=True, slots=True)
class LinearMap:
    """Coordinates as ``(x - mean) @ components.T``: the part that folds into a network.

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
    """Eigenvalues and their meaning, for tables and figures.

    Attributes
    ----------
    values : ndarray of shape (k,)
        Eigenvalues in the order of the coordinates.
    meaning : str
        Meaning of an eigenvalue: "variance", "mean square"; empty where it has no other name.
    share : ndarray of shape (k,) or None
        Share of each coordinate in a whole; the shares add up to 1 at most.
    share_of : str
        The whole: "variance" only if it is the variance of the features.
    trace : float or None
        Sum of all eigenvalues of the operator, also of those that were not computed.
    rank_limit : int or None
        Largest possible number of eigenvalues that are not zero.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcembed.embedding import Spectrum
    >>> Spectrum(np.array([3.0, 1.0]), "variance", np.array([0.75, 0.25]), "variance").unexplained
    array([1.  , 0.25, 0.  ])
    """

    values: Vector
    meaning: str
    share: Vector | None = None
    share_of: str = ""
    trace: float | None = None
    rank_limit: int | None = None

    @property
    def explained_variance_ratio(self) -> Vector | None:
        """Shares of the variance of the features; None where shares are of another whole."""
        return self.share if self.share_of == "variance" else None

    @property
    def unexplained(self) -> Vector:
        """Share left by the first 0, 1, ..., k coordinates; even steps if none is known."""
        k = len(self.values)
        if self.share is None:
            return np.linspace(1.0, 0.0, k + 1)
        return np.maximum(1.0 - np.concatenate([[0.0], np.cumsum(self.share)]), 0.0)


@runtime_checkable
class Embedding(Protocol):
    """An estimator as a job uses it; attributes ending in _ exist after :meth:`fit`.

    With ``on_no_convergence="keep"`` a fit with unconverged pairs returns without an error;
    ``certified_`` is then False and :meth:`failure_text` names the pairs. All attributes
    are the same on all ranks, except the rows of the vectors in ``result_``.

    Attributes
    ----------
    components_name : str
        Name of the coordinates in the plural: "principal components".
    n_requested_, n_features_in_ : int
        Requested coordinates, and features of the rows. Fewer coordinates are found where the
        solver stopped early: ``len(spectrum_.values)``.
    operator_ : str
        The operator and its engine: "covariance, matrix-free".
    plan_ : Plan
        The plan of the fit.
    spectrum_ : Spectrum
    coordinate_means_, coordinate_deviations_ : ndarray of shape (k,)
        Moments of the training rows' coordinates; they determine the precision of messages.
    feature_means_, feature_variances_ : ndarray of shape (d,)
        Moments of the training rows (:func:`hpcembed.operators.covariance.moments.column_moments`).
    linear_map_ : LinearMap or None
        None where coordinates are not an affine function of the features: no model is exported.
    result_ : EigenResult
    reference_ : EigenResult or None
        Result of the reference solver, if one is requested.
    comparison_ : ReferenceComparison or None
    certificate_ : {"exact", "double", "sampled"}
        Origin of the residuals of ``result_``: an exact operator, products in double precision, or
        a bound from random combinations of the pairs.
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
    def plan_(self) -> Plan: ...  # noqa: D102
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
    def comparison_(self) -> ReferenceComparison | None: ...  # noqa: D102
    @property
    def certificate_(self) -> str: ...  # noqa: D102

    @property
    def certified_(self) -> bool: ...  # noqa: D102
    @property
    def seconds_(self) -> Mapping[str, float]: ...  # noqa: D102

    def plan(self, shape: Shape, machine: Machine, /) -> Plan:
        """Return the plan that :meth:`fit` makes for data of this shape on this machine.

        The same on all ranks for the same arguments.

        Raises
        ------
        MemoryLimitError
            If no way to find the embedding fits the memory.
        ConfigError
            If parameters do not go together.
        """
        ...

    def fit(self, X: DataMatrix, /) -> Embedding:
        """Find the embedding of the training rows. Collective."""
        ...

    def transform(
        self, X: DataMatrix, dtype: type[np.floating[Any]] | None = None, /
    ) -> NDArray[Any]:
        """Return the coordinates of this rank's rows, shape (n_local, k).

        Collective: all ranks call it together. Ranks agree on an error that one rank alone may meet
        before a collective call (:func:`hpcembed.runtime.agreement.agreement`); after the last
        collective call the caller agrees.
        """
        ...

    def failure_text(self) -> str:
        """Return the unconverged eigenpairs, and a remedy."""
        ...
