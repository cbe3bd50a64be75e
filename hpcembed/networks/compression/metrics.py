"""Metrics of a compressed model: accuracy, loss, perplexity, divergence, cosine, or a function.

Every metric is turned into a loss, which is 0 for the model itself and grows with the deviation:
points of accuracy, nats of cross-entropy, perplexity, nats of the Kullback-Leibler divergence from
the model itself (needs no labels), 1 minus the mean cosine between the outputs, or the difference
of the scores of a callable, for which larger is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcembed.networks.compression.batches import Batch, Batches, call, output_tensor
from hpcembed.networks.low_rank.callable_metric import mean_score
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["METRICS", "Evaluator", "Metric", "Score"]

Metric: TypeAlias = "str | Callable[[nn.Module], float]"

METRICS = ("accuracy", "loss", "perplexity", "divergence", "cosine")

#: Entries of reference outputs that are kept in memory; beyond, they are computed again.
_KEPT_ENTRIES = 64 * 2**20


@dataclass(frozen=True)
class Score:
    """A metric of one model.

    Attributes
    ----------
    value : float
        The metric: per cent, nats, perplexity, cosine, or the score of a callable.
    loss : float
        Loss relative to the model that was given.
    samples : int
        Samples, or tokens of sequences, that were evaluated.
    correct : ndarray of bool
        For accuracy, this rank's samples; else empty. For paired comparisons.
    """

    value: float
    loss: float
    samples: int
    correct: NDArray[Any]


class Evaluator:
    """Metric of models on the same batches, relative to one reference model.

    Collective: every rank evaluates its own batches, and the sums are added.

    Parameters
    ----------
    reference : nn.Module
        In evaluation mode.
    batches : Batches, optional
        None for a callable, which has data of its own.
    metric : str or callable
        One of :data:`METRICS`, or a function of a model that returns a score.
    comm : MPI.Comm
    """

    def __init__(
        self, reference: nn.Module, batches: Batches | None, metric: Metric, comm: MPI.Comm
    ) -> None:
        if isinstance(metric, str) and metric not in METRICS:
            raise ConfigError(
                f"metric: {metric!r} is not one of {', '.join(METRICS)}, or a callable"
            )
        self.metric = metric
        self._reference = reference
        self._batches = Batches([], "validation") if batches is None else batches
        self._comm = comm
        self._kept: dict[str, Tensor] = {}
        self._entries = 0
        self.full = self.score(reference)

    @property
    def name(self) -> str:
        """Name of the metric."""
        return self.metric if isinstance(self.metric, str) else "score"

    def score(self, model: nn.Module) -> Score:
        """Evaluate a model. Collective."""
        if not isinstance(self.metric, str):
            value = self._called(model)
            full = self.full.value if model is not self._reference else value
            return Score(value, full - value, 0, np.zeros(0, bool))
        sums, correct = np.zeros(2), [np.zeros(0, bool)]
        with agreement(self._comm), torch.no_grad():
            for batch in self._batches:
                part, hits = self._part(model, batch)
                sums += part
                correct.append(hits)
        sums = sum_over_ranks(self._comm, sums)
        if not sums[1]:
            raise InputError(f"{self._batches.name}: there is no batch")
        return self._score(sums, np.concatenate(correct), model)

    def _called(self, model: nn.Module) -> float:
        """Return the score of a callable, which may change the mode of the model. Collective."""
        assert callable(self.metric)
        modes = {module: module.training for module in model.modules()}
        try:
            return mean_score(self.metric, model, self._comm)
        finally:
            for module, training in modes.items():
                module.training = training

    def _score(self, sums: NDArray[Any], correct: NDArray[Any], model: nn.Module) -> Score:
        mean, count = float(sums[0] / sums[1]), int(sums[1])
        if self.metric == "accuracy":
            value = 100.0 * mean
        elif self.metric == "perplexity":
            value = math.exp(min(mean, 700.0))
        else:
            value = mean
        base = value if model is self._reference else self.full.value
        loss = {
            "accuracy": base - value,
            "loss": value - base,
            "perplexity": value - base,
            "divergence": value,
            "cosine": 1.0 - value,
        }[str(self.metric)]
        return Score(value, loss, count, correct)

    def _part(self, model: nn.Module, batch: Batch) -> tuple[NDArray[Any], NDArray[Any]]:
        device = _device(model)
        output = output_tensor(call(model, batch.to(device), self._batches.name)).float()
        if self.metric in ("divergence", "cosine"):
            before = self._before(batch, output if model is self._reference else None)
            return _compare(str(self.metric), before.to(output), output, batch), np.zeros(0, bool)
        logits, targets = _targets(output, batch, self._batches.name)
        if self.metric == "accuracy":
            hits = (logits.argmax(dim=1) == targets).cpu().numpy()
            return np.array([hits.sum(), hits.size], dtype=np.float64), hits
        total = nn.functional.cross_entropy(logits, targets, reduction="sum")
        return np.array([float(total), len(targets)]), np.zeros(0, bool)

    def _before(self, batch: Batch, output: Tensor | None) -> Tensor:
        """Return the output of the reference model, from memory if it is there."""
        key = batch.key()  # a shuffling iterable has other samples under the same number
        if output is None:
            if key in self._kept:
                return self._kept[key]
            moved = batch.to(_device(self._reference))
            output = output_tensor(call(self._reference, moved, self._batches.name)).float()
        if key not in self._kept and self._entries + output.numel() <= _KEPT_ENTRIES:
            self._kept[key] = output.cpu()
            self._entries += output.numel()
        return output


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _rows(output: Tensor, batch: Batch) -> Tensor:
    """Return (rows, classes) without padding."""
    dimension = 1 if output.ndim == 4 else -1
    rows = output.movedim(dimension, -1).reshape(-1, output.shape[dimension])
    if batch.mask is not None and batch.mask.numel() == len(rows):
        rows = rows[batch.mask.reshape(-1).to(rows.device)]
    return rows


def _compare(metric: str, before: Tensor, after: Tensor, batch: Batch) -> NDArray[Any]:
    p, q = _rows(before, batch), _rows(after, batch)
    if metric == "cosine":
        total = nn.functional.cosine_similarity(p, q, dim=1).double().sum()
    else:
        log_p, log_q = torch.log_softmax(p, 1), torch.log_softmax(q, 1)
        total = (log_p.exp() * (log_p - log_q)).sum(dtype=torch.float64)
    return np.array([float(total), len(p)])


def _targets(output: Tensor, batch: Batch, name: str) -> tuple[Tensor, Tensor]:
    """Return logits and classes of all rows that count."""
    labels, ids = batch.labels, batch.named.get("input_ids")
    if ids is None and labels is None and output.ndim == 3 and len(batch.positional) == 1:
        ids = batch.positional[0]
    if isinstance(ids, Tensor) and not ids.is_floating_point() and output.ndim == 3:
        # Sequences: next tokens are the targets; labels follow the convention of transformers.
        following = ids if labels is None or batch.positional else labels
        if batch.mask is not None:
            following = following.masked_fill(~batch.mask.to(following.device), -100)
        if not (batch.positional and labels is not None):
            output, labels = output[:, :-1], following[:, 1:]
    if labels is None:
        raise InputError(
            f"{name}: batch {batch.number} has no labels; give pairs (inputs, labels), or use "
            "metric='divergence', which needs none"
        )
    dimension = 1 if output.ndim == 4 else -1
    logits = output.movedim(dimension, -1).reshape(-1, output.shape[dimension])
    if labels.is_floating_point():
        raise InputError(
            f"{name}: the labels of batch {batch.number} are {labels.dtype}; integers from 0 on "
            "are needed, or a callable as metric for other targets"
        )
    targets = labels.reshape(-1).to(logits.device).long()
    if len(targets) != len(logits):
        raise InputError(
            f"{name}: batch {batch.number} has {len(targets)} labels for {len(logits)} outputs"
        )
    if len(targets) and int(targets.max()) >= logits.shape[1]:
        raise InputError(
            f"{name}: batch {batch.number} has the label {int(targets.max())}; the model has "
            f"{logits.shape[1]} output{'s' * (logits.shape[1] > 1)}, one for each class from 0 on"
        )
    counted = targets >= 0
    return logits[counted], targets[counted]
