"""Linear discriminants: directions that separate classes, relative to the spread within them.

``S_b v = lambda S_w v`` with the scatter between classes, ``sum_c n_c (m_c - m)(m_c - m)' / n``,
and that within classes, also divided by n. S_w is shrunk to a multiple of the identity,
``(1 - s) S_w + s tr(S_w) / d I``: without this it is singular if a feature is constant, or there
are more features than rows. By default s is that of Ledoit and Wolf.

References: Fisher, "The use of multiple measurements in taxonomic problems", Ann. Eugenics 7
(1936); Ledoit, Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", J.
Multivariate Anal. 88 (2004).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.embedding._eigensolver import Eigensolver
from hpcembed.embedding.generalized._labels import class_codes, label_array
from hpcembed.embedding.generalized._pencil import Pencil, PencilEmbedding
from hpcembed.embedding.protocol import shape_of
from hpcembed.operators.covariance.class_scatter import ClassScatter, class_scatter
from hpcembed.runtime.arguments import check_count, is_number
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import timed
from hpcembed.runtime.wording import counted

__all__ = ["LinearDiscriminantAnalysis"]

Self = TypeVar("Self", bound="LinearDiscriminantAnalysis")


@dataclass(eq=False, repr=False)
class LinearDiscriminantAnalysis(PencilEmbedding):
    """Projection on linear discriminants.

    Parameters
    ----------
    n_components : int, optional
        At most the number of classes less one, and the number of features. Default: this number.
    shrinkage : float or "auto", default="auto"
        Share s, from 0 to 1, of a multiple of the identity in the within-class covariance; auto:
        the share of Ledoit and Wolf.
    tol : float, optional
        Largest true residual, relative to the norms of both matrices. Default: 1e-6 for rows in
        single precision, 1e-10 for double.
    random_state : int, RandomState or None, default=None
        Seed of the start vectors; None is 0, so that results repeat.
    memory_limit : int, optional
        Bytes that one rank may take. Default: its share of the free memory.
    solver : SolverSettings, optional
        Settings of the eigensolver.

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        On every rank: coordinates have the shrunk within-class covariance I.
    eigenvalues_ : ndarray of shape (k,)
        Variance between classes over that within classes, largest first.
    residual_norms_ : ndarray of shape (k,)
        ``||S_b v - lambda S_w v||``.
    shrinkage_ : float
        The share in use.
    classes_ : ndarray of shape (c,)
        Labels of the classes, or their codes if the rows are a DataMatrix.
    means_ : ndarray of shape (c, d)
    mean_, feature_variances_ : ndarray of shape (d,)
    n_components_, n_requested_, n_features_in_, n_samples_ : int
    result_, reference_, comparison_, certified_, converged_reason_
        Result of the solver, and its certificate.
    plan_ : PencilPlan
    seconds_ : dict of str to float

    See Also
    --------
    CanonicalCorrelation : The same directions without shrinkage; also for numeric targets.

    Notes
    -----
    Under MPI each rank gives its own rows, labels and a communicator, or all ranks share a
    DataMatrix, whose labels are used. Components are the same on any number of ranks to rounding.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from hpcembed import LinearDiscriminantAnalysis
    >>> X, y = load_digits(return_X_y=True)
    >>> lda = LinearDiscriminantAnalysis().fit(X, y)
    >>> lda.transform(X).shape, lda.certified_
    ((1797, 9), True)
    """

    components_name = "linear discriminants"
    operator_ = "between-class and within-class scatter"
    eigenvalue_meaning = "between-class over within-class variance"
    _remedy = 'set shrinkage = "auto", or a share above 0'

    n_components: int | None = None
    _: KW_ONLY
    shrinkage: float | Literal["auto"] = "auto"
    memory_limit: int | None = None

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the discriminants of the rows of `X`.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n_local, d)
        y : array of shape (n_local,), optional
            Classes of this rank's rows: integers or strings. Default: the labels of a DataMatrix.
        comm : MPI.Comm, optional
            If `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError, ValueError
            Rows or labels that cannot be used, fewer than two classes, or more components than
            classes less one.
        ConfigError
            Parameters that do not fit; a singular within-class covariance without shrinkage.
        MemoryLimitError
            Before anything large is allocated.
        ConvergenceError
            If a pair is unconverged, and ``solver.on_no_convergence`` is "raise".
        """
        data, machine, seed = self._begin(X, comm, "a within-class covariance")
        labels = label_array(data, X, y, type(self).__name__)
        codes, self.classes_ = class_codes(data, labels)
        most = min(len(self.classes_) - 1, data.n_features)
        k = most if self.n_components is None else self.n_components
        if k > most:
            raise InputError(
                f"need n_components <= {most}, got {k}: {len(self.classes_)} classes have "
                f"{counted(len(self.classes_) - 1, 'discriminant')}; lower n_components"
            )
        self.plan_ = self.plan(shape_of(data), machine)
        self.seconds_ = {"operator": 0.0, "solve": 0.0}
        overflow = np.errstate(over="ignore", invalid="ignore")  # an error of the entries below
        with overflow, timed(data.comm, self.seconds_, "operator"):
            scatter = class_scatter(data, codes, len(self.classes_))
            pencil = self._pencil(scatter)
        self.means_ = scatter.mean + scatter.offsets
        tol = self._tolerance(data.stored_type.itemsize)
        solver = Eigensolver(k, tol, seed, self._settings, machine.available_bytes)
        self._find(data, pencil, solver)
        return self

    def _check_parameters(self) -> None:
        check_count("n_components", self.n_components, optional=True)
        s = self.shrinkage
        if s != "auto" and not (is_number(s) and 0 <= s <= 1):
            raise ConfigError(f'shrinkage must lie between 0 and 1, or be "auto", got {s!r}')
        super()._check_parameters()

    def _pencil(self, scatter: ClassScatter) -> Pencil:
        """Return the problem with the shrunk within-class covariance."""
        factor, within = scatter.between_factor, scatter.within
        self.shrinkage_ = _ledoit_wolf(scatter) if self.shrinkage == "auto" else self.shrinkage
        metric = np.asfortranarray((1.0 - self.shrinkage_) * within)
        metric.flat[:: len(within) + 1] += self.shrinkage_ * np.mean(np.diagonal(within))
        between = np.tril(factor.T @ factor)
        return Pencil(between, within + between, metric, scatter.mean, scatter.variances)


def _ledoit_wolf(scatter: ClassScatter) -> float:
    """Return the shrinkage of Ledoit and Wolf of the within-class covariance."""
    within: NDArray[np.float64] = scatter.within
    d, n = len(within), int(scatter.counts.sum())
    diagonal = np.diagonal(within)
    with np.errstate(over="ignore", invalid="ignore"):
        square = 2 * np.square(within).sum() - np.square(diagonal).sum()
        distance = square - np.square(diagonal.sum()) / d
        noise = (scatter.fourth_powers / n - square) / n
    if not (np.isfinite(distance) and np.isfinite(noise)):
        raise InputError(
            'fourth powers of the features overflow, which shrinkage = "auto" needs: scale the '
            "features"
        )
    return 0.0 if distance <= 0 else float(min(max(noise, 0.0) / distance, 1.0))
