"""torch's two ways to a PCA, on the processor, in the precision of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from hpcembed.bench.methods import Fitted, Task

__all__ = ["FITS", "set_threads"]


def set_threads(count: int) -> None:
    """Threads of torch's operators."""
    torch.set_num_threads(count)


def _fitted(V: torch.Tensor, variances: torch.Tensor, mean: torch.Tensor) -> Fitted:
    def transform(rows: Any) -> NDArray[Any]:
        return ((torch.from_numpy(rows) - mean) @ V).numpy()

    return Fitted(transform, V.T.contiguous().numpy(), variances.numpy())


@torch.no_grad()
def _lowrank(task: Task) -> Fitted:
    torch.manual_seed(task.seed)
    X = torch.from_numpy(task.rows)
    _, S, V = torch.pca_lowrank(X, q=task.k)
    return _fitted(V, S**2 / (len(X) - 1), X.mean(dim=0))


@torch.no_grad()
def _covariance(task: Task) -> Fitted:
    X = torch.from_numpy(task.rows)
    mean = X.mean(dim=0)
    centred = X - mean
    C = centred.T @ centred / (len(X) - 1)
    values, vectors = torch.linalg.eigh(C)
    return _fitted(vectors[:, -task.k :].flip(1), values[-task.k :].flip(0), mean)


FITS: dict[str, Callable[[Task], Fitted]] = {
    "torch-lowrank": _lowrank,
    "torch-cov-eigh": _covariance,
}
