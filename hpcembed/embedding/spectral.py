"""Spectral embedding: coordinates of graph nodes from dominant eigenvectors of a graph operator.

Coordinates are entries of eigenvectors of :mod:`hpcembed.operators.graph.graph_operators`. The
default is the same as in scikit-learn: eigenvectors of the random walk without the constant one.
Deviations from scikit-learn: true residuals are returned, a matrix that is not symmetric gives a
warning, nodes without edges have coordinates, and coordinates of new nodes can be computed.

Coordinates of new nodes are those of :mod:`hpcembed.operators.graph.node_extension`, which are
exact for a copy of a training node. Reference: Y. Bengio et al., Out-of-sample extensions for LLE,
Isomap, MDS, eigenmaps, and spectral clustering, NIPS 2003.
"""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from hpcembed.data.graphs.graph import Graph
from hpcembed.embedding._eigen_results import column_signs, joined
from hpcembed.embedding._eigensolver import Eigensolver
from hpcembed.embedding._estimator import CertifiedEstimator, validated
from hpcembed.embedding._kernels.affinity import (
    OwnRows,
    affinity_graph,
    neighbour_affinities,
    rbf_affinities,
)
from hpcembed.embedding.protocol import Machine, Shape
from hpcembed.operators.graph.component_eigenvectors import component_eigenvectors
from hpcembed.operators.graph.graph_operators import (
    GRAPH_OPERATORS,
    GraphOperator,
    GraphOperatorKind,
    graph_operator,
)
from hpcembed.operators.graph.graph_plan import GraphPlan, plan_graph
from hpcembed.operators.graph.node_extension import NodeExtension
from hpcembed.runtime.arguments import check_choice, check_count
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import communicator, timed
from miramns import EigenResult

__all__ = ["SpectralEmbedding"]

Self = TypeVar("Self", bound="SpectralEmbedding")

_AFFINITIES = ("nearest_neighbors", "rbf", "precomputed")
_TOLERANCE = 1e-8


def _takes_new_nodes(estimator: SpectralEmbedding) -> bool:
    if estimator.affinity != "precomputed":
        raise AttributeError("transform takes affinities to training nodes: affinity='precomputed'")
    return True


@dataclass(eq=False, repr=False)
class SpectralEmbedding(CertifiedEstimator):
    """Coordinates of the nodes of a graph, with true residuals.

    Parameters
    ----------
    n_components : int, default=2
    affinity : {"nearest_neighbors", "rbf", "precomputed"}, default="nearest_neighbors"
        How rows become a graph; precomputed: `X` is the matrix of affinities, which are not
        negative. Its diagonal is ignored. Under MPI: precomputed only.
    gamma : float, optional
        Parameter of rbf; default 1 / n_features.
    random_state : int, RandomState or None, default=None
        Seed of the start vectors; None is 0, so that results repeat.
    n_neighbors : int, optional
        Default: a tenth of the rows.
    n_jobs : int, optional
        Jobs of the search for neighbours.
    operator : {"random_walk", "laplacian", "normalized", "modularity", "adjacency"}
        The operator; see :mod:`hpcembed.operators.graph.graph_operators`.
    tau : float or "mean", default=0
        Regularisation of the normalised operators, for graphs with many nodes of low degree, or
        with many small components.
    which : {"LA", "LM"}, default="LA"
        Largest eigenvalues of the dominant problem, or largest moduli: bipartite structure has
        negative eigenvalues.
    drop_first : bool or "auto", default="auto"
        Drop the first vector, a function of the degrees; auto: for the normalised operators.
    tol : float, optional
        Largest true residual relative to the norm of the operator. Default 1e-8.
    solver : SolverSettings, optional

    Attributes
    ----------
    embedding_ : ndarray of shape (n, k), or (n_local, k) under MPI
        The largest entry of each column is positive.
    affinity_matrix_ : array or sparse matrix
        The affinities, if `X` was no graph.
    eigenvalues_ : ndarray of shape (k,)
        Eigenvalues of the operator: ascending for Laplacians.
    residual_norms_ : ndarray of shape (k,)
        ``||B v - lambda v|| / ||v||`` for the operator B and the vectors in ``embedding_``.
    converged_reason_, certified_, seconds_
        As for :class:`~hpcembed.embedding.PCA`.
    n_connected_components_ : int
    n_nodes_, n_features_in_, n_requested_ : int
        Nodes, columns of `X`, and requested pairs, the first vector included.
    n_dropped_ : int
        Leading vectors of ``result_`` that are dropped.
    n_component_vectors_ : int
        Leading coordinates that only separate the components of the graph.
    n_neighbors_, gamma_, tau_
        Parameters in use.
    result_, reference_, comparison_, reference_sin_angle_
        Result of the solver, the first vector included; that of the reference solver on the same
        operator and differences, if ``solver.reference`` is set.
    plan_ : GraphPlan

    See Also
    --------
    KernelPCA : Principal components in the space of a kernel.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from hpcembed import SpectralEmbedding
    >>> model = SpectralEmbedding(2, n_neighbors=20).fit(load_digits().data[:200])
    >>> model.embedding_.shape, model.certified_
    ((200, 2), True)
    """

    n_components: int = 2
    _: KW_ONLY
    affinity: Literal["nearest_neighbors", "rbf", "precomputed"] = "nearest_neighbors"
    gamma: float | None = None
    n_neighbors: int | None = None
    n_jobs: int | None = None
    operator: GraphOperatorKind = "random_walk"
    tau: float | Literal["mean"] = 0.0
    which: Literal["LA", "LM"] = "LA"
    drop_first: bool | Literal["auto"] = "auto"

    def plan(self, shape: Shape, machine: Machine) -> GraphPlan:
        """Return the plan that :meth:`fit` makes for a graph with ``shape.n_nodes`` nodes.

        Raises
        ------
        MemoryLimitError
            If the space of the eigenvectors does not fit.
        """
        return plan_graph(self.operator, int(self.n_components), shape, machine)

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Compute the coordinates of the nodes.

        Collective on `comm`, or on the communicator of a graph or matrix.

        Parameters
        ----------
        X : Graph, PETSc.Mat, or array or sparse matrix
            A graph; the matrix of affinities, assembled; or in serial rows of features, or this
            rank's consecutive rows of affinities, shape (n_local, n).
        y : ignored
        comm : MPI.Comm, optional
            If `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError, ValueError
            Negative affinities, too few nodes, a matrix that is not square.
        ConfigError
            Parameters that do not fit.
        MemoryLimitError
            If the vectors do not fit the memory of a rank.
        ConvergenceError
            If a pair is unconverged, and ``solver.on_no_convergence`` is "raise".
        """
        if isinstance(X, PETSc.Mat):
            comm = X.getComm().tompi4py()
        elif isinstance(X, Graph):
            comm = X.comm
        comm = communicator(comm)
        seed = self._start(comm)
        self.comm_ = comm
        graph, own = self._graph(X)
        self._warn_if_disconnected(graph)
        n, dropped = graph.n_nodes, self._dropped
        k = int(self.n_components) + dropped
        if k > n:
            raise InputError(
                f"n_components = {self.n_components} of {n} nodes: at most {n - dropped}"
            )
        machine = self._machine(comm)
        self.plan_ = self.plan(Shape(n, 0, n, None, 0, n_nodes=n), machine)
        tol = _TOLERANCE if self.tol is None else self.tol
        memory = machine.available_bytes
        solver = Eigensolver(k, tol, seed, self._settings, memory, self.which)
        self.seconds_ = {}
        with timed(comm, self.seconds_, "operator"):
            operator = graph_operator(graph, self.operator, self.tau)
        try:
            result, reference = self._pairs(operator, graph, solver)
            self._keep(operator, result, graph, own)
        finally:
            operator.destroy()
        self._certify(comm, solver, result, reference)
        return self

    def fit_transform(
        self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None
    ) -> NDArray[np.float64]:
        """Return the coordinates of the nodes; see :meth:`fit`. Collective."""
        return self.fit(X, comm=comm).embedding_

    @property
    def _dropped(self) -> int:
        if self.drop_first == "auto":
            return int(self.operator not in ("adjacency", "modularity"))
        return int(self.drop_first)

    _has_dense_operator = False

    def _check_parameters(self) -> None:
        check_count("n_components", self.n_components)
        check_choice("affinity", self.affinity, _AFFINITIES)
        check_choice("operator", self.operator, GRAPH_OPERATORS)
        check_choice("which", self.which, ("LA", "LM"))
        super()._check_parameters()

    def _graph(self, X: Any) -> tuple[Graph, OwnRows]:
        """Return the graph of `X`, and the caller's distribution of its nodes. Collective."""
        if isinstance(X, Graph):
            self.n_features_in_ = X.n_nodes
            return X, OwnRows(X.start, X.n_local)
        if isinstance(X, PETSc.Mat):
            self.n_features_in_ = X.getSize()[1]
            return affinity_graph(X, self.comm_)
        if self.comm_.size > 1:
            if self.affinity != "precomputed":
                raise ConfigError(
                    f"affinity = {self.affinity} finds neighbours on one rank only: make the "
                    "graph first and give precomputed"
                )
            self.n_features_in_ = X.shape[1]
        else:
            settings = {"accept_sparse": "csr", "ensure_min_samples": 2, "dtype": np.float64}
            X = validated(self, X, **settings)
        if self.affinity == "rbf":
            self.gamma_ = 1.0 / X.shape[1] if self.gamma is None else self.gamma
            X = rbf_affinities(X, self.gamma_)
        elif self.affinity == "nearest_neighbors":
            self.n_neighbors_ = self.n_neighbors or max(X.shape[0] // 10, 1)
            X = neighbour_affinities(X, self.n_neighbors_, self.n_jobs)
        self.affinity_matrix_ = X
        return affinity_graph(X, self.comm_)

    def _warn_if_disconnected(self, graph: Graph) -> None:
        self.n_connected_components_ = graph.n_components
        is_regular = self.tau != 0 or self.operator in ("adjacency", "modularity")
        if graph.n_components > 1 and not is_regular and graph.comm.rank == 0:
            warnings.warn(
                f"the graph has {graph.n_components} components: the first eigenvectors only "
                "separate them; embed the largest one, or set tau='mean'",
                UserWarning,
                stacklevel=3,
            )

    def _pairs(
        self, operator: GraphOperator, graph: Graph, solver: Eigensolver
    ) -> tuple[EigenResult, EigenResult | None]:
        """Return the pairs, and those of the reference.

        Collective. The components of a graph give the first pairs of its normalised operators
        without a search; the solver finds the others.
        """
        known, deflation, self._n_known = None, None, 0
        is_plain = operator.kind in ("adjacency", "modularity") or operator.tau != 0
        with timed(graph.comm, self.seconds_, "solve"):
            if graph.n_components > 1 and self.which == "LA" and not is_plain:
                known = _component_pairs(operator, graph, solver)
            if known is not None:
                deflation, self._n_known = known.eigenvectors, len(known.eigenvalues)
                if self._n_known == solver.k:
                    return known, known if solver.settings.reference else None
                solver = replace(solver, k=solver.k - self._n_known)
            found = solver.solve(operator.mat, deflation=deflation)
        reference = solver.reference(operator.mat, deflation=deflation)
        if known is None:
            return found, reference
        if reference is not None:
            reference = joined(known, reference, same_operator=True)
        return joined(known, found, same_operator=True), reference

    def _keep(
        self, operator: GraphOperator, result: EigenResult, graph: Graph, own: OwnRows
    ) -> None:
        """Keep eigenvalues and coordinates. Collective."""
        self.n_dropped_ = self._dropped
        kept = slice(self.n_dropped_, None)
        theta = np.asarray(result.eigenvalues)[kept]
        vectors = np.asarray(result.eigenvectors)[:, kept]
        self.n_nodes_, self.tau_ = graph.n_nodes, operator.tau
        self.n_component_vectors_ = max(0, self._n_known - self.n_dropped_)
        self.eigenvalues_ = operator.eigenvalues(theta)
        self.residual_norms_ = np.asarray(result.residual_norms)[kept]
        if operator.kind == "random_walk":
            self.residual_norms_ = operator.residual_norms(theta, vectors)
        coordinates = operator.eigenvectors(vectors)
        signs = column_signs(graph.comm, coordinates)
        self.embedding_ = own.values_of(graph, coordinates * signs)
        self._extension = NodeExtension.from_eigenpairs(operator, theta, vectors * signs, graph)

    @available_if(_takes_new_nodes)  # type: ignore[untyped-decorator, unused-ignore]
    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return the coordinates of new nodes from their affinities to the training nodes.

        Collective where the training nodes are distributed.

        Parameters
        ----------
        X : array or sparse matrix of shape (m, n)
            A row of affinities for each new node of this rank, without the one to itself.

        Returns
        -------
        ndarray of shape (m, k)
            Zero for a node without affinities, unless tau is set.

        Raises
        ------
        InputError, ValueError
            If the rows do not match the training nodes, or have negative affinities.
        """
        check_is_fitted(self)
        least = 1 if self.comm_.size == 1 else 0
        rows = validated(
            self, X, accept_sparse="csr", reset=False, dtype=np.float64, ensure_min_samples=least
        )
        rows = scipy.sparse.csr_array(rows)
        if self.operator != "adjacency" and rows.data.min(initial=0.0) < 0:
            raise InputError("negative affinities: they need to be at least 0")
        return self._extension.place(rows, self.comm_)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: sparse input, and square precomputed affinities."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.pairwise = self.affinity == "precomputed"
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {"pairwise": self.affinity == "precomputed"}


def _component_pairs(
    operator: GraphOperator, graph: Graph, solver: Eigensolver
) -> EigenResult | None:
    """Return the pairs that the components of a graph give; None without any. Collective."""
    theta, vectors = component_eigenvectors(graph, operator, solver.k)
    n = vectors.shape[1]
    if n == 0:  # no edge at all
        return None
    first = solver.certify(operator.mat, vectors[:, :1], "components of the graph")
    values = np.full(n, theta)
    return replace(
        first,
        eigenvalues=values,
        eigenvectors=vectors,
        residual_norms=operator.plain_residual_norms(values, vectors),
        residual_tolerances=np.full(n, solver.tol * theta),
        error_bounds=np.full(n, first.error_bounds[0]),
        multiplicity_checked=True,
    )
