"""Figures of graphs: drawn for all sizes, with classes named and edges thinned."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.image
import numpy as np
import pytest
from mpi4py import MPI

from hpcembed.data.graphs.graph import GraphNodes
from hpcembed.data.graphs.graph_drawing import draw_from
from hpcembed.data.graphs.power_law import power_law_graph
from hpcembed.jobs.report.figures.graph import draw_graph
from hpcembed.jobs.report.figures.spectrum import draw_gaps
from hpcembed.jobs.report.figures.style import save_figure


@dataclass(frozen=True)
class Made:
    axes: tuple[int, int]
    positions: np.ndarray
    classes: np.ndarray
    edges: np.ndarray
    n_nodes: int
    n_edges: int


def made(n, n_classes):
    rng = np.random.default_rng(0)
    places = rng.standard_normal((n, 2))
    ends = rng.integers(0, max(n, 1), (2 * n, 2))
    edges = np.hstack([places[ends[:, 0]], places[ends[:, 1]]]) if n else np.empty((0, 4))
    return Made((1, 2), places, np.arange(n) % (n_classes + 1) - 1, edges, n, 2 * n)


@pytest.mark.parametrize(("n", "n_classes"), [(0, 0), (1, 0), (50, 3), (400, 12)])
def test_graphs_of_all_sizes_are_drawn(tmp_path, n, n_classes):
    figure = draw_graph(made(n, n_classes), [f"c{i}" for i in range(n_classes)])
    save_figure(figure, tmp_path / "g.png")
    image = matplotlib.image.imread(tmp_path / "g.png")
    assert image.shape[0] > 400
    colours = len(np.unique((image[..., :3] * 255).astype(int).reshape(-1, 3), axis=0))
    assert colours > (40 if n > 1 else 3)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 0.9, 0.2], [0.0, 0.0, 0.0]])
def test_gaps_are_drawn(tmp_path, values):
    save_figure(draw_gaps(np.array(values)), tmp_path / "gaps.png")
    assert (tmp_path / "gaps.png").stat().st_size > 3000


@pytest.mark.mpi
def test_what_is_drawn_does_not_depend_on_the_ranks(comm, monkeypatch):
    monkeypatch.setattr("hpcembed.data.graphs.graph_drawing._MOST_EDGES", 200)
    monkeypatch.setattr("hpcembed.data.graphs.graph_drawing._MOST_NODES", 100)
    pictures = []
    for one in (comm, MPI.COMM_SELF):
        graph = power_law_graph(300, 1500, one)
        own = np.arange(graph.start, graph.start + graph.n_local)
        places = np.column_stack([own, own**2, -own]) * 1.0
        nodes = GraphNodes(graph, own, own % 3)
        pictures.append((draw_from(nodes, places), draw_from(nodes, places, 1), graph))
        assert draw_from(nodes, places[:, :1]) is None
    (mine, later, _), (whole, _, graph) = pictures
    assert (mine is None) == (comm.rank > 0)
    assert 50 < len(whole.positions) < 150
    assert 120 < len(whole.edges) < 280
    np.testing.assert_array_equal(whole.positions[:, 1], whole.positions[:, 0] ** 2)
    np.testing.assert_array_equal(whole.classes, whole.positions[:, 0] % 3)
    i, j = whole.edges[:, 0].astype(int), whole.edges[:, 2].astype(int)
    assert (graph.rows.toarray()[i, j] > 0).all()
    if mine is not None:
        np.testing.assert_array_equal(mine.positions, whole.positions)
        np.testing.assert_array_equal(mine.edges, whole.edges)
        assert (mine.axes, later.axes) == ((1, 2), (2, 3))
