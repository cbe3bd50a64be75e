"""Operators of a graph whose dominant eigenvectors are coordinates of its nodes.

With the symmetric adjacency matrix A, degrees d = A 1, D = diag(d) and m edges:

``adjacency``
    A.
``normalized``
    N = D^-1/2 A D^-1/2, eigenvalues in [-1, 1]. With a regularisation tau, A is replaced by
    A + (tau/n) 1 1', with degrees d + tau, so that nodes of low degree do not dominate the vectors.
``laplacian``
    L = I - N. Its smallest eigenpairs are the dominant ones of 2 I - L: this shift needs products
    only, and no factorisation.
``random_walk``
    I - D^-1 A has the eigenvalues of L, and the eigenvectors D^-1/2 u for eigenvectors u of L.
``modularity``
    A - d d' / 2m, matrix-free.

Deviation: isolated nodes are defined. They have zero rows in all of these operators (without tau).
Each is a component of its own, with eigenvalue 0 of L, N and A, and 2 of 2 I - L; D^-1/2 is zero
there.

References: F. Chung, Spectral Graph Theory (1997); A. Amini, A. Chen, P. Bickel, E. Levina,
Annals of Statistics 41 (2013) for tau; M. Newman, Physical Review E 74 (2006) for modularity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from hpcembed.data.graphs.graph import Graph
from hpcembed.operators.sparse_matrix import aij_mat
from hpcembed.runtime.arguments import check_choice
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["GRAPH_OPERATORS", "GraphOperator", "GraphOperatorKind", "graph_operator"]

GraphOperatorKind = Literal["adjacency", "normalized", "laplacian", "random_walk", "modularity"]

GRAPH_OPERATORS: tuple[str, ...] = get_args(GraphOperatorKind)


@dataclass
class GraphOperator:
    """A symmetric matrix whose dominant eigenpairs give those of a graph operator.

    The matrix is 2 I - L for the two Laplacians, and the operator itself otherwise.

    Attributes
    ----------
    mat : PETSc.Mat
        Shape (n, n); freed by :meth:`destroy`.
    kind : str
        Name of the graph operator.
    degrees : ndarray of float64, shape (n_local,)
        Degrees plus tau.
    roots : ndarray of float64, shape (n_local,)
        ``degrees ** -0.5``, zero at isolated nodes.
    total : float
        Sum of all degrees without tau, 2m.
    tau : float
        Regularisation in use.
    """

    mat: PETSc.Mat
    kind: GraphOperatorKind
    degrees: NDArray[np.float64]
    roots: NDArray[np.float64]
    total: float
    tau: float
    _assembled: PETSc.Mat

    @property
    def is_laplacian(self) -> bool:
        """Whether `mat` is 2 I - L."""
        return self.kind in ("laplacian", "random_walk")

    def eigenvalues(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the eigenvalues of the graph operator for eigenvalues `theta` of `mat`.

        Not collective.
        """
        return 2.0 - theta if self.is_laplacian else theta

    def eigenvectors(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return this rank's rows of the eigenvectors of the graph operator.

        Not collective. Vectors of the random walk are not normalised; their entries at isolated
        nodes are those of `vectors`.

        Parameters
        ----------
        vectors : ndarray of shape (n_local, k)
            Eigenvectors of `mat`.
        """
        if self.kind != "random_walk":
            return vectors
        return vectors * np.where(self.roots > 0, self.roots, 1.0)[:, None]

    def plain_residual_norms(
        self, theta: NDArray[np.float64], vectors: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Compute ``||A v - theta v||`` for eigenpairs of A = `mat`. Collective."""
        return self._residuals(theta, vectors, lambda columns: columns)[0]

    def residual_norms(
        self, theta: NDArray[np.float64], vectors: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Compute ``||B v - lambda v|| / ||v||`` for the graph operator B and its eigenpairs.

        Collective: one product for each vector.

        Parameters
        ----------
        theta : ndarray of shape (k,)
            Eigenvalues of `mat`.
        vectors : ndarray of shape (n_local, k)
            Eigenvectors of `mat`.
        """
        norms = self._residuals(theta, vectors, self.eigenvectors)
        return norms[0] / np.maximum(norms[1], np.finfo(float).tiny)

    def _residuals(
        self,
        theta: NDArray[np.float64],
        vectors: NDArray[np.float64],
        transform: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        """Norms of transformed residuals, and of transformed vectors, shape (2, k). Collective."""
        comm = self.mat.getComm().tompi4py()
        x, y = self.mat.createVecs()
        squares = np.zeros((2, len(theta)))
        for i, value in enumerate(theta):
            x.setArray(np.ascontiguousarray(vectors[:, i]))
            self.mat.mult(x, y)
            rest = y.getArray(readonly=1) - value * vectors[:, i]
            pair = transform(np.column_stack([rest, vectors[:, i]]))
            squares[:, i] = np.einsum("ij,ij->j", pair, pair)
        x.destroy()
        y.destroy()
        comm.Allreduce(MPI.IN_PLACE, squares)
        return np.asarray(np.sqrt(squares))

    def destroy(self) -> None:
        """Free the matrices. Collective."""
        self.mat.destroy()
        self._assembled.destroy()


def graph_operator(
    graph: Graph, kind: GraphOperatorKind = "normalized", tau: float | Literal["mean"] = 0.0
) -> GraphOperator:
    """Create an operator of a graph.

    Collective.

    Parameters
    ----------
    graph : Graph
    kind : {"adjacency", "normalized", "laplacian", "random_walk", "modularity"}
    tau : float or "mean"
        Regularisation of the normalised operators; "mean" is the mean degree.

    Returns
    -------
    GraphOperator
        To be destroyed by the caller.

    Raises
    ------
    ConfigError
        An unknown kind; a tau that is negative, or not zero for an operator without tau.
    InputError
        Negative weights for an operator with degrees; degrees whose sum is not finite.

    Examples
    --------
    >>> from hpcembed.data.graphs.assembly import build_graph
    >>> from hpcembed.data.graphs.graph import LocalEdges
    >>> edges = LocalEdges(np.array([0, 1]), np.array([1, 2]), None, 3, "path")
    >>> operator = graph_operator(build_graph(edges, MPI.COMM_SELF), "laplacian")
    >>> operator.mat.getSize(), operator.degrees.tolist(), operator.total
    ((3, 3), [1.0, 2.0, 1.0], 4.0)
    >>> operator.destroy()
    """
    comm = graph.comm
    check_choice("operator", kind, GRAPH_OPERATORS)
    normal = kind not in ("adjacency", "modularity")
    with np.errstate(over="ignore"):
        degrees = graph.degrees()
        total = float(comm.allreduce(degrees.sum()))
    if kind != "adjacency" and not np.isfinite(total):
        raise InputError(
            f"{graph.name}: the sum of the degrees exceeds 1e308: divide all weights by one large "
            "number"
        )
    tau = _regularisation(tau, total / graph.n_nodes)
    if tau and not normal:
        raise ConfigError(f"tau is for normalised operators, not for {kind}: leave it out")
    _check_weights(graph, kind)
    degrees = degrees + tau
    roots = np.zeros_like(degrees)
    roots[degrees > 0] = degrees[degrees > 0] ** -0.5
    if normal:
        mat = assembled = _normalized_mat(graph, roots, shifted=kind != "normalized")
    else:
        mat = assembled = aij_mat(comm, graph.rows, is_symmetric=True)
    if kind == "modularity":
        mat = _plus_rank_one(assembled, degrees, -1.0 / total if total > 0 else 0.0)
    elif tau:
        mat = _plus_rank_one(assembled, roots, tau / graph.n_nodes)
    return GraphOperator(mat, kind, degrees, roots, total, tau, assembled)


def _regularisation(tau: Any, mean_degree: float) -> float:
    if isinstance(tau, str) and tau == "mean":
        return mean_degree
    if isinstance(tau, bool | str) or not 0 <= tau < np.inf:
        raise ConfigError(f"tau = {tau!r}: give a number of at least 0, or mean")
    return float(tau)


def _check_weights(graph: Graph, kind: str) -> None:
    """Refuse negative weights for an operator with degrees. Collective."""
    lowest = graph.comm.allreduce(float(graph.rows.data.min(initial=0.0)), op=MPI.MIN)
    if lowest < 0 and kind != "adjacency":
        raise InputError(
            f"{graph.name}: a weight of {lowest:g}: operator {kind} needs weights of at least 0; "
            "operator adjacency takes negative ones"
        )


def _normalized_mat(graph: Graph, roots: NDArray[np.float64], shifted: bool) -> PETSc.Mat:
    """Return N, or 2 I - L = N + I with 2 at isolated nodes. Collective."""
    rows = _with_diagonal(graph) if shifted else graph.rows
    mat = aij_mat(graph.comm, rows, is_symmetric=True)
    scale = mat.createVecLeft()
    scale.setArray(roots)
    mat.diagonalScale(scale, scale)
    if shifted:
        scale.setArray(np.where(roots > 0, 1.0, 2.0))
        mat.setDiagonal(scale, addv=PETSc.InsertMode.ADD_VALUES)
        mat.assemble()
    scale.destroy()
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    return mat


def _with_diagonal(graph: Graph) -> Any:
    """Return the rows with a stored entry, possibly zero, at each place of the diagonal."""
    n_local = graph.n_local
    own = np.arange(n_local)
    # Through COO, because sums of sparse arrays drop zeros.
    entries = graph.rows.tocoo()
    i = np.concatenate([entries.row, own])
    j = np.concatenate([entries.col, own + graph.start])
    w = np.concatenate([entries.data, np.zeros(n_local)])
    return scipy.sparse.csr_array((w, (i, j)), shape=graph.rows.shape)


class _RankOne:
    """Context of a shell matrix ``M + weight * v v'``."""

    def __init__(self, inner: PETSc.Mat, vector: NDArray[np.float64], weight: float) -> None:
        self._inner, self._vector, self._weight = inner, vector, weight
        self._comm = inner.getComm().tompi4py()

    def mult(self, _mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Compute y = M x + weight v (v'x). Collective: one reduction in addition to those of M."""
        self._inner.mult(x, y)
        dot = self._comm.allreduce(float(self._vector @ x.getArray(readonly=1)))
        with y as local:
            local += (self._weight * dot) * self._vector


def _plus_rank_one(inner: PETSc.Mat, vector: NDArray[np.float64], weight: float) -> PETSc.Mat:
    """Return the shell matrix ``inner + weight * vector vector'``. Collective."""
    context = _RankOne(inner, vector, weight)
    mat = PETSc.Mat().createPython(inner.getSizes(), context, comm=inner.getComm())
    mat.setUp()
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    return mat
