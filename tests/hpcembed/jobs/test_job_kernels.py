"""Jobs, studies and searches on kernel principal components, exact and by landmarks."""

import csv
import json

import numpy as np
import pytest
import safetensors.numpy
import sklearn.decomposition
from sklearn.datasets import load_digits

from hpcembed.jobs.compress.command import CompressRequest, run_compress
from hpcembed.jobs.configuration import load_job
from hpcembed.jobs.embedding_methods import embedding_settings
from hpcembed.jobs.export.run_export import export_run
from hpcembed.jobs.job import describe_job, prepare
from hpcembed.jobs.run import run_job
from hpcembed.jobs.study.command import run_study
from hpcembed.runtime.errors import ConfigError, MemoryLimitError

pytestmark = pytest.mark.mpi

DATA = """
[data]
name = "digits"
format = "npz"
train = ["digits.npz"]
scaling = "divide"
divisor = 16.0

[kernel]
gamma = 0.05
n_landmarks = 90
"""

JOB = """
[embedding]
method = "nystroem"
n_components = 8

[classifier]
hidden = [[12]]
baseline = false

[training]
epochs = 1
batch_size = 64
learning_rate = 3e-3

[output]
figures = false
"""

STUDY = """
[study]
dimensions = [2, 5]
networks = [[8]]
baseline = false
seeds = 1

[training]
epochs = 1
batch_size = 64

[output]
figures = false
"""


@pytest.fixture
def folder(comm, shared_tmp):
    """Images and settings, for all ranks."""
    if comm.rank == 0:
        images, labels = load_digits(return_X_y=True)
        np.savez(shared_tmp / "digits.npz", x=images[:400], y=labels[:400])
        (shared_tmp / "job.toml").write_text(DATA + JOB)
        (shared_tmp / "study.toml").write_text(DATA + STUDY)
    comm.Barrier()
    yield shared_tmp
    comm.Barrier()


@pytest.mark.parametrize("method", ["kernel_pca", "nystroem"])
def test_from_the_file_to_the_network(comm, folder, method):
    out = folder / "out"
    trains = "true" if method == "nystroem" else "false"
    changes = [f"embedding.method={method}", "kernel.n_landmarks=1000"]
    changes += [f"classifier.enabled={trains}"]
    job = prepare(folder / "job.toml", changes, None, out, comm)
    text = describe_job(job)
    assert f"digits: {method}, k = 8" in text
    assert "operator   kernel " in text
    assert run_job(job) == 0
    comm.Barrier()
    run = json.loads((out / "run.json").read_text())
    embedding = run["embedding"]
    assert (embedding["method"], embedding["is_linear"]) == (method, False)
    assert embedding["components"] == "kernel principal components"
    assert embedding["operator"].startswith("kernel (rbf, gamma 0.05), ")
    assert embedding["explained_variance_ratio"] is None
    assert embedding["reference"]["n_compared"] == 8
    assert embedding["reference"]["max_subspace_sin_angle"] <= 1e-6
    assert max(embedding["residual_norms"]) <= 1e-9
    # all training rows are landmarks: both methods are exact
    train = np.load(folder / "digits.npz")["x"] / 16.0
    keep = np.ones(len(train), dtype=bool)
    keep[held_out(job)] = False
    oracle = sklearn.decomposition.KernelPCA(8, kernel="rbf", gamma=0.05, eigen_solver="dense")
    np.testing.assert_allclose(
        embedding["eigenvalues"], oracle.fit(train[keep]).eigenvalues_, rtol=1e-8
    )
    assert [one["input"] for one in run["classifiers"]] == ["embedded"] * (method == "nystroem")
    arrays = safetensors.numpy.load_file(out / "projection.safetensors")
    assert "components" not in arrays
    assert not (out / "model").exists()
    if comm.rank == 0 and run["classifiers"]:
        with pytest.raises(ConfigError, match=f"the {method} embedding is not a projection"):
            export_run(out, folder / "model", None)


def held_out(job):
    from hpcembed.data.splits import held_out_rows

    labels = np.load(job.data_dir / "digits.npz")["y"].astype(np.int64)
    data = job.config.data
    from mpi4py import MPI

    marked = held_out_rows(
        "stratified", data.test_fraction, data.split_seed, labels, 10, 0, len(labels), MPI.COMM_SELF
    )
    return np.flatnonzero(marked)


def test_a_study_and_a_search(comm, folder):
    path, out = folder / "study.toml", folder / "study"
    digests = set()
    for method in ("nystroem", "kernel_pca"):
        assert run_study(path, [f"embedding.method={method}"], None, out, comm) == 0
        comm.Barrier()
        study = json.loads((out / "study.json").read_text())
        assert study["embedding"]["method"] == method
        assert [row["parameters_with_projection"] for row in study["points"]] == [None, None]
        with (out / "trials.csv").open() as lines:
            digests |= {row["digest"] for row in csv.DictReader(lines)}
        comm.Barrier()
    assert len(digests) == 4
    found = folder / "found"
    request = CompressRequest(
        folder / "job.toml", max_loss=60.0, seeds=3, overrides=("training.epochs=15",)
    )
    assert run_compress(request, None, found, comm) == 0
    comm.Barrier()
    assert json.loads((found / "compress.json").read_text())["method"] == "nystroem"


def test_settings_and_refusals(comm, folder):
    job, out = folder / "job.toml", folder / "out"
    settings = embedding_settings(load_job(job))
    assert settings["method"] == "nystroem"
    assert settings["kernel"]["n_landmarks"] == 90
    exact = embedding_settings(load_job(job, ["embedding.method=kernel_pca"]))
    assert exact["kernel"]["gamma"] == 0.05
    assert "n_landmarks" not in exact["kernel"]
    for change, message in (
        ("kernel.gamma=-1.0", "kernel.gamma must be a positive number, or one of auto, scale"),
        ("kernel.gamma=mean", "kernel.gamma must be a positive number, or one of auto, scale"),
        ("kernel.degree=0", "kernel.degree must lie between 1 and 100"),
        ("kernel.name=sigmoid", "kernel.name: 'sigmoid' is not one of linear, poly, rbf, cosine"),
        ("kernel.n_landmarks=4", "embedding.n_components must not exceed kernel.n_landmarks"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_job(job, [change])
    for changes, message in (
        (["embedding.engine=assembled"], "embedding.engine = assembled is not for nystroem"),
        (
            ["embedding.method=kernel_pca", "embedding.engine=gram"],
            "embedding.engine = gram is not for kernel_pca",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            describe_job(prepare(job, changes, None, out, comm))
    little = ["embedding.method=kernel_pca", "resources.memory_gib=0.001"]
    with pytest.raises(MemoryLimitError, match=r"kernel of 320 rows needs .* per rank"):
        describe_job(prepare(job, little, None, out, comm))
