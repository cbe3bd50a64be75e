"""Results as Markdown: ratios to the fastest exact peer, and a table for each table and k."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hpcembed.bench.pca_record import PcaRecord
from hpcembed.bench.verdict import EXACT
from hpcembed.runtime.wording import counted
from miramns.bench.harness.records import by_case, fastest
from miramns.bench.harness.tables import fact_list, markdown_table, number

_EXPLANATION = f"""\
Seconds are medians over the repeats, in which the methods take turns. 1 - captured is the share of
the optimal variance that the components miss: it is at most {1 - EXACT:.0e} for exact answers; the
others are approximate. The angle is the largest one to the optimal components, the residual the
largest ||C v - lambda v|| over the largest eigenvalue; all of these are computed here in double
precision, for every method alike. Memory is the rise of the resident memory during fit, in a
process of its own, in MiB and relative to the rows. A wrong answer has no time."""


def fastest_exact_peer(records: Sequence[PcaRecord]) -> PcaRecord | None:
    """Return the fastest peer with an exact answer, for one table and k; None if there is none."""
    return fastest([one for one in records if one.group == "peer" and one.status == "exact"])


def markdown(records: Sequence[PcaRecord], environment: Mapping[str, object]) -> str:
    """Return all tables.

    Parameters
    ----------
    environment : mapping
        Facts for the head, by name.
    """
    lines = ["# PCA benchmark", "", *fact_list(environment), "", _EXPLANATION, ""]
    lines += _ratio_section(records)
    for (data, k), members in by_case(records).items():
        lines += _case_section(data, k, members)
    return "\n".join(lines).rstrip() + "\n"


def _ratio_section(records: Sequence[PcaRecord]) -> list[str]:
    rows = []
    for (data, k), members in by_case(records).items():
        bare = fastest([one for one in members if one.group == "bound"])
        peer = fastest_exact_peer(members)
        rows += [
            (
                data, k, number(one.seconds, ".3g"), peer.method if peer else "-",
                number(peer.seconds if peer else None, ".3g"), _ratio(one, peer), _ratio(one, bare),
            )
            for one in members
            if one.method == "hpcembed" and one.seconds
        ]  # fmt: skip
    if not rows:
        return []
    headings = ["data", "k", "hpcembed s", "fastest exact peer", "peer s", "ratio", "ratio to X'X"]
    title = "## hpcembed compared with the fastest exact peer and the bare product"
    return [title, "", *markdown_table(headings, rows), ""]


def _ratio(one: PcaRecord, other: PcaRecord | None) -> str:
    if other is None or not one.seconds or not other.seconds or one.status != "exact":
        return "-"
    return number(one.seconds / other.seconds, ".2f")


def _case_section(data: str, k: int, records: Sequence[PcaRecord]) -> list[str]:
    first = records[0]
    facts = [f"{first.n} x {first.d} {first.dtype}"]
    if first.nonzeros is not None:
        facts.append(f"{first.nonzeros} non-zeros")
    facts += [f"{first.data_bytes / 2**20:.1f} MiB", counted(first.threads, "thread")]
    facts.append(f"reference: {first.reference}")
    headings = ["method", "fit s", "transform s", "1 - captured", "sin angle", "residual",
                "|V'V-I|", "MiB", "of rows", "status"]  # fmt: skip
    shown = [one for one in records if one.status != "unfit"]
    rows = [
        (
            one.method, number(one.seconds, ".3g"), number(one.transform_s, ".3g"),
            number(one.deficit, ".1e"), number(one.sin_angle, ".1e"), number(one.residual, ".1e"),
            number(one.orthogonality, ".1e"),
            "-" if one.peak_bytes is None else f"{one.peak_bytes / 2**20:.1f}",
            "-" if one.peak_bytes is None else f"{one.peak_bytes / one.data_bytes:.2f}",
            one.verdict,
        )
        for one in sorted(shown, key=lambda one: one.seconds or math.inf)
    ]  # fmt: skip
    lines = [f"## {data}, k = {k}", "", "; ".join(facts) + ".", ""]
    lines += markdown_table(headings, rows)
    unfit = [f"{one.method} ({one.why})" for one in records if one.status == "unfit"]
    lines += ["", "Not run: " + ", ".join(unfit) + "."] if unfit else []
    details = [f"* {one.method}: {one.detail}" for one in records if one.detail and one.is_right]
    lines += ["", *details] if details else []
    return [*lines, ""]
