"""Pictures of a study, for the ordinary and for the odd."""

import numpy as np
import pytest
from matplotlib.image import imread

from hpcembed.jobs.report import (
    Mark,
    TimeCurve,
    draw_components,
    draw_confusion,
    draw_pareto,
    draw_scatter,
    draw_times,
    pareto_front,
)

ROWS = np.random.default_rng(0).normal(size=(90, 12))
MARKS = [
    Mark("a", 2, True, 100, 0.5),
    Mark("a", 4, True, 200, 0.4),
    Mark("b", 4, True, 300, 0.9),
    Mark("b", 64, False, 1000, 0.9),
    Mark("b", 64, False, 1000, 0.95),
]
DRAWINGS = {
    "pareto": lambda path: draw_pareto(path, MARKS, "t"),
    "one mark": lambda path: draw_pareto(path, MARKS[:1], "t"),
    "times": lambda path: draw_times(path, [TimeCurve("a", [1, 2], [0.1, 0.2], 3.0)], "t"),
    "one time": lambda path: draw_times(path, [TimeCurve("a", [1], [0.1], None)], "t"),
    "no time": lambda path: draw_times(path, [TimeCurve("a", [1], [0.0], None)], "t"),
    "confusion": lambda path: draw_confusion(path, np.diag([5, 0, 7]), ["x", "y" * 40, "z"], "t"),
    "many classes": lambda path: draw_confusion(path, np.eye(60, dtype=int), ["c"] * 60, "t"),
    "scatter": lambda path: draw_scatter(path, ROWS[:, :3], ["a", "b", "10"] * 30, "t"),
    "one component": lambda path: draw_scatter(path, ROWS[:9, :1], ["a"] * 9, "t"),
    "many of them": lambda path: draw_scatter(
        path, ROWS[:60, :2], [str(i) for i in range(60)], "t"
    ),
    "grey images": lambda path: draw_components(path, ROWS[:25], (3, 4), "t"),
    "colour images": lambda path: draw_components(path, ROWS[:18].reshape(-1, 27), (3, 3, 3), "t"),
    "a zero image": lambda path: draw_components(path, np.zeros((1, 4)), (2, 2), "t"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_drawn_as_png_and_svg(tmp_path, draw):
    draw(tmp_path / "a.png")
    image = imread(tmp_path / "a.png")
    assert min(image.shape[:2]) > 100
    assert (image[..., :3].mean(axis=2) < 0.6).sum() > 50
    for name in ("a.svg", "b.svg"):
        draw(tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text.startswith("<?xml")
    assert text == (tmp_path / "b.svg").read_text()


def test_the_front_holds_what_no_smaller_model_beats():
    front = pareto_front(MARKS)
    assert [(mark.parameters, mark.accuracy) for mark in front] == [
        (100, 0.5), (300, 0.9), (1000, 0.95),
    ]  # fmt: skip
