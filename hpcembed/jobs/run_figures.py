"""The figures of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hpcembed.embedding import Embedding
from hpcembed.jobs.report.figures.confusion import confusion_columns, draw_confusion
from hpcembed.jobs.report.figures.convergence import draw_convergence
from hpcembed.jobs.report.figures.graph import draw_graph
from hpcembed.jobs.report.figures.model_size import (
    SizedModel,
    draw_model_sizes,
    model_size_columns,
)
from hpcembed.jobs.report.figures.predictions import draw_predictions, prediction_columns
from hpcembed.jobs.report.figures.similarity import draw_similarity, similarity_columns
from hpcembed.jobs.report.figures.spectrum import draw_gaps, draw_spectrum
from hpcembed.jobs.report.figures.style import FigureWriter
from hpcembed.jobs.report.figures.training import draw_training
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.report.run_headline import best_network
from hpcembed.jobs.report.run_json import SimilarityRecord
from hpcembed.jobs.report.scores import score_of
from hpcembed.jobs.report.wording import network_name

if TYPE_CHECKING:
    from hpcembed.networks.training.report import ClassifierReport, TrainedClassifier

__all__ = ["draw_run"]


def draw_run(
    folder: RunFolder,
    tol: float,
    embedding: Embedding,
    trained: Sequence[TrainedClassifier],
    class_names: Sequence[str],
    similarity: Sequence[SimilarityRecord] = (),
) -> None:
    """Draw spectrum, convergence and networks; for graphs also eigenvalue gaps and coordinates.

    Figures of networks are those of the training, accuracy over size, a confusion matrix, and the
    similarity of their layers.

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
        reports = [one.report for one in trained]
        score = score_of(reports[0].task)
        figures.write("training", draw_training(curves, score))
        _draw_predictions(figures, reports)
        if score.is_accuracy:
            _draw_networks(figures, embedding, reports, class_names)
    if similarity:
        heat_maps = draw_similarity(similarity)
        figures.write("layer_similarity", heat_maps, similarity_columns(similarity))


def _draw_networks(
    figures: FigureWriter,
    embedding: Embedding,
    reports: Sequence[ClassifierReport],
    class_names: Sequence[str],
) -> None:
    """Draw accuracy over size, and the confusion matrix of the best network on the embedding."""
    d, k = embedding.n_features_in_, len(embedding.spectrum_.values)
    is_linear = embedding.linear_map_ is not None
    chosen = best_network(reports, "embedded")
    models = [
        SizedModel(
            network_name(one.hidden),
            k if one.input == "embedded" else d,
            one.input == "embedded",
            one.parameters + (k * d if one.input == "embedded" and is_linear else 0),
            one.test_accuracy,
            chosen=one is chosen,
        )
        for one in reports
        if math.isfinite(one.test_accuracy)
    ]
    if models:
        counted = "the projection included" if is_linear else "without the embedding"
        figures.write(
            "accuracy_over_size", draw_model_sizes(models, "Accuracy over size", counted),
            model_size_columns(models),
        )  # fmt: skip
    drawn = [one for one in reports if one.test_confusion]
    if not drawn:
        return
    # As hpcembed export chooses it: by validation rows, the smallest of equal ones.
    best = max(
        drawn, key=lambda one: (one.input == "embedded", one.validation_accuracy, -one.parameters)
    )
    counts = np.array(best.test_confusion, dtype=np.int64)
    inputs = f"k = {k}" if best.input == "embedded" else "all features"
    figures.write(
        "confusion", draw_confusion(counts, class_names, f"{network_name(best.hidden)}, {inputs}"),
        confusion_columns(counts, class_names),
    )  # fmt: skip


def _draw_predictions(figures: FigureWriter, reports: Sequence[ClassifierReport]) -> None:
    """Draw the predictions of a regression over their targets."""
    predictions = {
        f"{one.input} {network_name(one.hidden)}": one.predictions
        for one in reports
        if len(one.predictions)
    }
    if predictions:
        figures.write(
            "predictions",
            draw_predictions(predictions, "Test rows"),
            prediction_columns(predictions),
        )
