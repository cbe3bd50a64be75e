"""Metrics of a network relative to another one, on the same rows.

Every metric has a loss that is 0 for the reference and grows with the deviation: points of
accuracy, nats of the Kullback-Leibler divergence from the reference (no labels), 1 minus the mean
cosine between the outputs, or the difference of the scores of a callable, for which larger is
better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
import scipy.special
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.low_rank.callable_metric import mean_score
from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.inference import Session
from hpcembed.networks.onnx_compression.rows import Batch, Rows
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["METRICS", "Evaluator", "Metric", "Score"]

Metric: TypeAlias = "str | Callable[[onnx.ModelProto], float]"

METRICS = ("accuracy", "divergence", "cosine")

#: Entries of reference outputs that are kept in memory; beyond, they are computed again.
_KEPT_ENTRIES = 64 * 2**20


@dataclass(frozen=True)
class Score:
    """A metric of one network.

    Attributes
    ----------
    value : float
        Per cent, nats, cosine, or the score of a callable.
    loss : float
        Loss relative to the reference.
    samples : int
        Outputs that were compared, on all ranks.
    """

    value: float
    loss: float
    samples: int


class Evaluator:
    """Metric of networks on the same rows, relative to a reference.

    Collective: each rank evaluates its own rows, and the sums are added.

    Parameters
    ----------
    reference : Network
    rows : Rows, optional
        None for a callable, which has data of its own.
    metric : str or callable
        One of :data:`METRICS`, or a function of a model that returns a score.
    comm : MPI.Comm
    threads : int
    most : int, optional
        Largest number of rows on each rank.
    """

    def __init__(
        self, reference: Network, rows: Rows | None, metric: Metric, comm: MPI.Comm, *,
        threads: int = 1, most: int | None = None,
    ) -> None:  # fmt: skip
        self.metric = metric
        self._reference, self._rows, self._comm = reference, rows, comm
        self._threads, self._most = threads, most
        self._session: Session | None = None
        self._kept: list[NDArray[Any]] = []
        self._entries = 0
        self._output = ""
        self._has_probabilities = True
        self.full = self._measured(reference, is_reference=True)

    @property
    def name(self) -> str:
        """Name of the metric."""
        return self.metric if isinstance(self.metric, str) else "score"

    @property
    def _data(self) -> Rows:
        assert self._rows is not None  # a metric that is no callable has rows
        return self._rows

    def score(self, network: Network) -> Score:
        """Return the metric of a network with the same outputs. Collective."""
        return self._measured(network, is_reference=False)

    def _measured(self, network: Network, *, is_reference: bool) -> Score:
        if not isinstance(self.metric, str):
            value = mean_score(self.metric, network.pruned().proto(), self._comm)
            return Score(value, 0.0 if is_reference else self.full.value - value, 0)
        sums = np.zeros(2)
        with agreement(self._comm):
            session = Session(network, threads=self._threads)
            if is_reference:
                self._session = session
            for number, batch in enumerate(self._data.batches(self._most)):
                outputs = session.run(batch.feeds, batch.name)
                if is_reference:
                    self._keep(outputs, batch)
                sums += self._part(outputs[self._output], number, batch)
        if is_reference:
            self._has_probabilities = self._comm.allreduce(self._has_probabilities, op=MPI.LAND)
        sums = sum_over_ranks(self._comm, sums)
        if not sums[1]:
            raise InputError(f"{self._data.name}: there is no row")
        mean = float(sums[0] / sums[1])
        value = 100.0 * mean if self.metric == "accuracy" else mean
        base = value if is_reference else self.full.value
        loss = {"accuracy": base - value, "divergence": value, "cosine": 1.0 - value}[self.metric]
        return Score(value, loss, int(sums[1]))

    def _keep(self, outputs: dict[str, Any], batch: Batch) -> None:
        """Choose the output, and keep it while there is room."""
        if not self._output:
            floating = [
                name for name, value in outputs.items()
                if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim > 1
            ]  # fmt: skip
            if not floating:
                raise InputError("model: no output is an array of floating-point rows")
            self._output = floating[0]
        output = batch.valid(outputs[self._output])
        sums = _by_class(output).sum(axis=1, dtype=np.float64)
        if not np.isfinite(sums).all():
            raise InputError(f"{batch.name}: the output of the model is not finite")
        if (output < 0).any() or not np.allclose(sums, 1.0, atol=1e-3):
            self._has_probabilities = False
        if self._entries + output.size <= _KEPT_ENTRIES:
            self._kept.append(output)
            self._entries += output.size
        else:
            self._entries = _KEPT_ENTRIES + 1  # later batches are not kept either

    def _part(self, output: NDArray[Any], number: int, batch: Batch) -> NDArray[np.float64]:
        rows = _unmasked(batch.valid(output), batch)
        if self.metric == "accuracy":
            targets = self._targets(batch, len(rows))
            counted = targets >= 0
            hits = rows.argmax(axis=1)[counted] == targets[counted]
            return np.array([hits.sum(), counted.sum()], dtype=np.float64)
        if number < len(self._kept):
            before = self._kept[number]
        else:
            assert self._session is not None
            before = batch.valid(self._session.run(batch.feeds, batch.name)[self._output])
        p, q = _unmasked(before, batch).astype(np.float64), rows.astype(np.float64)
        if self.metric == "cosine":
            lengths = np.linalg.norm(p, axis=1) * np.linalg.norm(q, axis=1)
            total = float(np.sum(np.sum(p * q, axis=1) / np.maximum(lengths, 1e-30)))
        else:
            log_p, log_q = self._logarithms(p), self._logarithms(q)
            total = float(np.sum(np.exp(log_p) * (log_p - log_q)))
        return np.array([total, len(p)])

    def _logarithms(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._has_probabilities:
            return np.log(np.maximum(rows, 1e-12))
        return np.asarray(scipy.special.log_softmax(rows, axis=1))

    def _targets(self, batch: Batch, count: int) -> NDArray[Any]:
        if batch.labels is None:
            raise InputError(
                f"{self._data.name}: accuracy needs labels; give them, or use "
                "metric='divergence', which needs none"
            )
        targets = batch.labels.reshape(-1)
        if batch.mask is not None and len(targets) == batch.mask.size != count:
            targets = targets[batch.mask.reshape(-1)]
        if len(targets) != count:
            raise InputError(f"{batch.name}: {len(targets)} labels for {count} outputs")
        return targets


def _by_class(output: NDArray[Any]) -> NDArray[Any]:
    """Return (rows, classes); classes are the second dimension of images, else the last one."""
    if output.ndim == 4:
        output = np.moveaxis(output, 1, -1)
    return output.reshape(-1, output.shape[-1])


def _unmasked(output: NDArray[Any], batch: Batch) -> NDArray[Any]:
    rows = _by_class(output)
    if batch.mask is not None and output.ndim == 3 and batch.mask.size == len(rows):
        rows = rows[batch.mask.reshape(-1)]
    return rows
