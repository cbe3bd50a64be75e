"""Arguments of a compression, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcembed.networks.onnx_compression.metrics import METRICS, Metric
from hpcembed.runtime.errors import ConfigError

__all__ = ["OnnxRequest", "OnnxSettings"]

_MEASURES = ("parameters", "macs")


@dataclass(frozen=True)
class OnnxRequest:
    """One of `max_loss`, `budget` and `ranks`, as in :func:`compress_onnx`."""

    max_loss: float | None = None
    budget: Mapping[str, float] | None = None
    ranks: Mapping[str, int] | None = None
    measure: str = "parameters"

    def check(self, has_validation: bool) -> None:
        """Raise a ConfigError if the request cannot be carried out."""
        given = [n for n in ("max_loss", "budget", "ranks") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ConfigError(
                "give one of max_loss, budget and ranks"
                + (f", not {' and '.join(given)}" if given else "")
            )
        if self.measure not in _MEASURES:
            raise ConfigError(f"measure: {self.measure!r} is not one of {', '.join(_MEASURES)}")
        if self.max_loss is not None:
            if not (math.isfinite(self.max_loss) and self.max_loss >= 0):
                raise ConfigError(f"max_loss: {self.max_loss} is not a number from 0 on")
            if not has_validation:
                raise ConfigError("max_loss: validation rows are needed to measure the loss")
        if self.budget is not None:
            if len(self.budget) != 1 or next(iter(self.budget)) not in _MEASURES:
                raise ConfigError(
                    f"budget: one of {', '.join(_MEASURES)} is needed, for example "
                    '{"parameters": 0.5}'
                )
            share = next(iter(self.budget.values()))
            if not 0 < share <= 1:
                raise ConfigError(f"budget: {share} is not a share between 0 and 1")
        for name, rank in (self.ranks or {}).items():
            if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
                raise ConfigError(f"ranks: {name} has rank {rank!r}; a positive integer is needed")

    def as_dict(self) -> dict[str, Any]:
        """Return what was given."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class OnnxSettings:
    """How a compression is done, as in :func:`compress_onnx`."""

    metric: Metric = "accuracy"
    layers: str | Sequence[str] = "linear,conv"
    side: str = "auto"
    centre: bool = True
    sequential: bool = True
    sensitivity: bool = True
    batch_size: int = 64

    @property
    def sides(self) -> tuple[str, ...]:
        """Sides of the layers that may be reduced."""
        return ("output", "input") if self.side == "auto" else (self.side,)

    def check(self) -> None:
        """Raise a ConfigError that names the argument with a wrong value."""
        if self.side not in ("auto", "output", "input"):
            raise ConfigError(f"side: {self.side!r} is not one of auto, output, input")
        if isinstance(self.metric, str) and self.metric not in METRICS:
            raise ConfigError(
                f"metric: {self.metric!r} is not one of {', '.join(METRICS)}, or a callable"
            )
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: {self.batch_size} is not a positive number")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings in types that JSON has."""
        entries = dict(vars(self))
        if not isinstance(self.metric, str):
            entries["metric"] = getattr(self.metric, "__name__", "callable")
        if not isinstance(self.layers, str):
            entries["layers"] = list(self.layers)
        return entries
