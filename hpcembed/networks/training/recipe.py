"""Training recipes: all settings of a training except the network, its inputs and its seed.

``published`` repeats E2IDEP (Petit, Li, Emad, Dongarra, ScalAH 2025): Adam at a constant rate,
dropout 0.25, projections x V without centring and unscaled inputs, initial weights of Glorot and
Bengio, the weights of the last epoch. The epochs and the layers without dropout depend on the data
set and are in the study file. One deviation: a share of the training rows is held out here,
because it determines the dimension; `refit` trains on all rows once more, as the authors did. Small
data sets need it to reach the published accuracies. ``default`` is the recipe of this package:
AdamW with one cycle of the rate, a little label smoothing, and components divided by the square
root of their deviations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import msgspec

from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.settings import Count, Fraction, NotNegative, Share, Size

__all__ = ["RECIPES", "Recipe"]

#: Peak of the learning rate of networks up to this width, if none is given; wider networks take
#: smaller steps.
PEAK_RATE, PEAK_WIDTH = 1e-2, 64
#: Units from which on a layer is wide.
WIDE = 256

#: Keys with an effect only for networks trained in batches (study, compress).
BATCH_KEYS = ("keep", "patience", "refit", "initial", "centred")


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a training; the [training] section of jobs and studies.

    Attributes
    ----------
    epochs : int
        Passes over the training rows.
    batch_size : int
        Rows of one step.
    learning_rate : float
        Peak of the rate; 0: 0.01 for networks up to 64 wide, divided by the root of the width / 64
        for wider ones.
    schedule : {"onecycle", "cosine", "constant"}
        Course of the rate over the steps.
    dropout : tuple of float
        For each hidden layer, or one number for all of them.
    wide_dropout : float
        Of layers from 256 units on if `dropout` has none: compact networks do not overfit.
    weight_decay : float
        Of AdamW.
    label_smoothing : float
        Share of each label that is spread over all classes.
    input_scaling : {"auto", "none", "standard", "sqrt"}
        auto: embedded inputs are divided by the square root of their standard deviation.
    validation_fraction : float
        Share of the training rows that is held out.
    keep : {"best", "last"}
        The epoch whose weights are kept: the best one on validation rows, or the last.
    patience : int
        Epochs without improvement after which the training of a network ends; 0: never.
    refit : bool
        Train the validated network again on all rows, without any held out, and test that. For
        ``keep = "last"``, as no rows are left to choose an epoch by.
    initial : {"torch", "glorot"}
        Distribution of the first weights.
    centred : bool
        Principal components have mean zero; else they are x V, as singular vectors always are.

    Examples
    --------
    >>> Recipe(learning_rate=3e-3).peak_rate((512, 512)), Recipe().peak_rate((256,))
    (0.003, 0.005)
    """

    epochs: Count = 30
    batch_size: Count = 256
    learning_rate: NotNegative = 0.0
    schedule: Literal["onecycle", "cosine", "constant"] = "onecycle"
    dropout: tuple[Share, ...] = (0.0,)
    wide_dropout: Share = 0.0
    weight_decay: NotNegative = 0.1
    label_smoothing: Share = 0.05
    input_scaling: Literal["auto", "none", "standard", "sqrt"] = "auto"
    validation_fraction: Fraction = 0.1
    keep: Literal["best", "last"] = "best"
    patience: Size = 0
    refit: bool = False
    initial: Literal["torch", "glorot"] = "torch"
    centred: bool = True

    def dropouts(self, hidden: Sequence[int]) -> tuple[float, ...]:
        """Return the dropout behind each of the hidden layers.

        Raises
        ------
        ConfigError
            Neither one number nor as many as there are layers.

        Examples
        --------
        >>> Recipe(dropout=(0.1, 0.0), wide_dropout=0.2).dropouts((512, 512))
        (0.1, 0.2)
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
        """Return the peak of the learning rate for a network with these hidden layers."""
        if self.learning_rate > 0:
            return self.learning_rate
        return PEAK_RATE * min(1.0, math.sqrt(PEAK_WIDTH / max(hidden, default=1)))

    def rules(self) -> list[tuple[bool, str]]:
        """Return the rules between keys: whether each one holds, and its message."""
        return [
            (len(self.dropout) > 0, "training.dropout must hold a number"),
            (
                self.patience == 0 or self.keep == "best",
                'training.patience needs keep = "best": the last weights are those after it has '
                "run out",
            ),
            (
                not self.refit or self.keep == "last",
                'training.refit needs keep = "last": without validation rows no epoch is the best',
            ),
        ]

    def check_default(self, keys: Sequence[str], source: str, command: str) -> None:
        """Refuse keys without effect in a command, unless they have their default value.

        Raises
        ------
        ConfigError
            A key differs; the message names `source`, the key and the `command`.
        """
        for key in keys:
            if getattr(self, key) != getattr(Recipe(), key):
                raise ConfigError(
                    f"{source}: training.{key} has no effect in {command}: remove it, or use "
                    "hpcembed study"
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
