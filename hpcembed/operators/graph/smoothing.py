"""Attributes of graph nodes averaged over their neighbours, several times.

``(D^-1 (A + c I))^s X`` (random_walk) or ``(D^-1/2 (A + c I) D^-1/2)^s X`` (normalized), with D the
degrees of A + c I: the propagation of a simplified graph convolution before its classifier. Rows
remain on the ranks of their nodes. Sparse rows remain sparse, with more entries after each step.

Reference: F. Wu et al., Simplifying graph convolutional networks, ICML 2019.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse
from petsc4py import PETSc

from hpcembed.data.graphs.graph import Graph
from hpcembed.operators.sparse_matrix import aij_mat
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["SmoothingKind", "smooth"]

SmoothingKind = Literal["random_walk", "normalized"]


def smooth(
    graph: Graph,
    rows: Any,
    steps: int = 2,
    *,
    kind: SmoothingKind = "random_walk",
    loops: float = 1.0,
) -> Any:
    """Smooth attributes of the nodes over the graph.

    Collective.

    Parameters
    ----------
    graph : Graph
        With nonnegative weights.
    rows : ndarray or sparse array of shape (n_local, d)
        Attributes of this rank's nodes.
    steps : int
        Number of averages; 0 returns `rows`.
    kind : {"random_walk", "normalized"}
    loops : float
        Weight c of each node in its own average, in addition to the self-loops of the graph.

    Returns
    -------
    ndarray or csr_array of float64, shape (n_local, d)
        Dense or sparse as `rows`. Isolated nodes keep their attributes if `loops` is positive, and
        get zeros otherwise.

    Raises
    ------
    InputError
        Another number of rows than nodes, negative weights.
    ConfigError

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from hpcembed.data.graphs.assembly import build_graph
    >>> from hpcembed.data.graphs.graph import LocalEdges
    >>> edges = LocalEdges(np.array([0, 1]), np.array([1, 2]), None, 3, "path")
    >>> graph = build_graph(edges, MPI.COMM_SELF)
    >>> smooth(graph, np.array([[0.0], [0.0], [6.0]]), 1)
    array([[0.],
           [2.],
           [3.]])
    """
    if steps < 0 or kind not in ("random_walk", "normalized") or not 0 <= loops < np.inf:
        raise ConfigError(
            f"smoothing: steps = {steps}, kind = {kind!r}, loops = {loops}: give steps >= 0, kind "
            "random_walk or normalized, loops >= 0"
        )
    with agreement(graph.comm):
        if rows.shape[0] != graph.n_local:
            raise InputError(f"{rows.shape[0]} rows for the {graph.n_local} nodes of this rank")
        if graph.rows.data.min(initial=0.0) < 0:
            raise InputError(f"{graph.name}: negative weights do not define averages: drop them")
    if steps == 0:
        return rows
    walk = _walk(graph, kind, loops)
    try:
        X = _create_mat(graph, rows)
        for _ in range(steps):
            product = walk.matMult(X)
            X.destroy()
            X = product
    finally:
        walk.destroy()
    smoothed: Any
    if scipy.sparse.issparse(rows):
        indptr, indices, data = X.getValuesCSR()
        smoothed = scipy.sparse.csr_array((data, indices, indptr), shape=rows.shape)
    else:
        smoothed = np.array(X.getDenseArray(), order="C")
    X.destroy()
    return smoothed


def _walk(graph: Graph, kind: str, loops: float) -> PETSc.Mat:
    """Return the matrix of one averaging step. Collective."""
    n_local = graph.n_local
    own = np.arange(n_local)
    diagonal = scipy.sparse.csr_array(
        (np.full(n_local, loops), (own, own + graph.start)), shape=graph.rows.shape
    )
    rows = scipy.sparse.csr_array(graph.rows + diagonal)
    degrees = np.asarray(rows.sum(axis=1)).reshape(-1)
    inverse = np.zeros(n_local)
    np.divide(1.0, degrees, out=inverse, where=degrees > 0)
    mat = aij_mat(graph.comm, rows)
    scale = mat.createVecLeft()
    scale.setArray(inverse if kind == "random_walk" else np.sqrt(inverse))
    mat.diagonalScale(scale, scale if kind == "normalized" else None)
    scale.destroy()
    return mat


def _create_mat(graph: Graph, rows: Any) -> PETSc.Mat:
    """Return the rows as a PETSc matrix, AIJ or dense. Collective."""
    if scipy.sparse.issparse(rows):
        rows = scipy.sparse.csr_array(rows, dtype=np.float64)
        rows.sum_duplicates()
        return aij_mat(graph.comm, rows, is_square=False)
    sizes = ((graph.n_local, graph.n_nodes), (None, rows.shape[1]))
    start = np.asfortranarray(rows, dtype=np.float64)
    mat = PETSc.Mat().createDense(sizes, array=start, comm=graph.comm)
    mat.assemble()
    return mat
