"""Embedding of graph nodes for jobs: all nodes at once, those of training and test rows alike.

Coordinates are those of :class:`~hpcembed.embedding.SpectralEmbedding` times sqrt(n), so that they
are of order one for graphs of any size. Requested principal components of the attributes are
learned from the training nodes and come first. The leading coordinates are those of a run
with fewer coordinates. The embedding uses no labels, but it depends on the test nodes (it is
transductive), so no model is exported.
"""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.graph import GraphNodes
from hpcembed.data.graphs.graph_drawing import GraphDrawing, draw_from
from hpcembed.data.graphs.owner_exchange import Lookup
from hpcembed.data.matrix import DataMatrix
from hpcembed.data.row_validation import assign
from hpcembed.embedding._eigen_results import joined, part, scaled
from hpcembed.embedding._estimator import CertifiedEstimator
from hpcembed.embedding.pca import PCA
from hpcembed.embedding.protocol import Machine, Shape, Spectrum, shape_of
from hpcembed.embedding.spectral import SpectralEmbedding
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.operators.graph.graph_operators import GraphOperatorKind
from hpcembed.operators.graph.graph_plan import OPERATOR_TITLES, GraphPlan, plan_graph
from hpcembed.runtime.errors import InputError

__all__ = ["NodeEmbedding"]


@dataclass(eq=False, repr=False)
class NodeEmbedding(CertifiedEstimator):
    """Coordinates of the graph nodes that rows belong to.

    Parameters
    ----------
    n_components : int
        Number of coordinates of both kinds together.
    operator, tau
        As for :class:`~hpcembed.embedding.SpectralEmbedding`.
    attribute_components : int, default=0
        Number of coordinates that are principal components of the rows.
    tol, random_state, memory_limit, n_threads, solver
        As for :class:`~hpcembed.embedding.PCA`.

    Attributes
    ----------
    As :class:`~hpcembed.embedding.protocol.Embedding` lists them; eigenvalues of principal
    components are relative to their largest, and those of the operator follow.
    node_coordinates_ : ndarray of shape (graph.n_local, k)
        Spectral coordinates of this rank's nodes of the graph, with a label or without.
    drawing_ : GraphDrawing or None
        The two leading spectral coordinates of some nodes and edges; on rank 0.
    """

    components_name = "spectral coordinates"
    linear_map_ = None

    n_components: int
    _: KW_ONLY
    operator: GraphOperatorKind = "normalized"
    tau: float | Literal["mean"] = "mean"
    attribute_components: int = 0
    tol: float = 1e-10
    random_state: Any = 0
    memory_limit: int | None = None
    n_threads: int | None = None

    def plan(self, shape: Shape, machine: Machine) -> GraphPlan:
        """Return the plan that :meth:`fit` makes for a graph of this shape.

        Raises
        ------
        MemoryLimitError
            If the space of the eigenvectors does not fit.
        """
        return plan_graph(self.operator, self.n_components, shape, machine)

    def fit(self, X: DataMatrix) -> NodeEmbedding:
        """Compute the coordinates of all nodes of the graph that the rows of `X` belong to.

        Collective.

        Raises
        ------
        InputError
            Rows that are not nodes, fewer nodes than coordinates.
        """
        if X.nodes is None:
            raise InputError("these rows are not nodes of a graph: set data.format = graph")
        self.plan_ = self.plan(shape_of(X), self._machine(X.comm))
        graph, a = X.nodes.graph, self.attribute_components
        common = {"tol": self.tol, "random_state": self.random_state, "solver": self.solver}
        placing = SpectralEmbedding(
            self.n_components - a, operator=self.operator, tau=self.tau, **common
        )
        with warnings.catch_warnings():
            # the reader has logged the number of components
            warnings.simplefilter("ignore", UserWarning)
            placing.fit(graph)
        self._attributes: PCA | None = None
        if a:
            self._attributes = PCA(
                a, memory_limit=self.memory_limit, n_threads=self.n_threads, **common
            ).fit(X)
        self.node_coordinates_: NDArray[np.float64] = placing.embedding_ * np.sqrt(graph.n_nodes)
        self.n_features_in_, self.n_requested_ = X.n_features, self.n_components
        self.feature_means_, self.feature_variances_ = column_moments(X)
        self._join(placing)
        self._measure(X)
        self.drawing_: GraphDrawing | None = draw_from(
            X.nodes, self.node_coordinates_, placing.n_component_vectors_
        )
        return self

    @property
    def operator_(self) -> str:
        """The operator, its regularisation, and the attributes."""
        regular = f", tau = {self.tau_:.3g}" if self.tau_ else ""
        name = f"{OPERATOR_TITLES[self.operator]}{regular}"
        a = self.attribute_components
        return f"{name}; covariance of attributes for the first {a}" if a else name

    def _join(self, placing: SpectralEmbedding) -> None:
        """Keep one result of both kinds of coordinates, without the vectors that are dropped."""
        for name in ("reference_", "comparison_", "reference_sin_angle_", "converged_reason_"):
            setattr(self, name, getattr(placing, name))
        self._tol, self.tau_ = self.tol, placing.tau_
        self.certified_, self.seconds_ = placing.certified_, dict(placing.seconds_)
        result = part(placing.result_, slice(placing.n_dropped_, None))
        values = placing.eigenvalues_
        if self._attributes is not None:
            found = self._attributes.result_
            largest = float(np.max(np.abs(found.eigenvalues), initial=0.0)) or 1.0
            result = joined(scaled(found, largest), result, same_operator=False)
            values = np.concatenate([np.asarray(found.eigenvalues) / largest, values])
            self.certified_ = self.certified_ and self._attributes.certified_
            for step, seconds in self._attributes.seconds_.items():
                self.seconds_[step] += seconds
        self.result_ = result
        self.spectrum_ = Spectrum(values, "")

    def _measure(self, X: DataMatrix) -> None:
        """Set means and deviations of the training rows' coordinates. Collective."""
        coordinates = self.transform(X)
        sums = np.stack([coordinates.sum(axis=0), (coordinates**2).sum(axis=0)])
        X.comm.Allreduce(MPI.IN_PLACE, sums)
        mean, square = sums / max(X.n_rows, 1)
        self.coordinate_means_: NDArray[np.float64] = mean
        self.coordinate_deviations_ = np.sqrt(np.maximum(square - mean**2, 0.0))

    def transform(self, X: DataMatrix, dtype: type[np.floating[Any]] | None = None) -> NDArray[Any]:
        """Return the coordinates of the nodes that the rows belong to, shape (n_local, k).

        Collective.

        Raises
        ------
        InputError
            Rows that are not nodes of the graph of :meth:`fit`.
        """
        nodes: GraphNodes | None = X.nodes
        if nodes is None:
            raise InputError("these rows are not nodes of a graph: set data.format = graph")
        lookup = Lookup(X.comm, nodes.graph.n_nodes, nodes.numbers)
        columns = [lookup.values(column) for column in self.node_coordinates_.T]
        found = np.empty((X.n_local, self.n_components), dtype=dtype or np.float64)
        a = self.attribute_components
        if self._attributes is not None:
            assign(found[:, :a], self._attributes.transform(X, np.float64))
        assign(found[:, a:], np.column_stack(columns))
        return found

    def failure_text(self) -> str:
        """Return the unconverged eigenpairs, and a remedy."""
        attributes = self._attributes
        if attributes is not None and not attributes.certified_:
            return f"principal components of the attributes: {attributes.failure_text()}"
        return super().failure_text()
