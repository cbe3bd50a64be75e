"""Phrases and number formats of the report of a network compression."""

from __future__ import annotations

import math

from hpcembed.networks.low_rank.report import CompressionReport, LayerReport

__all__ = [
    "before_after",
    "certification",
    "count_pair",
    "error_text",
    "headline",
    "layer_ranks",
    "layer_size",
    "loss_text",
    "milliseconds",
    "number",
    "one_line",
    "percentage",
    "predicted_text",
    "score_text",
]

#: Unit of a metric, and the unit of its loss.
_UNITS = {
    "accuracy": (" %", " points"),
    "loss": (" nats", " nats"),
    "divergence": (" nats", " nats"),
}


def number(value: float | None) -> str:
    """Format a small number in scientific notation; "-" where it is not known.

    Examples
    --------
    >>> number(0.00123), number(0.0), number(float("nan"))
    ('1.23e-03', '0', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.2e}" if value else "0"


def percentage(share: float) -> str:
    """Format a share in per cent, without the sign.

    Examples
    --------
    >>> percentage(0.98765), percentage(float("nan"))
    ('98.765', '-')
    """
    return f"{100.0 * share:.3f}" if math.isfinite(share) else "-"


def milliseconds(seconds: float) -> str:
    """Format seconds in milliseconds; "-" where they were not measured.

    Examples
    --------
    >>> milliseconds(0.01234), milliseconds(1.2345), milliseconds(0.0)
    ('12.3', '1,234', '-')
    """
    if not (math.isfinite(seconds) and seconds > 0):
        return "-"
    value = 1e3 * seconds
    return f"{value:.3g}" if value < 99.95 else f"{value:,.0f}"


def count_pair(pair: tuple[float, float]) -> tuple[str, str]:
    """Format two counts with separators of thousands."""
    return f"{pair[0]:,.0f}", f"{pair[1]:,.0f}"


def one_line(text: object) -> str:
    """Return text without line breaks and without repeated spaces."""
    return " ".join(str(text).split())


def layer_size(layer: LayerReport) -> str:
    """Return the shape of a layer: outputs x inputs, places of the kernel, groups.

    Examples
    --------
    >>> layer_size(LayerReport("a", "conv", (64, 32, 9, 4)))
    '64 x 32, kernel 9, 4 groups'
    """
    outputs, inputs, kernel, groups = layer.shape
    text = f"{outputs} x {inputs}"
    text += f", kernel {kernel}" if kernel > 1 else ""
    return text + (f", {groups} groups" if groups > 1 else "")


def layer_ranks(layer: LayerReport) -> str:
    """Return the ranks of a layer; "-" where it is whole.

    Examples
    --------
    >>> layer_ranks(LayerReport("a", "conv", (64, 32, 9, 1), "both", rank_in=8, rank_out=16))
    'input 8, output 16'
    """
    ranks = (("input", layer.rank_in), ("output", layer.rank_out))
    return ", ".join(f"{side} {rank}" for side, rank in ranks if rank) or "-"


def score_text(metric: str, value: float | None) -> str:
    """Return a value of the metric with its unit."""
    unit = _UNITS.get(metric, ("", ""))[0]
    return "-" if value is None else f"{value:.5g}{unit}"


def loss_text(metric: str, loss: float) -> str:
    """Return a loss, or a gain, with its unit.

    Examples
    --------
    >>> loss_text("accuracy", 0.834), loss_text("accuracy", -0.1), loss_text("score", 0.5)
    ('a loss of 0.834 points', 'a gain of 0.1 points', 'a loss of 0.5')
    """
    unit = _UNITS.get(metric, ("", ""))[1]
    return f"a {'gain' if loss < 0 else 'loss'} of {abs(loss):.3g}{unit}"


def before_after(report: CompressionReport) -> list[tuple[str, str, str, str]]:
    """Return name, value before, value after and share kept of the whole network's numbers."""
    before, after = report.before, report.after
    rows = [
        ("parameters", *count_pair((before.parameters, after.parameters)),
         f"{report.parameters_kept:.1%}"),
        ("multiply-adds of one sample", *count_pair((before.macs, after.macs)),
         f"{report.macs_kept:.1%}" if before.macs else "-"),
        ("milliseconds of one batch", milliseconds(before.seconds), milliseconds(after.seconds),
         f"{after.seconds / before.seconds:.1%}" if before.seconds and after.seconds else "-"),
    ]  # fmt: skip
    scores = [("validation", report.full_score, report.small_score)]
    if report.test_scores is not None:
        scores.append(("test", *report.test_scores))
    for part, full, small in scores:
        if full is not None:
            texts = [score_text(report.metric, value) for value in (full, small)]
            rows.append((f"{report.metric or 'metric'}, {part}", texts[0], texts[1], ""))
    return rows


def headline(report: CompressionReport) -> str:
    """Return the sentence with the numbers of the whole network before and after."""
    cut = sum(layer.side != "none" for layer in report.layers)
    parts = []
    for name, first, second, kept in before_after(report)[:3]:
        if first != "-":
            parts.append(f"{first} -> {second} {name} ({kept})")
    text = f"{cut} of {len(report.layers)} layers were cut: {', '.join(parts)}."
    if report.loss is not None:
        scores = [score_text(report.metric, v) for v in (report.full_score, report.small_score)]
        text += (
            f" {report.metric.capitalize()} on the validation batches: {scores[0]} -> "
            f"{scores[1]}, {loss_text(report.metric, report.loss)}."
        )
    else:
        text += " The loss was not measured: there were no validation batches."
    if report.test_scores is not None:
        scores = [score_text(report.metric, value) for value in report.test_scores]
        text += f" On the test batches, which were read once: {scores[0]} -> {scores[1]}."
    return text


def error_text(report: CompressionReport) -> str:
    """Return the definition of the measured errors of layers, after "errors".

    Examples
    --------
    >>> from hpcembed.networks.low_rank.shape import Cost
    >>> report = CompressionReport([], [], Cost(1, 1), Cost(1, 1), "", None, None, None, None,
    ...                            {"sequential": False}, 100, "", ())
    >>> error_text(report)
    'of each layer on the inputs that it has in the whole model'
    """
    fits = (
        report.settings.get("sequential", True) or report.settings.get("repair", "none") != "none"
    )
    if fits:
        return (
            "of the layer's output in the compressed network, which contain those of the layers "
            "before it"
        )
    return "of each layer on the inputs that it has in the whole model"


def predicted_text(report: CompressionReport) -> str:
    """Return the unit of predicted losses."""
    if report.settings.get("objective") == "loss":
        return "nats of the divergence per sample"
    return "weighted sum of the layers' relative errors"


def certification(report: CompressionReport) -> str:
    """Return the sentence on residuals and orthonormality; empty if no layer was cut."""
    cut = [layer for layer in report.layers if layer.side != "none"]
    if not cut:
        return ""
    solvers = sorted({one for layer in cut for one in layer.solver.split(", ") if one})
    by = f"Eigenproblems were solved by {' and '.join(solvers)}. " if solvers else ""
    return (
        f"{by}Largest true residual of an eigenpair, relative to the largest eigenvalue of its "
        "layer: "
        f"{number(max(layer.max_residual for layer in cut))}. Largest deviation from "
        f"orthonormality: {number(max(layer.orthogonality for layer in cut))}."
    )
