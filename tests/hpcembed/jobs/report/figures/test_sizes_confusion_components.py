"""Model sizes, training times, confusion matrices and components: ordinary and unusual."""

import numpy as np
import pytest
from matplotlib.image import imread

from hpcembed.jobs.report.figures import style
from hpcembed.jobs.report.figures.components import draw_eigenvector_images, draw_scatter
from hpcembed.jobs.report.figures.confusion import draw_confusion
from hpcembed.jobs.report.figures.model_size import SizedModel, draw_model_sizes, pareto_front
from hpcembed.jobs.report.figures.style import save_figure
from hpcembed.jobs.report.figures.training import TimeCurve, draw_training_times

ROWS = np.random.default_rng(0).normal(size=(90, 12))
MODELS = [
    SizedModel("a", 2, True, 100, 0.5),
    SizedModel("a", 4, True, 200, 0.4),
    SizedModel("b", 4, True, 300, 0.9),
    SizedModel("b", 64, False, 1000, 0.9),
    SizedModel("b", 64, False, 1000, 0.95),
]
DRAWINGS = {
    "pareto": lambda: draw_model_sizes(MODELS, "t"),
    "one model": lambda: draw_model_sizes(MODELS[:1], "t"),
    "times": lambda: draw_training_times([TimeCurve("a", [1, 2], [0.1, 0.2], 3.0)], "t"),
    "one time": lambda: draw_training_times([TimeCurve("a", [1], [0.1], None)], "t"),
    "no time": lambda: draw_training_times([TimeCurve("a", [1], [0.0], None)], "t"),
    "confusion": lambda: draw_confusion(np.diag([5, 0, 7]), ["x", "y" * 40, "z"], "t"),
    "many classes": lambda: draw_confusion(np.eye(60, dtype=int), ["c"] * 60, "t"),
    "scatter": lambda: draw_scatter(ROWS[:, :3], ["a", "b", "10"] * 30, "t"),
    "one component": lambda: draw_scatter(ROWS[:9, :1], ["a"] * 9, "t"),
    "many of them": lambda: draw_scatter(ROWS[:60, :2], [str(i) for i in range(60)], "t"),
    "grey images": lambda: draw_eigenvector_images(ROWS[:25], (3, 4), "t"),
    "colour images": lambda: draw_eigenvector_images(ROWS[:18].reshape(-1, 27), (3, 3, 3), "t"),
    "a zero image": lambda: draw_eigenvector_images(np.zeros((1, 4)), (2, 2), "t"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_drawn_as_png_and_svg(tmp_path, draw):
    save_figure(draw(), tmp_path / "a.png")
    image = imread(tmp_path / "a.png")
    assert min(image.shape[:2]) > 100
    assert (image[..., :3].mean(axis=2) < 0.6).sum() > 50
    for name in ("a.svg", "b.svg"):
        save_figure(draw(), tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text.startswith("<?xml")
    assert text == (tmp_path / "b.svg").read_text()


def test_the_front_holds_what_no_smaller_model_beats():
    front = pareto_front(MODELS)
    assert [(model.parameters, model.accuracy) for model in front] == [
        (100, 0.5), (300, 0.9), (1000, 0.95),
    ]  # fmt: skip


def test_equal_models_of_full_accuracy():
    """matplotlib surrounds equal values by 5 % on each side: the axis would reach 105 %."""
    models = [SizedModel("a", 2, True, 100, 1.0), SizedModel("a", 4, False, 200, 1.0)]
    low, high = draw_model_sizes(models, "t").axes[0].get_ylim()
    assert low < 98
    assert 100 < high < 100.5


def test_a_model_that_loses_has_a_ring_too():
    nearest = SizedModel("b", 4, True, 300, 0.9, chosen=True, is_kept=False)
    lines = draw_model_sizes([MODELS[0], nearest], "t").axes[0].lines
    assert "nearest:\nb,\nk = 4" in [line.get_label() for line in lines]


def test_the_chosen_model_has_a_ring():
    chosen = SizedModel("b", 4, True, 300, 0.9, chosen=True)
    axes = draw_model_sizes([MODELS[0], chosen], "t").axes[0]
    (ring,) = [line for line in axes.lines if line.get_label() == "chosen:\nb,\nk = 4"]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (300, 90.0)
    assert not any(
        "chosen" in str(line.get_label()) for line in draw_model_sizes(MODELS, "t").axes[0].lines
    )


@pytest.mark.parametrize("n", [3, 20])
def test_legend_lists_all_of_a_few_classes(n):
    figure = draw_scatter(np.zeros((n, 2)), [f"c{i:02}" for i in range(n)], "t")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [f"c{i:02}" for i in range(n)]


def test_legend_of_many_classes_lists_the_most_frequent_ones():
    # Classes 0 and 99 are rare, 1 to 10 are frequent; 2000 further classes have one row each.
    classes = [str(i) for i in range(2000)] + [str(i) for i in range(1, 11)] * 3
    rows = np.random.default_rng(0).normal(size=(len(classes), 3))
    figure = draw_scatter(rows, classes, "t")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [*map(str, range(1, 11)), "1,990 other classes"]
    lines = figure.axes[0].get_lines()
    assert len(lines) == len(texts)
    assert sum(len(line.get_xdata()) for line in lines) == len(classes)
    assert len({line.get_color() for line in lines}) == len(lines)
    assert lines[-1].get_color() == style.GREY


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((15.0, 70.0), ["20", "50"]),
        ((900.0, 25_000.0), ["1,000", "2,000", "5,000", "10,000", "20,000"]),
        ((1e-9, 1e-2), ["1e-08", "1e-06", "0.0001", "0.01"]),
        ((1.00, 1.07), ["1.04", "1.12"]),
    ],
)
def test_ticks_of_logarithmic_axes_are_plain_numbers(values, expected):
    figure = style.new_figure(4, 3)
    axes = figure.subplots()
    style.log_axis(axes, np.array(values))
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    labels = [
        label.get_text()
        for label, place in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
        if low <= place <= high
    ]
    assert set(expected) <= set(labels)
    assert not any("$" in label or "^" in label for label in labels)
    assert not [one.get_text() for one in axes.get_yticklabels(minor=True) if one.get_text()]
