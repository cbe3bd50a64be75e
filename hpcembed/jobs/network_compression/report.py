"""Report of a network compression: a page, tables, figures with their data, and all numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mpi4py import MPI

from hpcembed.jobs.network_compression import figures
from hpcembed.jobs.network_compression.wording import (
    before_after,
    certification,
    count_pair,
    error_text,
    headline,
    layer_ranks,
    layer_size,
    milliseconds,
    number,
    one_line,
    percentage,
    predicted_text,
)
from hpcembed.jobs.report.figures.style import FigureWriter
from hpcembed.jobs.report.page import PageFigure, PageSection, PageTable, render_page
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.report.tables import TextTable
from hpcembed.networks.low_rank.report import CompressionReport
from hpcembed.runtime.agreement import idle_while_root
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.output.whole_folder import whole_folder
from hpcembed.runtime.ranks import communicator

__all__ = ["folder_for", "layer_table", "settings_rows", "write_report", "write_report_folder"]

TITLE = "Network compression"


def write_report_folder(
    report: CompressionReport,
    folder: str | os.PathLike[str],
    *,
    title: str = "",
    comm: MPI.Comm | None = None,
) -> Path:
    """Write the report of a compression as a folder.

    Collective if `comm` is given. The files are ``report.html`` (one file, figures included),
    ``report.json``, ``layers.csv``, ``frontier.csv`` and ``figures/`` (PNG, SVG and CSV).

    Parameters
    ----------
    report : CompressionReport
    folder : path
        Must not exist, or be an empty folder. It is complete or absent.
    title : str
        Name of the model or of the experiment.
    comm : MPI.Comm, optional
        Rank 0 writes, the others wait. Default: the calling rank writes.

    Returns
    -------
    Path

    Raises
    ------
    ConfigError
        The report is not one of a compression, or the folder is not a path.
    OutputExistsError
        The folder is not empty, or is a file.
    OutputError
        The folder cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from hpcembed.networks.low_rank.report import LayerReport
    >>> from hpcembed.networks.low_rank.shape import Cost
    >>> layer = LayerReport("fc", "linear", (8, 9, 1, 1), parameters=(80, 80), reason="tied")
    >>> report = CompressionReport(
    ...     [layer], [], Cost(80, 72), Cost(80, 72), "", None, None, None, None, {}, 100, "", ()
    ... )
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     sorted(os.listdir(write_report_folder(report, os.path.join(parent, "report"))))
    ['figures', 'frontier.csv', 'layers.csv', 'report.html', 'report.json']
    """
    path = folder_for(report, folder)

    def write() -> None:
        with whole_folder(path) as partial:
            write_report(RunFolder(partial), report, title)

    idle_while_root(communicator(comm), write)
    return path


def folder_for(report: Any, folder: Any) -> Path:
    """Return the path of a new folder, after checks of the types of both arguments.

    Raises
    ------
    ConfigError
        The report is not one of a compression, or the folder is not a path.
    """
    if not isinstance(report, CompressionReport):
        raise ConfigError(
            f"report: the second result of compress_model is needed, not {type(report).__name__}"
        )
    if not isinstance(folder, (str, os.PathLike)):
        raise ConfigError(f"folder: a path is needed, not {type(folder).__name__}")
    return Path(folder)


def write_report(folder: RunFolder, report: CompressionReport, title: str = "") -> None:
    """Write the files of a report into a folder; see :func:`write_report_folder`."""
    folder.write_json("report.json", _record(report, title))
    folder.write_csv("layers.csv", figures.layer_columns(report.layers))
    folder.write_csv("frontier.csv", figures.frontier_columns(report))
    drawn = _figures(FigureWriter(folder), report)
    folder.write_text("report.html", _page(report, title, drawn))


def _record(report: CompressionReport, title: str) -> dict[str, Any]:
    chosen = figures.chosen_point(report)
    return {
        "title": title,
        "parameters_kept": report.parameters_kept,
        "macs_kept": report.macs_kept,
        "ranks": {name: asdict(ranks) for name, ranks in report.ranks.items()},
        "chosen": next((i for i, p in enumerate(report.frontier) if p is chosen), None),
        **report.as_dict(),
    }


def _figures(writer: FigureWriter, report: CompressionReport) -> dict[str, list[PageFigure]]:
    drawn: dict[str, list[PageFigure]] = {"frontier": [], "layers": []}
    if report.frontier:
        caption = (
            "Least predicted loss at each cost of the network, from one set of eigenproblems, in "
            f"units of the {predicted_text(report)}; the star is the result."
        )
        if any(point.measured_loss is not None for point in report.frontier):
            caption += " Below: losses that were measured on the validation batches."
        columns = figures.frontier_columns(report)
        figure = figures.draw_frontier(report)
        drawn["frontier"] = [writer.write("frontier", figure, columns, caption)]
    layers = figures.drawn_layers(report)
    if layers:
        caption = (
            "Bars: parameters that each layer keeps. Dots: share of the variance that its ranks "
            "capture, in the norm in which they were chosen."
        )
        if len(layers) < len(report.layers):
            caption += f" The {len(layers)} layers with most parameters are drawn."
        figure = figures.draw_layers(report)
        columns = figures.layer_columns(layers)
        drawn["layers"] = [writer.write("layers", figure, columns, caption)]
    return drawn


def _page(report: CompressionReport, title: str, drawn: Mapping[str, list[PageFigure]]) -> str:
    name = f"{TITLE}: {title}" if title else TITLE
    sections = [
        PageSection("Warnings", report.warnings),
        PageSection("Before and after", [_overall_table(report)]),
        PageSection("Loss over size", [*drawn["frontier"], *_frontier_table(report)]),
        PageSection(
            "Layers", [*drawn["layers"], PageTable(layer_table(report), _layer_caption(report))]
        ),
        PageSection("Calibration", _calibration(report)),
        PageSection("Settings", [_pairs(("setting", "value"), settings_rows(report.settings))]),
        PageSection("Seconds of the steps", _seconds(report)),
    ]
    lead = [headline(report), certification(report)]
    return render_page(name, [text for text in lead if text], sections)


def _layer_caption(report: CompressionReport) -> str:
    return (
        "Errors are mean square errors of the layer's outputs, relative to their variance: "
        "predicted from the factors alone, for the inputs that the layer has in the whole model; "
        f"and measured on the calibration batches: those {error_text(report)}. Multiply-adds are "
        "those of one sample and of the layers in this table alone: products of activations, as "
        "in attention, are not counted. Seconds are those of one batch. Parameters of a shared "
        "reduction are counted at the first layer that has it."
    )


def layer_table(report: CompressionReport) -> TextTable:
    """Return the table of all layers with all their numbers."""
    headings = (
        "layer", "type", "outputs x inputs", "side", "rank", "captured %", "error predicted",
        "error measured", "residual", "parameters", "after", "multiply-adds", "after", "ms",
        "after", "note",
    )  # fmt: skip
    rows = []
    for layer in report.layers:
        is_cut = layer.side != "none"
        note = layer.reason
        if layer.shared_with:
            note = f"reduction shared with {', '.join(layer.shared_with)}"
        values = (layer.error_predicted, layer.error_measured, layer.max_residual)
        rows.append(
            (
                one_line(layer.name),
                layer.kind,
                layer_size(layer),
                layer.side,
                layer_ranks(layer),
                percentage(layer.captured) if is_cut else "-",
                *(number(value) if is_cut else "-" for value in values),
                *count_pair(layer.parameters),
                *count_pair(layer.macs),
                *(milliseconds(value) for value in layer.seconds),
                one_line(note),
            )
        )
    return TextTable(headings, rows, text_columns=(0, 1, 2, 3, 4, 15))


def settings_rows(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return names and values of settings; those inside of others get a compound name.

    Examples
    --------
    >>> settings_rows({"seed": 0, "request": {"budget": {"parameters": 0.5}}})
    [('seed', '0'), ('request.budget.parameters', '0.5')]
    """
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows += settings_rows(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", one_line(value)))
    return rows


def _overall_table(report: CompressionReport) -> PageTable:
    return PageTable(TextTable(("", "before", "after", "kept"), before_after(report)))


def _frontier_table(report: CompressionReport) -> list[PageTable]:
    chosen = figures.chosen_point(report)
    rows = [
        (
            *count_pair((point.parameters, point.macs)),
            number(point.predicted_loss),
            "-" if point.measured_loss is None else f"{point.measured_loss:.4g}",
            str(sum(ranks.side != "none" for ranks in point.ranks.values())),
            "result" if point is chosen else "",
        )
        for point in report.frontier
    ]
    headings = (
        "parameters", "multiply-adds", "predicted loss", "measured loss", "layers cut", "",
    )  # fmt: skip
    table = TextTable(headings, rows, text_columns=(5,))
    return [PageTable(table, summary=f"{len(rows)} points of the frontier")] if rows else []


def _calibration(report: CompressionReport) -> list[str]:
    text = f"{report.samples:,} samples."
    if report.calibration_hash:
        text += f" SHA-256 of the calibration batches: {report.calibration_hash}."
    folded = ", ".join(one_line(name) for name in report.folded)
    more = f"Batch normalisations that were folded into the layers before them: {folded}."
    return [text, more] if folded else [text]


def _seconds(report: CompressionReport) -> list[PageTable]:
    rows = [(step, f"{value:.2f}") for step, value in report.seconds.items()]
    if not rows:
        return []
    rows.append(("sum", f"{sum(report.seconds.values()):.2f}"))
    return [PageTable(TextTable(("step", "seconds"), rows))]


def _pairs(headings: tuple[str, str], rows: list[tuple[str, str]]) -> PageTable:
    return PageTable(TextTable(headings, rows, text_columns=(0, 1)))
