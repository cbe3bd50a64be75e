"""The least dimension of a random subspace in which a network reaches a share of a baseline.

Rule of Li et al. (ICLR 2018): d_int90 is the least d at which the training in a random subspace
reaches 90 % of the accuracy of the baseline. The baseline is the accuracy of the network trained
with all parameters by the same recipe; in the published numbers for MNIST it is 1.

The accuracy rises with d up to the noise of the seeds. A bisection over a grid of dimensions takes
the mean over the seeds at each tested dimension, and needs about log2 of the number of dimensions.

Reference: Li, Farkhoor, Liu, Yosinski, "Measuring the intrinsic dimension of objective landscapes",
ICLR 2018 (arXiv 1804.08838).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcembed.networks.random_subspaces.projections import Kind
from hpcembed.networks.random_subspaces.training import Labelled, train_in_subspace
from hpcembed.runtime.arguments import is_integer, is_number
from hpcembed.runtime.errors import ConfigError

__all__ = ["SubspaceDimension", "SubspaceTrial", "random_subspace_dimension"]


@dataclass(frozen=True)
class SubspaceTrial:
    """One training.

    Attributes
    ----------
    dimension : int or None
        None for a training of all parameters.
    seed : int
    accuracy : float
        On the test rows, after the last epoch.
    seconds : float
    """

    dimension: int | None
    seed: int
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class SubspaceDimension:
    """The least dimension that reaches the threshold.

    Attributes
    ----------
    dimension : int or None
        None if the largest dimension of the grid misses the threshold.
    below : int or None
        The next smaller dimension of the grid, which misses the threshold; None if there is none.
    threshold : float
        Share times the accuracy of the baseline.
    baseline : float
        Accuracy of the baseline.
    n_parameters : int
        Number of parameters of the network.
    grid, seeds : tuple of int
    trials : tuple of SubspaceTrial
        In the order in which they were made.
    """

    dimension: int | None
    below: int | None
    threshold: float
    baseline: float
    n_parameters: int
    grid: tuple[int, ...]
    seeds: tuple[int, ...]
    trials: tuple[SubspaceTrial, ...]

    def accuracy(self, dimension: int | None) -> float:
        """Return the mean accuracy of the trials of a dimension; NaN if there are none."""
        found = [one.accuracy for one in self.trials if one.dimension == dimension]
        return fmean(found) if found else float("nan")


def random_subspace_dimension(
    make_model: Callable[[], nn.Module],
    rows: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any],
    test: Labelled,
    *,
    grid: Sequence[int],
    share: float = 0.9,
    baseline: float | None = None,
    seeds: Sequence[int] = (0,),
    projection: Kind = "srht",
    finished: Iterable[SubspaceTrial] = (),
    on_trial: Callable[[SubspaceTrial], None] | None = None,
    **recipe: Any,
) -> SubspaceDimension:
    """Find the least dimension of a random subspace with a share of the baseline's accuracy.

    For one process, on the CPU.

    Parameters
    ----------
    make_model : callable
        Returns a new network with random weights from torch's global generator, which is seeded
        before each call.
    rows, labels, test
        As for :func:`train_in_subspace`.
    grid : sequence of int
        Increasing dimensions.
    share : float
        Of the accuracy of the baseline, in (0, 1].
    baseline : float, optional
        Accuracy of the baseline. Default: the mean over the seeds of trainings of all parameters
        with the same recipe. The published numbers for MNIST have 1.
    seeds : sequence of int
        Of weights, projection and order of rows; accuracies are averaged over them.
    projection : {"srht", "fastfood", "dense"}
    finished : iterable of SubspaceTrial
        Trainings of an earlier search with the same arguments, which are not repeated.
    on_trial : callable, optional
        Called with each new training when it is finished.
    **recipe
        Further arguments of :func:`train_in_subspace`: epochs, batch_size, learning_rate,
        weight_decay.

    Returns
    -------
    SubspaceDimension

    Raises
    ------
    ConfigError
        An argument is out of range.
    InputError
        Rows and labels do not fit together.

    Examples
    --------
    >>> import torch
    >>> from hpcembed.networks.random_subspaces import random_subspace_dimension
    >>> X = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    >>> y = (X[:, 0] > 0).long()
    >>> found = random_subspace_dimension(
    ...     lambda: torch.nn.Linear(8, 2), X[:200], y[:200], (X[200:], y[200:]),
    ...     grid=(1, 2, 4, 8, 16), epochs=20, learning_rate=0.1)
    >>> found.n_parameters, found.dimension in found.grid, found.baseline > 0.9
    (18, True, True)
    """
    dimensions, chosen = _checked(grid, share, baseline, seeds)
    known = {(one.dimension, one.seed): one for one in finished}
    trials: list[SubspaceTrial] = []

    def accuracy(dimension: int | None) -> float:
        for seed in chosen:
            trial = known.get((dimension, seed))
            if trial is None:
                found = train_in_subspace(
                    _start(make_model, seed), rows, labels, dimension, projection=projection,
                    test=test, seed=seed, **recipe,
                )  # fmt: skip
                trial = SubspaceTrial(dimension, seed, found.accuracies[-1], found.seconds)
                if on_trial is not None:
                    on_trial(trial)
            trials.append(trial)
        return fmean(one.accuracy for one in trials[-len(chosen) :])

    reference = accuracy(None) if baseline is None else baseline
    threshold = share * reference
    # dimensions below `low` miss the threshold, those from `high` on reach it
    low, high = 0, len(dimensions)
    if accuracy(dimensions[-1]) >= threshold:
        high = len(dimensions) - 1
        while low < high:
            middle = (low + high) // 2
            if accuracy(dimensions[middle]) >= threshold:
                high = middle
            else:
                low = middle + 1
    return SubspaceDimension(
        dimension=dimensions[high] if high < len(dimensions) else None,
        below=dimensions[high - 1] if high else None,
        threshold=threshold,
        baseline=reference,
        n_parameters=sum(one.numel() for one in _start(make_model, chosen[0]).parameters()),
        grid=dimensions,
        seeds=chosen,
        trials=tuple(trials),
    )


def _start(make_model: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_model()


def _checked(
    grid: Sequence[int], share: Any, baseline: Any, seeds: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    dimensions, chosen = tuple(grid), tuple(seeds)
    increasing = all(a < b for a, b in pairwise(dimensions))
    positive = all(is_integer(one) and one >= 1 for one in dimensions)
    if not (dimensions and positive and increasing):
        raise ConfigError(f"grid must hold increasing positive integers, got {dimensions}")
    if not (chosen and all(is_integer(one) and one >= 0 for one in chosen)):
        raise ConfigError(f"seeds must hold integers from 0, got {chosen}")
    for name, value in (("share", share), ("baseline", 1.0 if baseline is None else baseline)):
        if not is_number(value) or not 0 < value <= 1:
            raise ConfigError(f"{name} must be a number above 0 and at most 1, got {value!r}")
    return dimensions, chosen
