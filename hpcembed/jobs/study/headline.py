"""The headline of a study: the chosen model beside the baseline and beside the same network.

The sentences are the same on the terminal, in ``study.md``, ``report.html`` and ``study.json``.
The chosen model differs from the baseline by its network and by its inputs. The same network on all
features separates the two: in the test score, and in the number of parameters.
"""

from __future__ import annotations

from typing import Any

from hpcembed.jobs.report.saving import SavedParameters
from hpcembed.jobs.report.wording import network_name, points
from hpcembed.jobs.study.statistics import Compression, Difference
from hpcembed.jobs.study.summary import StudySummary
from hpcembed.runtime.wording import counted

__all__ = ["headline", "headline_record", "saved_parameters"]


def headline(summary: StudySummary, one: Compression) -> list[str]:
    """State choice, test scores with their intervals, and parameters, in one sentence each.

    Parameters
    ----------
    one : Compression
        The chosen model of `summary`.
    """
    return [
        _choice_sentence(summary, one),
        _test_sentence(summary, one),
        _same_network_sentence(summary, one),
        saved_parameters(summary, one).text(),
    ]


def headline_record(summary: StudySummary, one: Compression) -> dict[str, Any]:
    """Return the entries of ``study.json`` about the same network, the saving and the headline."""
    saved = saved_parameters(summary, one)
    return {
        "same_network": None if one.same is None else summary.row(one.same),
        "test_difference_same_network": one.from_same,
        "test_difference_of_network": one.of_network,
        "parameters": saved.record(),
        "saving": saved.factors(),
        "headline": headline(summary, one),
    }


def saved_parameters(summary: StudySummary, one: Compression) -> SavedParameters:
    """Count the parameters of the chosen model and of the networks beside it."""
    return SavedParameters(
        one.baseline.parameters,
        None if one.same is None else one.same.parameters,
        one.point.parameters,
        summary.stored_numbers(one.point),
        same_is_baseline=one.point.hidden == one.baseline.hidden,
    )


def _choice_sentence(summary: StudySummary, one: Compression) -> str:
    point, score = one.point, summary.score.name
    kind = "" if point.input == "spectral" else f" ({point.input})"
    components = counted(point.n_inputs, "component")
    model = f"{network_name(point.hidden)} on {components} of {summary.n_features:,} features"
    base = f"the baseline, {network_name(one.baseline.hidden)} on all features"
    margin = _amount(summary.margin)
    found = _points(one.validation_difference)
    if one.holds:
        return (
            f"{model}{kind} keeps the {score} within {margin} of {base}: {found} points on "
            "validation rows"
        )
    return (
        f"no model is known to keep the {score} within {margin} of {base}; the nearest one is "
        f"{model}{kind}: {found} points on validation rows"
    )


def _test_sentence(summary: StudySummary, one: Compression) -> str:
    score, point, base = summary.score, one.point, one.baseline
    difference, margin = one.test_difference, summary.margin
    verdict = "undecided about"
    if difference.within(margin):
        verdict = "within"
    elif difference.high < -margin:
        verdict = "NOT within"
    kind = "test accuracy" if score.is_accuracy else "test"
    return (
        f"{kind} {score.with_unit(point.test_mean, point.test_deviation)}, baseline "
        f"{score.with_unit(base.test_mean, base.test_deviation)}: difference {_points(difference)} "
        f"points ({100 * summary.confidence:g} % interval, {counted(len(point.seeds), 'seed')}), "
        f"{verdict} {_amount(margin)}"
    )


def _same_network_sentence(summary: StudySummary, one: Compression) -> str:
    if one.same is None:
        return "the same network on all features is not trained yet"
    if one.same.hidden == one.baseline.hidden:
        return (
            "the baseline is the same network on all features, so the difference is the effect of "
            "the embedding"
        )
    same = summary.score.with_unit(one.same.test_mean, one.same.test_deviation)
    return (
        f"the same network on all features: {same}, {_points(one.of_network)} points from the "
        f"baseline; the embedding changes it by {_points(one.from_same)} points"
    )


def _points(difference: Difference | None) -> str:
    return points(difference.mean, difference.low, difference.high) if difference else "-"


def _amount(margin: float) -> str:
    """Format a margin in points.

    Examples
    --------
    >>> _amount(0.01), _amount(0.002)
    ('1 point', '0.2 points')
    """
    number = f"{100 * margin:g}"
    return f"{number} point" if number == "1" else f"{number} points"
