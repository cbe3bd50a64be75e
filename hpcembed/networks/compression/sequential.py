"""Layers fitted one after the other to the network that is already compressed before them.

Problem. The layers of a compressed network receive inputs with errors. For the output y of a layer
of the original network and the output z that the layer gives in the compressed network, find the
affine map of rank r with the least mean ``||y - M z||_G^2``.

Method. Reduced-rank regression: ``B = C_yz (C_zz + d I)^-1``, shrunk towards the identity by d, and
the dominant eigenvectors Q of the covariance of ``B z`` in the norm of `G`; ``M = Q Q' G B``.
Layers whose outputs are not reduced are fitted as well: B alone, which their weight absorbs, so it
costs nothing. All layers are fitted in one pass over the batches
(:mod:`hpcembed.networks.compression.lockstep`).

Reference: the asymmetric reconstruction of Zhang, Zou, He, Sun, arXiv 1505.06798, section 3.3.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import scipy.linalg
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcembed.networks.compression.batches import Batch, Batches, call
from hpcembed.networks.compression.build import build
from hpcembed.networks.compression.layers import is_convolution, weight_matrix
from hpcembed.networks.compression.lockstep import LockstepPasses
from hpcembed.networks.compression.replacement import replace_module, sequence_of
from hpcembed.networks.compression.statistics import channel_rows
from hpcembed.networks.low_rank.choice import Choice
from hpcembed.networks.low_rank.factors import Factors, damped, output_factors
from hpcembed.networks.low_rank.layer_data import LayerData
from hpcembed.networks.low_rank.problems import (
    GRADIENT_DAMPING,
    LayerProblem,
    SharedProblem,
)
from hpcembed.networks.low_rank.shape import Ranks
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["build_sequentially"]

Matrix = NDArray[np.float64]

#: Batches that are in flight at a time.
MAX_BATCHES = 64
#: Shrinkage towards the identity, relative to the mean variance.
_SHRINKAGE = 1e-2
#: Variances below this share of the mean square are rounding errors.
_ROUNDING = 1e-10
#: Output channels of a group up to which a full map is fitted; above, the bias alone.
_MAX_CHANNELS = 4096


class _Fit:
    """The fitted map of one layer: ``y = target + left @ right @ (z - origin)``, by groups."""

    def __init__(self, origin: Matrix, target: Matrix) -> None:
        self.origin, self.target = origin, target
        self.left: list[Matrix | None] = []
        self.right: list[Matrix] = []

    def apply(self, z: Tensor, module: nn.Module) -> Tensor:
        """Return the corrected output."""
        channel_last = z if not is_convolution(module) else z.movedim(1, -1)
        groups = np.split(np.arange(len(self.target)), len(self.right))
        parts = []
        for group, columns in enumerate(groups):
            left, right = self.left[group], self.right[group]
            M = right if left is None else left @ right
            shift = self.target[columns] - M @ self.origin[columns]
            kind: dict[str, Any] = {"dtype": z.dtype, "device": z.device}
            part = channel_last[..., columns[0] : columns[-1] + 1]
            parts.append(
                part @ torch.as_tensor(M.T.copy(), **kind) + torch.as_tensor(shift, **kind)
            )
        result = torch.cat(parts, dim=-1)
        return result.movedim(-1, 1).contiguous() if is_convolution(module) else result


def build_sequentially(
    model: nn.Module,
    layers: Mapping[str, LayerData],
    problems: Mapping[str, LayerProblem],
    shared: Sequence[SharedProblem],
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
    entering = {name: Ranks(ranks.inputs, 0) for name, ranks in choice.ranks.items()}
    small = build(model, layers, problems, shared, replace(choice, ranks=entering))
    order = [name for name, layer in layers.items() if abs(layer.moments.calls - 1.0) < 1e-9]
    mine = _some(list(batches))
    device = next(model.parameters()).device
    teacher = copy.deepcopy(model)
    runs = {
        which: [_run(which, batch.to(device), batches.name) for batch in mine]
        for which in (teacher, small)
    }
    teachers = LockstepPasses(teacher, order, runs[teacher])
    students = LockstepPasses(small, order, runs[small])
    fits = {}
    with teachers.started() as first, students.started() as second:
        for name in order:
            problem = problems[name]
            module: Any = model.get_submodule(name)
            with agreement(comm):
                y, z = first.outputs(name), second.outputs(name)
                sums = _sums(problem, module, y, z, mine)
            sums = sum_over_ranks(comm, sums)
            fit = _on_root(
                comm,
                partial(
                    _fit, problem, layers[name], choice.ranks[name], sums, weighted, bias_only,
                    centre, module.bias is not None,
                ),
            )  # fmt: skip
            second.replace([fit.apply(one, module) for one in z])
            fits[name] = fit
    for name, fit in fits.items():
        _absorb(small, name, model.get_submodule(name), problems[name], choice.ranks[name], fit)
    # Layers that are called several times keep the factors of the original network.
    for name, ranks in choice.ranks.items():
        if name not in fits and ranks.side != "none":
            alone = replace(choice, ranks={name: ranks}, shared=())
            replace_module(
                small, name, build(model, layers, problems, (), alone).get_submodule(name)
            )
    return small


def _on_root(comm: MPI.Comm, compute: Callable[[], _Fit]) -> _Fit:
    """Compute on rank 0 and send the result, or raise the error, on all ranks. Collective."""
    outcome: _Fit | Exception | None = None
    if comm.rank == 0:
        try:
            outcome = compute()
        except Exception as error:  # raised below, on all ranks
            outcome = error
    outcome = comm.bcast(outcome)
    if isinstance(outcome, Exception):
        raise outcome
    assert outcome is not None
    return outcome


def _run(model: nn.Module, batch: Batch, name: str) -> Callable[[], Any]:
    return lambda: call(model, batch, name)


def _some(batches: list[Batch]) -> list[Batch]:
    """Return at most :data:`MAX_BATCHES` batches, evenly spread."""
    if len(batches) <= MAX_BATCHES:
        return batches
    chosen = np.linspace(0, len(batches) - 1, MAX_BATCHES).astype(int)
    return [batches[position] for position in chosen]


def _sums(
    problem: LayerProblem, module: nn.Module, y: Sequence[Tensor], z: Sequence[Tensor],
    batches: Sequence[Batch],
) -> Matrix:  # fmt: skip
    """Return count, sums of y and z and, by groups, the second moments of z and of y with z."""
    shape = problem.shape
    m, width = shape.outputs, shape.group_outputs
    with_products = width <= _MAX_CHANNELS
    size = 1 + 2 * m + (2 * shape.groups * width * width if with_products else 0)
    sums = np.zeros(size)
    products = sums[1 + 2 * m :].reshape(2, shape.groups, width, -1)
    for one_y, one_z, batch in zip(y, z, batches, strict=True):
        pairs = zip(
            channel_rows(one_y, module, batch.mask),
            channel_rows(one_z, module, batch.mask),
            strict=True,
        )
        for Y, Z in pairs:
            sums[0] += Y.shape[1]
            sums[1 : 1 + m] += Y.sum(dim=1).cpu().numpy()
            sums[1 + m : 1 + 2 * m] += Z.sum(dim=1).cpu().numpy()
            if not with_products:
                continue
            for group in range(shape.groups):
                part = slice(group * width, (group + 1) * width)
                products[0, group] += (Z[part] @ Z[part].T).cpu().numpy()
                products[1, group] += (Y[part] @ Z[part].T).cpu().numpy()
    return sums


def _fit(
    problem: LayerProblem, layer: LayerData, ranks: Ranks, sums: Matrix, weighted: bool,
    bias_only: bool, centre: bool, has_bias: bool,
) -> _Fit:  # fmt: skip
    shape = problem.shape
    m, width = shape.outputs, shape.group_outputs
    count = max(sums[0], 1.0)
    mean_y, mean_z = sums[1 : 1 + m] / count, sums[1 + m : 1 + 2 * m] / count
    # A layer that is not cut and has no bias gets none: deviations count from zero.
    has_means = centre and (has_bias or ranks.side != "none")
    bias = np.concatenate(layer.biases)
    fit = _Fit(mean_z, mean_y) if has_means else _Fit(bias, bias)
    products = sums[1 + 2 * m :].reshape(2, shape.groups, width, -1) / count
    for group in range(shape.groups):
        part = slice(group * width, (group + 1) * width)
        if bias_only or not products.size:
            _keep_factors(fit, problem, ranks, group)
            continue
        z, y, p, q = mean_z[part], mean_y[part], fit.origin[part], fit.target[part]
        C_zz = products[0, group] - np.outer(z, p) - np.outer(p, z) + np.outer(p, p)
        C_yz = products[1, group] - np.outer(y, p) - np.outer(q, z) + np.outer(q, p)
        # Differences of equal numbers are rounding errors, and no variance.
        square = float(np.trace(products[0, group])) / width
        variance = max(float(np.trace(C_zz)) / width, _ROUNDING * square)
        shrinkage = (_SHRINKAGE * variance if variance > 0 else 1.0) * np.eye(width)
        B = scipy.linalg.solve(C_zz + shrinkage, (C_yz + shrinkage).T, assume_a="pos").T
        if not ranks.outputs:
            fit.left.append(None)
            fit.right.append(B)
            continue
        norm = None
        if weighted:
            gradients = layer.moments.output_gradients[group]
            about = np.zeros_like(gradients.total)
            norm = damped(gradients.covariance(about=about), GRADIENT_DAMPING)
        predicted = B @ C_zz @ B.T
        factors = output_factors((predicted + predicted.T) / 2, norm, ranks.outputs)
        left, right = _normalised(factors, ranks.outputs)
        fit.left.append(left)
        fit.right.append(right @ B)
    return fit


def _normalised(factors: Factors, rank: int) -> tuple[Matrix, Matrix]:
    """Return the factors of a map with columns of length 1 in the left one."""
    scale = np.linalg.norm(factors.left[:, :rank], axis=0)
    return factors.left[:, :rank] / scale, factors.right[:rank] * scale[:, None]


def _keep_factors(fit: _Fit, problem: LayerProblem, ranks: Ranks, group: int) -> None:
    if ranks.outputs and problem.output is not None:
        left, right = _normalised(problem.output.factors[group], ranks.outputs)
        fit.left.append(left)
        fit.right.append(right)
    else:
        fit.left.append(None)
        fit.right.append(np.eye(problem.shape.group_outputs))


def _absorb(
    small: nn.Module, name: str, module: nn.Module, problem: LayerProblem, ranks: Ranks, fit: _Fit
) -> None:
    """Put the fitted map into the layer: kernel and expansion of its replacement."""
    current: Any = small.get_submodule(name)
    reduced: Any = current[0] if isinstance(current, nn.Sequential) else None
    last: Any = current if reduced is None else current[-1]
    weight = weight_matrix(last)
    groups = len(fit.right)
    bias = weight.new_zeros(len(weight)) if last.bias is None else last.bias.detach().double()
    kernels, expansions, biases = [], [], []
    width = problem.shape.group_outputs
    for group in range(groups):
        part = slice(group * width, (group + 1) * width)
        right = torch.as_tensor(fit.right[group], device=weight.device)
        kernels.append(torch.tensordot(right, weight[part], dims=1))
        inner = right @ (bias[part] - torch.as_tensor(fit.origin[part], device=weight.device))
        left = fit.left[group]
        if left is not None:
            expansion = torch.as_tensor(np.ascontiguousarray(left), device=weight.device)
            expansions.append(expansion)
            inner = expansion @ inner
        biases.append(torch.as_tensor(fit.target[part], device=weight.device) + inner)
    reduction = None
    if reduced is not None:
        reduction = weight_matrix(reduced).reshape(reduced.weight.shape[:2])
    expansion_matrix = torch.cat(expansions) if expansions else None
    new = sequence_of(module, (reduction, torch.cat(kernels), expansion_matrix), torch.cat(biases))
    if isinstance(current, nn.Sequential):
        new[0] = current[0]  # it may be shared
    replace_module(small, name, new if len(new) > 1 else _single(module, new[0]))
    assert ranks.side == "none" or len(new) > 1


def _single(module: Any, new: Any) -> nn.Module:
    """Return a copy of a layer that is not replaced, with the fitted weight and bias."""
    kept = copy.deepcopy(module)
    weight = new.weight.detach()
    kept.weight = nn.Parameter(
        weight if kept.weight.shape == weight.shape else weight.T.contiguous(),
        requires_grad=module.weight.requires_grad,
    )
    if module.bias is not None:
        kept.bias = nn.Parameter(new.bias.detach(), requires_grad=module.weight.requires_grad)
    return kept
