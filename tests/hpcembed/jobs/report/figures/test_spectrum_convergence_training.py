"""Figures are drawn for the ordinary and for the odd: one value, none positive, many checks."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread

from hpcembed.embedding import Spectrum
from hpcembed.jobs.report.figures.convergence import draw_convergence
from hpcembed.jobs.report.figures.spectrum import draw_spectrum
from hpcembed.jobs.report.figures.style import save_figure
from hpcembed.jobs.report.figures.training import draw_training


def assert_drawn(figure, path):
    save_figure(figure, path)
    image = imread(path)
    assert image.ndim == 3
    assert min(image.shape[:2]) > 300
    # Something other than paper: dark pixels of axes and text.
    assert (image[..., :3].mean(axis=2) < 0.5).mean() > 0.001


@pytest.mark.parametrize(
    "eigenvalues",
    [[1.0], [3.0, 1.0, 0.0], [0.0, 0.0], list(0.9 ** np.arange(300.0)), [1e-300, -1e-20]],
)
def test_spectrum(tmp_path, eigenvalues):
    values = np.array(eigenvalues)
    total = max(values.sum(), 1e-300)
    found = Spectrum(values, "variance", values / total, "variance")
    assert_drawn(draw_spectrum(found), tmp_path / "a.png")


@pytest.mark.parametrize(
    ("share", "words", "expected"),
    [
        ([0.5, 0.2], {}, ["eigenvalue (variance)", "Explained variance"]),
        (
            [0.5, 0.2],
            {"meaning": "mean square", "share_of": "the trace"},
            ["eigenvalue (mean square)", "Share of the trace", "cumulative share of the trace (%)"],
        ),
        (None, {"meaning": ""}, ["eigenvalue"]),
    ],
)
def test_a_spectrum_has_the_labels_of_its_quantity(tmp_path, share, words, expected):
    given = None if share is None else np.array(share)
    words_of_variance = {"meaning": "variance", "share_of": "variance"}
    figure = draw_spectrum(
        Spectrum(np.array([2.0, 1.0]), share=given, **(words_of_variance | words))
    )
    assert_drawn(figure, tmp_path / "a.png")
    assert len(figure.axes) == (1 if share is None else 2)
    texts = [text for axes in figure.axes for text in (axes.get_title(), axes.get_ylabel())]
    for one in expected:
        assert one in texts
    if share is None or words:
        assert "variance" not in " ".join(texts)


def check(restart, size, n_matvec, measure, chosen=False):
    return SimpleNamespace(
        restart=restart, size=size, n_matvec=n_matvec, measure=measure, n_converged=0, chosen=chosen
    )


@pytest.mark.parametrize(
    "history",
    [
        [check(0, 12, 12, 1e-12, chosen=True)],
        [check(0, 10, 10, 0.0), check(0, 12, 12, 0.0, chosen=True)],
        [check(i // 20, 10 + i % 20, 10 * i, 10.0 ** (-i / 40), i % 20 == 19) for i in range(600)],
        [check(0, 5, 5, float("nan")), check(0, 7, 7, float("inf"), chosen=True)],
    ],
)
def test_convergence(tmp_path, history):
    assert_drawn(draw_convergence(history, 1e-8), tmp_path / "a.png")


@pytest.mark.parametrize("n_epochs", [1, 2, 50])
@pytest.mark.parametrize("n_curves", [1, 12])
def test_training(tmp_path, n_epochs, n_curves):
    curve = [
        SimpleNamespace(epoch=i, train_loss=1.0 / i, validation_score=1 - 0.5 / i)
        for i in range(1, n_epochs + 1)
    ]
    figure = draw_training({f"network {i}": curve for i in range(n_curves)})
    assert_drawn(figure, tmp_path / "a.png")


def test_no_accuracy_above_100_percent():
    curve = [SimpleNamespace(epoch=i, train_loss=1.0, validation_score=1.0) for i in range(1, 4)]
    assert 100 < draw_training({"a": curve}).axes[1].get_ylim()[1] < 100.5
