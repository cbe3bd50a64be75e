"""Heat's PCA (Helmholtz Analytics Toolkit), on one rank; most of its modes tell no variances."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.bench.methods import Fitted, Task

__all__ = ["FITS"]


def _pca(solver: str) -> Callable[[Task], Fitted]:
    return lambda task: _fit(task, solver)


def _fit(task: Task, solver: str) -> Fitted:
    heat = import_module("heat")
    pca = heat.decomposition.PCA(
        n_components=task.k,
        svd_solver=solver,
        random_state=task.seed if solver == "randomized" else None,
    )
    pca.fit(heat.array(task.rows, split=0, copy=None))
    variances = getattr(pca, "explained_variance_", None)

    def transform(rows: Any) -> NDArray[Any]:
        return np.asarray(pca.transform(heat.array(rows, split=0, copy=None)).numpy())

    return Fitted(
        transform,
        np.asarray(pca.components_.numpy()),
        None if variances is None else np.asarray(variances.numpy()),
    )


FITS: dict[str, Callable[[Task], Fitted]] = {
    "heat-full": _pca("full"),
    "heat-hierarchical": _pca("hierarchical"),
    "heat-randomized": _pca("randomized"),
}
