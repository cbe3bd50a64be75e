"""Layers fitted one after the other to the network that is already compressed before them.

:mod:`hpcembed.networks.low_rank.output_fits` states the problem and its solution. Layers behind the
first cut whose outputs are not reduced are fitted as well.
:mod:`hpcembed.networks.onnx_compression.segments` runs both networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.low_rank.choice import Choice
from hpcembed.networks.low_rank.output_fits import (
    OutputFit,
    OutputSums,
    absorbed,
    fit_output,
    keep_factors,
)
from hpcembed.networks.low_rank.shape import LayerShape, Ranks
from hpcembed.networks.onnx_compression.build import Solved, build
from hpcembed.networks.onnx_compression.replacement import Replacement
from hpcembed.networks.onnx_compression.rows import Batch, Rows
from hpcembed.networks.onnx_compression.segments import SegmentedPass
from hpcembed.networks.onnx_compression.statistics import channel_rows
from hpcembed.runtime.agreement import agreement, on_rank

__all__ = ["fitted_replacements"]

#: Memory for the tensors between layers, on each rank.
_STATE_BYTES = 2 * 2**30
#: Tensors of the largest size that are in memory at a time, in both networks together.
_TENSORS = 6


def fitted_replacements(
    solved: Solved,
    choice: Choice,
    rows: Rows,
    comm: MPI.Comm,
    *,
    row_bytes: int,
    threads: int,
    centre: bool = True,
) -> dict[str, Replacement]:
    """Return the replacements of the layers of a choice, each fitted to those before it.

    Collective.

    Parameters
    ----------
    rows : Rows
        Calibration rows; some of them where the tensors of all would take much memory.
    row_bytes : int
        Largest tensor of one row.
    centre : bool
        Count deviations from the means; else from the biases.
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
        layer, ranks, data = solved.layers[name], choice.ranks[name], solved.data[name]
        with agreement(comm):
            y, z = first.advance(), second.advance()
        if not result and ranks.side == "none":
            continue  # nothing is cut before it
        sums = OutputSums(data.shape)
        _add_rows(sums, data.shape, layer.is_convolution, y, z, batches)
        sums.reduce(comm)
        fit = on_rank(
            comm,
            0,
            partial(fit_output, data, ranks, sums, centre=centre)
            if sums.has_products
            else partial(keep_factors, data, solved.problems[name], ranks, sums, centre=centre),
        )
        second.replace([_corrected(fit, one, layer.is_convolution) for one in z])
        whole = solved.parts(name, Ranks(ranks.inputs, 0), choice)
        result[name] = solved.replacement(name, absorbed(whole, fit), choice)
    return result


def _some(rows: Rows, row_bytes: int) -> list[Batch]:
    """Return batches of all rows, or evenly spread ones that fit into :data:`_STATE_BYTES`."""
    count = -(-len(rows) // rows.batch_size)
    most = max(1, int(_STATE_BYTES // max(1, _TENSORS * row_bytes * rows.batch_size)))
    chosen = np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)) if count else []
    return [
        rows.batch(int(b) * rows.batch_size, min((int(b) + 1) * rows.batch_size, len(rows)))
        for b in chosen
    ]


def _add_rows(
    sums: OutputSums, shape: LayerShape, is_convolution: bool, y: Sequence[NDArray[Any]],
    z: Sequence[NDArray[Any]], batches: Sequence[Batch],
) -> None:  # fmt: skip
    for one_y, one_z, batch in zip(y, z, batches, strict=True):
        Y, Z = (
            channel_rows(batch.valid(each), is_convolution, batch.mask).astype(np.float64)
            for each in (one_y, one_z)
        )
        sums.add(len(Y), Y.sum(axis=0), Z.sum(axis=0))
        for group in range(shape.groups if sums.has_products else 0):
            part = sums.group_part(group)
            sums.add_products(group, Z[:, part].T @ Z[:, part], Y[:, part].T @ Z[:, part])


def _corrected(fit: OutputFit, z: NDArray[Any], is_convolution: bool) -> NDArray[Any]:
    """Return the output of a layer after its fit."""
    last = np.moveaxis(z, 1, -1) if is_convolution else z
    result = np.empty(last.shape, z.dtype)
    precision = np.float32 if z.dtype == np.float16 else z.dtype
    for group in range(len(fit.right)):
        part, M, shift = fit.group_map(group)
        values = last[..., part].astype(precision)
        result[..., part] = values @ M.T.astype(precision) + shift.astype(precision)
    return np.ascontiguousarray(np.moveaxis(result, -1, 1) if is_convolution else result)
