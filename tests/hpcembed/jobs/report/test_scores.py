"""Names and numbers of scores, and the tables and figures of regressions."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from hpcembed.jobs.report.figures.accuracy import AccuracyCurve, draw_accuracy
from hpcembed.jobs.report.figures.components import draw_scatter
from hpcembed.jobs.report.figures.model_size import SizedModel, draw_model_sizes
from hpcembed.jobs.report.figures.predictions import draw_predictions, prediction_columns
from hpcembed.jobs.report.figures.training import draw_training
from hpcembed.jobs.report.run_json import ClassifierRecord, classifier_record
from hpcembed.jobs.report.scores import ACCURACY, R2, score_of, worse_than_mean_warning
from hpcembed.jobs.report.tables import network_table

REPORT = SimpleNamespace(
    input="full",
    hidden=(8,),
    parameters=97,
    train_seconds=0.5,
    task="regression",
    validation_score=0.5,
    test_score=-0.25,
    test_rmse=51.234567,
    test_mae=math.nan,
)


def test_names_and_formats():
    assert (score_of("regression"), score_of("classification")) == (R2, ACCURACY)
    assert ACCURACY.with_unit(0.5) == "50.00 %"
    assert R2.with_unit(-0.5, 0.01) == "R2 -0.5000 ± 0.0100"
    assert R2.text(math.nan) == "-"
    assert (ACCURACY.title, R2.title) == ("Accuracy", "R2")
    assert (ACCURACY.axis("test"), R2.axis("test")) == ("test accuracy (%)", "test R2")


def test_warning_about_networks_that_are_no_better_than_the_mean():
    warning = worse_than_mean_warning([("a", 0.0), ("b", 0.1), ("c", -3.0), ("d", math.nan)])
    assert "a (0.0000), c (-3.0000)" in warning
    assert "b (" not in warning
    assert worse_than_mean_warning([("d", math.nan)]) == ""


def test_table_and_record_of_a_regression():
    head, _, row = network_table([REPORT], {"full": 10}).plain().split("\n")
    assert head.split("  ")[-4:] == ["validation R2", "test R2", "test RMSE", "test MAE"]
    assert row.split()[-4:] == ["0.5000", "-0.2500", "51.23", "-"]
    record = classifier_record(REPORT)
    assert (record.validation_accuracy, record.test_accuracy) == (None, None)
    assert (record.validation, record.test, record.test_rmse) == (0.5, -0.25, 51.234567)
    old = ClassifierRecord("full", (8,), 97, 0.5, 0.9, 0.8)
    assert (old.validation, old.test) == (0.9, 0.8)


@pytest.mark.parametrize("score", [ACCURACY, R2])
def test_axes_show_the_score(score):
    curve = AccuracyCurve("8", "spectral", [1, 2], [0.2, 0.4], [0.1, 0.1], baseline=0.5)
    epochs = [SimpleNamespace(epoch=1, train_loss=0.5, validation_score=0.25)]
    for figure, place in (
        (draw_accuracy([curve], "t", score), 0),
        (draw_model_sizes([SizedModel("8", 2, True, 100, 0.4)], "t", score=score), 0),
        (draw_training({"8": epochs}, score), 1),
    ):
        axes = figure.axes[place]
        assert axes.get_ylabel().endswith("accuracy (%)" if score is ACCURACY else "R2")
        highest = max(np.max(line.get_ydata()) for line in axes.lines if len(line.get_ydata()))
        assert highest == pytest.approx(score.factor * {0: highest / score.factor, 1: 0.25}[place])
        assert highest <= 1.0 or score is ACCURACY


def test_predictions_over_targets():
    pairs = np.array([[1.0, 1.5], [3.0, 2.5]])
    figure = draw_predictions({"8": pairs}, "t")
    points, line = figure.axes[0].lines
    np.testing.assert_array_equal(points.get_ydata(), [1.5, 2.5])
    np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
    assert prediction_columns({"8": pairs}) == {
        "network": ["8", "8"],
        "target": [1.0, 3.0],
        "prediction": [1.5, 2.5],
    }


@pytest.mark.parametrize("m", [1, 3])
def test_scatter_is_coloured_by_target(m):
    rows, targets = np.random.default_rng(0).standard_normal((9, m)), np.arange(9.0)
    figure = draw_scatter(rows, [], "t", targets)
    assert len(figure.axes) == (3 if m == 3 else 1) + 1
    np.testing.assert_array_equal(figure.axes[0].collections[0].get_array(), targets)
