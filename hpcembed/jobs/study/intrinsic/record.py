"""Results of the search for the least dimension of a random subspace."""

from __future__ import annotations

from dataclasses import dataclass

from hpcembed.jobs.study.trials import InputKind

__all__ = ["SubspacePoint", "SubspaceSearch"]


@dataclass(frozen=True, slots=True)
class SubspacePoint:
    """One network in random subspaces of one dimension, over the seeds.

    Attributes
    ----------
    dimension : int
    validation_mean, validation_deviation, test_mean : float
        NaN for a deviation of one seed.
    reaches : bool
        Whether the mean on validation rows is at least the threshold.
    """

    dimension: int
    validation_mean: float
    validation_deviation: float
    test_mean: float
    reaches: bool


@dataclass(frozen=True, slots=True)
class SubspaceSearch:
    """The least dimension of one network on one input.

    Attributes
    ----------
    input : str
    hidden : tuple of int
    n_inputs : int
    parameters : int
    seeds : tuple of int
    baseline : float
        Mean validation score of the network with all parameters and the same seeds.
    share, threshold : float
        The threshold is the share of the baseline.
    below, dimension : int
        Ends of the interval: the largest dimension that misses the threshold (0: none did), and the
        least that reaches it.
    finished : bool
        Whether the interval is as narrow as the tolerance.
    fault : str
        Reason why there is no search; else empty.
    points : tuple of SubspacePoint
        By dimension.
    """

    input: InputKind
    hidden: tuple[int, ...]
    n_inputs: int
    parameters: int
    seeds: tuple[int, ...]
    baseline: float
    share: float
    threshold: float
    below: int
    dimension: int
    finished: bool = False
    fault: str = ""
    points: tuple[SubspacePoint, ...] = ()
