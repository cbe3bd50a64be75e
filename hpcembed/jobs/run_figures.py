"""The figures of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcembed.embedding import Embedding
from hpcembed.jobs.report.figures.convergence import draw_convergence
from hpcembed.jobs.report.figures.graph import draw_graph
from hpcembed.jobs.report.figures.predictions import draw_predictions, prediction_columns
from hpcembed.jobs.report.figures.spectrum import draw_gaps, draw_spectrum
from hpcembed.jobs.report.figures.style import FigureWriter
from hpcembed.jobs.report.figures.training import draw_training
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.report.scores import score_of
from hpcembed.jobs.report.wording import network_name

if TYPE_CHECKING:
    from hpcembed.networks.training.report import TrainedClassifier

__all__ = ["draw_run"]


def draw_run(
    folder: RunFolder,
    tol: float,
    embedding: Embedding,
    trained: Sequence[TrainedClassifier],
    class_names: Sequence[str],
) -> None:
    """Draw spectrum, convergence, training; for graphs also eigenvalue gaps and coordinates.

    For a regression the predictions of test rows are drawn over their targets.

    Parameters
    ----------
    tol : float
        Tolerance of the eigenpairs, for the figure of the convergence.
    """
    figures, spectrum = FigureWriter(folder, forms=("png",)), embedding.spectrum_
    figures.write("spectrum", draw_spectrum(spectrum))
    drawing = getattr(embedding, "drawing_", None)
    if drawing is not None:
        figures.write("eigenvalue_gaps", draw_gaps(spectrum.values))
        figures.write("graph", draw_graph(drawing, class_names))
    if embedding.result_.history:
        figures.write("convergence", draw_convergence(embedding.result_.history, tol))
    if trained:
        curves = {
            f"{one.report.input} {network_name(one.report.hidden)}": one.report.history
            for one in trained
        }
        score = score_of(trained[0].report.task)
        figures.write("training", draw_training(curves, score))
    predictions = {
        f"{one.report.input} {network_name(one.report.hidden)}": one.report.predictions
        for one in trained
        if len(one.report.predictions)
    }
    if predictions:
        figures.write(
            "predictions",
            draw_predictions(predictions, "Test rows"),
            prediction_columns(predictions),
        )
