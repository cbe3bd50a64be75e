"""Results as Markdown: a table for each problem and k, ratios, and their geometric means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from miramns.bench.eigensolver_record import EigensolverRecord
from miramns.bench.harness.performance_profile import geometric_mean
from miramns.bench.harness.records import by_case
from miramns.bench.harness.tables import fact_list, markdown_table, number
from miramns.bench.ratios import REFERENCE_COSTS, Ratio, ratios

_EXPLANATION = """\
All methods have the same operator, start vector and true residual: a method whose tolerance has
another meaning has a smaller one (column `tol`). Residuals and orthogonality are measured here;
eigenvalues are compared with a reference. An answer that is wrong or incomplete has no time.
Seconds include the certificate. A shell matrix counts all products of SLEPc's solvers; its cost per
product is given. The floor is the fewest products of a fully orthogonal Krylov method times the
seconds of one product. SLEPc, SciPy and PRIMME do not report their reductions. A reference that is
the best of several answers does not reveal an eigenvalue that all of them miss."""


def markdown(records: Sequence[EigensolverRecord], environment: Mapping[str, object]) -> str:
    """Return all tables.

    Parameters
    ----------
    environment : mapping
        Facts for the head, by name.
    """
    lines = ["# Eigensolver benchmark", "", *fact_list(environment), "", _EXPLANATION, ""]
    lines += _ratio_section(records)
    for (problem, k), members in by_case(records).items():
        lines += _case_section(problem, k, members)
    return "\n".join(lines).rstrip() + "\n"


def _ratio_section(records: Sequence[EigensolverRecord]) -> list[str]:
    compared = ratios(records)
    if not compared:
        return []
    names = [f"{cost} / {name}" for cost in ("s", "products") for name in REFERENCE_COSTS.values()]
    groups = list(dict.fromkeys(one.group for one in compared))
    means = [
        (group, *_means([one for one in compared if group in (one.group, "all")]))
        for group in (*groups, "all")
    ]
    return [
        "## MIRAMns compared with other solvers",
        "",
        "A ratio below 1 means that MIRAMns costs less.",
        "",
        *markdown_table(["problem", "k", *names], map(_ratio_row, compared)),
        "",
        "Geometric means (in brackets: number of cases):",
        "",
        *markdown_table(["group", *names], means),
        "",
    ]


def _ratio_row(one: Ratio) -> list[object]:
    costs = [cost[name] for cost in (one.seconds, one.products) for name in REFERENCE_COSTS]
    return [one.problem, one.k, *(number(cost, ".2f") for cost in costs)]


def _means(members: Sequence[Ratio]) -> list[str]:
    cells = []
    for cost in ("seconds", "products"):
        for name in REFERENCE_COSTS:
            mean, count = geometric_mean([getattr(one, cost)[name] for one in members])
            cells.append(f"{number(mean, '.2f')} ({count})")
    return cells


def _case_section(problem: str, k: int, records: Sequence[EigensolverRecord]) -> list[str]:
    first = records[0]
    facts = [
        f"n = {first.n}",
        f"which = {first.which}",
        f"tol = {first.tol:g}",
        f"ranks = {first.ranks}",
        f"one product {number(first.product_s, '.3g')} s",
        f"its counting {number(first.pass_on_s, '.3g')} s",
    ]
    if first.floor_matvec:
        facts.append(f"floor {first.floor_matvec} products, {number(first.floor_s, '.3g')} s")
    facts += [f"reference: {one.reference}" for one in records if one.reference][:1]
    headings = ["method", "products", "reductions", "restarts", "seconds", "residual",
                "orthogonality", "missing", "tol", "status"]  # fmt: skip
    rows = [
        (
            one.method, number(one.n_matvec), number(one.n_reductions), number(one.n_restarts),
            number(one.seconds, ".3g"), number(one.worst_residual, ".1e"),
            number(one.orthogonality, ".1e"), number(one.n_missing), number(one.tol_used, ".1e"),
            one.verdict,
        )
        for one in records
        if one.status != "unfit"
    ]  # fmt: skip
    lines = [f"## {problem}, k = {k}", "", "; ".join(facts) + ".", ""]
    return [*lines, *markdown_table(headings, rows), ""]
