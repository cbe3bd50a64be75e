"""Decompositions of scikit-learn, and PCA of its extension by Intel."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sklearn.decomposition import PCA, IncrementalPCA, TruncatedSVD

from hpcembed.bench.methods import PcaAnswer, PcaTask


def fit_pca(task: PcaTask, solver: Any) -> PcaAnswer:
    """Fit PCA with one of its solvers."""
    return _fitted(PCA(task.k, svd_solver=solver, random_state=task.seed), task)


def fit_intel_pca(task: PcaTask) -> PcaAnswer:
    """Fit PCA of the extension, without patching scikit-learn."""
    estimator = import_module("sklearnex.decomposition").PCA
    return _fitted(estimator(n_components=task.k, svd_solver="covariance_eigh"), task)


def fit_truncated_svd(task: PcaTask) -> PcaAnswer:
    """Fit TruncatedSVD, which does not centre the rows."""
    return _fitted(TruncatedSVD(task.k, random_state=task.seed), task, centred=False)


def fit_incremental_pca(task: PcaTask) -> PcaAnswer:
    """Fit IncrementalPCA with its default batches."""
    return _fitted(IncrementalPCA(task.k), task)


def _fitted(estimator: Any, task: PcaTask, *, centred: bool = True) -> PcaAnswer:
    estimator.fit(task.rows)
    return PcaAnswer(
        components=estimator.components_,
        variances=estimator.explained_variance_,
        transform=estimator.transform,
        centred=centred,
    )
