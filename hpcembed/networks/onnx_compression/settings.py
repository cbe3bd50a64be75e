"""Settings of a compression, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpcembed.networks.onnx_compression.metrics import METRICS, Metric
from hpcembed.runtime.arguments import check_count, check_flag
from hpcembed.runtime.errors import ConfigError

__all__ = ["OnnxSettings"]


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
        if not callable(self.metric) and self.metric not in METRICS:
            raise ConfigError(
                f"metric: {self.metric!r} is not one of {', '.join(METRICS)}, or a callable"
            )
        for name in ("centre", "sequential", "sensitivity"):
            check_flag(name, getattr(self, name))
        check_count("batch_size", self.batch_size)
        names = [self.layers] if isinstance(self.layers, str) else self.layers
        if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"layers: {self.layers!r} is not a name or a list of names")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings in types that JSON has."""
        entries = dict(vars(self))
        if not isinstance(self.metric, str):
            entries["metric"] = getattr(self.metric, "__name__", "callable")
        if not isinstance(self.layers, str):
            entries["layers"] = list(self.layers)
        return entries
