"""hpcembed's PCA with each engine, and the product without which no covariance is assembled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpcembed.bench.methods import Fitted, Task, tolerance
from hpcembed.embedding import PCA, SolverSettings

__all__ = ["FITS", "fit_pca"]


def fit_pca(task: Task, engine: Any = "auto", solver: SolverSettings | None = None) -> Fitted:
    """Fit with one engine."""
    pca = PCA(
        task.k, eigen_solver=engine, random_state=task.seed, n_threads=task.threads, solver=solver
    ).fit(task.rows)
    plan = pca.plan_
    return Fitted(
        transform=pca.transform,
        components=pca.components_,
        variances=pca.explained_variance_,
        certified=tolerance(task.rows) if pca.certified_ else None,
        detail=f"{plan.kind}{', float32 passes' if plan.single else ''}; {pca.result_.solver}",
    )


def _engine(name: str) -> Callable[[Task], Fitted]:
    return lambda task: fit_pca(task, name)


def _bare_product(task: Task) -> Fitted:
    product = task.rows.T @ task.rows
    return Fitted(None, None, detail=f"{product.shape[0]} x {product.shape[1]} {product.dtype}")


FITS: dict[str, Callable[[Task], Fitted]] = {
    "ours": _engine("auto"),
    "ours-assembled": _engine("assembled"),
    "ours-block": _engine("block"),
    "ours-gram": _engine("gram"),
    "ours-matrix-free": _engine("matrix_free"),
    "xtx": _bare_product,
}
