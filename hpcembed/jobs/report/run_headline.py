"""The headline of a run: its best network on the embedding beside networks on all features.

A run trains every network once. The variation over seeds is therefore not known, and the interval
of a difference of two accuracies is that of the test rows alone: Newcombe's hybrid score interval
(Statistics in Medicine 1998, method 10) of two independent samples. Both networks see the same
rows, so their errors are correlated and the interval is wider than necessary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcembed.jobs.report.saving import SavedParameters
from hpcembed.jobs.report.scores import Score, score_of
from hpcembed.jobs.report.wording import network_name, points
from hpcembed.runtime.wording import counted

if TYPE_CHECKING:
    from hpcembed.networks.training.report import ClassifierReport

__all__ = ["best_network", "difference_interval", "run_headline"]

#: Quantile of the normal distribution for a confidence of 95 %.
_QUANTILE = 1.959963984540054


def best_network(networks: Sequence[ClassifierReport], kind: str) -> ClassifierReport | None:
    """Select the network of highest validation score, the smallest of equal ones.

    Parameters
    ----------
    kind : {"full", "embedded"}
    """
    found = [one for one in networks if one.input == kind]
    return max(found, key=lambda one: (one.validation_score, -one.parameters), default=None)


def difference_interval(first: float, second: float, n_rows: int) -> tuple[float, float]:
    """Compute the 95 % interval of the difference of two accuracies on as many rows.

    Parameters
    ----------
    first, second : float
        Accuracies between 0 and 1.
    n_rows : int
        Number of rows of each sample, at least 1.

    Returns
    -------
    tuple of float
        Ends of the interval of ``first - second``.

    Examples
    --------
    >>> [round(end, 3) for end in difference_interval(0.98, 0.97, 1000)]
    [-0.004, 0.024]
    """
    low1, high1 = _wilson(first, n_rows)
    low2, high2 = _wilson(second, n_rows)
    below = math.hypot(first - low1, high2 - second)
    above = math.hypot(high1 - first, second - low2)
    return first - second - below, first - second + above


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Compute Wilson's score interval of a share."""
    z2 = _QUANTILE**2
    centre = share + z2 / (2 * n)
    half = _QUANTILE * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)


def run_headline(
    networks: Sequence[ClassifierReport],
    k: int,
    n_features: int,
    n_test: int,
    *,
    is_linear: bool,
) -> list[str]:
    """Compare the best network on the embedding with the same and the best one on all features.

    Parameters
    ----------
    networks : sequence of ClassifierReport
        Of one task.
    k, n_features : int
        Numbers of components of the embedding and of all features.
    n_test : int
        Number of test rows.
    is_linear : bool
        Whether the embedding is a projection, whose numbers count as parameters.

    Returns
    -------
    list of str
        One sentence each; empty without networks on both inputs.
    """
    model, base = best_network(networks, "embedded"), best_network(networks, "full")
    if model is None or base is None:
        return []
    same = next((o for o in networks if (o.input, o.hidden) == ("full", model.hidden)), None)
    score, name = score_of(model.task), network_name(model.hidden)
    sentences = [f"{name} on {counted(k, 'component')} of {n_features:,} features"]
    if math.isfinite(model.test_score):
        tested = score.with_unit(model.test_score)
        sentences[0] += f": test {'accuracy ' if score.is_accuracy else ''}{tested}"
        compared = {"the same network on all features": same}
        if base is not same:
            named = f"the best network on all features, {network_name(base.hidden)}"
            compared[named] = base
        sentences += [
            f"{title}: {_difference(score, model, other, n_test)}"
            for title, other in compared.items()
            if other is not None
        ]
    saved = SavedParameters(
        base.parameters,
        None if same is None else same.parameters,
        model.parameters,
        model.parameters + k * n_features if is_linear else None,
        same_is_baseline=base is same,
    )
    return [*sentences, saved.text()]


def _difference(score: Score, model: ClassifierReport, other: ClassifierReport, n_test: int) -> str:
    difference = model.test_score - other.test_score
    tested = score.with_unit(other.test_score)
    if not score.is_accuracy:
        return f"{tested}, difference {points(difference)} points (one seed: no interval)"
    low, high = difference_interval(model.test_score, other.test_score, n_test)
    rows = counted(n_test, "test row")
    return (
        f"{tested}, difference {points(difference, low, high)} points (95 % interval of {rows}; "
        "one seed)"
    )
