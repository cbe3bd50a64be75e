"""Tables and page about scaling, from measured runs and the model."""

from __future__ import annotations

from scaling_model import (
    LARGEST,
    Network,
    Work,
    efficiency,
    predicted,
    strong_limits,
    weak_limit,
)

from miramns.bench.harness.tables import markdown_table

RANKS = (1, 10, 100, 1_000, 10_000, 100_000)

#: Factor on the measured rows, for a job on a large machine.
LARGE = 1000

NAMES = {
    "rows": "arithmetic on rows",
    "columns": "arithmetic on columns",
    "serial": "the projected problem, on one rank",
    "gather": "the gather of the columns",
    "reduce": "the reduction of the products",
    "orthogonalisation": "the reductions of the orthogonalisation",
}


def measured_tables(runs: dict) -> str:
    return "\n".join([*_measured("Strong", runs["strong"]), "", *_measured("Weak", runs["weak"])])


def _measured(title: str, runs: list[dict]) -> list[str]:
    weak = title == "Weak"
    first = runs[0]
    headings = ["ranks", "rows", "operator", "solve", "project", "total", "messages", "efficiency"]
    rows = []
    for run in runs:
        ratio = first["total_s"] / run["total_s"]
        speed = ratio if weak else ratio / run["ranks"]
        messages = max(run["passes_s"] - run["local_s"], 0.0)
        stages = (run[f"{stage}_s"] for stage in ("operator", "solve", "project", "total"))
        rows.append((
            run["ranks"], f"{run['rows']} x {run['features']}",
            *(f"{seconds:.3g}" for seconds in stages),
            f"{messages:.2g}", f"{100 * speed:.0f} %",
        ))  # fmt: skip
    title = f"### {title} scaling, {first['data']}, k = {first['k']}, engine {first['engine']}"
    return [title, "", *markdown_table(headings, rows)]


def page(runs: dict, work: Work, weak: Work, network: Network, *, note: str = "") -> str:
    """Return the text of docs/scaling.md.

    `work` and `weak` are the work of the runs on one rank, with all rows and with a rank's share.
    """
    first = runs["strong"][0]
    large = work.scaled(LARGE)
    parts = ["# Limits of the scaling of PCA", ""]
    parts += ["Made by `benchmarks/scaling.py`; do not edit.", ""]
    parts += [note, ""] if note else []
    parts += ["## Measured", "", measured_tables(runs), ""]
    parts += [
        "Seconds are medians of the slowest rank, with one BLAS thread per rank. The column",
        "messages is the time of the products beyond their arithmetic, including the time in which",
        "ranks wait.",
        "",
        "## Messages",
        "",
        *_counted(first, work),
        "",
        "## Model",
        "",
        f"A message of V bytes takes {network.alpha:.2g} s + V / ({network.bandwidth:.3g} B/s), a",
        f"step of a loop over all ranks {network.overhead:.2g} s; trees have ceil(log2 P) levels.",
        "The formulas are in `benchmarks/scaling_model.py`. The arithmetic is measured on one",
        "rank. The efficiency of weak scaling may exceed 100 %: the length of the columns does not",
        "depend on the number of rows, and the ranks share them.",
        "",
        *_predicted(f"Strong, {work.rows} x {work.features}", work, network, weak=False),
        *_predicted(f"Strong, {large.rows} x {large.features}", large, network, weak=False),
        *_predicted(f"Weak, {weak.rows} rows on each rank", weak, network, weak=True),
        "## Limits",
        "",
        *_limits(work, network),
        *_limits(large, network),
        *_weak_limits(weak, network),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _counted(run: dict, work: Work) -> list[str]:
    widths = sorted(set(work.widths))
    sizes = ", ".join(
        f"{work.widths.count(b)} with {b} column{'s' * (b > 1)} ({_bytes(8 * work.features * b)})"
        for b in widths
    )
    lines = [
        f"* Products: {len(work.widths)}: {sizes or 'none'}. Each gathers and reduces this size",
        "  once, for any number of rows and ranks.",
        f"* Reductions of the orthogonalisation: {work.reductions}, about "
        f"{_bytes(work.reduction_bytes)} each.",
    ]
    if work.triangle_bytes:
        lines.append(f"* One reduction of the covariance: {_bytes(work.triangle_bytes)}.")
    lines += [
        f"* On one rank: {work.row_seconds:.3g} s on rows, {work.column_seconds:.3g} s on columns",
        f"  of {work.features} numbers, {work.serial_seconds:.3g} s on projected problems;",
        f"  largest residual {run['largest_residual']:.1e} of lambda_1.",
    ]
    return lines


def _predicted(title: str, work: Work, network: Network, *, weak: bool) -> list[str]:
    headings = ["ranks", "arithmetic", "gather", "reduce", "orthogonalisation", "total",
                "efficiency"]  # fmt: skip
    rows = []
    for P in RANKS:
        here = work.scaled(P) if weak else work
        cost = predicted(here, network, P, collective=True)
        arithmetic = cost.rows + cost.columns + cost.serial
        speed = work.alone / cost.total if weak else efficiency(here, cost)
        rows.append((
            P, f"{arithmetic:.2g}", f"{cost.gather:.2g}", f"{cost.reduce:.2g}",
            f"{cost.orthogonalisation:.2g}", f"{cost.total:.3g}", _percent(speed),
        ))  # fmt: skip
    return [f"### {title}", "", *markdown_table(headings, rows), ""]


def _limits(work: Work, network: Network) -> list[str]:
    useful, fastest = strong_limits(work, network, collective=True)
    why = NAMES[predicted(work, network, 2 * useful, collective=True).largest]
    return [
        f"* {work.rows} x {work.features}: the efficiency is below 50 % beyond {useful} ranks, and",
        f"  more than {fastest} ranks take longer. The largest cost there is {why}.",
    ]


def _weak_limits(weak: Work, network: Network) -> list[str]:
    most = weak_limit(weak, network, collective=True)
    why = NAMES[predicted(weak.scaled(2 * most), network, 2 * most, collective=True).largest]
    if most == 2**LARGEST:
        return [
            f"* With {weak.rows} rows on each rank the time does not double up to {most} ranks."
        ]
    return [
        f"* With {weak.rows} rows on each rank the time doubles beyond {most} ranks, where the",
        f"  largest cost is {why}.",
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.005 else f"{100 * value:.1g} %"


def _bytes(count: float) -> str:
    return f"{count / 2**20:.2g} MiB" if count >= 2**20 else f"{count / 2**10:.3g} KiB"
