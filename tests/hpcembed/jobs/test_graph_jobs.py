"""Jobs, studies and searches on graphs: all nodes are placed, networks see labelled ones."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from mpi4py import MPI

from hpcembed.jobs.compress.command import CompressRequest, run_compress
from hpcembed.jobs.configuration import load_job
from hpcembed.jobs.export.run_export import export_run
from hpcembed.jobs.job import describe_job, prepare
from hpcembed.jobs.run import fit, read, run_job
from hpcembed.jobs.study.command import run_study
from hpcembed.runtime.errors import ConfigError

pytestmark = pytest.mark.mpi

JOBS = Path(__file__).parents[3] / "jobs"
BLOCK, N_BLOCKS = 40, 3
N = BLOCK * N_BLOCKS


def planted(folder, comm):
    """Three blocks as an edge list with gaps in the ids, and as an archive with attributes."""
    if comm.rank == 0:
        rng = np.random.default_rng(0)
        block = np.arange(N) % N_BLOCKS
        chance = np.where(block[:, None] == block, 0.25, 0.01)
        A = np.triu(rng.random((N, N)) < chance, 1)
        i, j = np.nonzero(A)
        lines = [f"{5 * a + 7} {5 * b + 7}\n" for a, b in zip(i, j, strict=True)]
        (folder / "g.txt").write_text("# made\n" + "".join(lines))
        # the last ten nodes have no label
        labels = [f"{5 * node + 7} block{block[node]}\n" for node in range(N - 10)]
        (folder / "labels.txt").write_text("".join(labels))
        rows = scipy.sparse.csr_array(A.astype(float))
        words = scipy.sparse.csr_array(
            (rng.random((N, 30)) < 0.1 + 0.2 * (np.arange(30) % N_BLOCKS == block[:, None])) * 1.0
        )
        np.savez(
            folder / "g.npz", labels=block, adj_data=rows.data, adj_indices=rows.indices,
            adj_indptr=rows.indptr, adj_shape=rows.shape, attr_data=words.data,
            attr_indices=words.indices, attr_indptr=words.indptr, attr_shape=words.shape,
        )  # fmt: skip
    comm.Barrier()


COMMON = """
[embedding]
method = "spectral"
n_components = {k}
[classifier]
hidden = [[16]]
[training]
epochs = 25
learning_rate = 0.01
batch_size = 16
{more}
"""
EDGES = """
[data]
name = "planted"
format = "graph"
train = ["g.txt"]
train_labels = "labels.txt"
"""
ARCHIVE = """
[data]
name = "planted"
format = "graph"
train = ["g.npz"]
labels_key = "labels"
[graph]
smoothing = 1
attribute_components = 4
tau = 0.5
"""


def job_file(folder, comm, text):
    path = folder / "job.toml"
    comm.Barrier()
    if comm.rank == 0:
        path.write_text(text)
    comm.Barrier()
    return path


@pytest.mark.slow
def test_a_job_places_all_nodes_and_trains_on_labelled_ones(comm, shared_tmp):
    planted(shared_tmp, comm)
    path = job_file(shared_tmp, comm, EDGES + COMMON.format(k=4, more=""))
    out = shared_tmp / "out"
    assert run_job(prepare(path, [], None, out, comm)) == 0
    run = json.loads((out / "run.json").read_text())
    n_known = N - 10
    assert run["dataset"]["n_train"] + run["dataset"]["n_test"] == n_known
    assert run["dataset"]["n_features"] == N  # without attributes: rows of the adjacency matrix
    assert run["dataset"]["n_classes"] == N_BLOCKS
    embedding = run["embedding"]
    assert (embedding["method"], embedding["is_linear"]) == ("spectral", False)
    assert embedding["operator"].startswith("normalised adjacency, tau = ")
    assert embedding["reference"]["max_subspace_sin_angle"] < 1e-4
    assert max(embedding["residual_norms"]) < 1e-9
    full, embedded = run["classifiers"]
    assert full["test_accuracy"] > 0.5
    assert embedded["test_accuracy"] > 0.75
    for name in ("graph", "eigenvalue_gaps", "spectrum"):
        assert (out / "figures" / f"{name}.png").stat().st_size > 5000
    assert not (out / "model").exists()
    if comm.rank == 0:
        with pytest.raises(ConfigError, match="the nodes of a graph are embedded together"):
            export_run(out, shared_tmp / "model")


def test_coordinates_do_not_depend_on_the_ranks(comm, shared_tmp):
    planted(shared_tmp, comm)
    path = job_file(shared_tmp, comm, ARCHIVE + COMMON.format(k=7, more=""))
    found = []
    for one in (MPI.COMM_SELF, comm):
        job = prepare(path, ["solver.tol=1e-11"], None, shared_tmp / "none", comm)
        job = dataclasses.replace(job, comm=one)
        _, train, test = read(job)
        embedding = fit(job, train, test)
        parts = [one.allgather(embedding.transform(rows)) for rows in (train, test)]
        found.append((embedding, [np.concatenate(part) for part in parts]))
        train.destroy()
        test.destroy()
    (alone, expected), (together, mine) = found
    for rows, others in zip(mine, expected, strict=True):
        assert rows.shape == others.shape
        np.testing.assert_allclose(rows, others, atol=1e-7)
    assert expected[0].shape[1] == 7
    np.testing.assert_allclose(
        together.spectrum_.values, alone.spectrum_.values, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(
        alone.coordinate_means_, expected[0].mean(axis=0), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(alone.coordinate_deviations_, expected[0].std(axis=0), rtol=1e-8)
    # components of the smoothed attributes come first
    assert alone.spectrum_.values[0] == 1
    assert alone.result_.n_converged == 7
    assert "covariance of attributes for the first 4" in alone.operator_
    np.testing.assert_allclose(np.concatenate(expected)[:, 4:].std(axis=0), 1, rtol=0.2)


def test_principal_components_of_smoothed_attributes(comm, shared_tmp):
    planted(shared_tmp, comm)
    path = job_file(shared_tmp, comm, ARCHIVE + COMMON.format(k=6, more=""))
    values = []
    for steps in (0, 2):
        overrides = ["embedding.method=pca", f"graph.smoothing={steps}"]
        job = prepare(path, overrides, None, shared_tmp / "none", comm)
        _, train, test = read(job)
        values.append(fit(job, train, test).spectrum_.values)
        assert train.n_features == 30
        train.destroy()
        test.destroy()
    assert values[1].sum() < 0.7 * values[0].sum()  # means spread less


def test_a_graph_without_labels_needs_no_network(comm, shared_tmp):
    overrides = ["graph.n_nodes=300", "graph.n_edges=2000", "embedding.n_components=5"]
    out = shared_tmp / "out"
    job = prepare(JOBS / "power_law.toml", overrides, None, out, comm)
    assert "k = 5," in describe_job(job)
    assert "test rows of 1 feature (" in describe_job(job)
    assert run_job(job) == 0
    run = json.loads((out / "run.json").read_text())
    assert run["dataset"]["n_train"] + run["dataset"]["n_test"] == 300
    assert run["classifiers"] == []
    assert (out / "figures" / "graph.png").exists()
    overrides.append("classifier.enabled=true")
    with pytest.raises(ConfigError, match="the nodes have no labels"):
        run_job(prepare(JOBS / "power_law.toml", overrides, None, shared_tmp / "no", comm))


@pytest.mark.slow
def test_study_and_search(comm, shared_tmp):
    planted(shared_tmp, comm)
    text = (
        ARCHIVE
        + """
[embedding]
method = "spectral"
[study]
dimensions = [2, 6]
networks = [[8]]
seeds = 2
[training]
epochs = 3
"""
    )
    path = job_file(shared_tmp, comm, text)
    out = shared_tmp / "study"
    assert run_study(path, [], None, out, comm) == 0
    results = (out / "results.csv").read_text() if (out / "results.csv").exists() else ""
    tables = [file.name for file in out.iterdir()]
    assert results or any(name.endswith(".csv") for name in tables), tables
    path = job_file(shared_tmp, comm, EDGES + COMMON.format(k=4, more=""))
    found = run_compress(CompressRequest(path, 30.0, seeds=2), None, shared_tmp / "small", comm)
    assert found == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.format=csv", "spectral needs data.format = graph"),
        ("graph.tau=high", "graph.tau must be a number"),
        ("graph.attribute_components=4", "attribute_components must be less than"),
        ("graph.smoothing=-1", "graph.smoothing must lie"),
        ("graph.operatr=laplacian", "did you mean graph.operator"),
        ("data.split=own", "a graph has no test nodes of its own"),
    ],
)
def test_settings_that_no_job_can_use(comm, shared_tmp, override, message):
    path = job_file(shared_tmp, comm, EDGES + COMMON.format(k=4, more=""))
    with pytest.raises(ConfigError, match=message):
        load_job(path, [override])


def test_attributes_that_are_not_there(comm, shared_tmp):
    planted(shared_tmp, comm)
    path = job_file(shared_tmp, comm, EDGES + COMMON.format(k=4, more=""))
    with pytest.raises(ConfigError, match="has no attributes"):
        read(prepare(path, ["graph.smoothing=2"], None, shared_tmp / "none", comm))


@pytest.mark.parametrize("name", ["cora", "email_eu", "power_law"])
def test_jobs_that_come_with_the_project(comm, name):
    job = load_job(JOBS / f"{name}.toml")
    assert job.data.name == name
    assert job.embedding.method == "spectral"


@pytest.mark.parametrize("prefix", ["", "person "], ids=["numbers", "words"])
def test_coordinates_carry_the_names_of_the_nodes(comm, shared_tmp, prefix):
    """Two rings of ten nodes with one edge between them; some nodes have labels."""
    if comm.rank == 0:
        name = [f"{prefix}{i}".replace(" ", "_") for i in range(100, 120)]
        ring = [(i, (i + 1) % 10 + 10 * (i >= 10)) for i in range(20)]
        pairs = [(a, b if a < 10 or b >= 10 else b + 10) for a, b in ring]
        lines = [f"{name[a]} {name[b]}\n" for a, b in [*pairs, (0, 10)]]
        (shared_tmp / "g.txt").write_text("".join(lines))
        labels = [f"{name[i]} {'in' if i < 10 else 'out'}\n" for i in [*range(10), 12, 15, 17]]
        (shared_tmp / "labels.txt").write_text("".join(labels))
    text = EDGES + COMMON.format(k=2, more="").replace(
        "[classifier]", "[output]\nfigures = false\n[classifier]\nenabled = false"
    ).replace("[classifier]\nenabled = false\nhidden = [[16]]", "[classifier]\nenabled = false")
    path = job_file(shared_tmp, comm, text)
    out = shared_tmp / "out"
    assert run_job(prepare(path, [], None, out, comm)) == 0
    with (out / "nodes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [f"{prefix}{i}".replace(" ", "_") for i in range(100, 120)]
    assert [row["node"] for row in rows] == expected
    known = {*range(10), 12, 15, 17}
    assert [row["class"] for row in rows] == [
        ("in" if i < 10 else "out") if i in known else "" for i in range(20)
    ]
    # A coordinate separates the rings.
    values = np.array([[float(row[f"coordinate{j}"]) for j in (1, 2)] for row in rows])
    ring = np.arange(20) >= 10
    assert any(len(set(np.sign(v[ring]))) == 1 == len(set(np.sign(v[~ring]))) for v in values.T)
