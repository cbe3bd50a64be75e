"""Words of the search in random subspaces: a sentence for each network, the table, the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcembed.jobs.report.scores import Score
from hpcembed.jobs.report.tables import TextTable
from hpcembed.jobs.report.wording import network_name
from hpcembed.jobs.study.intrinsic.record import SubspacePoint, SubspaceSearch
from hpcembed.runtime.wording import counted

__all__ = ["INTRINSIC_TITLE", "intrinsic_caption", "intrinsic_record", "intrinsic_table",
           "intrinsic_text"]  # fmt: skip

INTRINSIC_TITLE = "Random subspaces of the parameters"


def intrinsic_text(found: Sequence[SubspaceSearch], score: Score) -> str:
    """State the least dimension of each network, in one sentence each."""
    return "\n".join(_sentence(one, score) for one in found)


def _sentence(one: SubspaceSearch, score: Score) -> str:
    inputs = "all features" if one.input == "full" else _coordinates(one)
    network = f"{network_name(one.hidden)} on {inputs}"
    if one.fault:
        return f"Random subspaces are not searched for {network}: {one.fault}."
    goal = f"{100 * one.share:g} % of its validation {score.name}"
    part = f"{one.dimension:,} of {one.parameters:,} parameters ({_share(one)})"
    between = f"between {one.below:,} and {one.dimension:,} of {one.parameters:,} parameters"
    if not one.finished:
        return f"The least dimension in which {network} reaches {goal} is {between}: not finished."
    if one.dimension == one.parameters:
        return f"{network} reaches {goal} in no random subspace of fewer dimensions."
    below = f"; dimension {one.below:,} misses it" if one.below else ""
    return f"{network} reaches {goal} in a random subspace of dimension {part}{below}."


def _coordinates(one: SubspaceSearch) -> str:
    return f"{counted(one.n_inputs, 'coordinate')} ({one.input})"


def _share(one: SubspaceSearch) -> str:
    return f"{100 * one.dimension / one.parameters:.2g} %"


def intrinsic_caption(found: Sequence[SubspaceSearch], score: Score) -> str:
    """Explain the columns of the table."""
    seeds = max(len(one.seeds) for one in found)
    return (
        "Only the coordinates of a random subspace through the first weights are trained, by the "
        f"recipe of the study; means over {counted(seeds, 'seed')}. Least dimension: the least "
        f"tested one with {100 * found[0].share:g} % of the validation {score.name} of the same "
        "network with all parameters. Test rows have no part in the search."
    )


def intrinsic_table(found: Sequence[SubspaceSearch], score: Score) -> TextTable:
    """Make the table: a row for each network."""
    rows = []
    for one in found:
        at = {point.dimension: point for point in one.points}
        rows.append(
            (
                network_name(one.hidden),
                one.input,
                str(one.n_inputs),
                f"{one.parameters:,}",
                score.text(one.baseline),
                score.text(one.threshold),
                "-" if one.fault else f"{one.dimension:,}",
                "-" if one.fault else _share(one),
                _at(at.get(one.dimension), score),
                "-" if one.fault else f"{one.below:,}",
                _at(at.get(one.below), score),
            )
        )
    headings = (
        "network", "input", "inputs", "parameters", score.heading("validation"), "threshold",
        "least dimension", "of the parameters", score.heading("its validation"),
        "next smaller", score.heading("its validation"),
    )  # fmt: skip
    return TextTable(headings, rows, text_columns=(0, 1))


def _at(point: SubspacePoint | None, score: Score) -> str:
    return "-" if point is None else score.text(point.validation_mean, point.validation_deviation)


def intrinsic_record(found: Sequence[SubspaceSearch], score: Score) -> list[dict[str, Any]] | None:
    """Return the entry of ``study.json``; None without a search."""
    return [
        {
            "answer": _sentence(one, score),
            "input": one.input,
            "hidden": network_name(one.hidden),
            **{
                name: getattr(one, name)
                for name in (
                    "n_inputs", "parameters", "seeds", "baseline", "share", "threshold", "below",
                    "dimension", "finished", "fault", "points",
                )
            },
        }
        for one in found
    ] or None  # fmt: skip
