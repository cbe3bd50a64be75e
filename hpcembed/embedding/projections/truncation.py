"""Selection of some features: the first ones, or those of largest variance."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.embedding.projections._fixed_projection import FixedProjection
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.runtime.arguments import check_choice
from hpcembed.runtime.errors import InputError

__all__ = ["FeatureTruncation"]

#: Digits of a variance that do not depend on the number of ranks.
_DIGITS = 1e-9


class FeatureTruncation(FixedProjection):
    """Selection of k features.

    Parameters
    ----------
    n_components : int, default=2
        Number of features to keep.
    order : {"first", "variance"}, default="first"
        Keep the first features, or those of largest variance. Variances that differ by less than
        1e-9 of the largest are equal, and the first feature is kept.

    Attributes
    ----------
    features_ : ndarray of int, shape (k,)
        Kept features in the order of the coordinates.
    components_ : ndarray of shape (k, d)
        One 1 in each row.
    n_components_, n_features_in_, n_samples_ : int

    See Also
    --------
    CosineTransform : The lowest frequencies of rows that are signals or images.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from hpcembed import FeatureTruncation
    >>> X = load_iris().data
    >>> FeatureTruncation(2, order="variance").fit(X).features_.tolist()
    [2, 0]
    """

    def __init__(
        self, n_components: int = 2, *, order: Literal["first", "variance"] = "first"
    ) -> None:
        self.n_components = n_components
        self.order = order

    def _check_parameters(self) -> None:
        check_choice("order", self.order, ("first", "variance"))
        super()._check_parameters()

    def _rows_of(self, X: RowSource) -> NDArray[np.float64]:
        d, k = X.n_features, self.n_components_
        order = np.arange(d)
        if self.order == "variance":
            with np.errstate(over="ignore", invalid="ignore"):  # raised below
                variances = column_moments(X)[1]
            if not np.isfinite(variances).all():
                feature = int(np.argmin(np.isfinite(variances)))
                raise InputError(
                    f"the variance of feature {feature} (counted from 0) overflows: scale the "
                    "features"
                )
            largest = float(np.max(variances, initial=0.0)) or 1.0
            order = np.argsort(-np.round(variances / largest / _DIGITS), kind="stable")
        self.features_ = order[:k]
        rows = np.zeros((k, d))
        rows[np.arange(k), self.features_] = 1.0
        return rows
