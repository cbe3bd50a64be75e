"""Figures of a study with their numbers, written into its folder for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hpcembed.embedding import Spectrum
from hpcembed.jobs.network_sizes import NETWORK_SIZES
from hpcembed.jobs.report.figures import (
    accuracy,
    components,
    confusion,
    intervals,
    model_size,
    predictions,
    spectrum,
    training,
)
from hpcembed.jobs.report.figures.style import FigureWriter
from hpcembed.jobs.report.nearest_words import Neighbours
from hpcembed.jobs.report.page import PageFigure
from hpcembed.jobs.report.run_json import EmbeddingRecord
from hpcembed.jobs.report.wording import network_name
from hpcembed.jobs.study.rivals.wording import rival_columns
from hpcembed.jobs.study.summary import StudySummary
from hpcembed.runtime.wording import counted

__all__ = ["DrawnData", "StudyFigures"]

Columns = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DrawnData:
    """Parts of the data and of the embedding that a report draws; complete on rank 0 only.

    Attributes
    ----------
    spectrum : Spectrum
    components : ndarray of shape (k, n_features)
        Of a projection; empty otherwise.
    class_names : tuple of str
    image_shape : tuple of int
        Shape of rows that are images, (height, width) or (channels, height, width); else empty.
    scatter : ndarray of shape (n, m)
        Leading components of some test rows, with m up to 3.
    scatter_classes : list of str
        Classes of those rows.
    words : list of Neighbours
        Nearest words of a text; else empty.
    scatter_targets : ndarray of shape (n,)
        Targets of those rows, for a regression; else empty.
    """

    spectrum: Spectrum
    components: NDArray[np.float64]
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...] = ()
    scatter: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    scatter_classes: list[str] = field(default_factory=list)
    words: list[Neighbours] = field(default_factory=list)
    scatter_targets: NDArray[Any] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class StudyFigures:
    """Draws and writes the figures of a study; each method returns figures for the page.

    A method returns an empty list if the study has nothing to draw.
    """

    writer: FigureWriter
    summary: StudySummary
    data: DrawnData

    @property
    def _name(self) -> str:
        return self.summary.study.data.name

    def _write(self, name: str, figure: Figure, columns: Columns, caption: str) -> list[PageFigure]:
        return [self.writer.write(name, figure, columns, caption)]

    def accuracy_over_dimension(self) -> list[PageFigure]:
        """Draw accuracy over dimension, and a comparison of embeddings if there are several."""
        study, curves = self.summary.study, self._accuracy_curves()
        if not curves:
            return []
        title = (
            f"{study.data.name}, recipe {study.study.recipe}, {counted(len(study.seeds), 'seed')}"
        )
        first = [curve for curve in curves if curve.embedding == curves[0].embedding]
        score = self.summary.score
        figures = self._write(
            score.file_name, accuracy.draw_accuracy(first, title, score),
            accuracy.accuracy_columns(first),
            f"Test {score.name} over the number of components: mean over the seeds, with a band "
            "of one standard deviation. Dashed: the same network on all features. Ring and dotted "
            f"line: {self._ringed()}.",
        )  # fmt: skip
        if len(first) == len(curves):
            return figures
        return figures + self._write(
            "embeddings", accuracy.draw_embeddings(curves, title, score),
            accuracy.accuracy_columns(curves),
            "The same networks on other inputs of as many columns.",
        )  # fmt: skip

    def rivals_figure(self) -> list[PageFigure]:
        """Draw the differences of rival projections from the embedding, at up to three k."""
        found, method = self.summary.rivals, self.summary.study.embedding.method
        points = [] if found is None else [p for p in found.of_network if p.difference is not None]
        if found is None or not points:
            return []
        sizes = sorted({point.dimension for point in points})
        shown = {sizes[0], found.dimension, sizes[-1]} & set(sizes)
        shown |= {sizes[len(sizes) // 2]} if len(shown) < 3 else set()
        sizes = sorted(shown)
        panels = []
        for k in sizes:
            rows = [(p, p.difference) for p in points if p.dimension == k]
            names = [p.input + (f" ({p.n_inputs})" if p.n_inputs < k else "") for p, _ in rows]
            ends = ([100 * getattr(d, end) for _, d in rows] for end in ("mean", "low", "high"))
            panels.append(intervals.IntervalPanel(f"k = {k}", names, *ends))
        network = network_name(found.hidden)
        title = f"{self._name}, network {network}: rival projections and {method}"
        score = self.summary.score.name
        return self._write(
            "rivals",
            intervals.draw_intervals(panels, title, f"points of test {score} from {method}"),
            rival_columns(self.summary, found),
            f"Differences of the test {score} from {method} at equal k, with intervals that hold "
            "together for all rivals. Green squares: above zero. Red triangles: below zero. Grey: "
            "the interval contains zero. In parentheses: coordinates, where a rival has fewer.",
        )

    def _accuracy_curves(self) -> list[accuracy.AccuracyCurve]:
        names = {widths: name for name, widths in NETWORK_SIZES.items()}
        curves = []
        for hidden, points in self.summary.networks.items():
            baseline = next((point.test_mean for point in points if point.input == "full"), None)
            other = self.summary.published.get(hidden)
            title = network_name(hidden) + (f" ({names[hidden]})" if hidden in names else "")
            for kind in dict.fromkeys(point.input for point in points if point.input != "full"):
                group = [point for point in points if point.input == kind]
                # Of the studied range only: accuracies of smaller k would stretch the axis.
                first, largest = group[0].n_inputs, group[-1].n_inputs
                known = other.accuracy[:largest] if other and kind == "spectral" else ()
                published = [(k, value) for k, value in enumerate(known, 1) if k >= first]
                curves.append(
                    accuracy.AccuracyCurve(
                        network=title,
                        embedding=kind,
                        dimensions=[point.n_inputs for point in group],
                        mean=[point.test_mean for point in group],
                        deviation=[point.test_deviation for point in group],
                        baseline=baseline,
                        published=published,
                        published_baseline=other.baseline if published and other else None,
                        chosen=self._chosen_dimension(hidden, kind),
                        is_kept=self._is_kept(),
                    )
                )
        return curves

    def _chosen_dimension(self, hidden: tuple[int, ...], kind: str) -> int | None:
        """Return k of the chosen model, if it has this network and input."""
        one = self.summary.compression
        if one is None or (one.point.hidden, one.point.input) != (hidden, kind):
            return None
        return one.point.n_inputs

    def _is_kept(self) -> bool:
        return self.summary.compression is None or self.summary.compression.holds

    def _ringed(self) -> str:
        if self._is_kept():
            return "the chosen model"
        return f"the nearest model, as none is known to keep the {self.summary.score.name}"

    def accuracy_over_size(self) -> list[PageFigure]:
        """Draw accuracy over the size of a model."""
        summary = self.summary
        models = [
            model_size.SizedModel(
                network_name(point.hidden), point.n_inputs, point.input != "full",
                summary.stored_numbers(point) or point.parameters, point.test_mean,
                chosen=summary.compression is not None and point == summary.compression.point,
                is_kept=self._is_kept(),
            )
            for point in summary.points
            if point.input in ("full", "spectral")
        ]  # fmt: skip
        if not models:
            return []
        included = "the projection included" if summary.is_linear else "without the embedding"
        return self._write(
            "pareto", model_size.draw_model_sizes(models, self._name, included, summary.score),
            model_size.model_size_columns(models),
            f"Test {summary.score.name} over the number of parameters of a model, {included}. "
            "Squares are networks on all features; the line joins the models that are better than "
            f"every smaller one. Ring: {self._ringed()}.",
        )  # fmt: skip

    def seconds_over_dimension(self) -> list[PageFigure]:
        """Draw training seconds over dimension."""
        curves = []
        for hidden, points in self.summary.networks.items():
            group = [point for point in points if point.input == "spectral"]
            baseline = next((p.train_seconds for p in points if p.input == "full"), None)
            if group:
                k, seconds = zip(*((p.n_inputs, p.train_seconds) for p in group), strict=True)
                curves.append(training.TimeCurve(network_name(hidden), k, seconds, baseline))
        if not curves:
            return []
        return self._write(
            "training_time", training.draw_training_times(curves, self._name),
            training.time_columns(curves),
            "Seconds of one training, median over the seeds. Networks are trained together; "
            "the seconds of one network are its share.",
        )  # fmt: skip

    def spectrum_figure(self, embedding: EmbeddingRecord) -> list[PageFigure]:
        """Draw the spectrum of an embedding."""
        found = self.data.spectrum
        worst = max(np.asarray(embedding.residual_norms, dtype=np.float64), default=math.nan)
        return self._write(
            "spectrum", spectrum.draw_spectrum(found), spectrum.spectrum_columns(found),
            f"Eigenvalues of the {embedding.operator}, by {embedding.solver}. The "
            f"largest true residual of an eigenpair is {worst:.1e} of the largest eigenvalue.",
        )  # fmt: skip

    def confusion_figure(self) -> list[PageFigure]:
        """Draw the confusion matrix of the chosen model."""
        one, counts = self.summary.compression, self.summary.confusion()
        names = self.data.class_names
        if one is None or not counts.size:
            return []
        title = f"{network_name(one.point.hidden)}, k = {one.point.n_inputs}"
        return self._write(
            "confusion", confusion.draw_confusion(counts, names, title),
            confusion.confusion_columns(counts, names),
            f"Test rows of each class by their predicted class, over "
            f"{counted(len(one.point.seeds), 'seed')}, in percent of the class.",
        )  # fmt: skip

    def predictions_figure(self) -> list[PageFigure]:
        """Draw predictions over targets at the chosen model of a regression."""
        one, pairs = self.summary.compression, self.summary.predictions()
        if one is None or not pairs.size:
            return []
        title = f"{network_name(one.point.hidden)}, k = {one.point.n_inputs}"
        curves = {title: pairs}
        return self._write(
            "predictions", predictions.draw_predictions(curves, self._name),
            predictions.prediction_columns(curves),
            f"Predictions of {counted(len(pairs), 'test row')} over their targets, in the unit of "
            "the target, by the network of the first seed.",
        )  # fmt: skip

    def scatter_figure(self) -> list[PageFigure]:
        """Draw the leading components of test rows."""
        rows, classes = self.data.scatter, self.data.scatter_classes
        targets = self.data.scatter_targets if self.data.scatter_targets.size else None
        if not rows.size:
            return []
        columns: dict[str, Any] = {f"component{i + 1}": rows[:, i] for i in range(rows.shape[1])}
        title = f"{self._name}, {counted(len(rows), 'test row')}"
        return self._write(
            "scatter", components.draw_scatter(rows, classes, title, targets),
            columns | ({"class": classes} if targets is None else {"target": targets}),
            f"The first components of {counted(len(rows), 'test row')}, coloured by their "
            f"{'class' if targets is None else 'target'}.",
        )  # fmt: skip

    def eigenvectors_figure(self) -> list[PageFigure]:
        """Draw eigenvectors as images."""
        shape, vectors = self.data.image_shape, self.data.components[: components.MOST_IMAGES]
        if not shape or not len(vectors):
            return []
        return self._write(
            "eigenvectors", components.draw_eigenvector_images(vectors, shape, self._name),
            {f"component{i + 1}": row for i, row in enumerate(vectors)},
            f"The {len(vectors)} leading eigenvectors as images, each on its own scale.",
        )  # fmt: skip
