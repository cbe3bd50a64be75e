"""Training recipes: everything about a training but the network, its inputs and its seed.

``published`` repeats E2IDEP (Petit, Li, Emad, Dongarra, ScalAH 2025): Adam at a constant rate,
dropout 0.25, projections x V without centring and unscaled inputs, initial weights of Glorot and
Bengio, the weights of the last epoch. Their epochs and the layers without dropout belong to the
data set and stand in the study file. One deviation: a share of the training rows is held out here,
because the dimension is chosen by it; `refit` trains on all rows once more, as they did, which
small data sets need to come near their figures. ``default`` is ours: AdamW with one cycle of the
rate, a little label smoothing, and components divided by the square root of their deviations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from hpcembed.runtime.errors import ConfigError

__all__ = ["RECIPES", "ClassifierConfig", "Recipe"]

#: Learning rate of networks up to this width, where none is given; wider ones take smaller steps.
PEAK_RATE, PEAK_WIDTH = 1e-2, 64
#: Units from which on a layer is wide.
WIDE = 256


@dataclass(frozen=True, slots=True)
class ClassifierConfig:
    """The networks and how they are trained."""

    enabled: bool = True
    #: names out of large, medium, low, very_low, or lists of layer widths
    hidden: tuple[str | tuple[int, ...], ...] = ("low",)
    #: train the same networks on the uncompressed input as well
    baseline: bool = True
    epochs: int = 15
    batch_size: int = 256
    learning_rate: float = 3e-3
    schedule: Literal["onecycle", "cosine", "constant"] = "onecycle"
    dropout: float = 0.0
    weight_decay: float = 0.1
    label_smoothing: float = 0.05
    #: auto: embedded inputs divided by the square root of their standard deviation
    input_scaling: Literal["auto", "none", "standard", "sqrt"] = "auto"
    validation_fraction: float = 0.1
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    #: gather: rank 0 trains on all rows; data_parallel: all ranks train, rows stay where they are;
    #: auto: each input is gathered when rank 0's memory holds it
    parallel: Literal["auto", "gather", "data_parallel"] = "auto"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How networks are trained; the keys of a study's [training] section.

    Attributes
    ----------
    learning_rate : float
        At its peak; 0 = 0.01 for networks up to 64 wide, with the root of the width less beyond.
    dropout : tuple of float
        For each hidden layer, or one number for all of them.
    wide_dropout : float
        Of layers from 256 units on, where `dropout` has none: compact networks do not overfit.
    keep : {"best", "last"}
        Which epoch's weights are kept: the best one on validation rows, or the last.
    patience : int
        Epochs without improvement after which a network is left as it was at its best; 0 = never.
    refit : bool
        Validation is of a network trained without the rows held out; it is then trained again on
        all rows, and tested. For ``keep = "last"``, which leaves nothing to validate by.
    initial : {"torch", "glorot"}
        Distribution of the first weights.
    centred : bool
        Principal components have mean zero; else they are x V, as singular vectors always are.
    """

    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 0.0
    schedule: Literal["onecycle", "cosine", "constant"] = "onecycle"
    dropout: tuple[float, ...] = (0.0,)
    wide_dropout: float = 0.0
    weight_decay: float = 0.1
    label_smoothing: float = 0.05
    input_scaling: Literal["auto", "none", "standard", "sqrt"] = "auto"
    validation_fraction: float = 0.1
    keep: Literal["best", "last"] = "best"
    patience: int = 0
    refit: bool = False
    initial: Literal["torch", "glorot"] = "torch"
    centred: bool = True

    def dropouts(self, hidden: Sequence[int]) -> tuple[float, ...]:
        """Dropout behind each of the hidden layers. Not collective.

        Raises
        ------
        ConfigError
            Neither one number nor as many as there are layers.
        """
        given = self.dropout * len(hidden) if len(self.dropout) == 1 else self.dropout
        if len(given) != len(hidden):
            raise ConfigError(
                f"training.dropout has {len(given)} numbers for {len(hidden)} hidden layers: "
                "give one for each, or one for all"
            )
        return tuple(
            self.wide_dropout if p == 0 and width >= WIDE else p
            for p, width in zip(given, hidden, strict=True)
        )

    def peak_rate(self, hidden: Sequence[int]) -> float:
        """Learning rate at its peak for a network with these hidden layers. Not collective."""
        if self.learning_rate > 0:
            return self.learning_rate
        return PEAK_RATE * min(1.0, math.sqrt(PEAK_WIDTH / max(hidden, default=1)))

    def check(self, source: str) -> None:
        """Refuse values that no training can use. Not collective.

        Raises
        ------
        ConfigError
            Naming `source`, the key and what would be right.
        """
        conditions = [
            (1 <= self.epochs < 2**31, "epochs must be at least 1 and less than 2^31"),
            (1 <= self.batch_size < 2**31, "batch_size must be at least 1 and less than 2^31"),
            (self.learning_rate >= 0, "learning_rate must not be negative"),
            (all(0 <= p < 1 for p in self.dropout), "dropout must lie in [0, 1)"),
            (0 <= self.wide_dropout < 1, "wide_dropout must lie in [0, 1)"),
            (len(self.dropout) > 0, "dropout must hold a number"),
            (self.weight_decay >= 0, "weight_decay must not be negative"),
            (0 <= self.label_smoothing < 1, "label_smoothing must lie in [0, 1)"),
            (0 < self.validation_fraction < 1, "validation_fraction must lie between 0 and 1"),
            (self.patience >= 0, "patience must not be negative"),
            (
                self.patience == 0 or self.keep == "best",
                'patience needs keep = "best": the last weights are those after it has run out',
            ),
            (
                not self.refit or self.keep == "last",
                'refit needs keep = "last": without validation rows no epoch is the best',
            ),
        ]
        for holds, message in conditions:
            if not holds:
                raise ConfigError(f"{source}: training.{message}")

    @classmethod
    def of(cls, config: ClassifierConfig) -> Recipe:
        """Take the recipe that a job's [classifier] section describes. Not collective."""
        return cls(
            epochs=config.epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            schedule=config.schedule,
            dropout=(config.dropout,),
            weight_decay=config.weight_decay,
            label_smoothing=config.label_smoothing,
            input_scaling=config.input_scaling,
            validation_fraction=config.validation_fraction,
        )


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "default": Recipe(),
        "published": Recipe(
            epochs=30,
            batch_size=128,
            learning_rate=1e-3,
            schedule="constant",
            dropout=(0.25,),
            weight_decay=0.0,
            label_smoothing=0.0,
            input_scaling="none",
            keep="last",
            initial="glorot",
            centred=False,
        ),
    }
)
