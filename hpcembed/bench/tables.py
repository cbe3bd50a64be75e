"""The results as Markdown: ratios to the fastest exact peer, and a table per data set and k."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hpcembed.bench.judging import EXACT
from hpcembed.bench.records import Record

__all__ = ["cases", "fastest_exact_peer", "markdown"]


def cases(records: Sequence[Record]) -> dict[tuple[str, int], list[Record]]:
    """Records by table and k, in their order."""
    found: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        found.setdefault((record.data, record.k), []).append(record)
    return found


def fastest_exact_peer(records: Sequence[Record]) -> Record | None:
    """Of one table and k; None where no peer is exact."""
    exact = [
        one
        for one in records
        if one.group == "peer" and one.status == "exact" and one.fit_s is not None
    ]
    return min(exact, key=lambda one: one.fit_s or math.inf, default=None)


def markdown(records: Sequence[Record], environment: Mapping[str, object]) -> str:
    """Write all tables.

    Parameters
    ----------
    environment : mapping
        Facts for the head, by name.
    """
    parts = ["# PCA benchmark", ""]
    parts += [f"* {name}: {value}" for name, value in environment.items()]
    parts += ["", *_explanation(), "", *_ratios(records)]
    for (data, k), members in cases(records).items():
        parts += _case_section(data, k, members)
    return "\n".join(parts).rstrip() + "\n"


def _explanation() -> list[str]:
    return [
        "Seconds are medians over the repeats, in which the methods took turns. 1 - captured is",
        "the share of the optimal variance that the components miss: exact is at most "
        f"{1 - EXACT:.0e},",
        "the rest is listed as approximate. The angle is the largest to the optimal components,",
        "the residual the largest ||C v - lambda v|| over the largest eigenvalue; all of these are",
        "computed here in double, for every method alike. Memory is the rise of the resident",
        "memory during fit, in a process of its own, in MiB and as a share of the rows. What is",
        "wrong has no time.",
    ]


def _ratios(records: Sequence[Record]) -> list[str]:
    lines = ["## Ours against the fastest exact peer and the bare product", ""]
    lines += _head(
        ["data", "k", "ours s", "fastest exact peer", "its s", "ours / peer", "ours / X'X"]
    )
    rows = []
    for (data, k), members in cases(records).items():
        ours = next((one for one in members if one.method == "ours" and one.fit_s), None)
        bare = next((one for one in members if one.group == "bound" and one.fit_s), None)
        peer = fastest_exact_peer(members)
        if ours is None:
            continue
        rows.append(
            _row([
                data, k, _number(ours.fit_s), peer.method if peer else "-",
                _number(peer.fit_s if peer else None), _ratio(ours, peer), _ratio(ours, bare),
            ])
        )  # fmt: skip
    return [*lines, *rows, ""] if rows else []


def _ratio(ours: Record, other: Record | None) -> str:
    if other is None or not ours.fit_s or not other.fit_s or ours.status != "exact":
        return "-"
    return f"{ours.fit_s / other.fit_s:.2f}"


def _case_section(data: str, k: int, records: Sequence[Record]) -> list[str]:
    first = records[0]
    facts = [f"{first.n} x {first.d} {first.dtype}"]
    if first.nonzeros is not None:
        facts.append(f"{first.nonzeros} non-zeros")
    facts += [f"{first.data_bytes / 2**20:.1f} MiB", f"{first.threads} threads"]
    facts.append(f"optimum: {first.reference}")
    lines = [f"## {data}, k = {k}", "", "; ".join(facts) + ".", ""]
    lines += _head(
        ["method", "fit s", "transform s", "1 - captured", "sin angle", "residual", "|V'V-I|",
         "MiB", "of rows", "status"]
    )  # fmt: skip
    shown = [one for one in records if one.status != "unfit"]
    for one in sorted(shown, key=lambda one: one.fit_s or math.inf):
        status = one.status + (f": {one.why}" if one.why else "")
        peak = one.peak_bytes
        lines.append(
            _row([
                one.method, _number(one.fit_s), _number(one.transform_s), _small(one.deficit),
                _small(one.sin_angle), _small(one.residual), _small(one.orthogonality),
                "-" if peak is None else f"{peak / 2**20:.1f}",
                "-" if peak is None else f"{peak / one.data_bytes:.2f}",
                status,
            ])
        )  # fmt: skip
    left = [f"{one.method} ({one.why})" for one in records if one.status == "unfit"]
    lines += ["", "Not run: " + ", ".join(left) + "."] if left else []
    detail = [f"{one.method}: {one.detail}" for one in records if one.detail and one.timed]
    lines += ["", *(f"* {text}" for text in detail)] if detail else []
    return [*lines, ""]


def _head(names: Sequence[str]) -> list[str]:
    return [_row(names), "|" + "---|" * len(names)]


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3g}"


def _small(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.1e}"
