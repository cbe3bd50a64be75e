"""Operators of a graph whose dominant eigenvectors place its nodes.

With the symmetric adjacency matrix A, degrees d = A 1, D = diag(d) and m edges:

``adjacency``
    A.
``normalized``
    N = D^-1/2 A D^-1/2, eigenvalues in [-1, 1]. With a regularisation tau it is that of
    A + (tau/n) 1 1', whose degrees are d + tau: low degrees no longer dominate the answer.
``laplacian``
    L = I - N. Its smallest eigenpairs are the dominant ones of 2 I - L, so only products are
    needed and nothing is factorised.
``random_walk``
    I - D^-1 A has the eigenvalues of L, and vectors D^-1/2 u where L has u: the same problem.
``modularity``
    A - d d' / 2m, matrix-free.

Nodes without edges have zero rows in all of them (without tau): each is a component of its own, so
L has eigenvalue 0 there and 2 I - L has 2, N and A have 0. The square root of no degree is taken.

References: F. Chung, Spectral Graph Theory (1997); A. Amini, A. Chen, P. Bickel, E. Levina,
Annals of Statistics 41 (2013) for tau; M. Newman, Physical Review E 74 (2006) for modularity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from hpcembed.data.graphs.graph import Graph
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import agreement

__all__ = [
    "GRAPH_OPERATORS",
    "GraphOperator",
    "GraphOperatorKind",
    "adjacency_mat",
    "graph_operator",
]

GraphOperatorKind = Literal["adjacency", "normalized", "laplacian", "random_walk", "modularity"]

GRAPH_OPERATORS = ("adjacency", "normalized", "laplacian", "random_walk", "modularity")


@dataclass
class GraphOperator:
    """The symmetric matrix whose dominant eigenpairs are sought, and the way back.

    Attributes
    ----------
    mat : PETSc.Mat
        Shape (n, n); destroyed by :meth:`destroy`.
    kind : str
    degrees : ndarray of float64, shape (n_local,)
        With tau.
    roots : ndarray of float64, shape (n_local,)
        ``degree^-1/2``, zero where there is no edge.
    total : float
        Sum of all degrees, 2m.
    tau : float
        Regularisation in use.
    """

    mat: PETSc.Mat
    kind: GraphOperatorKind
    degrees: NDArray[np.float64]
    roots: NDArray[np.float64]
    total: float
    tau: float
    _inner: PETSc.Mat | None = None

    @property
    def is_laplacian(self) -> bool:
        """Whether `mat` is 2 I - L."""
        return self.kind in ("laplacian", "random_walk")

    def eigenvalues(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Eigenvalues of the operator meant, from those of `mat`. Not collective."""
        return 2.0 - theta if self.is_laplacian else theta

    def eigenvectors(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """This rank's rows of its eigenvectors, from those of `mat`. Not collective.

        Those of the random walk are not normalised; at nodes without edges they are what `mat` has.
        """
        if self.kind != "random_walk":
            return vectors
        return vectors * np.where(self.roots > 0, self.roots, 1.0)[:, None]

    def plain_residual_norms(
        self, theta: NDArray[np.float64], vectors: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """``||A v - theta v||`` for `mat` and its own vectors. Collective."""
        return self._residuals(theta, vectors, lambda columns: columns)[0]

    def residual_norms(
        self, theta: NDArray[np.float64], vectors: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """``||B v - lambda v|| / ||v||`` for the operator B that is meant and its vectors.

        Collective: a product for each vector.

        Parameters
        ----------
        theta : ndarray of shape (k,)
            Eigenvalues of `mat`.
        vectors : ndarray of shape (n_local, k)
            Its eigenvectors.
        """
        norms = self._residuals(theta, vectors, self.eigenvectors)
        return norms[0] / np.maximum(norms[1], np.finfo(float).tiny)

    def _residuals(
        self,
        theta: NDArray[np.float64],
        vectors: NDArray[np.float64],
        back: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        """Norms of residuals and of vectors, both taken back. Collective."""
        comm = self.mat.getComm().tompi4py()
        x, y = self.mat.createVecs()
        squares = np.zeros((2, len(theta)))
        for i, value in enumerate(theta):
            x.setArray(np.ascontiguousarray(vectors[:, i]))
            self.mat.mult(x, y)
            rest = y.getArray(readonly=1) - value * vectors[:, i]
            pair = back(np.column_stack([rest, vectors[:, i]]))
            squares[:, i] = np.einsum("ij,ij->j", pair, pair)
        x.destroy()
        y.destroy()
        comm.Allreduce(MPI.IN_PLACE, squares)
        return np.asarray(np.sqrt(squares))

    def destroy(self) -> None:
        """Free the matrices. Collective."""
        self.mat.destroy()
        if self._inner is not None:
            self._inner.destroy()


def adjacency_mat(comm: MPI.Comm, rows: Any) -> PETSc.Mat:
    """An AIJ matrix of this rank's rows, known to be symmetric.

    Collective.

    Raises
    ------
    InputError
        More entries on a rank than this PETSc can number.
    """
    index = PETSc.IntType
    with agreement(comm):
        if max(rows.nnz, rows.shape[1]) > np.iinfo(index).max:
            raise InputError(
                f"{rows.nnz} entries and {rows.shape[1]} nodes on a rank are beyond the {index} "
                "indices of this PETSc: use more ranks, or a PETSc with 64-bit indices"
            )
    csr = (rows.indptr.astype(index, copy=False), rows.indices.astype(index, copy=False))
    n = rows.shape[1]
    sizes = ((rows.shape[0], n), (rows.shape[0], n))
    values = rows.data.astype(PETSc.ScalarType, copy=False)
    mat = PETSc.Mat().createAIJ(sizes, csr=(*csr, values), comm=comm)
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    return mat


def graph_operator(
    graph: Graph, kind: GraphOperatorKind = "normalized", tau: float | Literal["mean"] = 0.0
) -> GraphOperator:
    """Make an operator of a graph.

    Collective.

    Parameters
    ----------
    kind : {"adjacency", "normalized", "laplacian", "random_walk", "modularity"}
    tau : float or "mean"
        Regularisation of the normalised operators; "mean" is the mean degree.

    Raises
    ------
    ConfigError
        A kind that is none, a tau that is negative or where it has no meaning.
    InputError
        Negative weights where degrees are needed, or degrees beyond what numbers hold.
    """
    comm = graph.comm
    if kind not in GRAPH_OPERATORS:
        raise ConfigError(f"operator = {kind!r} is not one of {', '.join(GRAPH_OPERATORS)}")
    normal = kind not in ("adjacency", "modularity")
    with np.errstate(over="ignore"):
        degrees = graph.degrees()
        total = float(comm.allreduce(degrees.sum()))
    if kind != "adjacency" and not np.isfinite(total):
        raise InputError(
            f"{graph.name}: degrees add up beyond 1e308: divide all weights by one large number"
        )
    tau = _regularisation(tau, total / graph.n_nodes)
    if tau and not normal:
        raise ConfigError(f"tau is for normalised operators, not for {kind}: leave it out")
    _check_weights(graph, kind)
    degrees = degrees + tau
    roots = np.zeros_like(degrees)
    roots[degrees > 0] = degrees[degrees > 0] ** -0.5
    inner = None
    if kind == "adjacency":
        mat = adjacency_mat(comm, graph.rows)
    elif kind == "modularity":
        inner = adjacency_mat(comm, graph.rows)
        mat = _shell(inner, _RankOne(inner, degrees, -1.0 / total if total > 0 else 0.0))
    else:
        shifted = kind != "normalized"
        inner = _normalized_mat(graph, roots, shifted)
        mat = inner
        if tau:
            mat = _shell(inner, _RankOne(inner, roots, tau / graph.n_nodes))
    kept = inner if inner is not mat else None
    return GraphOperator(mat, kind, degrees, roots, total, tau, kept)


def _regularisation(tau: Any, mean_degree: float) -> float:
    if isinstance(tau, str) and tau == "mean":
        return mean_degree
    if isinstance(tau, bool | str) or not 0 <= tau < np.inf:
        raise ConfigError(f"tau = {tau!r}: give a number of at least 0, or mean")
    return float(tau)


def _check_weights(graph: Graph, kind: str) -> None:
    """Refuse negative weights where degrees are needed. Collective."""
    lowest = graph.comm.allreduce(float(graph.rows.data.min(initial=0.0)), op=MPI.MIN)
    if lowest < 0 and kind != "adjacency":
        raise InputError(
            f"{graph.name}: a weight of {lowest:g}: operator {kind} needs weights of at least 0; "
            "operator adjacency takes negative ones"
        )


def _normalized_mat(graph: Graph, roots: NDArray[np.float64], shifted: bool) -> PETSc.Mat:
    """N, or 2 I - L = N + I, which is 2 at nodes without edges. Collective."""
    mat = adjacency_mat(graph.comm, _with_diagonal(graph) if shifted else graph.rows)
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
    """The rows with a place on the diagonal everywhere. Not collective."""
    n_local = graph.n_local
    own = np.arange(n_local)
    # A zero that is stored: sums of sparse arrays would leave it out.
    entries = graph.rows.tocoo()
    i = np.concatenate([entries.row, own])
    j = np.concatenate([entries.col, own + graph.start])
    w = np.concatenate([entries.data, np.zeros(n_local)])
    return scipy.sparse.csr_array((w, (i, j)), shape=graph.rows.shape)


class _RankOne:
    """Products with ``M + weight * v v'``."""

    def __init__(self, inner: PETSc.Mat, vector: NDArray[np.float64], weight: float) -> None:
        self._inner, self._vector, self._weight = inner, vector, weight
        self._comm = inner.getComm().tompi4py()

    def mult(self, _mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Y = M x + weight v (v'x). Collective: one reduction beside those of M."""
        self._inner.mult(x, y)
        dot = self._comm.allreduce(float(self._vector @ x.getArray(readonly=1)))
        with y as local:
            local += (self._weight * dot) * self._vector


def _shell(inner: PETSc.Mat, context: Any) -> PETSc.Mat:
    mat = PETSc.Mat().createPython(inner.getSizes(), context, comm=inner.getComm())
    mat.setUp()
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    return mat
