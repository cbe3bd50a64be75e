"""Eigenproblems of the layers: from moments to factors, and to the curves of predicted loss.

For each layer the factors of its output are found, for kernels of more than one place those of the
channels that enter, and for layers that read the same tensor those of a shared reduction. The error
norm of a reduction on the input side is that which the layers behind it induce,
``H = sum_i W_i' G_i W_i``, so its error is counted where it matters.

Points. Deviations are counted from a point: the mean, or with ``centre=False`` the bias (for
inputs zero). Zero padding of a convolution stays zero only if channels that enter are reduced
about zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.low_rank.choice import Curve, RankProblem, Unit
from hpcembed.networks.low_rank.factors import Factors, damped, implicit_factors, output_factors
from hpcembed.networks.low_rank.layer_data import LayerData
from hpcembed.networks.low_rank.moments import Moments
from hpcembed.networks.low_rank.shape import Cost, LayerShape, Ranks

__all__ = [
    "LayerProblem",
    "SharedProblem",
    "Side",
    "gradient_norm",
    "rank_problem",
    "ranks_of",
    "solve_problems",
]  # fmt: skip

Matrix = NDArray[np.float64]

#: Share of the mean diagonal entry that is added to second moments of gradients.
_GRADIENT_DAMPING = 1e-2
#: The same for weights that the layers behind a reduction induce.
_WEIGHT_DAMPING = 1e-6
#: Ranks of one side that are considered where both sides are reduced.
_MAX_STEPS = 64


@dataclass(frozen=True)
class Side:
    """Factors of one side of a layer, for each group, and the points deviations count from."""

    factors: tuple[Factors, ...]
    points: tuple[Matrix, ...]

    @property
    def max_rank(self) -> int:
        """Largest rank that every group has."""
        return min(factors.max_rank for factors in self.factors)

    @property
    def errors(self) -> Matrix:
        """Summed errors of the ranks 0, 1, ..., ``max_rank``."""
        k = self.max_rank + 1
        return np.sum([factors.errors[:k] for factors in self.factors], axis=0)

    @property
    def trace(self) -> float:
        """Summed traces."""
        return float(sum(factors.trace for factors in self.factors))

    @property
    def max_residual(self) -> float:
        """Largest relative residual of an eigenpair."""
        return max(float(factors.residual_norms.max(initial=0)) for factors in self.factors)


@dataclass(frozen=True)
class LayerProblem:
    """One layer with its factors.

    Attributes
    ----------
    name : str
    shape : LayerShape
    output : Side or None
    input : Side or None
    variance : float
        Trace of the output covariance in the error norm.
    """

    name: str
    shape: LayerShape
    output: Side | None
    input: Side | None
    variance: float


@dataclass(frozen=True)
class SharedProblem:
    """Layers that read the same tensor, with the factors of one reduction."""

    names: tuple[str, ...]
    input: Side


def solve_problems(
    layers: Mapping[str, LayerData],
    groups: Sequence[tuple[str, ...]],
    comm: MPI.Comm,
    *,
    sides: tuple[str, ...],
    weighted: bool,
    centre: bool,
) -> tuple[dict[str, LayerProblem], list[SharedProblem]]:
    """Solve the eigenproblems of all layers, each on one rank, and send them to all.

    Collective.

    Parameters
    ----------
    layers : dict of str to LayerData
        The same on all ranks.
    groups : sequence of tuples of str
        Layers that read the same tensor.
    sides : tuple of {"output", "input"}
    weighted : bool
        Use the second moments of gradients as weight of the errors.
    centre : bool
    """
    work: list[tuple[str, ...]] = [(name,) for name in layers]
    if "input" in sides:
        work += [group for group in groups if all(_is_matrix(layers, name) for name in group)]
    mine: dict[tuple[str, ...], LayerProblem | SharedProblem] = {}
    failure: Exception | None = None
    try:
        for position, names in enumerate(work):
            if position % comm.size == comm.rank:
                members = [layers[name] for name in names]
                mine[names] = (
                    _solve_layer(members[0], sides, weighted, centre)
                    if len(names) == 1
                    else _solve_shared(members, weighted, centre)
                )
    except Exception as error:  # raised below, on all ranks
        failure = error
    for other in comm.allgather(failure):
        if other is not None:
            raise other
    solved = [
        comm.bcast(mine.get(names), root=position % comm.size)
        for position, names in enumerate(work)
    ]
    problems = {p.name: p for p in solved if isinstance(p, LayerProblem)}
    return problems, [p for p in solved if isinstance(p, SharedProblem)]


def _is_matrix(layers: Mapping[str, LayerData], name: str) -> bool:
    return name in layers and layers[name].shape.kernel == 1 and layers[name].shape.groups == 1


def gradient_norm(gradients: Moments) -> Matrix:
    """Return the damped second moment of gradients, the weight of errors."""
    return damped(gradients.covariance(about=_zero(gradients)), _GRADIENT_DAMPING)


def _zero(moments: Moments) -> Matrix:
    return np.zeros_like(moments.total)


def _solve_layer(
    layer: LayerData, sides: tuple[str, ...], weighted: bool, centre: bool
) -> LayerProblem:
    shape, entry = layer.shape, layer.moments
    norms: list[Matrix | None] = [None] * shape.groups
    if weighted:
        norms = [gradient_norm(moments) for moments in entry.output_gradients]
    factors, points = [], []
    for group in range(shape.groups):
        W, G = layer.weights[group].reshape(shape.group_outputs, -1), norms[group]
        if entry.outputs:
            moments = entry.outputs[group]
            point = moments.mean if centre else layer.biases[group]
            factors.append(output_factors(moments.covariance(about=point), G))
        else:
            moments = entry.inputs[group]
            origin = moments.mean if centre else _zero(moments)
            point = layer.biases[group] + W @ origin
            factors.append(implicit_factors(W, moments.covariance(about=origin), G))
        points.append(point)
    output = Side(tuple(factors), tuple(points))
    entering = None
    # For a matrix the output side is as cheap and has the least error: its inputs are reduced only
    # on request, or together with other layers.
    if "input" in sides and entry.inputs and (shape.kernel > 1 or "output" not in sides):
        entering = _input_side(layer, norms, centre)
    return LayerProblem(
        layer.name, shape, output if "output" in sides else None, entering, output.trace
    )  # fmt: skip


def _input_side(
    layer: LayerData, norms: list[Matrix | None], centre: bool
) -> Side:  # fmt: skip
    """Return the factors of the channels that enter a layer."""
    factors, points = [], []
    entry = layer.moments
    for group, W in enumerate(layer.weights):
        moments, G = entry.inputs[group], norms[group]
        point = moments.mean if centre and not layer.padded else _zero(moments)
        if G is not None and entry.input_gradients:
            norm = gradient_norm(entry.input_gradients[group])
        else:
            by_channel = np.moveaxis(W, 1, -1).reshape(-1, W.shape[1])
            induced = by_channel.T @ (by_channel if G is None else G @ by_channel)
            norm = damped(induced, _WEIGHT_DAMPING)
        factors.append(output_factors(moments.covariance(about=point), norm))
        points.append(point)
    return Side(tuple(factors), tuple(points))


def _solve_shared(layers: list[LayerData], weighted: bool, centre: bool) -> SharedProblem:
    moments = layers[0].moments.inputs[0]
    point = moments.mean if centre else _zero(moments)
    norm = np.zeros_like(moments.second)
    for layer in layers:
        W = layer.weights[0].reshape(layer.shape.outputs, -1)
        if weighted:
            G = gradient_norm(layer.moments.output_gradients[0])
            norm += layer.shape.positions * W.T @ G @ W
        else:
            # Each layer's error counts relative to its own variance, as in the curves.
            trace = np.einsum("ij,jk,ik->", W, moments.covariance(about=point), W, optimize=True)
            norm += W.T @ W / max(float(trace), 1e-300)
    side = Side(
        (output_factors(moments.covariance(about=point), damped(norm, _WEIGHT_DAMPING)),), (point,)
    )
    return SharedProblem(tuple(layer.name for layer in layers), side)


def rank_problem(
    problems: dict[str, LayerProblem],
    shared: list[SharedProblem],
    fixed: Cost,
    *,
    sides: tuple[str, ...],
    weighted: bool,
) -> RankProblem:
    """Return the choice of ranks for these layers.

    Parameters
    ----------
    fixed : Cost
        Cost of everything else in the model.
    sides : tuple of {"output", "input"}
    weighted : bool
        Errors are losses in nats per sample, not relative errors.
    """
    grouped = {name: group for group in shared for name in group.names}
    units = []
    for name, problem in problems.items():
        if name not in grouped:
            units.append(Unit(((_layer_curve(problem, sides, weighted),),)))
    for group in shared:
        members = [problems[name] for name in group.names]
        alone = tuple(_layer_curve(member, sides, weighted) for member in members)
        together = (_shared_curve(group, members, weighted),)
        units.append(Unit((alone, together)))
    return RankProblem(units, fixed)


def _layer_curve(problem: LayerProblem, sides: tuple[str, ...], weighted: bool) -> Curve:
    shape = problem.shape
    out = _steps(
        problem.output.max_rank if problem.output else 0, shape.full_ranks[1], shape.kernel
    )
    inn = _steps(problem.input.max_rank if problem.input else 0, shape.full_ranks[0], shape.kernel)
    if "output" not in sides:
        out = np.zeros(1, np.int64)
    r_in, r_out = (grid.ravel() for grid in np.meshgrid(inn, out, indexing="ij"))
    loss = np.zeros(r_in.size)
    scale = 0.5 * shape.positions if weighted else 1.0 / max(problem.variance, 1e-300)
    if problem.output:
        loss += scale * np.where(r_out > 0, problem.output.errors[r_out], 0.0)
    if problem.input:
        scale_in = 0.5 * shape.input_positions if weighted else scale
        loss += scale_in * np.where(r_in > 0, problem.input.errors[r_in], 0.0)
    shares = np.minimum(
        np.where(r_in > 0, r_in / shape.full_ranks[0], 1.0),
        np.where(r_out > 0, r_out / shape.full_ranks[1], 1.0),
    )
    parameters, macs = shape.costs(r_in, r_out)
    # An option that saves neither parameters nor multiply-adds is none.
    useful = (parameters < parameters[0]) | (macs < macs[0])
    useful[0] = True
    return Curve(
        (problem.name,), r_in[useful], r_out[useful], shares[useful], parameters[useful],
        macs[useful], loss[useful], np.zeros(int(useful.sum())),
    )  # fmt: skip


def _shared_curve(group: SharedProblem, members: list[LayerProblem], weighted: bool) -> Curve:
    ranks = np.append(0, _steps(group.input.max_rank, group.input.max_rank, 1)[1:])
    nothing = np.zeros_like(ranks)
    parameters, macs = np.zeros(len(ranks)), np.zeros(len(ranks))
    for position, member in enumerate(members):
        p, m = member.shape.costs(ranks, nothing, reduction=position == 0)
        parameters, macs = parameters + p, macs + m
    errors = np.where(ranks > 0, group.input.errors[ranks], 0.0)
    useful = (parameters < parameters[0]) | (macs < macs[0])
    useful[0] = True
    shares = np.where(ranks > 0, ranks / members[0].shape.full_ranks[0], 1.0)
    return Curve(
        group.names, ranks[useful], nothing[useful], shares[useful], parameters[useful],
        macs[useful], (0.5 * errors if weighted else errors)[useful], np.zeros(int(useful.sum())),
    )  # fmt: skip


def _steps(max_rank: int, full: int, kernel: int) -> NDArray[np.int64]:
    """Return 0 (not reduced) and the ranks below the full one that are considered."""
    top = min(max_rank, full - 1)
    if top < 1:
        return np.zeros(1, np.int64)
    if kernel > 1 and top > _MAX_STEPS:
        return np.append(0, np.unique(np.linspace(1, top, _MAX_STEPS).astype(np.int64)))
    return np.arange(top + 1, dtype=np.int64)


def ranks_of(problem: LayerProblem, rank: int | Ranks) -> Ranks:
    """Return a rank of a user as ranks of the output side, or of the input side without one."""
    if isinstance(rank, Ranks):
        return rank
    return Ranks(0, rank) if problem.output else Ranks(rank, 0)
