"""Figures and tables of a study, for the ordinary and for the odd."""

import math

import numpy as np
import pytest
from matplotlib.image import imread

from hpcembed.jobs.report import (
    AccuracyCurve,
    draw_accuracy,
    draw_rivals,
    markdown_table,
    percent,
    points,
)


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
@pytest.mark.parametrize("draw", [draw_accuracy, draw_rivals])
def test_drawn_as_png_and_svg(tmp_path, curves, draw):
    draw(tmp_path / "a.png", curves, "title")
    image = imread(tmp_path / "a.png")
    assert min(image.shape[:2]) > 300
    assert (image[..., :3].mean(axis=2) < 0.5).mean() > 0.001
    for name in ("a.svg", "b.svg"):
        draw(tmp_path / name, curves, "title")
    text = (tmp_path / "a.svg").read_text()
    assert text.startswith("<?xml")
    assert text == (tmp_path / "b.svg").read_text()  # nothing of the day or of chance


def test_rivals_of_many_networks(tmp_path):
    kinds = ("spectral", "whitened", "gaussian", "sparse")
    draw_rivals(tmp_path / "a.png", [curve(n, kind) for n in "abc" for kind in kinds], "title")
    assert np.isfinite(imread(tmp_path / "a.png")).all()


def test_a_table_lines_up():
    text = markdown_table(("name", "value"), [("a", "1.00"), ("long name", "-12.25")])
    assert text.splitlines() == [
        "| name      |  value |",
        "| --------- | -----: |",
        "| a         |   1.00 |",
        "| long name | -12.25 |",
    ]


def test_accuracies_and_differences_as_text():
    assert percent(0.97123, 0.0008) == "97.12 ± 0.08"
    assert percent(0.97123) == "97.12"
    assert percent(math.nan) == "-"
    assert points(-0.00131, -0.0025, -0.0001) == "-0.13 [-0.25, -0.01]"
    assert points(0.002) == "+0.20"
