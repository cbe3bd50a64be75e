"""PCA of Heat (Helmholtz Analytics Toolkit) on one rank; most of its modes report no variances."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.bench.methods import PcaAnswer, PcaTask


def fit_pca(task: PcaTask, solver: str) -> PcaAnswer:
    """Fit PCA with one of its solvers."""
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

    return PcaAnswer(
        np.asarray(pca.components_.numpy()),
        None if variances is None else np.asarray(variances.numpy()),
        transform,
    )
