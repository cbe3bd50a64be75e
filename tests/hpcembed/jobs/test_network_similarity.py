"""Layers of networks on all features and on the embedding: record, text, figure, whole jobs."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from hpcembed.data.matrix import DataMatrix
from hpcembed.jobs import network_similarity
from hpcembed.jobs.network_inputs import NetworkInputs
from hpcembed.jobs.network_similarity import compare_networks, sampled_rows
from hpcembed.jobs.report.figures.similarity import draw_similarity, similarity_columns
from hpcembed.jobs.report.figures.style import save_figure
from hpcembed.jobs.report.layer_similarity import similarity_line
from hpcembed.jobs.report.run_json import SimilarityRecord
from hpcembed.networks.similarity import linear_cka
from hpcembed.networks.similarity.activations import layer_activations
from hpcembed.networks.training.classifier import Classifier, build_mlp
from hpcembed.runtime.ranks import ownership_range
from job_files import settings, write_small

HIDDEN = ((8, 4), (3,))
WIDTHS = {"full": 6, "embedded": 2}
TEST = np.random.default_rng(0).standard_normal((50, 6))
ROWS = {"full": TEST, "embedded": TEST[:, :2]}


def trained():
    found = []
    for hidden in HIDDEN:
        for name, width in WIDTHS.items():
            torch.manual_seed(len(found))
            layers = build_mlp(width, hidden, 3)
            model = Classifier(layers, np.zeros(width), np.ones(width)).eval()
            report = SimpleNamespace(input=name, hidden=hidden)
            found.append(SimpleNamespace(model=model, report=report))
    return found


def a_job(comm, rows=2000, hidden=HIDDEN):
    logged = []
    classifier = SimpleNamespace(similarity_rows=rows, hidden=hidden)
    config = SimpleNamespace(classifier=classifier)
    return SimpleNamespace(comm=comm, config=config, log=logged.append, logged=logged)


def inputs_of(comm, local):
    """Each input gathered on rank 0, or its rows on their ranks: a matrix, and an array."""
    inputs, labels = NetworkInputs(["full", "embedded"]), np.zeros(50)
    mine = slice(*ownership_range(50, comm))
    for name, rows in ROWS.items():
        if name in local:
            part = rows[mine]
            part = DataMatrix(part, labels[mine], comm) if name == "full" else part
            inputs.local[name] = [(None, None), (part, labels[mine])]
        elif comm.rank == 0:
            inputs.gathered[name] = [(None, None), (rows, labels)]
    return inputs


@pytest.mark.mpi
@pytest.mark.parametrize("local", [(), ("full",), ("full", "embedded")])
@pytest.mark.parametrize("most", [2000, 20])
def test_rows_on_rank_0_and_on_all_ranks(comm, local, most):
    inputs, networks = inputs_of(comm, local), trained()
    have = [one for one in networks if comm.rank == 0 or one.report.input in local]
    found = compare_networks(a_job(comm, most), inputs, have)
    if comm.rank:
        assert found == []
        return
    chosen = np.arange(50) if most > 50 else np.linspace(0, 49, 20).astype(int)
    assert [one.hidden for one in found] == list(HIDDEN)
    for number, one in enumerate(found):
        full, embedded = (
            layer_activations(network.model, ROWS[network.report.input], chosen)
            for network in networks[2 * number : 2 * number + 2]
        )
        assert one.n_rows == len(chosen)
        assert (one.full_layers, one.embedded_layers) == (tuple(full), tuple(embedded))
        for i, x in enumerate(full.values()):
            for j, y in enumerate(embedded.values()):
                assert one.cka[i][j] == pytest.approx(linear_cka(x, y), abs=1e-6)


@pytest.mark.mpi
def test_nothing_to_compare(comm, monkeypatch):
    inputs = inputs_of(comm, ())
    assert compare_networks(a_job(comm, 0), inputs, trained()) == []
    # no eigenpair was found: no network on the embedding
    full = [one for one in trained() if one.report.input == "full" and comm.rank == 0]
    assert compare_networks(a_job(comm), inputs, full) == []
    assert compare_networks(a_job(comm), NetworkInputs(["embedded"]), trained()) == []
    monkeypatch.setattr(network_similarity, "MOST_UNITS", 10)
    job = a_job(comm)
    found = compare_networks(job, inputs, trained())
    assert [one.hidden for one in found] == ([(3,)] if comm.rank == 0 else [])
    assert job.logged == ["layers of 8-4 are not compared: more than 10 units"]


def test_without_test_rows(comm):
    inputs = NetworkInputs(["full", "embedded"])
    for name, rows in ROWS.items():
        inputs.gathered[name] = [(None, None), (rows[:1], np.zeros(1))]
    assert compare_networks(a_job(comm), inputs, trained()) == []
    assert sampled_rows(0, 5).tolist() in ([], [0])


def record(n_hidden=2, hidden=(64, 32), value=0.5):
    layers = [f"hidden {i}" for i in range(1, n_hidden + 1)] + ["output"]
    cka = np.full((len(layers), len(layers)), value) + np.eye(len(layers)) / 4
    return SimilarityRecord(hidden, 90, layers, layers, cka.tolist())


def test_line_of_several_networks():
    line = similarity_line([record(), record(9, (4,) * 9)])
    assert line == (
        "similarity to the layers on all features (linear CKA, 90 test rows): 64-32: 0.75, 0.75, "
        "output 0.75; 4-4-4-4-4-4-4-4-4: 0.75, 0.75, 0.75, 0.75, 0.75, ..., 0.75, output 0.75"
    )
    undefined = SimilarityRecord((2,), 1200, ["hidden 1", "output"], ["hidden 1", "output"],
                                 [[math.nan, 0.5], [None, None]])  # fmt: skip
    assert similarity_line([undefined]).endswith("(linear CKA, 1,200 test rows): 2: -, output -")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("records", [[record()], [record(value=math.nan)] * 4, [record(12)]])
def test_heat_maps(tmp_path, records):
    figure = draw_similarity(records)
    shown = [axes for axes in figure.axes if axes.get_xlabel() == "on the embedding"]
    assert len(shown) == len(records)
    numbers = [text.get_text() for axes in shown for text in axes.texts]
    assert len(numbers) == (9 * len(records) if len(records[0].cka) == 3 else 0)
    assert set(numbers) <= {"0.75", "0.50", "-"}
    save_figure(figure, tmp_path / "a.png")
    assert min(imread(tmp_path / "a.png").shape[:2]) > 100


def test_numbers_of_the_figure():
    columns = similarity_columns([record()])
    assert columns["network"] == ["64-32"] * 9
    assert columns["full_layer"][:4] == ["hidden 1", "hidden 1", "hidden 1", "hidden 2"]
    assert columns["embedded_layer"][:4] == ["hidden 1", "hidden 2", "output", "hidden 1"]
    assert columns["cka"][:4] == [0.75, 0.5, 0.5, 0.5]


@pytest.mark.launch
@pytest.mark.parametrize(("ranks", "parallel"), [(1, "gather"), (2, "data_parallel")])
def test_whole_job(run_mpi, tmp_path, ranks, parallel):
    job = write_small(tmp_path, rows=60)
    chosen = settings(f"classifier.parallel={parallel}", "output.figures=true")
    out = tmp_path / "out"
    done = run_mpi(ranks, "-m", "hpcembed", "run", job, "--out", out, *chosen)
    assert done.status == 0, done.err
    (one,) = json.loads((out / "run.json").read_text())["similarity"]
    assert (one["hidden"], one["n_rows"]) == ([4], 18)
    assert one["full_layers"] == one["embedded_layers"] == ["hidden 1", "output"]
    assert all(0 <= value <= 1 for row in one["cka"] for value in row)
    value = f"{one['cka'][1][1]:.2f}"
    assert "similarity to the layers on all features (linear CKA, 18 test rows): 4: " in done.out
    assert f", output {value}" in done.out
    assert (out / "figures/layer_similarity.png").exists()
    assert (out / "figures/layer_similarity.csv").read_text().count("\n") == 5
    other = tmp_path / "other"
    off = settings("classifier.similarity_rows=0")
    done = run_mpi(ranks, "-m", "hpcembed", "run", job, "--out", other, *chosen, *off)
    assert done.status == 0, done.err
    assert json.loads((other / "run.json").read_text())["similarity"] == []
    assert "similarity" not in done.out
    assert not (other / "figures/layer_similarity.png").exists()
