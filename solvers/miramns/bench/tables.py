"""The results as Markdown: a table per problem, ratios, and geometric means over groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from miramns.bench.profiles import RIVALS, Ratio, geometric_mean, ratios
from miramns.bench.records import Record

__all__ = ["markdown"]

_HEADINGS = {
    "ks": "Krylov-Schur",
    "ks-best": "best of its other ncv",
    "floor": "floor",
}


def markdown(records: Sequence[Record], environment: Mapping[str, object]) -> str:
    """Write all tables. Not collective.

    Parameters
    ----------
    environment : mapping
        Facts for the head, by name.
    """
    parts = ["# Eigensolver benchmark", ""]
    parts += [f"* {name}: {value}" for name, value in environment.items()]
    parts += ["", *_explanation(), ""]
    parts += _ratio_section(records)
    cases: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        cases.setdefault((record.problem, record.k), []).append(record)
    for (problem, k), members in cases.items():
        parts += _case_section(problem, k, members)
    return "\n".join(parts).rstrip() + "\n"


def _explanation() -> list[str]:
    return [
        "All methods have the same operator, start vector and true residual: where a method's",
        "tolerance means something else it was given a smaller one (column `tol`). Residuals and",
        "orthogonality are measured here; eigenvalues are compared with a reference. An answer",
        "that is wrong or incomplete has no time. Seconds hold the search and the certificate. All",
        "products of SLEPc's solvers pass a shell that counts them; what that costs is given.",
        "The floor is the fewest products of a fully orthogonal Krylov method times the seconds of",
        "one product. SLEPc, scipy and PRIMME do not tell their reductions. A reference that is",
        "the best of several answers cannot tell what all of them missed.",
    ]


def _ratio_section(records: Sequence[Record]) -> list[str]:
    compared = ratios(records)
    if not compared:
        return []
    names = [f"{what} / {_HEADINGS[rival]}" for what in ("s", "products") for rival in RIVALS]
    lines = ["## MIRAMns against the others", "", "Less than 1 is less than the other takes.", ""]
    lines += _table_head(["problem", "k", *names])
    for one in compared:
        numbers = [one.seconds[rival] for rival in RIVALS]
        numbers += [one.products[rival] for rival in RIVALS]
        lines.append(_row([one.problem, one.k, *map(_short, numbers)]))
    lines += ["", "Geometric means (in brackets: over how many cases):", ""]
    lines += _table_head(["group", *names])
    groups = list(dict.fromkeys(one.group for one in compared))
    for group in [*groups, "all"]:
        members = [one for one in compared if group in (one.group, "all")]
        lines.append(_row([group, *_means(members)]))
    return [*lines, ""]


def _means(members: Sequence[Ratio]) -> list[str]:
    cells = []
    for what in ("seconds", "products"):
        for rival in RIVALS:
            mean, count = geometric_mean([getattr(one, what)[rival] for one in members])
            cells.append(f"{_short(mean)} ({count})")
    return cells


def _case_section(problem: str, k: int, records: Sequence[Record]) -> list[str]:
    first = records[0]
    references = [one.reference for one in records if one.reference]
    facts = [
        f"n = {first.n}",
        f"which = {first.which}",
        f"tol = {first.tol:g}",
        f"ranks = {first.ranks}",
        f"one product {_seconds(first.product_s)} s",
        f"passing it on {_seconds(first.pass_on_s)} s",
    ]
    if first.floor_matvec:
        facts.append(f"floor {first.floor_matvec} products, {_seconds(first.floor_s)} s")
    if references:
        facts.append(f"reference: {references[0]}")
    lines = [f"## {problem}, k = {k}", "", "; ".join(facts) + ".", ""]
    lines += _table_head(
        ["method", "products", "reductions", "restarts", "seconds", "residual", "orthogonality",
         "missed", "tol", "status"]
    )  # fmt: skip
    for one in records:
        if one.status == "unfit":
            continue
        status = one.status + (f": {one.why}" if one.why else "")
        lines.append(
            _row([
                one.method, _count(one.n_matvec), _count(one.n_reductions),
                _count(one.n_restarts), _seconds(one.seconds), _small(one.worst_residual),
                _small(one.orthogonality), _count(one.n_missed), _small(one.tol_used), status,
            ])
        )  # fmt: skip
    return [*lines, ""]


def _table_head(names: Sequence[str]) -> list[str]:
    return [_row(names), "|" + "---|" * len(names)]


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def _missing(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _seconds(value: float | None) -> str:
    return "-" if _missing(value) else f"{value:.3g}"


def _small(value: float | None) -> str:
    return "-" if _missing(value) else f"{value:.1e}"


def _short(value: float) -> str:
    return "-" if _missing(value) else f"{value:.2f}"
