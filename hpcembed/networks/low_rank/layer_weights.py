"""Weights of the layers' predicted losses, from the loss that each causes alone.

An error relative to the variance of one output does not show how much it matters to the network.
Each layer is cut alone, to about 0.6 of its parameters, and the loss is measured on a few
samples. The ratio to the prediction, to the power of an exponent, weighs the layer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hpcembed.networks.low_rank.choice import Choice, Curve, RankProblem

__all__ = ["WEIGHING_SAMPLES", "measured_weights"]

#: Samples on each rank on which the loss is measured.
WEIGHING_SAMPLES = 512
#: Share of the parameters to which a layer is cut.
_SHARE = 0.6


def measured_weights(
    ranks: RankProblem, loss_of: Callable[[Choice], float], *, exponent: float, limit: float
) -> dict[str, float]:
    """Return the weight of each layer; their geometric mean is 1 unless one is limited.

    Collective if `loss_of` is.

    Parameters
    ----------
    loss_of : callable
        Returns the loss of the network of a choice.
    exponent : float
        Less than 1 damps the ratios, which are measured at one rank only.
    limit : float
        Largest modulus of the logarithm of a weight.
    """
    logs = {}
    for unit in ranks.units:
        for curve in unit.alternatives[0]:
            name, option = curve.layers[0], _test_option(curve)
            if option is None or curve.loss[option] <= 0:
                continue
            loss = loss_of(ranks.of_ranks({name: curve.ranks(option)}))
            logs[name] = exponent * np.log(max(loss, 1e-12) / float(curve.loss[option]))
    centre = float(np.mean(list(logs.values()))) if logs else 0.0
    return {name: float(np.exp(np.clip(log - centre, -limit, limit))) for name, log in logs.items()}


def _test_option(curve: Curve) -> int | None:
    """Return the option of least predicted loss among those near the share of parameters."""
    share = curve.parameters / curve.parameters[0]
    near = np.flatnonzero((share <= _SHARE + 0.05) & (share >= _SHARE - 0.15))
    if not near.size:
        near = np.flatnonzero(share < 1)
    return int(near[np.argmin(curve.loss[near])]) if near.size else None
