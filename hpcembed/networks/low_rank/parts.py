"""Weights of the low-rank replacement of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcembed.networks.low_rank.layer_data import LayerData
from hpcembed.networks.low_rank.problems import LayerProblem, Side
from hpcembed.networks.low_rank.shape import Ranks

__all__ = ["Parts", "low_rank_parts"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Parts:
    """Weights of the parts of a replacement, groups one after the other along the outputs.

    Attributes
    ----------
    reduction : ndarray of shape (groups * r_in, n / groups), or None
    kernel : ndarray of shape (groups * r, c, ...)
    expansion : ndarray of shape (m, r_out), or None
    bias : ndarray of shape (m,)
        Bias of the last part.
    """

    reduction: Matrix | None
    kernel: Matrix
    expansion: Matrix | None
    bias: Matrix


def low_rank_parts(
    layer: LayerData, problem: LayerProblem, ranks: Ranks, shared: Side | None = None
) -> Parts:
    """Return the weights of the replacement of one layer.

    Parameters
    ----------
    layer : LayerData
    problem : LayerProblem
    ranks : Ranks
    shared : Side, optional
        Factors of a shared reduction, in place of the layer's own ones of its input.

    Notes
    -----
    The reduction turns x into ``x' = q + P (x - q)`` and the outputs y into ``p + M (y - p)`` with
    the points q and p of the two sides; the constants go into the bias.
    """
    entering = shared or problem.input
    groups = [
        _group_parts(problem, group, layer.weights[group], layer.biases[group], ranks, entering)
        for group in range(layer.shape.groups)
    ]
    reduction, kernel, expansion, bias = (
        _joined(matrices) for matrices in zip(*groups, strict=True)
    )
    assert kernel is not None
    assert bias is not None
    return Parts(reduction, kernel, expansion, bias)


def _group_parts(
    problem: LayerProblem, group: int, W: Matrix, bias: Matrix, ranks: Ranks, entering: Side | None
) -> tuple[Matrix | None, Matrix, Matrix | None, Matrix]:
    reduction = expansion = None
    if ranks.inputs:
        assert entering is not None
        factors, point = entering.factors[group], entering.points[group]
        left, reduction = factors.normalised_right(ranks.inputs)
        lost = point - left @ (reduction @ point)
        bias = bias + W.reshape(*W.shape[:2], -1).sum(axis=2) @ lost
        W = np.moveaxis(np.tensordot(W, left, axes=(1, 0)), -1, 1)
    if ranks.outputs:
        assert problem.output is not None
        factors, point = problem.output.factors[group], problem.output.points[group]
        expansion, right = factors.normalised_left(ranks.outputs)
        bias = point + expansion @ (right @ (bias - point))
        W = np.tensordot(right, W, axes=(1, 0))
    return reduction, W, expansion, bias


def _joined(matrices: Sequence[Matrix | None]) -> Matrix | None:
    present = [matrix for matrix in matrices if matrix is not None]
    return np.ascontiguousarray(np.concatenate(present)) if present else None
