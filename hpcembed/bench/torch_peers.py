"""The two ways to a PCA in torch, on the processor, in the precision of the rows."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from hpcembed.bench.methods import PcaAnswer, PcaTask


@torch.no_grad()
def fit_lowrank(task: PcaTask) -> PcaAnswer:
    """Fit ``torch.pca_lowrank`` with q = k."""
    torch.manual_seed(task.seed)
    X = torch.from_numpy(task.rows)
    _, S, V = torch.pca_lowrank(X, q=task.k)
    return _fitted(V, S**2 / (len(X) - 1), X.mean(dim=0))


@torch.no_grad()
def fit_covariance(task: PcaTask) -> PcaAnswer:
    """Form the covariance and diagonalise it by ``torch.linalg.eigh``."""
    X = torch.from_numpy(task.rows)
    mean = X.mean(dim=0)
    centred = X - mean
    C = centred.T @ centred / (len(X) - 1)
    values, vectors = torch.linalg.eigh(C)
    return _fitted(vectors[:, -task.k :].flip(1), values[-task.k :].flip(0), mean)


def _fitted(V: torch.Tensor, variances: torch.Tensor, mean: torch.Tensor) -> PcaAnswer:
    def transform(rows: Any) -> NDArray[Any]:
        return ((torch.from_numpy(rows) - mean) @ V).numpy()

    return PcaAnswer(V.T.contiguous().numpy(), variances.numpy(), transform)
