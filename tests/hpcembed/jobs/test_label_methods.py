"""Jobs and studies on discriminants, canonical directions and locality preserving projections."""

import json

import numpy as np
import pytest
import safetensors.numpy
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis as TheirAnalysis

import hpcembed
from hpcembed.jobs.compress.search_components import SearchComponents
from hpcembed.jobs.job import describe_job, prepare
from hpcembed.jobs.run import run_job
from hpcembed.jobs.study.command import run_study
from hpcembed.networks.training.evaluation import predict_logits
from hpcembed.networks.training.serialise import load_classifier
from hpcembed.runtime.errors import ConfigError, InputError

pytestmark = pytest.mark.mpi

JOB = """
[data]
name = "digits"
format = "npz"
train = ["digits.npz"]

[embedding]
method = "lda"
n_components = 6

[classifier]
hidden = [[12]]

[training]
epochs = 4
batch_size = 64

[output]
figures = false
"""


@pytest.fixture
def folder(comm, shared_tmp):
    if comm.rank == 0:
        images, labels = load_digits(return_X_y=True)
        np.savez(shared_tmp / "digits.npz", x=images[:600] + 20.0, y=labels[:600])
        (shared_tmp / "job.toml").write_text(JOB)
    comm.Barrier()
    yield shared_tmp
    comm.Barrier()


NAMES = {
    "lda": ("linear discriminants", "between-class over within-class variance"),
    "cca": ("canonical directions", "squared canonical correlation"),
    "lpp": ("locality preserving directions", "similarity of neighbours"),
}


@pytest.mark.parametrize("method", NAMES)
def test_from_the_file_to_the_model(comm, folder, method):
    out = folder / method
    job = prepare(folder / "job.toml", [f"embedding.method={method}"], None, out, comm)
    assert f"digits: {method}, k = 6" in describe_job(job)
    assert run_job(job) == 0
    comm.Barrier()
    embedding = json.loads((out / "run.json").read_text())["embedding"]
    assert (embedding["components"], embedding["eigenvalue_meaning"]) == NAMES[method]
    assert embedding["method"] == method
    assert embedding["is_linear"] is True
    assert embedding["explained_variance_ratio"] is None
    assert embedding["reference"]["n_compared"] == 6
    assert embedding["reference"]["max_subspace_sin_angle"] <= 1e-6
    model = hpcembed.load(out)
    saved = load_classifier(out / "classifier-embedded-12.safetensors")
    arrays = safetensors.numpy.load_file(out / "projection.safetensors")
    raw = (load_digits().data[600:800] + 20.0).astype(np.float32)
    rows = (raw - arrays["scaling_shift"]) * arrays["scaling_factor"]
    coordinates = (rows - arrays["mean"]) @ arrays["components"].T
    expected = predict_logits(saved.model, coordinates.astype(np.float32))
    np.testing.assert_allclose(model.predict_logits(raw), expected, atol=1e-4)
    if method == "lda":
        labels = load_digits().target[600:800]
        theirs = TheirAnalysis().fit(load_digits().data[:600], load_digits().target[:600])
        assert model.score(raw, labels) > 0.75 * theirs.score(raw - 20, labels)


def test_too_many_discriminants_are_one_line(comm, folder):
    for method in ("lda", "cca"):
        settings = [f"embedding.method={method}", "embedding.n_components=10"]
        job = prepare(folder / "job.toml", settings, None, folder / "out", comm)
        with pytest.raises(InputError, match=r"need n_components <= 9, got 10.*lower n_components"):
            run_job(job)


def test_a_search_needs_validation_rows_with_labels_of_their_own(comm, folder):
    for method in ("lda", "cca"):
        settings = [f"embedding.method={method}"]
        job = prepare(folder / "job.toml", settings, None, folder / "out", comm)
        with pytest.raises(ConfigError, match="labels of the validation rows, which decide"):
            SearchComponents(job, 5)
    settings = ["embedding.method=lpp"]
    job = prepare(folder / "job.toml", settings, None, folder / "out", comm)
    search = SearchComponents(job, 5)
    assert search.largest == 5
    search.data.destroy()


STUDY = (
    JOB.replace("n_components = 6", "").split("[classifier]")[0]
    + """
[study]
dimensions = [2, 5]
networks = [[8]]
seeds = 2
rivals = ["cca"]

[training]
epochs = 2
batch_size = 64

[output]
figures = false
"""
)


def test_a_study_on_discriminants(comm, folder):
    if comm.rank == 0:
        (folder / "study.toml").write_text(STUDY)
    comm.Barrier()
    assert run_study(folder / "study.toml", [], None, folder / "study", comm) == 0
    comm.Barrier()
    study = json.loads((folder / "study" / "study.json").read_text())
    assert study["embedding"]["method"] == "lda"
    assert " than lda" in study["rivals"]["answer"]
    assert {(p["input"], p["n_inputs"]) for p in study["points"]} == {
        ("full", 64), ("spectral", 2), ("spectral", 5),
    }  # fmt: skip
