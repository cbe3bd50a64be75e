"""Settings of a compression, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hpcembed.networks.compression.layers import LayerSelection
from hpcembed.networks.compression.metrics import METRICS, Metric
from hpcembed.networks.compression.statistics import Gradients
from hpcembed.runtime.arguments import check_flag, is_integer, is_number
from hpcembed.runtime.errors import ConfigError

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """How a compression is done, as in :func:`hpcembed.compress_model`."""

    metric: Metric = "accuracy"
    layers: LayerSelection = "linear,conv"
    side: str = "auto"
    objective: str = "loss"
    centre: bool = True
    sequential: bool = True
    sensitivity: bool | None = None
    repair: str = "bias"
    epochs: int = 1
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.layers, (str, type)) and isinstance(self.layers, Iterable):
            # An iterator could be read once only.
            object.__setattr__(self, "layers", tuple(self.layers))
        for name in ("seed", "epochs"):
            if is_integer(getattr(self, name)):
                object.__setattr__(self, name, int(getattr(self, name)))

    @property
    def sides(self) -> tuple[str, ...]:
        """Sides of the layers that may be reduced."""
        return ("output", "input") if self.side == "auto" else (self.side,)

    @property
    def weighted(self) -> bool:
        """Errors are weighted by the second moments of gradients."""
        return self.objective == "loss"

    @property
    def weighs_layers(self) -> bool:
        """Predicted losses are weighted by the loss that each layer causes alone."""
        return not self.weighted if self.sensitivity is None else self.sensitivity

    @property
    def gradients(self) -> Gradients:
        """Gradients that the error norm needs."""
        if self.metric == "cosine":
            return "features" if self.weighted else "none"
        return "classes" if self.weighted else "none"

    @property
    def has_classes(self) -> bool:
        """The outputs are logits, not features."""
        return self.metric != "cosine"

    def check(self) -> None:
        """Raise a ConfigError that names the argument with a wrong value."""
        for name, values in (
            ("side", ("auto", "output", "input")),
            ("objective", ("loss", "output")),
            ("repair", ("none", "bias", "distill")),
        ):
            if getattr(self, name) not in values:
                raise ConfigError(
                    f"{name}: {getattr(self, name)!r} is not one of {', '.join(values)}"
                )
        if self.metric not in METRICS and not callable(self.metric):
            raise ConfigError(
                f"metric: {self.metric!r} is not one of {', '.join(METRICS)}, or a callable"
            )
        for name in ("centre", "sequential", "sensitivity"):
            check_flag(name, getattr(self, name), optional=name == "sensitivity")
        if not is_integer(self.seed) or not 0 <= self.seed < 2**63 - 2**32:
            raise ConfigError(f"seed: {self.seed!r} is not an integer from 0 to 2**63 - 2**32")
        if not is_integer(self.epochs) or self.epochs < 1:
            raise ConfigError(f"epochs: {self.epochs!r} is not a positive number")
        if not is_number(self.learning_rate) or not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"learning_rate: {self.learning_rate!r} is not a positive number")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings in types that JSON has."""
        entries = dict(vars(self))
        metric = self.metric
        entries["metric"] = metric if isinstance(metric, str) else getattr(
            metric, "__name__", "callable"
        )  # fmt: skip
        if not isinstance(self.layers, str):
            items = self.layers if isinstance(self.layers, tuple) else (self.layers,)
            entries["layers"] = (
                "callable" if callable(self.layers) else [str(item) for item in items]
            )
        return entries
