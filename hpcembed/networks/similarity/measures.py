"""Similarity of two representations of the same rows: linear CKA, SVCCA and PWCCA.

All three are functions of the covariances within and between the two sets of features, which are
sums over the rows. With centred X (n, p) and Y (n, q):

* Linear CKA: ``||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F)`` (Kornblith et al., ICML 2019, equation 6).
* SVCCA: the mean canonical correlation of the leading principal components that have 99 % of the
  variance of each set (Raghu et al., NeurIPS 2017).
* PWCCA: the mean of the canonical correlations with weights ``sum_j |<h_i, x_j>|``, where h_i is
  the i-th canonical variable of unit norm and x_j the j-th column of X (Morcos et al., NeurIPS
  2018).

Canonical correlations are the singular values of ``Wx' X'Y Wy`` with whitening maps Wx, Wy from the
eigenpairs of the covariances (SVCCA) or of the correlation matrices (PWCCA, so that the units of
columns have no effect). Directions with eigenvalues of at most `rank_tol` of the largest one are
left out, since their correlations would be those of rounding errors: with the default 1e-10, these
are directions whose standard deviation is 1e-5 of the largest. Rank 0 solves the small dense
problems.

Deviation from the code of the authors (google/svcca): it adds the means to canonical variables and
columns before it computes the weights of PWCCA; here both are centred, as in the paper. As there,
the weights are those of the set with fewer dimensions, and of the first one of equal sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from hpcembed.networks.similarity.joint_covariance import JointCovariance, joint_covariance
from hpcembed.runtime.agreement import agreement, on_rank, same_on_all_ranks
from hpcembed.runtime.arguments import is_number
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import communicator
from hpcembed.runtime.wording import counted

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["CanonicalSimilarity", "cka_matrix", "linear_cka", "pwcca", "svcca"]


@dataclass(frozen=True, slots=True)
class CanonicalSimilarity:
    """A mean of canonical correlations.

    Attributes
    ----------
    similarity : float
        Weighted mean of the correlations, between 0 and 1.
    correlations : ndarray of shape (m,)
        Canonical correlations, largest first; m is the smaller number of dimensions.
    weights : ndarray of shape (m,)
        Weights of the correlations; their sum is 1.
    n_dimensions : tuple of int
        Dimensions of the two sets of features after the cut-off.
    n_rows : int
        Rows on all ranks.
    """

    similarity: float
    correlations: NDArray[np.float64]
    weights: NDArray[np.float64]
    n_dimensions: tuple[int, int]
    n_rows: int

    def __repr__(self) -> str:
        first, last = self.correlations[0], self.correlations[-1]
        return (
            f"<CanonicalSimilarity: {self.similarity:.3f}, "
            f"{counted(len(self.correlations), 'correlation')} {first:.3f} to {last:.3f}, "
            f"{self.n_rows:,} rows>"
        )


def linear_cka(x: NDArray[Any], y: NDArray[Any], *, comm: MPI.Intracomm | None = None) -> float:
    """Return the linear centred kernel alignment of two sets of features of the same rows.

    Collective.

    Parameters
    ----------
    x, y : ndarray of shape (n_local, p) and (n_local, q)
        This rank's rows, in any units; the same rows in both.
    comm : MPI.Intracomm, optional
        Ranks that hold the rows; default: this rank alone.

    Returns
    -------
    float
        Between 0 and 1. 1: X and Y are equal up to an orthogonal map and a factor. The value does
        not change with the order of the rows, with offsets of columns, with an orthogonal map or
        with a factor of either set. For independent normal features it is near
        ``sqrt(p q / ((n + p) (n + q)))``, not 0.

    Raises
    ------
    InputError
        A set is not a table of finite numbers, all of its columns are constant, the numbers of rows
        differ, or there are fewer than 2 rows.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((200, 3))
    >>> round(linear_cka(x, 5.0 * x[:, ::-1]), 12)
    1.0
    """
    joint = joint_covariance((x, y), ("x", "y"), communicator(comm))
    for i, name in enumerate("xy"):
        if not np.diagonal(joint.block(i, i)).any():
            raise InputError(f"{name}: all columns are constant: its similarity is not defined")
    return float(cka_matrix(joint)[0, 1])


def cka_matrix(joint: JointCovariance) -> NDArray[np.float64]:
    """Return the linear CKA of all pairs of sets, shape (sets, sets).

    Rows and columns of constant sets are NaN.
    """
    sets = range(len(joint.widths))
    scales = np.sqrt([np.diagonal(joint.block(i, i)).max() for i in sets])
    products = np.zeros((len(sets), len(sets)))
    for i in sets:
        for j in range(i + 1):
            if scales[i] > 0 and scales[j] > 0:  # scaled: the squares neither over- nor underflow
                block = joint.block(i, j) / scales[i] / scales[j]
                products[i, j] = products[j, i] = np.sum(block * block)
    norms = np.sqrt(np.diagonal(products))
    with np.errstate(invalid="ignore"):
        return np.minimum(products / np.outer(norms, norms), 1.0)


def svcca(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    variance: float = 0.99,
    rank_tol: float = 1e-10,
    comm: MPI.Intracomm | None = None,
) -> CanonicalSimilarity:
    """Compute the mean canonical correlation of the leading principal components of two sets.

    Collective.

    Parameters
    ----------
    x, y : ndarray of shape (n_local, p) and (n_local, q)
        As for :func:`linear_cka`.
    variance : float
        Share of the variance of each set that its principal components have, at most 1.
    rank_tol : float
        Principal components of at most this variance, relative to the largest one, are left out.
    comm : MPI.Intracomm, optional
        Default: this rank alone.

    Raises
    ------
    InputError
        As :func:`linear_cka`; or there are not more rows than the dimensions of both sets together:
        some correlations would be 1 for any data.
    ConfigError
        `variance` or `rank_tol` is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((200, 3))
    >>> found = svcca(x, x @ np.array([[1.0, 2.0], [0.0, 1.0], [1.0, 0.0]]))
    >>> round(found.similarity, 12), found.n_dimensions
    (1.0, (3, 2))
    """
    return _canonical(x, y, variance, rank_tol, comm, is_projected=False)


def pwcca(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    rank_tol: float = 1e-10,
    comm: MPI.Intracomm | None = None,
) -> CanonicalSimilarity:
    """Compute the projection-weighted mean of all canonical correlations of two sets.

    Collective.

    Parameters
    ----------
    x, y : ndarray of shape (n_local, p) and (n_local, q)
        As for :func:`linear_cka`.
    rank_tol : float
        Eigenvectors of the correlation matrix of a set with at most this eigenvalue, relative to
        the largest one, are left out.
    comm : MPI.Intracomm, optional
        Default: this rank alone.

    Raises
    ------
    InputError, ConfigError
        As :func:`svcca`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((200, 3))
    >>> found = pwcca(x, 1.0 + x @ np.triu(np.ones((3, 3))))
    >>> round(found.similarity, 12), round(found.weights.sum(), 12)
    (1.0, 1.0)
    """
    return _canonical(x, y, 1.0, rank_tol, comm, is_projected=True)


def _canonical(
    x: NDArray[Any],
    y: NDArray[Any],
    variance: float,
    rank_tol: float,
    comm: MPI.Intracomm | None,
    *,
    is_projected: bool,
) -> CanonicalSimilarity:
    ranks = communicator(comm)
    with agreement(ranks):
        for name, value in (("variance", variance), ("rank_tol", rank_tol)):
            if not is_number(value) or not 0 < value <= 1:
                raise ConfigError(f"{name} = {value!r}: give a number above 0 and at most 1")
    same_on_all_ranks(ranks, variance=variance, rank_tol=rank_tol)
    joint = joint_covariance((x, y), ("x", "y"), ranks)

    def solve() -> CanonicalSimilarity:
        whitened = [
            _Whitened.of(joint.block(i, i), name, variance, rank_tol, standardise=is_projected)
            for i, name in enumerate("xy")
        ]
        return _correlations(joint, *whitened, is_projected=is_projected)

    return on_rank(ranks, 0, solve)


@dataclass(frozen=True, slots=True)
class _Whitened:
    """Coordinates of unit norm of a centred set: ``X @ inverse``, and ``loadings = X' X inverse``.

    Both have shape (p, dimensions).
    """

    inverse: NDArray[np.float64]
    loadings: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        covariance: NDArray[np.float64],
        name: str,
        variance: float,
        rank_tol: float,
        *,
        standardise: bool,
    ) -> _Whitened:
        norms = np.sqrt(np.diagonal(covariance))
        if not norms.any():
            raise InputError(f"{name}: all columns are constant: its similarity is not defined")
        norms = np.where(norms > 0, norms, 1.0) if standardise else np.full_like(norms, norms.max())
        values, vectors = scipy.linalg.eigh(covariance / norms[:, None] / norms)
        values, vectors = values[::-1], vectors[:, ::-1]
        kept = int(np.count_nonzero(values > rank_tol * values[0]))
        if variance < 1:
            shares = np.cumsum(np.maximum(values, 0.0)) / np.sum(np.maximum(values, 0.0))
            kept = min(kept, 1 + int(np.count_nonzero(shares < variance)))
        roots, vectors = np.sqrt(values[:kept]), vectors[:, :kept]
        return cls(vectors / roots / norms[:, None], vectors * roots * norms[:, None])

    @property
    def n_dimensions(self) -> int:
        return self.inverse.shape[1]


def _correlations(
    joint: JointCovariance, x: _Whitened, y: _Whitened, *, is_projected: bool
) -> CanonicalSimilarity:
    p, q, n = x.n_dimensions, y.n_dimensions, joint.n_rows
    if n <= p + q:
        raise InputError(
            f"canonical correlations of {p} and {q} dimensions need more than {p + q} rows, not "
            f"{n}: some would be 1 for any data; use linear_cka, or more rows"
        )
    left, correlations, right = scipy.linalg.svd(
        x.inverse.T @ joint.block(0, 1) @ y.inverse, full_matrices=False
    )
    weights = np.ones(min(p, q))
    if is_projected:
        projections = x.loadings @ left if p <= q else y.loadings @ right.T
        weights = np.sum(np.abs(projections), axis=0)
    weights /= np.sum(weights)
    correlations = np.minimum(correlations, 1.0)
    return CanonicalSimilarity(
        float(weights @ correlations), correlations, weights, (p, q), joint.n_rows
    )
