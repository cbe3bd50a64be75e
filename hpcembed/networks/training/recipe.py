"""Training recipes: all settings of a training except the network, its inputs and its seed.

``published`` repeats E2IDEP (Petit, Li, Emad, Dongarra, ScalAH 2025): Adam at a constant rate,
dropout 0.25, projections x V without centring and unscaled inputs, initial weights of Glorot and
Bengio, the weights of the last epoch. The epochs and the layers without dropout depend on the data
set and are in the study file. One deviation: a share of the training rows is held out here,
because it determines the dimension; `refit` trains on all rows once more, as the authors did. Small
data sets need it to reach the published accuracies. ``default`` is the recipe of this package:
AdamW with one cycle of the rate, a little label smoothing, and components divided by the square
root of their deviations.

Keys that are 0 or -1 by default follow from the numbers of rows and classes
(:meth:`Recipe.for_rows`). A few hundred rows need a number of steps, not of epochs: 30 epochs of
batches of 256 rows are 30 steps there. So the batch holds at most an eighth of the rows, the
epochs give at least 1000 steps, and the peak of the rate is lower, as smaller batches need; a
training longer than 30 epochs ends early if its validation does not improve. Beyond about 9,500
rows the keys have the values of large data: 30 epochs, 256 rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.settings import Fraction, NotNegative, Share, Size

__all__ = ["RECIPES", "Recipe"]

#: Peak of the learning rate of networks up to this width, if none is given; wider networks take
#: smaller steps.
PEAK_RATE, PEAK_WIDTH = 1e-2, 64
#: Units from which on a layer is wide.
WIDE = 256

#: Epochs and rows of a batch of large data; small data have more epochs of smaller batches.
EPOCHS, BATCH = 30, 256
#: Steps of a training, at least, and rows of a batch, at least, if the recipe gives neither.
STEPS, SMALLEST_BATCH = 1000, 8
#: Batches of an epoch of small data, about.
BATCHES = 8
#: Peak of the learning rate with a batch of fewer than 256 rows, for any width.
SMALL_RATE = 3e-3
#: Share of the epochs without improvement after which a training of small data ends.
PATIENCE = 1 / 3

#: Keys with an effect only for networks trained in batches (study, compress).
BATCH_KEYS = ("keep", "refit", "initial", "centred")


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a training; the [training] section of jobs and studies.

    Attributes
    ----------
    epochs : int
        Passes over the training rows; 0: 30, or as many as 1000 steps need.
    batch_size : int
        Rows of a step; 0: 256, or an eighth of the rows rounded down to a power of two if that is
        less, but at least 8 rows and one for each class.
    learning_rate : float
        Peak of the rate; 0: 0.01 for networks up to 64 wide, divided by the root of the width / 64
        for wider ones; 0.003 if `batch_size` is 0 and becomes less than 256.
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
        Epochs without improvement after which the training of a network ends; 0: never; -1: never,
        or a third of the epochs if `epochs` is 0 and becomes more than 30.
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

    epochs: Size = 0
    batch_size: Size = 0
    learning_rate: NotNegative = 0.0
    schedule: Literal["onecycle", "cosine", "constant"] = "onecycle"
    dropout: tuple[Share, ...] = (0.0,)
    wide_dropout: Share = 0.0
    weight_decay: NotNegative = 0.1
    label_smoothing: Share = 0.05
    input_scaling: Literal["auto", "none", "standard", "sqrt"] = "auto"
    validation_fraction: Fraction = 0.1
    keep: Literal["best", "last"] = "best"
    patience: Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)] = -1
    refit: bool = False
    initial: Literal["torch", "glorot"] = "torch"
    centred: bool = True

    def for_rows(self, n_rows: int, n_classes: int) -> Recipe:
        """Return the recipe with the numbers that follow from the data.

        Keys that are given stay as they are. Applied twice, the second time changes nothing.

        Parameters
        ----------
        n_rows : int
            Training rows, those held out for validation included.
        n_classes : int

        Examples
        --------
        >>> small, large = Recipe().for_rows(240, 10), Recipe().for_rows(60_000, 10)
        >>> small.batch_size, small.epochs, small.patience, small.learning_rate
        (16, 72, 24, 0.003)
        >>> large.batch_size, large.epochs, large.patience
        (256, 30, 0)
        """
        batch_size, rate = self.batch_size, self.learning_rate
        if not batch_size:
            part = 1 << (max(1, n_rows // BATCHES).bit_length() - 1)
            batch_size = min(BATCH, max(part, SMALLEST_BATCH, n_classes))
            rate = SMALL_RATE if batch_size < BATCH and not rate else rate
        epochs, patience = self.epochs, max(0, self.patience)
        if not epochs:
            kept = max(1, n_rows - round(self.validation_fraction * n_rows))
            epochs = max(EPOCHS, math.ceil(STEPS / math.ceil(kept / batch_size)))
            if self.patience < 0 and self.keep == "best" and epochs > EPOCHS:
                patience = math.ceil(PATIENCE * epochs)
        return msgspec.structs.replace(
            self, epochs=epochs, batch_size=batch_size, learning_rate=rate, patience=patience
        )

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
                self.patience <= 0 or self.keep == "best",
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
            patience=0,
            initial="glorot",
            centred=False,
        ),
    }
)
