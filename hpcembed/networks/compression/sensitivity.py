"""Weights of the layers' predicted losses, from the damage that each does alone.

A prediction from moments of one layer neglects how errors at different positions and layers add up
and pass through what follows. Each layer is cut alone, to about 0.6 of its parameters, and the
divergence of the outputs from those of the whole model is measured on a few samples. The ratio to
the prediction weighs the layer.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from torch import nn

from hpcembed.networks.compression.batches import Batch, Batches
from hpcembed.networks.compression.build import build
from hpcembed.networks.compression.metrics import Evaluator
from hpcembed.networks.low_rank.choice import Curve, RankProblem
from hpcembed.networks.low_rank.layer_data import LayerData
from hpcembed.networks.low_rank.problems import LayerProblem

__all__ = ["measure_weights"]

#: Share of the parameters to which a layer is cut.
_SHARE = 0.6
#: Samples on each rank.
_SAMPLES = 512


class _FirstBatches:
    """The first batches of a source, up to a number of samples."""

    def __init__(self, batches: Batches) -> None:
        self.name = batches.name
        self._kept: list[Batch] = []
        samples = 0
        for batch in batches:
            self._kept.append(batch)
            samples += batch.size
            if samples >= _SAMPLES:
                break

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._kept)


def measure_weights(
    model: nn.Module,
    layers: dict[str, LayerData],
    problems: dict[str, LayerProblem],
    ranks: RankProblem,
    batches: Batches,
    metric: str,
    comm: MPI.Comm,
) -> dict[str, float]:
    """Return the weight of each layer; their geometric mean is 1.

    Collective.

    Parameters
    ----------
    metric : {"divergence", "cosine"}
        How the outputs are compared.
    """
    evaluator = Evaluator(model, _FirstBatches(batches), metric, comm)  # type: ignore[arg-type]
    ratios = {}
    for unit in ranks.units:
        for curve in unit.alternatives[0]:
            name, option = curve.layers[0], _test_option(curve)
            if option is None or curve.loss[option] <= 0:
                continue
            choice = ranks.of_ranks({name: curve.ranks(option)})
            damage = evaluator.score(build(model, layers, problems, (), choice)).loss
            ratios[name] = max(damage, 1e-12) / float(curve.loss[option])
    if not ratios:
        return {}
    logs = {name: np.log(ratio) for name, ratio in ratios.items()}
    centre = float(np.mean(list(logs.values())))
    return {name: float(np.exp(np.clip(log - centre, -4, 4))) for name, log in logs.items()}


def _test_option(curve: Curve) -> int | None:
    """Return the option of least predicted loss among those near the share of parameters."""
    share = curve.parameters / curve.parameters[0]
    near = np.flatnonzero((share <= _SHARE + 0.05) & (share >= _SHARE - 0.15))
    if not near.size:
        near = np.flatnonzero(share < 1)
    return int(near[np.argmin(curve.loss[near])]) if near.size else None
