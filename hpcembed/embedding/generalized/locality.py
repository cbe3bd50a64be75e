"""Locality preserving projection: near rows stay near.

``X'L X v = lambda X'D X v`` for the smallest lambda, with the graph in which two rows are joined if
one is among the nearest rows of the other, its degrees D and its Laplacian ``L = D - W``. These are
the largest eigenvalues ``1 - lambda`` of ``X'W X v = mu X'D X v``, which is solved. Rows are the
principal components of the given ones, as the authors do: so the second matrix is not singular.

Deviations from the authors: components are scaled to unit variance before the eigenproblem, which
changes rounding alone; of more than `max_rows` rows, evenly spaced ones form the graph, whose
distances take O(n^2) operations, and 1e-6 of its mean eigenvalue is added to the second matrix, as
they may span less than all rows; all weights are 1.

Reference: He, Niyogi, "Locality preserving projections", NIPS 2003.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeVar

import numpy as np
from mpi4py import MPI

from hpcembed.data.matrix import RowSource
from hpcembed.embedding._eigensolver import Eigensolver
from hpcembed.embedding.generalized._pencil import Pencil, PencilEmbedding, PencilPlan
from hpcembed.embedding.pca import PCA
from hpcembed.embedding.protocol import Machine, Shape, shape_of
from hpcembed.operators.graph.row_neighbours import nearest_rows, symmetric_neighbours
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.arguments import check_count
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.machine.memory import check_fits
from hpcembed.runtime.ranks import allgather_rows, place_rows, sum_over_ranks, timed

__all__ = ["LocalityPreservingProjection", "spanned_components"]

Self = TypeVar("Self", bound="LocalityPreservingProjection")

#: Tolerance of the principal components: neighbours must not depend on it.
_TOLERANCE = 1e-10
#: Variance relative to the largest below which a component is left out.
_SPANNED = 1e-9
#: Share of the mean eigenvalue that is added to the second matrix if some rows form the graph.
_RIDGE = 1e-6


@dataclass(eq=False, repr=False)
class LocalityPreservingProjection(PencilEmbedding):
    """Linear projection that keeps neighbouring rows together.

    Parameters
    ----------
    n_components : int, default=2
        At most the number of principal components in use.
    n_neighbors : int, default=5
        Nearest rows that each row is joined with.
    pca_components : int, default=100
        Principal components of the rows in which neighbours are found; fewer where the rows span
        fewer dimensions.
    max_rows : int, default=20000
        Rows that form the graph; of more rows, evenly spaced ones are taken.
    tol, random_state, memory_limit, solver
        As for :class:`LinearDiscriminantAnalysis`.

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        On every rank.
    eigenvalues_ : ndarray of shape (k,)
        ``1 - lambda``, largest first: 1 if neighbours have equal coordinates.
    residual_norms_ : ndarray of shape (k,)
    pca_ : PCA
    n_graph_rows_, n_edges_ : int
        Rows of the graph, and pairs of neighbours.
    mean_, feature_variances_ : ndarray of shape (d,)
    n_components_, n_requested_, n_features_in_, n_samples_ : int
    result_, reference_, comparison_, certified_, converged_reason_
        Result of the solver, and its certificate.
    plan_ : PencilPlan
    seconds_ : dict of str to float

    See Also
    --------
    SpectralEmbedding : Coordinates of graph nodes, which are no function of features.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from hpcembed import LocalityPreservingProjection
    >>> X = load_iris().data
    >>> lpp = LocalityPreservingProjection(2).fit(X)
    >>> lpp.transform(X).shape, lpp.n_graph_rows_
    ((150, 2), 150)
    """

    components_name = "locality preserving directions"
    operator_ = "neighbours and degrees in principal components"
    eigenvalue_meaning = "similarity of neighbours"
    _remedy = "lower pca_components"
    _needs_labels = False
    _is_positive = False

    n_components: int = 2
    _: KW_ONLY
    n_neighbors: int = 5
    pca_components: int = 100
    max_rows: int = 20_000
    memory_limit: int | None = None

    def plan(self, shape: Shape, machine: Machine) -> PencilPlan:
        """Return the plan that :meth:`fit` makes for data of this shape.

        Raises
        ------
        MemoryLimitError
            If neither the principal components nor the graph fit.
        """
        p, m = self._size(shape.n_train, shape.n_features), min(shape.n_train, self.max_rows)
        # coordinates of all rows of the graph, twice, its neighbours, and a block of distances
        graph = m * (16 * p + 40 * self.n_neighbors) + 2**27
        needed = max(self._pca(p).plan(shape, machine).bytes, graph)
        check_fits(
            needed,
            machine.available_bytes,
            f"a graph of {m:,} rows",
            "lower max_rows, or use more memory per rank",
        )
        return PencilPlan(self.operator_, p, needed)

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the directions of the rows of `X`.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, or array or sparse matrix of shape (n_local, d)
        y : ignored
        comm : MPI.Comm, optional
            If `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError
            Rows that cannot be used, not more rows than neighbours, or more components than
            principal components.
        ConfigError, MemoryLimitError, ConvergenceError
            As for :meth:`LinearDiscriminantAnalysis.fit`.
        """
        data, machine, seed = self._begin(X, comm, "a graph of rows")
        p = self._size(data.n_rows, data.n_features)
        self.plan_ = self.plan(shape_of(data), machine)
        self.seconds_ = {"operator": 0.0, "solve": 0.0}
        with timed(data.comm, self.seconds_, "operator"):
            self.pca_ = self._pca(p).fit(data)
            spanned = _spanned(self.pca_)
            if self.n_components > spanned:
                raise InputError(
                    f"need n_components <= {spanned}, got {self.n_components}: the rows have "
                    f"{spanned} principal components in use; lower n_components, or raise "
                    "pca_components"
                )
            pencil = self._pencil(data, spanned)
        tol = self._tolerance(8)
        solver = Eigensolver(self.n_components, tol, seed, self._settings, machine.available_bytes)
        self._find(data, pencil, solver)
        return self

    def _check_parameters(self) -> None:
        for name in ("n_components", "n_neighbors", "pca_components", "max_rows"):
            check_count(name, getattr(self, name))
        super()._check_parameters()

    def _size(self, n_rows: int, n_features: int) -> int:
        """Return the number of principal components to find."""
        return max(1, min(self.pca_components, n_features, n_rows - 1))

    def _pca(self, p: int) -> PCA:
        return _components(p, self.memory_limit)

    def _pencil(self, X: RowSource, p: int) -> Pencil:
        """Return the problem in p principal components of unit variance. Collective."""
        comm, n = X.comm, X.n_rows
        first, _ = place_rows(X.n_local, comm)
        m = min(n, self.max_rows)
        chosen = (np.arange(m) * n) // m
        mine = chosen[(chosen >= first) & (chosen < first + X.n_local)] - first
        coordinates = np.empty((0, p))
        with agreement(comm):
            coordinates = self.pca_.transform(X, np.float64)[mine, :p]
        rows = allgather_rows(comm, np.ascontiguousarray(coordinates))
        start, _ = place_rows(len(mine), comm)
        neighbours = np.empty((0, self.n_neighbors), np.int64)
        with agreement(comm):
            neighbours = nearest_rows(rows, start, start + len(mine), self.n_neighbors)
        graph = symmetric_neighbours(comm, neighbours, start)
        degrees = np.asarray(graph.sum(axis=1)).ravel()
        self.n_graph_rows_ = m
        self.n_edges_ = int(comm.allreduce(float(degrees.sum()))) // 2
        deviations = np.sqrt(self.pca_.explained_variance_[:p])
        scaled = rows / deviations
        own = scaled[start : start + len(mine)]
        squares = np.stack([own.T @ (graph @ scaled), (own.T * degrees) @ own]) / n
        near, metric = sum_over_ranks(comm, np.ascontiguousarray(squares))
        if m < n:
            metric.flat[:: p + 1] += _RIDGE * np.mean(np.diagonal(metric))
        return Pencil(
            np.tril((near + near.T) / 2),
            np.eye(p) * (n - 1) / n,
            np.asfortranarray(np.tril(metric)),
            self.pca_.mean_,
            self.pca_.feature_variances_,
            self.pca_.components_[:p] / deviations[:, np.newaxis],
        )


def spanned_components(X: RowSource, most: int, memory_limit: int | None = None) -> int:
    """Return how many of the leading `most` principal components of rows have a variance.

    Collective. This is the largest `n_components` of a :class:`LocalityPreservingProjection` with
    ``pca_components = most``.

    Parameters
    ----------
    most : int
        At most the number of features, and the number of rows less one.
    """
    return _spanned(_components(most, memory_limit).fit(X))


def _components(p: int, memory_limit: int | None) -> PCA:
    return PCA(p, tol=_TOLERANCE, random_state=0, memory_limit=memory_limit)


def _spanned(pca: PCA) -> int:
    values = pca.explained_variance_
    return int(np.sum(values > _SPANNED * values[0])) if values[0] > 0 else 0
