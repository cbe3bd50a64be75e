"""scikit-learn's decompositions, and those of its extension from Intel."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from sklearn.decomposition import PCA, IncrementalPCA, TruncatedSVD

from hpcembed.bench.methods import Fitted, Task

__all__ = ["FITS"]


def _fitted(estimator: Any, task: Task, *, centred: bool = True) -> Fitted:
    estimator.fit(task.rows)
    return Fitted(
        transform=estimator.transform,
        components=estimator.components_,
        variances=estimator.explained_variance_,
        centred=centred,
    )


def _pca(solver: Any) -> Callable[[Task], Fitted]:
    return lambda task: _fitted(PCA(task.k, svd_solver=solver, random_state=task.seed), task)


def _intel(task: Task) -> Fitted:
    # patches nothing: its PCA beside scikit-learn's own
    estimator = import_module("sklearnex.decomposition").PCA
    return _fitted(estimator(n_components=task.k, svd_solver="covariance_eigh"), task)


def _truncated(task: Task) -> Fitted:
    return _fitted(TruncatedSVD(task.k, random_state=task.seed), task, centred=False)


def _incremental(task: Task) -> Fitted:
    return _fitted(IncrementalPCA(task.k), task)


FITS: dict[str, Callable[[Task], Fitted]] = {
    "sklearn-cov-eigh": _pca("covariance_eigh"),
    "sklearn-arpack": _pca("arpack"),
    "sklearn-randomized": _pca("randomized"),
    "sklearnex-cov-eigh": _intel,
    "sklearn-truncated-svd": _truncated,
    "sklearn-incremental": _incremental,
}
