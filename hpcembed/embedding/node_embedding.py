"""Nodes of a graph as a job embeds them: all at once, training and test nodes alike.

The coordinates are those of :class:`~hpcembed.embedding.SpectralEmbedding` times sqrt(n), so that
they are of order one however large the graph is. Where attributes are asked for too, their
principal components, learned from the training nodes, come first, and fewer coordinates of a run
are its leading ones as elsewhere. The placing sees no label; it does see which test nodes there are
(it is transductive), so no model is exported.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.exchange import Lookup
from hpcembed.data.graphs.graph import GraphNodes
from hpcembed.data.matrix import DataMatrix
from hpcembed.data.row_validation import assign
from hpcembed.embedding.certificate import Certificate
from hpcembed.embedding.contract import LinearMap, Machine, Shape, Spectrum
from hpcembed.embedding.graph_drawing import GraphDrawing, draw_from
from hpcembed.embedding.joining import joined, part, scaled
from hpcembed.embedding.pca import PCA
from hpcembed.embedding.solving import SolverSettings
from hpcembed.embedding.spectral import SpectralEmbedding
from hpcembed.operators import column_moments
from hpcembed.operators.graph.graph_operators import GraphOperatorKind
from hpcembed.runtime.errors import InputError, MemoryLimitError
from hpcembed.runtime.memory import format_bytes

__all__ = ["NodeEmbedding", "NodePlan"]

_NAMES = {
    "adjacency": "adjacency",
    "normalized": "normalised adjacency",
    "laplacian": "Laplacian",
    "random_walk": "random walk",
    "modularity": "modularity",
}
#: Vectors that a solver holds beside those it is asked for.
_BASIS = 3.0


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What placing the nodes takes on one rank: the basis of the solver and the coordinates.

    The operator takes as much as the graph once more, which nobody knows before it is read.

    Attributes
    ----------
    operator : str
    bytes : int
    """

    operator: str
    bytes: int

    @classmethod
    def of(cls, operator: str, k: int, shape: Shape, machine: Machine) -> NodePlan:
        """The plan for k coordinates of the nodes in the data.

        Raises
        ------
        MemoryLimitError
        """
        share = -(-(shape.n_train + shape.n_test) // machine.ranks)
        needed = int(8 * share * (_BASIS * k + 60))
        if needed > machine.available_bytes:
            raise MemoryLimitError(
                f"{k} eigenvectors of the {_NAMES[operator]} need {format_bytes(needed)} per rank, "
                f"{format_bytes(machine.available_bytes)} are available: use more ranks"
            )
        return cls(operator, needed)

    def describe(self) -> str:
        """One line for the terminal. Not collective."""
        return (
            f"{_NAMES[self.operator]} of the graph, products only: "
            f"{format_bytes(self.bytes)} per rank beside it"
        )


class NodeEmbedding(Certificate):
    """Coordinates of the nodes that rows belong to.

    Parameters
    ----------
    n_components : int
        Of both kinds together.
    operator, tau
        Of :class:`~hpcembed.embedding.SpectralEmbedding`.
    attribute_components : int
        How many of the coordinates are principal components of the rows.
    tol, random_state, memory_limit, n_threads, solver
        As for :class:`~hpcembed.embedding.PCA`.

    Attributes
    ----------
    As :class:`~hpcembed.embedding.contract.Embedding` lists them; eigenvalues of principal
    components are shares of their largest, beside those of the operator.
    drawing_ : GraphDrawing or None
        The two leading spectral coordinates of some nodes and edges; on rank 0.
    """

    components_name = "spectral coordinates"
    linear_map_: LinearMap | None = None

    def __init__(
        self,
        n_components: int,
        *,
        operator: GraphOperatorKind = "normalized",
        tau: float | Literal["mean"] = "mean",
        attribute_components: int = 0,
        tol: float = 1e-10,
        random_state: int = 0,
        memory_limit: int | None = None,
        n_threads: int | None = None,
        solver: SolverSettings | None = None,
    ) -> None:
        self.n_components = n_components
        self.attribute_components = attribute_components
        self.operator, self.tau = operator, tau
        common: dict[str, Any] = {"tol": tol, "random_state": random_state, "solver": solver}
        self._tol = tol
        self._placing = SpectralEmbedding(
            n_components - attribute_components, operator=operator, tau=tau, **common
        )
        self._attributes: PCA | None = None
        if attribute_components:
            self._attributes = PCA(
                attribute_components, memory_limit=memory_limit, n_threads=n_threads, **common
            )

    def fit(self, X: DataMatrix) -> NodeEmbedding:
        """Place all nodes of the graph that the rows of `X` belong to. Collective.

        Raises
        ------
        InputError
            Rows that are no nodes, fewer nodes than coordinates.
        """
        if X.nodes is None:
            raise InputError("these rows are no nodes of a graph: set data.format = graph")
        graph = X.nodes.graph
        with warnings.catch_warnings():
            # the reader has said how many components there are
            warnings.simplefilter("ignore", UserWarning)
            self._placing.fit(graph)
        if self._attributes is not None:
            self._attributes.fit(X)
        self._coordinates = self._placing.embedding_ * np.sqrt(graph.n_nodes)
        self.n_features_in_ = X.n_features
        self.feature_means_, self.feature_variances_ = column_moments(X)
        placing = self._placing
        self.seconds_ = dict(placing.seconds_)
        if self._attributes is not None:
            for name, seconds in self._attributes.seconds_.items():
                self.seconds_[name] += seconds
        reference = placing.reference_
        self._judge(
            X.comm, placing.result_, reference, tol=self._tol, n_requested=self.n_components
        )
        self._join()
        self._measure(X)
        self.drawing_: GraphDrawing | None = draw_from(
            X.nodes, self._coordinates, placing.n_component_vectors_
        )
        return self

    @property
    def operator_(self) -> str:
        """The operator and what was done with it."""
        regular = f", tau = {self._tau:.3g}" if self._tau else ""
        name = f"{_NAMES[self.operator]}{regular}"
        a = self.attribute_components
        return f"{name}; covariance of attributes for the first {a}" if a else name

    @property
    def _tau(self) -> float:
        return self._placing.tau_

    def _join(self) -> None:
        """Make one answer of both, without the vector that was dropped."""
        kept = slice(self._placing.n_dropped_, None)
        result = part(self.result_, kept)
        values = self._placing.eigenvalues_
        if self._attributes is not None:
            found = self._attributes.result_
            largest = float(np.max(np.abs(found.eigenvalues), initial=0.0)) or 1.0
            result = joined(scaled(found, largest), result, same_rows=False)
            values = np.concatenate([np.asarray(found.eigenvalues) / largest, values])
            self.certified_ = self.certified_ and self._attributes.certified_
        self.result_ = result
        self.spectrum_ = Spectrum(values, "")

    def _measure(self, X: DataMatrix) -> None:
        """Means and deviations of the training rows' coordinates. Collective."""
        coordinates = self.transform(X)
        sums = np.stack([coordinates.sum(axis=0), (coordinates**2).sum(axis=0)])
        X.comm.Allreduce(MPI.IN_PLACE, sums)
        mean, square = sums / max(X.n_rows, 1)
        self.coordinate_means_: NDArray[np.float64] = mean
        self.coordinate_deviations_ = np.sqrt(np.maximum(square - mean**2, 0.0))

    def transform(self, X: DataMatrix, dtype: type[np.floating[Any]] | None = None) -> NDArray[Any]:
        """Coordinates of the nodes that the rows belong to, shape (n_local, k). Collective.

        Raises
        ------
        InputError
            Rows that are no nodes of the graph of :meth:`fit`.
        """
        nodes: GraphNodes | None = X.nodes
        if nodes is None:
            raise InputError("these rows are no nodes of a graph: set data.format = graph")
        lookup = Lookup(X.comm, nodes.graph.n_nodes, nodes.numbers)
        columns = [lookup.values(column) for column in self._coordinates.T]
        found = np.empty((X.n_local, self.n_components), dtype=dtype or np.float64)
        a = self.attribute_components
        if self._attributes is not None:
            assign(found[:, :a], self._attributes.transform(X, np.float64))
        assign(found[:, a:], np.column_stack(columns))
        return found

    def failure_text(self) -> str:
        """Which eigenpairs missed their tolerance, and what to do. Not collective."""
        attributes = self._attributes
        if attributes is not None and not attributes.certified_:
            return f"principal components of the attributes: {attributes.failure_text()}"
        return super().failure_text()
