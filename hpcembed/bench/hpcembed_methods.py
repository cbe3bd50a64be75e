"""PCA of hpcembed with each engine, and the bare product, a lower bound of assembled ones."""

from __future__ import annotations

from typing import Any

from hpcembed.bench.methods import PcaAnswer, PcaTask, tolerance
from hpcembed.embedding import PCA, SolverSettings


def fit_pca(task: PcaTask, engine: Any = "auto", solver: Any = "auto") -> PcaAnswer:
    """Fit :class:`hpcembed.PCA` with one engine and one eigensolver."""
    pca = PCA(
        task.k,
        engine=engine,
        random_state=task.seed,
        n_threads=task.threads,
        solver=SolverSettings(name=solver),
    ).fit(task.rows)
    plan = pca.plan_
    return PcaAnswer(
        components=pca.components_,
        variances=pca.explained_variance_,
        transform=pca.transform,
        certified=tolerance(task.rows) if pca.certified_ else None,
        detail=f"{plan.engine}{', float32 passes' if plan.single else ''}; {pca.result_.solver}",
    )


def bare_product(task: PcaTask) -> PcaAnswer:
    """Multiply the transposed rows by the rows, without a PCA."""
    product = task.rows.T @ task.rows
    return PcaAnswer(None, detail=f"{product.shape[0]} x {product.shape[1]} {product.dtype}")
