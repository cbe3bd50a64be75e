"""Layers fitted one after the other to the network that is already compressed before them.

Problem. The layers of a compressed network receive inputs with errors. For the output y of a layer
of the original network and the output z that the layer gives in the compressed network, find the
affine map of rank r with the least mean ``||y - M z||^2``.

Method. Reduced-rank regression: ``B = C_yz (C_zz + d I)^-1``, shrunk towards the identity by d, and
the dominant eigenvectors Q of the covariance of ``B z``; ``M = Q Q' B``. Layers behind the first
cut whose outputs are not reduced are fitted as well: B alone, which their weight absorbs.
:mod:`hpcembed.networks.onnx_compression.segments` runs both networks.

Reference: the asymmetric reconstruction of Zhang, Zou, He, Sun, arXiv 1505.06798, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.low_rank.choice import Choice
from hpcembed.networks.low_rank.factors import output_factors
from hpcembed.networks.low_rank.parts import Parts
from hpcembed.networks.low_rank.shape import LayerShape, Ranks
from hpcembed.networks.onnx_compression.build import Solved, build
from hpcembed.networks.onnx_compression.replacement import Replacement
from hpcembed.networks.onnx_compression.rows import Batch, Rows
from hpcembed.networks.onnx_compression.segments import SegmentedPass
from hpcembed.networks.onnx_compression.statistics import channel_rows
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["fitted_replacements"]

Matrix = NDArray[np.float64]

#: Memory for the tensors between layers, on each rank.
_STATE_BYTES = 2 * 2**30
#: Tensors of the largest size that are in memory at a time, in both networks together.
_TENSORS = 6
#: Shrinkage towards the identity, relative to the mean variance.
_SHRINKAGE = 1e-2
#: Output channels of a group up to which a map is fitted.
_MAX_CHANNELS = 4096


@dataclass
class _Fit:
    """The map ``target + left @ right @ (z - origin)``, by groups."""

    origin: Matrix
    target: Matrix
    left: list[Matrix | None] = field(default_factory=list)
    right: list[Matrix] = field(default_factory=list)

    def apply(self, z: NDArray[Any], is_convolution: bool) -> NDArray[Any]:
        """Return the corrected output."""
        last = np.moveaxis(z, 1, -1) if is_convolution else z
        width = len(self.target) // len(self.right)
        result = np.empty(last.shape, z.dtype)
        for group, right in enumerate(self.right):
            part = slice(group * width, (group + 1) * width)
            left = self.left[group]
            M = right if left is None else left @ right
            shift = self.target[part] - M @ self.origin[part]
            precision = np.float32 if z.dtype == np.float16 else z.dtype
            result[..., part] = last[..., part].astype(precision) @ M.T.astype(
                precision
            ) + shift.astype(precision)
        return np.ascontiguousarray(np.moveaxis(result, -1, 1) if is_convolution else result)


def fitted_replacements(
    solved: Solved, choice: Choice, rows: Rows, comm: MPI.Comm, *, row_bytes: int, threads: int
) -> dict[str, Replacement]:
    """Return the replacements of the layers of a choice, each fitted to those before it.

    Collective.

    Parameters
    ----------
    rows : Rows
        Calibration rows; some of them where the tensors of all would take much memory.
    row_bytes : int
        Largest tensor of one row.
    """
    # First the reductions of inputs alone: the outputs are still whole, and are fitted below.
    entering = replace(
        choice, ranks={name: Ranks(ranks.inputs, 0) for name, ranks in choice.ranks.items()}
    )
    small = build(solved, entering)
    order = list(solved.layers)
    tensors = [solved.layers[name].y for name in order]
    batches = _some(rows, row_bytes)
    with agreement(comm):
        first = SegmentedPass(solved.network, tensors, batches, threads)
        second = SegmentedPass(small, tensors, batches, threads)
    result: dict[str, Replacement] = {}
    for name in order:
        layer, ranks = solved.layers[name], choice.ranks[name]
        shape = solved.data[name].shape
        with agreement(comm):
            y, z = first.advance(), second.advance()
        if not result and ranks.side == "none":
            continue  # nothing is cut before it
        if shape.group_outputs > _MAX_CHANNELS:
            if ranks.side != "none":
                parts = solved.parts(name, ranks, choice)
                result[name] = solved.replacement(name, parts, choice)
                _apply_factors(solved, name, ranks, second, z)
            continue
        sums = sum_over_ranks(comm, _sums(shape, layer.is_convolution, y, z, batches))
        fit = comm.bcast(_fit(shape, ranks, sums) if comm.rank == 0 else None)
        second.replace([fit.apply(one, layer.is_convolution) for one in z])
        parts = _absorbed(solved.parts(name, Ranks(ranks.inputs, 0), choice), fit)
        result[name] = solved.replacement(name, parts, choice)
    return result


def _apply_factors(
    solved: Solved, name: str, ranks: Ranks, second: SegmentedPass, z: Sequence[NDArray[Any]]
) -> None:
    side = solved.problems[name].output
    if not ranks.outputs or side is None:
        return
    point = np.concatenate(side.points)
    fit = _Fit(point, point)
    for factors in side.factors:
        fit.left.append(factors.left[:, : ranks.outputs])
        fit.right.append(factors.right[: ranks.outputs])
    second.replace([fit.apply(one, solved.layers[name].is_convolution) for one in z])


def _some(rows: Rows, row_bytes: int) -> list[Batch]:
    """Return batches of all rows, or evenly spread ones that fit into :data:`_STATE_BYTES`."""
    count = -(-len(rows) // rows.batch_size)
    most = max(1, int(_STATE_BYTES // max(1, _TENSORS * row_bytes * rows.batch_size)))
    chosen = np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)) if count else []
    return [
        rows.batch(int(b) * rows.batch_size, min((int(b) + 1) * rows.batch_size, len(rows)))
        for b in chosen
    ]


def _sums(
    shape: LayerShape, is_convolution: bool, y: Sequence[NDArray[Any]], z: Sequence[NDArray[Any]],
    batches: Sequence[Batch],
) -> Matrix:  # fmt: skip
    """Return count, sums of y and z and, by groups, the second moments of z and of y with z."""
    m, width = shape.outputs, shape.group_outputs
    sums = np.zeros(1 + 2 * m + 2 * shape.groups * width * width)
    products = sums[1 + 2 * m :].reshape(2, shape.groups, width, width)
    for one_y, one_z, batch in zip(y, z, batches, strict=True):
        Y = channel_rows(batch.valid(one_y), is_convolution, batch.mask).astype(np.float64)
        Z = channel_rows(batch.valid(one_z), is_convolution, batch.mask).astype(np.float64)
        sums[0] += len(Y)
        sums[1 : 1 + m] += Y.sum(axis=0)
        sums[1 + m : 1 + 2 * m] += Z.sum(axis=0)
        for group in range(shape.groups):
            part = slice(group * width, (group + 1) * width)
            products[0, group] += Z[:, part].T @ Z[:, part]
            products[1, group] += Y[:, part].T @ Z[:, part]
    return sums


def _fit(shape: LayerShape, ranks: Ranks, sums: Matrix) -> _Fit:
    m, width = shape.outputs, shape.group_outputs
    count = max(sums[0], 1.0)
    mean_y, mean_z = sums[1 : 1 + m] / count, sums[1 + m : 1 + 2 * m] / count
    fit = _Fit(mean_z, mean_y)
    products = sums[1 + 2 * m :].reshape(2, shape.groups, width, width) / count
    for group in range(shape.groups):
        part = slice(group * width, (group + 1) * width)
        C_zz = products[0, group] - np.outer(mean_z[part], mean_z[part])
        C_yz = products[1, group] - np.outer(mean_y[part], mean_z[part])
        shrinkage = _SHRINKAGE * max(float(np.trace(C_zz)) / width, 1e-30) * np.eye(width)
        B = scipy.linalg.solve(C_zz + shrinkage, (C_yz + shrinkage).T, assume_a="pos").T
        if not ranks.outputs:
            fit.left.append(None)
            fit.right.append(B)
            continue
        predicted = B @ C_zz @ B.T
        factors = output_factors((predicted + predicted.T) / 2, None, ranks.outputs)
        fit.left.append(factors.left[:, : ranks.outputs])
        fit.right.append(factors.right[: ranks.outputs] @ B)
    return fit


def _absorbed(whole: Parts, fit: _Fit) -> Parts:
    """Put the fitted map into a layer whose outputs are not reduced."""
    groups = len(fit.right)
    kernels, expansions, biases = [], [], []
    for W, bias, origin, target, left, right in zip(
        np.split(whole.kernel, groups), np.split(whole.bias, groups), np.split(fit.origin, groups),
        np.split(fit.target, groups), fit.left, fit.right, strict=True,
    ):  # fmt: skip
        kernels.append(np.tensordot(right, W, axes=(1, 0)))
        inner = right @ (bias - origin)
        if left is not None:
            expansions.append(left)
            inner = left @ inner
        biases.append(target + inner)
    expansion = np.concatenate(expansions) if expansions else None
    return Parts(whole.reduction, np.concatenate(kernels), expansion, np.concatenate(biases))
