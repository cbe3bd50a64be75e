"""The answer of a search and its steps in words, and the comparisons behind them.

The saving is divided into two factors: that of the smaller network, on all features, and that of
the embedding, whose projection counts as parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpcembed.jobs.compress.search import SearchAnswer
from hpcembed.jobs.compress.search_trials import SearchTrials
from hpcembed.jobs.compress.sequential import verdict_of
from hpcembed.jobs.report.dimensions import (
    DIMENSIONS_TITLE,
    DimensionsRecord,
    dimensions_note,
    dimensions_table,
)
from hpcembed.jobs.report.scores import Score, worse_than_mean_warning
from hpcembed.jobs.report.tables import TextTable
from hpcembed.jobs.report.wording import majority_warning, network_name, points
from hpcembed.jobs.study.statistics import Difference, StudyPoint, summarise
from hpcembed.jobs.study.trials import TrialResult
from hpcembed.runtime.wording import counted

__all__ = ["AnswerComparison", "compare_answer", "dimensions_text", "search_text"]


@dataclass(frozen=True, slots=True)
class AnswerComparison:
    """The answer beside networks on all features, all with the same seeds.

    Attributes
    ----------
    point, same, baseline : StudyPoint
        The network on k components, the same network on all features, and the baseline.
    results, same_results, baseline_results : list of TrialResult
    difference : Difference
        Test score of the answer less that of the baseline.
    from_same : Difference
        Test score of the answer less that of the same network: the effect of the embedding.
    of_network : Difference
        Test score of the same network less that of the baseline: the effect of its size.
    n_stored : int or None
        Parameters of the answer with its projection; None without a projection.
    """

    point: StudyPoint
    same: StudyPoint
    baseline: StudyPoint
    results: list[TrialResult]
    same_results: list[TrialResult]
    baseline_results: list[TrialResult]
    difference: Difference
    from_same: Difference
    of_network: Difference
    n_stored: int | None

    def record(self) -> dict[str, Any]:
        """Return the entries of ``compress.json``."""
        return {
            "baseline": self.baseline_results,
            "same_network": self.same_results,
            "results": self.results,
            "test_difference": self.difference,
            "test_difference_same_network": self.from_same,
            "test_difference_of_network": self.of_network,
            "parameters": {
                "baseline": self.baseline.parameters,
                "same_network": self.same.parameters,
                "network": self.point.parameters,
                "with_projection": self.n_stored,
            },
        }


def compare_answer(trials: SearchTrials, answer: SearchAnswer) -> AnswerComparison:
    """Train the same network on all features, and compare all three on test rows.

    Collective.
    """
    data, n = trials.components.data, answer.n_seeds
    results = trials.results("spectral", answer.hidden, answer.n_inputs, n)
    same = trials.results("full", answer.hidden, data.n_features, n)
    baseline = trials.results("full", trials.baseline, data.n_features, n)
    point, same_point, base_point = (
        summarise(part, trials.confidence)[0] for part in (results, same, baseline)
    )
    is_linear = data.embedding.linear_map_ is not None
    return AnswerComparison(
        point,
        same_point,
        base_point,
        results,
        same,
        baseline,
        difference=trials.test_difference(results, baseline),
        from_same=trials.test_difference(results, same),
        of_network=trials.test_difference(same, baseline),
        n_stored=point.parameters + answer.n_inputs * data.n_features if is_linear else None,
    )


def search_text(
    trials: SearchTrials,
    answer: SearchAnswer,
    comparison: AnswerComparison,
    majority: tuple[float, float] | None,
    written: str,
    table_text: Callable[[TextTable], str] = TextTable.markdown,
) -> str:
    """Write the steps of the search, its answer, and warnings; as Markdown by default.

    Parameters
    ----------
    majority : tuple of float or None
        Shares of the largest class among training and test rows; None for a regression.
    written : str
        Line about the written model; empty without one.
    table_text : callable
        Returns the text of a table.
    """
    d, one = trials.components.data.n_features, comparison
    inputs = {f"{network_name(one.baseline.hidden)} on all {d} features": one.baseline}
    inputs[f"{network_name(one.same.hidden)} on all {d} features"] = one.same
    components = counted(answer.n_inputs, "component")
    inputs[f"{network_name(one.point.hidden)} on {components}"] = one.point
    if majority is None:
        scores = {name: point.validation_mean for name, point in inputs.items()}
        warnings = [worse_than_mean_warning(scores.items())]
    else:
        warnings = [
            majority_warning(
                name,
                point.validation_mean,
                point.test_mean,
                majority,
                is_baseline=point.input == "full",
            )
            for name, point in inputs.items()
        ]
    parts = [
        _steps_text(trials, answer, table_text),
        table_text(_comparison_table(trials, comparison)),
        "\n".join(filter(None, (_answer_text(trials, answer, comparison), written))),
        *warnings,
    ]
    return "\n\n".join(filter(None, parts))


def dimensions_text(record: DimensionsRecord | None, answer: SearchAnswer, largest_k: int) -> str:
    """Write the diagnostics beside the k of the answer, in Markdown; empty if there are none.

    Parameters
    ----------
    record : DimensionsRecord or None
    answer : SearchAnswer
        Its k is shown if the network keeps the accuracy.
    largest_k : int
        Largest k that the search could try.
    """
    if record is None:
        return ""
    smallest = f"{answer.n_inputs} ({network_name(answer.hidden)})"
    table = dimensions_table(record, smallest if answer.verdict == "keeps" else "", largest_k)
    if not table.rows:
        return ""
    return "\n\n".join((f"## {DIMENSIONS_TITLE}", table.markdown(), dimensions_note(record)))


def _steps_text(
    trials: SearchTrials, answer: SearchAnswer, table_text: Callable[[TextTable], str]
) -> str:
    spectrum = trials.components.data.embedding.spectrum_
    share = 100.0 * (1.0 - spectrum.unexplained)
    rows = [
        (
            network_name(step.hidden),
            str(step.n_inputs),
            f"{share[step.n_inputs]:.1f}" if spectrum.share is not None else "-",
            str(step.n_seeds),
            points(step.difference.mean, step.difference.low, step.difference.high),
            step.verdict,
        )
        for step in answer.steps
    ]
    headings = (
        "network", "k", f"{spectrum.share_of or 'share'} %", "seeds",
        "validation difference, points", "verdict",
    )  # fmt: skip
    *before, last = trials.looks
    looks = ", ".join([*(str(look.n_seeds) for look in before), counted(last.n_seeds, "seed")])
    return (
        f"Comparisons with the baseline, {network_name(trials.baseline)} on all "
        f"{trials.components.data.n_features} features, after "
        f"{looks}: the intervals hold together with {100 * trials.confidence:g} % "
        f"confidence{_explained(trials)}\n\n" + table_text(TextTable(headings, rows))
    )


def _comparison_table(trials: SearchTrials, one: AnswerComparison) -> TextTable:
    d = trials.components.data.n_features
    stored = "-" if one.n_stored is None else f"{one.n_stored:,}"
    small, same, large = one.point, one.same, one.baseline
    score = trials.score
    rows = [_row(score, large, d, f"{large.parameters:,}", "-")]
    if same.hidden != large.hidden:
        rows.append(_row(score, same, d, f"{same.parameters:,}", _points(one.of_network)))
    rows.append(_row(score, small, small.n_inputs, stored, _points(one.difference)))
    headings = (
        "network", "inputs", "parameters with projection", "of the network",
        score.heading("test"), "test difference to the baseline",
    )  # fmt: skip
    return TextTable(headings, rows)


def _row(
    score: Score, point: StudyPoint, n_inputs: int, stored: str, difference: str
) -> tuple[str, ...]:
    tested = score.text(point.test_mean, point.test_deviation)
    own = f"{point.parameters:,}"
    return network_name(point.hidden), str(n_inputs), stored, own, tested, difference


def _explained(trials: SearchTrials) -> str:
    """Return the meaning of a point, where it is not a percent."""
    return f"; {trials.score.point}" if trials.score.point else ""


def _amount(margin: float) -> str:
    """Format a margin in points.

    Examples
    --------
    >>> _amount(0.01), _amount(0.005)
    ('1 point', '0.5 points')
    """
    number = f"{100 * margin:g}"
    return f"{number} point" if number == "1" else f"{number} points"


def _points(difference: Difference) -> str:
    return points(difference.mean, difference.low, difference.high)


def _answer_text(trials: SearchTrials, answer: SearchAnswer, one: AnswerComparison) -> str:
    margin, kept = _amount(trials.margin), trials.score.name
    step = next(
        step
        for step in answer.steps
        if (step.hidden, step.n_inputs) == (answer.hidden, answer.n_inputs)
    )
    model = f"{network_name(answer.hidden)} at k = {answer.n_inputs}"
    seeds = counted(step.n_seeds, "seed")
    found = f"{_points(step.difference)} points on validation rows after {seeds}"
    if answer.verdict == "loses":
        return (
            f"loses: every network loses more than {margin}. The nearest one is {model}: "
            f"{found}. There is no model: raise --max-loss or --max-components, or add wider "
            "networks"
        )
    lines = [f"keeps: {model} keeps the {kept} within {margin}: {found}"]
    if answer.verdict == "undecided":
        lines = [
            f"undecided: no network is known to keep the {kept} within {margin}. The "
            f"model is the one with the smallest possible loss, {model}: {found}, so it may lose "
            f"up to {-100 * step.difference.low:.2f} points. Raise --max-seeds or --max-loss, or "
            "use more rows"
        ]
    tested = _test_lines(trials, one, answer.verdict)
    return "\n".join([*lines, _saving_text(trials, one), *tested])


def _saving_text(trials: SearchTrials, one: AnswerComparison) -> str:
    """State the parameters, with the projection first, and the parts of the saving."""
    d, small, large = trials.components.data.n_features, one.point, one.baseline
    inputs = f"{d / small.n_inputs:.1f}x fewer inputs"
    alone = f"{small.parameters:,} ({_fewer(large.parameters, small.parameters)})"
    if one.n_stored is None:
        return (
            f"parameters: {large.parameters:,} -> {alone} without the embedding, which is not a "
            f"projection; {inputs}"
        )
    network = large.parameters / one.same.parameters
    embedding = one.same.parameters / one.n_stored
    return (
        f"parameters: {large.parameters:,} -> {one.n_stored:,} with the projection, "
        f"{_fewer(large.parameters, one.n_stored)}: {network:.1f}x by the smaller network "
        f"times {embedding:.1f}x by the embedding; {alone} without the projection; {inputs}"
        f"{_simpler(one)}"
    )


def _fewer(large: int, small: int) -> str:
    """Compare two counts.

    Examples
    --------
    >>> _fewer(300, 100), _fewer(100, 150)
    ('3.0x fewer', '1.5x more')
    """
    return f"{large / small:.1f}x fewer" if large >= small else f"{small / large:.1f}x more"


def _simpler(one: AnswerComparison) -> str:
    """Name the same network on all features, where its parameters are fewer."""
    if one.n_stored is None or one.same.parameters >= one.n_stored:
        return ""
    return (
        f"\nthe embedding saves no parameters: {network_name(one.same.hidden)} on all features "
        f"has {one.same.parameters:,}"
    )


def _test_lines(trials: SearchTrials, one: AnswerComparison, verdict: str) -> list[str]:
    margin, small, large = trials.margin, one.point, one.baseline
    verdicts = {
        "keeps": "within",
        "loses": "NOT within",
        "undecided": "undecided about",
    }
    score = trials.score
    base = score.with_unit(large.test_mean, large.test_deviation)
    tested = score.with_unit(small.test_mean, small.test_deviation)
    found = verdict_of(one.difference, margin)
    contradicted = found == "loses" and verdict == "keeps"
    lines = [
        f"test {'accuracy ' if score.is_accuracy else ''}{tested}, baseline {base}, "
        f"difference {_points(one.difference)} points: "
        f"{verdicts[found]} {_amount(margin)}"
        f"{', the test rows contradict the verdict' if contradicted else ''}"
    ]
    if one.same.hidden != large.hidden:
        same = score.with_unit(one.same.test_mean, one.same.test_deviation)
        lines.append(
            f"the same network on all features: {same}, {_points(one.of_network)} points from "
            f"the baseline; the embedding changes it by {_points(one.from_same)} points"
        )
    return lines
