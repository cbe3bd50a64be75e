"""Accuracy over dimension: ordinary and unusual studies."""

import math

import numpy as np
import pytest
from matplotlib.image import imread

from hpcembed.jobs.report.figures.accuracy import (
    AccuracyCurve,
    accuracy_columns,
    draw_accuracy,
    draw_embeddings,
)
from hpcembed.jobs.report.figures.style import save_figure
from hpcembed.jobs.report.scores import ACCURACY, R2


def curve(network, embedding="spectral", n=8, **changes):
    k = list(range(1, n + 1))
    values = {
        "dimensions": k,
        "mean": [1 - 0.7 / i for i in k],
        "deviation": [0.01] * n,
        "baseline": 0.9,
    }
    return AccuracyCurve(network, embedding, **(values | changes))


ODD = [
    [curve("a", n=1)],
    [curve("a", deviation=[math.nan] * 8, baseline=None)],
    [curve(f"{i}-{i}", n=80) for i in range(10)],
    [curve("a", published=[(1, 0.3), (2, 0.5)], published_baseline=0.8), curve("b")],
]


@pytest.mark.parametrize("curves", ODD)
@pytest.mark.parametrize("draw", [draw_accuracy, draw_embeddings])
def test_drawn_as_png_and_svg(tmp_path, curves, draw):
    save_figure(draw(curves, "title"), tmp_path / "a.png")
    image = imread(tmp_path / "a.png")
    assert min(image.shape[:2]) > 300
    assert (image[..., :3].mean(axis=2) < 0.5).mean() > 0.001
    for name in ("a.svg", "b.svg"):
        save_figure(draw(curves, "title"), tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text.startswith("<?xml")
    assert text == (tmp_path / "b.svg").read_text()  # nothing of the day or of chance


def test_embeddings_of_many_networks(tmp_path):
    kinds = ("spectral", "whitened", "gaussian", "sparse")
    figure = draw_embeddings([curve(n, kind) for n in "abc" for kind in kinds], "title")
    save_figure(figure, tmp_path / "a.png")
    assert np.isfinite(imread(tmp_path / "a.png")).all()


def test_the_chosen_dimension_has_a_ring_a_line_and_a_label():
    curves = [curve("a"), curve("b", chosen=4)]
    axes = draw_accuracy(curves, "title").axes[0]
    (ring,) = [line for line in axes.lines if line.get_label() == "chosen:\nb,\nk = 4"]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (4, 100 * (1 - 0.7 / 4))
    assert ring.get_markersize() > 10
    assert [4, 4] in [list(line.get_xdata()) for line in axes.lines]
    columns = accuracy_columns(curves)
    marked = zip(columns["network"], columns["dimensions"], columns["chosen"], strict=True)
    assert [row[:2] for row in marked if row[2]] == [("b", 4)]
    plain = draw_accuracy([curve("a")], "title").axes[0]
    assert not any("chosen" in str(line.get_label()) for line in plain.lines)
    lost = draw_accuracy([curve("b", chosen=4, is_kept=False)], "t").axes[0]
    assert "nearest:\nb,\nk = 4" in [line.get_label() for line in lost.lines]


@pytest.mark.parametrize(("score", "largest"), [(ACCURACY, 100.0), (R2, 1.0)])
def test_no_score_above_the_largest_one(score, largest):
    high = curve("a", mean=[0.97] * 7 + [1.0], deviation=[0.05] * 8)
    axes = draw_accuracy([high], "title", score).axes[0]
    (band,) = axes.collections
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(largest)
    # the marker of the largest score is not cut
    assert largest < axes.get_ylim()[1] < 1.01 * largest
    panels = draw_embeddings([high, curve("a", "gaussian")], "title", score).axes[:1]
    assert panels[0].get_ylim()[1] < 1.05 * largest


def test_low_scores_keep_their_limits():
    low = curve("a", mean=[0.5] * 8, deviation=[0.02] * 8, baseline=None)
    assert draw_accuracy([low], "title").axes[0].get_ylim()[1] < 60
