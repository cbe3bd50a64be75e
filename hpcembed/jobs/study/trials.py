"""Trials of a study, and how they are grouped into batches that are trained together.

A trial is one training run: one network, one input, one seed. Its digest is a function of
everything that determines its result: the data (settings and a fingerprint of the content), the
input, the network, the seed and the recipe. The rank, the batch and the number of ranks change the
result of a trial by rounding only and are not part of the digest. Batches depend on the trials, not
on the ranks, so that the results are the same on any number of ranks.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import msgspec

from hpcembed.networks.training.recipe import Recipe

__all__ = [
    "INPUT_KINDS",
    "OWN_KINDS",
    "RANDOM_KINDS",
    "InputKind",
    "RivalKind",
    "Trial",
    "TrialBatch",
    "TrialResult",
    "digest",
    "divide_batches",
    "plan_batches",
    "remaining_batches",
    "trial_cost",
]

#: Increased when equal definitions no longer give equal results.
VERSION = 1

#: Layer widths of all networks of a batch together, at most.
MOST_WIDTH = 1024
#: Networks of a batch, at most: with more the overhead of an operation no longer matters.
MOST_TRIALS = 16

#: Projections that a study compares with its embedding.
RivalKind = Literal[
    "lda", "cca", "lpp", "gaussian", "sparse", "fast", "dct", "truncation", "variance",
    "autoencoder",
]  # fmt: skip
InputKind = Literal[
    "full", "spectral", "whitened", "gaussian", "sparse", "lda", "cca", "lpp", "fast", "dct",
    "truncation", "variance", "autoencoder",
]  # fmt: skip
#: All kinds of inputs, in the order of tables.
INPUT_KINDS: tuple[InputKind, ...] = get_args(InputKind)
#: Inputs that differ from seed to seed: random projections, and networks from random weights.
RANDOM_KINDS = ("gaussian", "sparse", "fast", "autoencoder")
#: Inputs whose coordinates differ from one number of inputs to another.
OWN_KINDS = ("autoencoder",)


class Trial(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """One training: input, hidden layers, number of inputs, seed.

    Attributes
    ----------
    subspace : int
        Dimension of the random subspace of the parameters that is trained; 0: all parameters.
    """

    input: InputKind
    hidden: tuple[int, ...]
    n_inputs: int
    seed: int
    # left out of files and digests where it is 0
    subspace: int = 0


class TrialResult(msgspec.Struct, frozen=True):
    """Result of one trial; a score is the accuracy of a classifier, or R2 of a regression.

    Attributes
    ----------
    trial : Trial
        Under the key ``cell`` in the files of finished trials.
    confusion : tuple of tuple of int
        Number of test rows of each class (outer) by predicted class (inner); empty for data with
        many classes and for a regression.
    test_rmse, test_mae : float
        Errors of a regression in the unit of the target; NaN for classes.
    predictions : tuple of (float, float)
        Targets and predictions of some test rows of a regression.
    """

    digest: str
    trial: Trial = msgspec.field(name="cell")
    parameters: int
    train_seconds: float
    train_loss: float
    validation_score: float
    test_score: float
    best_epoch: int
    confusion: tuple[tuple[int, ...], ...]
    test_rmse: float = math.nan
    test_mae: float = math.nan
    predictions: tuple[tuple[float, float], ...] = ()

    @property
    def validation_accuracy(self) -> float:
        """The validation score, which is the accuracy of a classifier."""
        return self.validation_score

    @property
    def test_accuracy(self) -> float:
        """The test score, which is the accuracy of a classifier."""
        return self.test_score


@dataclass(frozen=True, slots=True)
class TrialBatch:
    """Trials with the same input and hidden layers that are trained together."""

    trials: tuple[Trial, ...]
    cost: float


def digest(trial: Trial, recipe: Recipe, data: Mapping[str, Any]) -> str:
    """Compute the name of a trial from everything that determines its result.

    Parameters
    ----------
    data : mapping
        Settings and fingerprint of the data, as JSON values.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    # The keys are part of the digests of finished trials.
    content = {"version": VERSION, "cell": trial, "recipe": recipe, "data": dict(data)}
    text = json.dumps(msgspec.to_builtins(content), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


def trial_cost(trial: Trial, n_classes: int) -> float:
    """Estimate the relative cost of a trial: products for one row, and the overhead of a step."""
    widths = (trial.n_inputs, *trial.hidden, n_classes)
    return 2_000.0 + sum(a * b for a, b in pairwise(widths))


def plan_batches(
    trials: Iterable[Trial], n_classes: int, batch_size: int, size: int = 0
) -> list[TrialBatch]:
    """Group trials into batches, the most expensive batch first.

    Trials of one seed with several numbers of inputs share their rows, which saves copies. If there
    are fewer numbers of inputs than seeds, trials of several seeds form a batch instead.

    Parameters
    ----------
    batch_size : int
        Rows of a training step; limits the inputs that a step holds.
    size : int
        Number of trials of a batch; 0 chooses it from the widths.
    """
    groups: dict[tuple[Any, ...], list[Trial]] = defaultdict(list)
    for trial in sorted(set(trials)):
        own = trial.n_inputs if trial.input in OWN_KINDS else 0
        groups[trial.input, trial.hidden, own].append(trial)
    batches = []
    for (kind, *_), group in groups.items():
        numbers = {trial.n_inputs for trial in group}
        seeds = {trial.seed for trial in group}
        by_seed = kind in RANDOM_KINDS or len(numbers) >= len(seeds)
        parts: dict[int, list[Trial]] = defaultdict(list)
        for trial in group:
            parts[trial.seed if by_seed else trial.n_inputs].append(trial)
        for part in parts.values():
            count = -(-len(part) // (size or _batch_limit(part, batch_size)))
            for i in range(count):
                chosen = part[len(part) * i // count : len(part) * (i + 1) // count]
                cost = sum(trial_cost(trial, n_classes) for trial in chosen)
                batches.append(TrialBatch(tuple(chosen), cost))
    return sorted(batches, key=lambda batch: (-batch.cost, batch.trials))


def remaining_batches(
    trials: Iterable[Trial],
    pending: Iterable[Trial],
    n_classes: int,
    batch_size: int,
    size: int = 0,
) -> list[TrialBatch]:
    """Group the pending ones of some trials into batches, the most expensive batch first.

    A batch of the whole group without a finished trial is kept, so that a study that is interrupted
    and continued has the same batches, and the same results to the last bit.

    Parameters
    ----------
    batch_size, size : int
        As for :func:`plan_batches`.

    Examples
    --------
    >>> trials = [Trial("full", (4,), 3, seed) for seed in range(7)]
    >>> first, second, third = plan_batches(trials, 2, 32, size=3)
    >>> [len(batch.trials) for batch in (first, second, third)]
    [3, 2, 2]
    >>> remaining_batches(trials, [*first.trials, *third.trials], 2, 32, 3) == [first, third]
    True
    """
    waiting = set(pending)
    planned = plan_batches(trials, n_classes, batch_size, size)
    whole = [batch for batch in planned if waiting.issuperset(batch.trials)]
    rest = waiting.difference(*(batch.trials for batch in whole))
    batches = [*whole, *plan_batches(rest, n_classes, batch_size, size)]
    return sorted(batches, key=lambda batch: (-batch.cost, batch.trials))


def _batch_limit(trials: Sequence[Trial], batch_size: int) -> int:
    widest = max(max(trial.hidden, default=1) for trial in trials)
    size = min(MOST_TRIALS, max(1, MOST_WIDTH // widest))
    if len({trial.seed for trial in trials}) > 1:  # each seed has rows of its own
        inputs = batch_size * max(trial.n_inputs for trial in trials)
        size = min(size, max(1, 2**20 // inputs))
    return size


def divide_batches(batches: Sequence[TrialBatch], ranks: int) -> list[list[TrialBatch]]:
    """Assign batches to ranks, the most expensive first, each to the rank with the least work."""
    shares: list[list[TrialBatch]] = [[] for _ in range(ranks)]
    loads = [0.0] * ranks
    for batch in batches:
        rank = loads.index(min(loads))
        shares[rank].append(batch)
        loads[rank] += batch.cost
    return shares
