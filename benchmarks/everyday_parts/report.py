"""Scores, intervals and verdicts, and the table of all data sets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["compare", "csv_text", "markdown", "score"]

#: Bootstrap samples of the test rows.
_N_SAMPLES = 2000
#: Points that may be lost, and largest difference of ONNX from ``predict``.
MARGIN, SAME = 1.0, 1e-5

COLUMNS = {
    "data": "name",
    "form": "format",
    "task": "task",
    "rows": "rows",
    "columns": "columns",
    "hpcembed": "ours",
    "scikit-learn": "peer",
    "difference in points": "difference",
    "verdict": "verdict",
    "k": "k",
    "parameters": "parameters",
    "ONNX": "onnx",
    "s": "seconds",
    "s, scikit-learn": "peer_seconds",
    "lines": "lines",
    "lines, scikit-learn": "peer_lines",
}


def score(predicted: NDArray[Any], truth: NDArray[Any], *, is_regression: bool) -> float:
    """Return R2, or the share of right classes.

    Examples
    --------
    >>> score(np.array(["a", "b"]), np.array(["a", "a"]), is_regression=False)
    0.5
    """
    if not is_regression:
        return float(np.mean(predicted.astype(str) == truth.astype(str)))
    errors = np.sum((predicted - truth) ** 2)
    return float(1 - errors / np.sum((truth - truth.mean()) ** 2))


def compare(
    ours: NDArray[Any], peer: NDArray[Any], truth: NDArray[Any], *, is_regression: bool
) -> dict[str, Any]:
    """Return both scores, their difference in points with its interval, and the verdict.

    The 95 % interval is that of a paired bootstrap over the test rows. A loss is decided against
    a margin of 1 point of accuracy, or 0.01 of R2.

    Examples
    --------
    >>> truth = np.array(["a", "b"] * 100)
    >>> found = compare(truth, truth, truth, is_regression=False)
    >>> found["verdict"], found["ours"], found["low"], found["high"]
    ('keeps', 1.0, 0.0, 0.0)
    """
    rng = np.random.default_rng(0)
    samples = [rng.integers(0, len(truth), len(truth)) for _ in range(_N_SAMPLES)]

    def difference(chosen: Any) -> float:
        scores = [
            score(one[chosen], truth[chosen], is_regression=is_regression) for one in (ours, peer)
        ]
        return 100 * (scores[0] - scores[1])

    low, high = np.quantile([difference(chosen) for chosen in samples], [0.025, 0.975])
    verdict = "keeps" if low > -MARGIN else "loses" if high < -MARGIN else "undecided"
    return {
        "ours": score(ours, truth, is_regression=is_regression),
        "peer": score(peer, truth, is_regression=is_regression),
        "mean": difference(slice(None)),
        "low": float(low),
        "high": float(high),
        "verdict": verdict,
    }


def _cells(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of a data set; a wrong or missing answer has no times."""
    cells = {key: str(record.get(key, "")) for key in COLUMNS.values()}
    if "error" in record:
        return cells | {"verdict": f"no answer: {record['error']}"}
    unit = (
        (lambda x: f"{x:.3f}") if record["task"] == "regression" else (lambda x: f"{100 * x:.1f}")
    )
    low, high = record["low"], record["high"]
    cells |= {key: unit(record[key]) for key in ("ours", "peer")}
    cells["difference"] = f"{record['mean']:+.1f} [{low:+.1f}, {high:+.1f}]"
    is_same = record["onnx_difference"] <= SAME
    cells["onnx"] = "equal" if is_same else f"differs by {record['onnx_difference']:.1e}"
    for key in ("seconds", "peer_seconds"):
        is_timed = is_same and record[key] is not None
        cells[key] = f"{record[key]:.0f}" if is_timed else "-"
    if not is_same:
        cells["verdict"] = "wrong"
    return cells


def markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the table in Markdown."""
    rules = [
        ":--" if key in ("name", "format", "task", "verdict") else "--:" for key in COLUMNS.values()
    ]
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "|".join(rules) + "|"]
    for record in records:
        lines.append("| " + " | ".join(_cells(record)[key] for key in COLUMNS.values()) + " |")
    return "\n".join(lines)


def csv_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Return all numbers as CSV."""
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
