"""Layers fitted one after the other to the network that is already compressed before them.

:mod:`hpcembed.networks.low_rank.output_fits` states the problem and its solution. Layers that are
not cut are fitted as well, which costs no parameter. All layers are fitted in one pass over the
batches (:mod:`hpcembed.networks.compression.lockstep`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from mpi4py import MPI
from torch import Tensor, nn

from hpcembed.networks.compression.batches import Batch, Batches, call
from hpcembed.networks.compression.build import build, low_rank_layer, replace_layers
from hpcembed.networks.compression.layers import is_convolution
from hpcembed.networks.compression.lockstep import LockstepPasses
from hpcembed.networks.compression.model_copies import (
    copy_model,
    keeps_tensors,
    structure_copy,
)
from hpcembed.networks.compression.replacement import replace_module
from hpcembed.networks.compression.statistics import channel_rows
from hpcembed.networks.low_rank.choice import Choice
from hpcembed.networks.low_rank.output_fits import (
    OutputFit,
    OutputSums,
    absorbed,
    fit_output,
    keep_factors,
)
from hpcembed.networks.low_rank.parts import Parts
from hpcembed.networks.low_rank.shape import LayerShape, Ranks
from hpcembed.networks.low_rank.solved import SolvedLayers
from hpcembed.runtime.agreement import agreement, on_rank

__all__ = ["build_sequentially"]

#: Batches of which the passes are at the same layer: so many, and more where the outputs of that
#: layer are small: up to this number of values in all, and at most a thousand batches.
MAX_BATCHES = 64
_MOST_BATCHES, _MOST_VALUES = 1024, 2**27


def build_sequentially(
    model: nn.Module,
    solved: SolvedLayers,
    choice: Choice,
    batches: Batches,
    comm: MPI.Comm,
    *,
    weighted: bool,
    centre: bool = True,
    bias_only: bool = False,
) -> nn.Module:
    """Return a copy of the model with the layers of a choice, each fitted to those before it.

    Collective.

    Parameters
    ----------
    weighted : bool
        Use the second moments of gradients as norm of the errors.
    centre : bool
        Count deviations from the means, and keep the means by biases.
    bias_only : bool
        Keep the factors of the original network, and fit the biases alone.
    """
    # First the reductions of inputs alone: the outputs are still whole, and are fitted below.
    entering = replace(
        choice, ranks={name: Ranks(ranks.inputs, 0) for name, ranks in choice.ranks.items()}
    )
    small = build(model, solved, entering)
    once = [name for name, one in solved.data.items() if abs(one.moments.calls - 1.0) < 1e-9]
    with agreement(comm):
        mine = _some(list(batches), solved)
    device = next(model.parameters()).device
    # Passes of a model that keeps tensors as attributes must not overwrite each other's.
    separate = keeps_tensors(model)

    def run(which: nn.Module, batch: Batch) -> None:
        own = structure_copy(which) if separate else which
        call(own, batch.to(device), batches.name)

    first, second = (
        LockstepPasses(which, once, [partial(run, which, batch) for batch in mine])
        for which in (copy_model(model), small)
    )
    fits = {}
    with first.started(), second.started():
        for name in once:
            layer, ranks = solved.data[name], choice.ranks[name]
            module: Any = model.get_submodule(name)
            sums = OutputSums(layer.shape)
            with agreement(comm):
                y, z = first.outputs(name), second.outputs(name)
                _add_rows(sums, layer.shape, module, y, z, mine)
            sums.reduce(comm)
            options = {"centre": centre, "has_bias": module.bias is not None}
            fits[name] = on_rank(
                comm,
                0,
                partial(keep_factors, layer, solved.problems[name], ranks, sums, **options)
                if bias_only or not sums.has_products
                else partial(fit_output, layer, ranks, sums, weighted=weighted, **options),
            )
            second.replace([_corrected(fits[name], one, module) for one in z])
    for name, fit in fits.items():
        whole = solved.parts(name, entering.ranks[name], choice)
        _put(small, name, model.get_submodule(name), absorbed(whole, fit))
    # Layers that are called several times keep the factors of the original network.
    others = [n for n, ranks in choice.ranks.items() if n not in fits and ranks.side != "none"]
    replace_layers(small, solved, choice, others)
    return small


def _some(batches: list[Batch], solved: SolvedLayers) -> list[Batch]:
    """Return as many batches as the passes take at a time, evenly spread."""
    shapes = [layer.shape for layer in solved.data.values()]
    values = max((shape.outputs * shape.positions for shape in shapes), default=1.0)
    size = max((batch.size for batch in batches), default=1)
    most = min(max(MAX_BATCHES, int(_MOST_VALUES / max(values * size, 1))), _MOST_BATCHES)
    if len(batches) <= most:
        return batches
    last = len(batches) - 1
    return [batches[position * last // (most - 1)] for position in range(most)]


def _add_rows(
    sums: OutputSums, shape: LayerShape, module: nn.Module, y: Sequence[Tensor],
    z: Sequence[Tensor], batches: Sequence[Batch],
) -> None:  # fmt: skip
    for one_y, one_z, batch in zip(y, z, batches, strict=True):
        pairs = zip(
            channel_rows(one_y, module, batch.mask),
            channel_rows(one_z, module, batch.mask),
            strict=True,
        )
        for Y, Z in pairs:
            totals = (rows.sum(dim=1).cpu().numpy() for rows in (Y, Z))
            sums.add(Y.shape[1], *totals)
            for group in range(shape.groups if sums.has_products else 0):
                part = sums.group_part(group)
                zz, yz = (left[part] @ Z[part].T for left in (Z, Y))
                sums.add_products(group, zz.cpu().numpy(), yz.cpu().numpy())


def _corrected(fit: OutputFit, z: Tensor, module: nn.Module) -> Tensor:
    """Return the output of a layer after its fit."""
    last = z.movedim(1, -1) if is_convolution(module) else z
    parts = []
    for group in range(len(fit.right)):
        part, M, shift = fit.group_map(group)
        matrix, constant = (
            torch.as_tensor(each, device=z.device).to(z.dtype) for each in (M, shift)
        )
        parts.append(last[..., part] @ matrix.T + constant)
    result = torch.cat(parts, dim=-1)
    return result.movedim(-1, 1).contiguous() if is_convolution(module) else result


def _put(small: nn.Module, name: str, module: Any, parts: Parts) -> None:
    """Put fitted weights in the place of a layer, or of its replacement."""
    new = low_rank_layer(module, parts)
    if parts.reduction is not None:
        current: Any = small.get_submodule(name)
        new[0] = current[0]  # it may be shared
    replace_module(small, name, new if len(new) > 1 else _same_kind(module, new[0]))


def _same_kind(module: Any, new: Any) -> nn.Module:
    """Return a copy of a layer that is not replaced, with the fitted weight and bias."""
    kept: Any = copy_model(module)
    weight = new.weight.detach()
    with torch.no_grad():
        kept.weight.copy_(weight if kept.weight.shape == weight.shape else weight.T)
        if kept.bias is not None:
            kept.bias.copy_(new.bias)
    return kept
