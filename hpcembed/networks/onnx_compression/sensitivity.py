"""Weights of the layers' predicted losses, from the damage that each does alone.

An error relative to the variance of one output does not tell how much it matters to the network.
Each layer is cut alone, to about 0.6 of its parameters, and the divergence of the outputs from
those of the whole network is measured on a few rows. The ratio to the prediction, to the power of
:data:`EXPONENT`, weighs the layer.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from hpcembed.networks.low_rank.choice import Curve, RankProblem
from hpcembed.networks.onnx_compression.build import Solved, build
from hpcembed.networks.onnx_compression.metrics import Evaluator
from hpcembed.networks.onnx_compression.rows import Rows

__all__ = ["EXPONENT", "measure_weights"]

#: Share of the parameters to which a layer is cut.
_SHARE = 0.6
#: Rows on each rank.
_ROWS = 512
#: Exponent of the ratio of measured to predicted damage: it is measured at one rank only. On
#: ResNet-20 the exponents 0.5, 1 and 0 lose 8.7, 9.0 and 10.0 points at half of the parameters.
EXPONENT = 0.5


def measure_weights(
    solved: Solved,
    ranks: RankProblem,
    rows: Rows,
    metric: str,
    comm: MPI.Comm,
    *,
    threads: int,
    exponent: float = EXPONENT,
) -> dict[str, float]:
    """Return the weight of each layer; their geometric mean is 1.

    Collective.

    Parameters
    ----------
    metric : {"divergence", "cosine"}
        How the outputs are compared.
    """
    evaluator = Evaluator(solved.network, rows, metric, comm, threads=threads, most=_ROWS)
    ratios = {}
    for unit in ranks.units:
        for curve in unit.alternatives[0]:
            name, option = curve.layers[0], _test_option(curve)
            if option is None or curve.loss[option] <= 0:
                continue
            choice = ranks.of_ranks({name: curve.ranks(option)})
            damage = evaluator.score(build(solved, choice)).loss
            ratios[name] = max(damage, 1e-12) / float(curve.loss[option])
    if not ratios:
        return {}
    logs = {name: exponent * np.log(ratio) for name, ratio in ratios.items()}
    centre = float(np.mean(list(logs.values())))
    return {name: float(np.exp(np.clip(log - centre, -6, 6))) for name, log in logs.items()}


def _test_option(curve: Curve) -> int | None:
    """Return the option of least predicted loss among those near the share of parameters."""
    share = curve.parameters / curve.parameters[0]
    near = np.flatnonzero((share <= _SHARE + 0.05) & (share >= _SHARE - 0.15))
    if not near.size:
        near = np.flatnonzero(share < 1)
    return int(near[np.argmin(curve.loss[near])]) if near.size else None
