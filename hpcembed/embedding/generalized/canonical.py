"""Canonical correlation: directions of the rows that correlate most with their labels.

``C_xy C_yy^+ C_yx v = rho^2 (C_xx + r I) v`` with the covariances of rows and targets, all divided
by n. Classes are targets as one indicator for each; then ``C_xy C_yy^+ C_yx`` is the between-class
scatter, and the directions without a ridge are those of linear discriminants without shrinkage.
The ridge is ``r = ridge tr(C_xx) / d``.

References: Hotelling, "Relations between two sets of variates", Biometrika 28 (1936); Vinod,
"Canonical ridge and econometrics of joint production", J. Econometrics 4 (1976).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeVar

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.embedding._eigensolver import Eigensolver
from hpcembed.embedding.generalized._labels import (
    all_have_classes,
    class_codes,
    label_array,
    target_columns,
)
from hpcembed.embedding.generalized._pencil import Pencil, PencilEmbedding
from hpcembed.embedding.protocol import shape_of
from hpcembed.operators.covariance.class_scatter import class_scatter, target_covariance
from hpcembed.runtime.arguments import check_count, is_number
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import timed

__all__ = ["CanonicalCorrelation"]

Self = TypeVar("Self", bound="CanonicalCorrelation")

#: Variance of a combination of targets, relative to the largest, that is rounding.
_DEPENDENT = 1e-12


@dataclass(eq=False, repr=False)
class CanonicalCorrelation(PencilEmbedding):
    """Projection on the canonical directions between rows and labels.

    Parameters
    ----------
    n_components : int, optional
        At most the number of classes less one or of independent targets, and the number of
        features. Default: this number.
    ridge : float, default=1e-6
        Multiple of the identity that is added to the covariance of the rows, relative to its mean
        eigenvalue; 0 for none.
    tol, random_state, memory_limit, solver
        As for :class:`LinearDiscriminantAnalysis`.

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        On every rank: coordinates have unit variance, apart from the ridge, and no correlation.
    eigenvalues_ : ndarray of shape (k,)
        Squares of the canonical correlations, largest first.
    residual_norms_ : ndarray of shape (k,)
    mean_, feature_variances_ : ndarray of shape (d,)
    n_components_, n_requested_, n_features_in_, n_samples_ : int
    result_, reference_, comparison_, certified_, converged_reason_
        Result of the solver, and its certificate.
    plan_ : PencilPlan
    seconds_ : dict of str to float

    See Also
    --------
    LinearDiscriminantAnalysis : For classes, with shrinkage of the within-class covariance.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcembed import CanonicalCorrelation
    >>> X = np.random.default_rng(0).standard_normal((200, 5))
    >>> y = X @ np.array([1.0, -1.0, 0.0, 2.0, 0.0])
    >>> cca = CanonicalCorrelation(ridge=0.0).fit(X, y)
    >>> cca.eigenvalues_.round(6), cca.transform(X).shape
    (array([1.]), (200, 1))
    """

    components_name = "canonical directions"
    operator_ = "covariance with the labels and covariance"
    eigenvalue_meaning = "squared canonical correlation"
    _remedy = "set ridge above 0"

    n_components: int | None = None
    _: KW_ONLY
    ridge: float = 1e-6
    memory_limit: int | None = None

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the canonical directions of the rows of `X`.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n_local, d)
        y : array of shape (n_local,) or (n_local, t), optional
            Labels of this rank's rows: classes (integers or strings, one for each row), or targets
            (floating-point numbers, or several columns). Default: the labels of a DataMatrix.
        comm : MPI.Comm, optional
            If `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError, ConfigError, MemoryLimitError, ConvergenceError
            As for :meth:`LinearDiscriminantAnalysis.fit`.
        """
        data, machine, seed = self._begin(X, comm, "a covariance")
        labels = label_array(data, X, y, type(self).__name__)
        self.plan_ = self.plan(shape_of(data), machine)
        self.seconds_ = {"operator": 0.0, "solve": 0.0}
        overflow = np.errstate(over="ignore", invalid="ignore")  # an error of the entries below
        with overflow, timed(data.comm, self.seconds_, "operator"):
            pencil, n_directions = self._pencil(data, labels)
        most = min(n_directions, data.n_features)
        k = most if self.n_components is None else self.n_components
        if k > most:
            raise InputError(
                f"need n_components <= {most}, got {k}: the labels have {n_directions} "
                "independent directions (classes less one, or targets); lower n_components"
            )
        tol = self._tolerance(data.stored_type.itemsize)
        solver = Eigensolver(k, tol, seed, self._settings, machine.available_bytes)
        self._find(data, pencil, solver)
        return self

    def _check_parameters(self) -> None:
        check_count("n_components", self.n_components, optional=True)
        if not is_number(self.ridge) or self.ridge < 0:
            raise ConfigError(f"ridge must be a number of at least 0, got {self.ridge!r}")
        super()._check_parameters()

    def _pencil(self, X: RowSource, labels: NDArray[Any]) -> tuple[Pencil, int]:
        """Return the problem, and the number of independent directions of labels. Collective."""
        if all_have_classes(X, labels):
            codes, classes = class_codes(X, labels)
            scatter = class_scatter(X, codes, len(classes))
            mean, variances = scatter.mean, scatter.variances
            factor, n_directions = scatter.between_factor, len(classes) - 1
            total = scatter.within + np.tril(factor.T @ factor)
        else:
            found = target_covariance(X, target_columns(X, labels))
            mean, variances, total = found.mean, found.variances, found.total
            values, vectors = scipy.linalg.eigh(found.targets)
            known = values > _DEPENDENT * max(float(values[-1]), 0.0)
            factor = (vectors[:, known] / np.sqrt(values[known])).T @ found.cross
            n_directions = len(factor)
        metric = np.array(total, order="F")
        metric.flat[:: len(metric) + 1] += self.ridge * np.mean(np.diagonal(total))
        return Pencil(np.tril(factor.T @ factor), total, metric, mean, variances), n_directions
