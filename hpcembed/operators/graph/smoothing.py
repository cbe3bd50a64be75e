"""Attributes of nodes averaged over their neighbours, some times.

``(D^-1 (A + c I))^s X`` (random_walk), or ``(D^-1/2 (A + c I) D^-1/2)^s X`` (normalized), with D
the degrees of A + c I: what a linear graph convolution does before its classifier. Rows stay where
their nodes are; sparse rows stay sparse, with more entries after every step.
Reference: F. Wu et al., Simplifying graph convolutional networks, ICML 2019.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from petsc4py import PETSc

from hpcembed.data.graphs.graph import Graph
from hpcembed.operators.graph.graph_operators import adjacency_mat
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import agreement

__all__ = ["smooth"]

SmoothingKind = Literal["random_walk", "normalized"]


def smooth(
    graph: Graph,
    rows: Any,
    steps: int = 2,
    *,
    kind: SmoothingKind = "random_walk",
    loops: float = 1.0,
) -> Any:
    """Smooth the attributes of the nodes over the graph.

    Collective.

    Parameters
    ----------
    graph : Graph
        Weights of at least zero.
    rows : ndarray or sparse array of shape (n_local, d)
        Attributes of this rank's nodes.
    steps : int
        0 gives the rows as they are.
    kind : {"random_walk", "normalized"}
    loops : float
        Weight c of every node in its own mean, beside the self-loops that the graph has.

    Returns
    -------
    ndarray or csr_array of float64, shape (n_local, d)
        Of the kind of `rows`. Nodes without edges keep theirs where `loops` is positive, and get
        zero otherwise.

    Raises
    ------
    InputError
        Rows that are not those of this rank's nodes, negative weights.
    ConfigError
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
            raise InputError(f"{graph.name}: negative weights make no means: drop them")
    if steps == 0:
        return rows
    walk = _walk(graph, kind, loops)
    try:
        return (_smooth_sparse if scipy.sparse.issparse(rows) else _smooth_dense)(walk, rows, steps)
    finally:
        walk.destroy()


def _walk(graph: Graph, kind: str, loops: float) -> PETSc.Mat:
    n_local = graph.n_local
    own = np.arange(n_local)
    diagonal = scipy.sparse.csr_array(
        (np.full(n_local, loops), (own, own + graph.start)), shape=graph.rows.shape
    )
    rows = scipy.sparse.csr_array(graph.rows + diagonal)
    degrees = np.asarray(rows.sum(axis=1)).reshape(-1)
    inverse = np.zeros(n_local)
    np.divide(1.0, degrees, out=inverse, where=degrees > 0)
    mat = adjacency_mat(graph.comm, rows)
    scale = mat.createVecLeft()
    scale.setArray(inverse if kind == "random_walk" else np.sqrt(inverse))
    mat.diagonalScale(scale, scale if kind == "normalized" else None)
    scale.destroy()
    return mat


def _smooth_dense(walk: PETSc.Mat, rows: Any, steps: int) -> NDArray[np.float64]:
    comm, (n_local, n) = walk.getComm(), walk.getSizes()[0]
    d = rows.shape[1]
    start = np.asfortranarray(rows, dtype=np.float64)
    X = PETSc.Mat().createDense(((n_local, n), (None, d)), array=start, comm=comm)
    X.assemble()
    for _ in range(steps):
        Y = walk.matMult(X)
        X.destroy()
        X = Y
    smoothed = np.array(X.getDenseArray(), order="C")
    X.destroy()
    return smoothed


def _smooth_sparse(walk: PETSc.Mat, rows: Any, steps: int) -> Any:
    comm, (n_local, n) = walk.getComm(), walk.getSizes()[0]
    d = rows.shape[1]
    rows = scipy.sparse.csr_array(rows, dtype=np.float64)
    rows.sum_duplicates()
    index = PETSc.IntType
    csr = (rows.indptr.astype(index), rows.indices.astype(index), rows.data)
    X = PETSc.Mat().createAIJ(((n_local, n), (None, d)), csr=csr, comm=comm)
    for _ in range(steps):
        Y = walk.matMult(X)
        X.destroy()
        X = Y
    indptr, indices, data = X.getValuesCSR()
    X.destroy()
    return scipy.sparse.csr_array((data, indices, indptr), shape=(n_local, d))
