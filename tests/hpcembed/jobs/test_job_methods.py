"""Jobs, studies and searches on embeddings other than principal components, on every rank count."""

import csv
import json
import time
from types import MappingProxyType

import numpy as np
import onnxruntime
import pytest
import safetensors.numpy
import sklearn.decomposition
from mpi4py import MPI
from sklearn.datasets import dump_svmlight_file, load_digits

import hpcembed
from hpcembed.data.reading import read_dataset
from hpcembed.embedding import Spectrum
from hpcembed.jobs import embedding_methods as methods
from hpcembed.jobs.compress.command import CompressRequest, run_compress
from hpcembed.jobs.configuration import JobConfig, load_job
from hpcembed.jobs.embedding_methods import METHODS, EmbeddingMethod, embedding_settings
from hpcembed.jobs.export.run_export import export_run
from hpcembed.jobs.job import Job, describe_job, prepare
from hpcembed.jobs.predict import predict_file
from hpcembed.jobs.run import run_job
from hpcembed.jobs.study.command import run_study
from hpcembed.jobs.study.trial_training import train_trials
from hpcembed.networks.training.evaluation import predict_logits
from hpcembed.networks.training.serialise import load_classifier
from hpcembed.runtime.errors import ConfigError

pytestmark = pytest.mark.mpi

DIGITS = """
[data]
name = "digits"
format = "npz"
train = ["digits.npz"]

[embedding]
method = "svd"
n_components = 8

[classifier]
hidden = [[16], [6]]

[training]
epochs = 4
batch_size = 64
learning_rate = 3e-3

[output]
figures = false
"""

WORDS = """
[data]
name = "words"
train = ["words.svm"]
n_features = 40
scaling = "standard"

[embedding]
method = "svd"
n_components = 5
engine = "matrix_free"

[classifier]
hidden = [[8]]

[training]
epochs = 3
batch_size = 32
learning_rate = 3e-3

[output]
figures = true
"""


def write_digits(folder):
    """Images far from the origin: centring changes every component."""
    images, labels = load_digits(return_X_y=True)
    np.savez(folder / "digits.npz", x=images[:600] + 20.0, y=labels[:600])
    (folder / "job.toml").write_text(DIGITS)


def write_words(folder):
    """Counts of words in texts of three subjects, one of them with words of its own."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    rates = rng.gamma(0.3, 1.0, (3, 40))
    dump_svmlight_file(rng.poisson(rates[labels]), labels, str(folder / "words.svm"))
    (folder / "job.toml").write_text(WORDS)


@pytest.fixture
def folder(comm, shared_tmp):
    """Both tables, for all ranks."""
    for name, write in (("digits", write_digits), ("words", write_words)):
        if comm.rank == 0:
            (shared_tmp / name).mkdir()
            write(shared_tmp / name)
    comm.Barrier()
    yield shared_tmp
    comm.Barrier()


def in_double(run, X):
    """What scaling and projection of a run compute."""
    arrays = safetensors.numpy.load_file(run / "projection.safetensors")
    rows = (X - arrays["scaling_shift"]) * arrays["scaling_factor"]
    return (rows - arrays["mean"]) @ arrays["components"].T


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file"), [("digits", "digits.npz"), ("words", "words.svm")])
def test_singular_vectors_from_the_file_to_the_model(comm, folder, name, file):
    source, out = folder / name, folder / "out"
    job = prepare(source / "job.toml", [], None, out, comm)
    text = describe_job(job)
    assert f"{name}: svd, k = " in text
    assert ("operator   X'X " in text) == (
        name == "digits"
    )  # SVMLight files tell no number of rows
    assert "covariance" not in text
    assert run_job(job) == 0
    comm.Barrier()

    embedding = json.loads((out / "run.json").read_text())["embedding"]
    k = job.config.embedding.n_components
    assert (embedding["method"], embedding["components"]) == ("svd", "singular vectors")
    assert embedding["eigenvalue_meaning"] == "mean square"
    assert embedding["is_linear"] is True
    assert embedding["operator"].startswith("X'X, ")
    assert embedding["reference"]["n_compared"] == k
    assert embedding["reference"]["max_subspace_sin_angle"] <= 1e-6
    assert max(embedding["residual_norms"]) <= 1e-10

    # scikit-learn's answer for the rows as they were scaled.
    data = read_dataset(load_job(out / "job.toml").data, source, MPI.COMM_SELF)
    rows = [
        part.toarray() if hasattr(part, "toarray") else np.asarray(part, dtype=float)
        for part in (data.train.rows, data.test.rows)
    ]
    train = (rows[0] - data.scaling.shift) * data.scaling.factor
    oracle = sklearn.decomposition.TruncatedSVD(k, algorithm="arpack", random_state=0).fit(train)
    arrays = safetensors.numpy.load_file(out / "projection.safetensors")
    overlap = np.abs(np.sum(arrays["components"] * oracle.components_, axis=1))
    np.testing.assert_allclose(overlap, 1, atol=1e-8)
    assert not arrays["mean"].any()
    np.testing.assert_allclose(arrays["feature_means"], train.mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(arrays["feature_variances"], train.var(axis=0, ddof=1), atol=1e-9)
    values = oracle.singular_values_**2 / (len(train) - 1)
    np.testing.assert_allclose(embedding["eigenvalues"], values, rtol=1e-9)
    share = oracle.explained_variance_ratio_
    np.testing.assert_allclose(embedding["explained_variance_ratio"], share, rtol=1e-7, atol=1e-12)
    with (out / "eigenvalues.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert [float(row["explained_variance_ratio"]) for row in table] == pytest.approx(share)

    # The network that training left, ONNX and numpy say the same of raw rows.
    model = hpcembed.load(out)
    hidden = "-".join(map(str, model.description["hidden"]))
    saved = load_classifier(out / f"classifier-embedded-{hidden}.safetensors")
    expected = predict_logits(saved.model, in_double(out, rows[1]).astype(np.float32))
    raw = rows[1].astype(np.float32)
    session = onnxruntime.InferenceSession(out / "model" / "model.onnx")
    np.testing.assert_allclose(session.run(["logits"], {"features": raw})[0], expected, atol=1e-5)
    np.testing.assert_allclose(model.predict_logits(raw), expected, atol=1e-5)
    assert np.abs(expected).max() > 0.3
    assert model.score(raw, data.test.labels.codes) == model.description["accuracy"]["test"]
    accuracy = predict_file(out / "model", source / file, comm, out=folder / "predictions.csv")
    everything = np.concatenate(rows).astype(np.float32)
    codes = np.concatenate([data.train.labels.codes, data.test.labels.codes])
    assert accuracy == pytest.approx(model.score(everything, codes))
    card = " ".join((out / "model" / "README.md").read_text().split())
    assert f"on {k} singular vectors of {train.shape[1]} features" in card
    assert "tags: [onnx, safetensors, svd]" in card
    assert "principal" not in card


class Bent:
    """Principal components through tanh: coordinates that no projection gives."""

    components_name = "bent components"

    def __init__(self, inner):
        self._inner = inner

    def fit(self, X):
        self._inner.fit(X)
        return self

    def transform(self, X, dtype=None):
        bent = np.tanh(self._inner.transform(X) / self._inner.coordinate_deviations_)
        return bent.astype(dtype or np.float64)

    def __getattr__(self, name):
        return getattr(self._inner, name)

    @property
    def spectrum_(self):
        return Spectrum(self._inner.spectrum_.values, "")

    @property
    def linear_map_(self):
        return None

    @property
    def coordinate_deviations_(self):
        return np.ones(len(self._inner.spectrum_.values))


@pytest.fixture
def bent(monkeypatch):
    """The name svd stands for an embedding that is not linear."""
    pca = METHODS["pca"]
    other = EmbeddingMethod(lambda *given: Bent(pca.make(*given)), lambda _job: {"bend": 1})
    monkeypatch.setattr(methods, "METHODS", MappingProxyType({"pca": pca, "svd": other}))


@pytest.mark.slow
def test_an_embedding_that_is_not_linear_trains_and_exports_nothing(
    comm, folder, bent, monkeypatch
):
    warned = []
    monkeypatch.setattr("hpcembed.jobs.results._log.warning", lambda *words: warned.append(words))
    out = folder / "out"
    job = prepare(folder / "digits" / "job.toml", ["output.figures=true"], None, out, comm)
    assert run_job(job) == 0
    comm.Barrier()
    run = json.loads((out / "run.json").read_text())
    assert run["embedding"]["is_linear"] is False
    assert run["embedding"]["explained_variance_ratio"] is None
    assert run["embedding"]["components"] == "bent components"
    assert [one["input"] for one in run["classifiers"]] == ["full", "embedded"] * 2
    assert (out / "figures" / "spectrum.png").stat().st_size > 1000
    assert "share" not in (out / "eigenvalues.csv").read_text()
    assert not (out / "model").exists()
    reason = "the svd embedding is not a projection of the features, so no model holds it"
    assert len(warned) == (comm.rank == 0)
    if comm.rank == 0:
        assert reason in str(warned[0][1])
        assert "\n" not in str(warned[0][1])
        for network in (None, "embedded-16"):
            with pytest.raises(ConfigError, match=reason):
                export_run(out, folder / "model", network)
        assert not (folder / "model").exists()
        # Networks on all features do not need the embedding.
        export_run(out, folder / "model", "full-16")
        images = np.load(folder / "digits" / "digits.npz")
        assert hpcembed.load(folder / "model").score(images["x"], images["y"]) > 0.2
    comm.Barrier()


STUDY = """
[data]
name = "digits"
format = "npz"
train = ["digits.npz"]

[study]
dimensions = [2, 6]
networks = [[8]]
embeddings = ["spectral", "gaussian"]
seeds = 2
margin = 50.0

[training]
epochs = 2
batch_size = 64

[output]
figures = false
"""


def rows_of(out):
    with (out / "trials.csv").open() as lines:
        return {(r["input"], r["n_inputs"], r["seed"]): r for r in csv.DictReader(lines)}


def test_a_study_takes_over_what_does_not_depend_on_the_embedding(comm, folder, monkeypatch):
    said, solved = [], []
    monkeypatch.setattr("hpcembed.jobs.job.Job.log", lambda _job, line: said.append(line))
    make = methods.make_embedding

    def counted(*given, **more):
        solved.append(given)
        return make(*given, **more)

    monkeypatch.setattr("hpcembed.jobs.run.make_embedding", counted)
    path, out = folder / "digits" / "study.toml", folder / "study"
    if comm.rank == 0:
        path.write_text(STUDY)
    comm.Barrier()
    found = {}
    for method, finished in (("pca", 0), ("svd", 6), ("svd", 10)):
        assert run_study(path, [f"embedding.method={method}"], None, out, comm) == 0
        comm.Barrier()
        assert f"10 trials, {finished} of them finished" in said
        found[method] = rows_of(out)
        about = json.loads((out / "study.json").read_text())["embedding"]
        assert about["method"] == method
        assert about["is_linear"]
        comm.Barrier()
    assert len(solved) == 3  # one eigenproblem for all numbers of dimensions
    for key, row in found["pca"].items():
        assert (found["svd"][key]["digest"] == row["digest"]) == (key[0] != "spectral")
    points = json.loads((out / "study.json").read_text())["points"]
    six = next(row for row in points if (row["input"], row["n_inputs"]) == ("spectral", 6))
    assert six["parameters_with_projection"] == six["parameters"] + 6 * 64


def test_nothing_to_train_while_ranks_are_late(comm, folder):
    if comm.rank:
        time.sleep(0.3)  # rank 0 waits, and shows the progress of no work
    job = Job(JobConfig(), comm, folder, folder, 1, 0)
    assert train_trials(job, None, [], "nothing") == {}
    assert not (folder / "trials").exists()


def test_a_study_of_an_embedding_that_is_not_linear(comm, folder, bent):
    path, out = folder / "digits" / "study.toml", folder / "study"
    if comm.rank == 0:
        path.write_text(STUDY.replace("epochs = 2", "epochs = 1"))
    comm.Barrier()
    assert run_study(path, ["embedding.method=svd"], None, out, comm) == 0
    comm.Barrier()
    study = json.loads((out / "study.json").read_text())
    assert study["embedding"]["explained_variance_ratio"] is None
    numbers = {(row["input"], row["n_inputs"]): row for row in study["points"]}
    assert numbers["spectral", 6]["parameters_with_projection"] is None
    assert numbers["gaussian", 6]["parameters_with_projection"] > 6 * 64


def test_settings_that_decide_the_coordinates_enter_digests(folder, bent):
    assert embedding_settings(load_job(folder / "digits" / "job.toml")) == {
        "method": "svd",
        "bend": 1,
    }
    pca = load_job(folder / "digits" / "job.toml", ["embedding.method=pca"])
    assert embedding_settings(pca) == {}


def test_the_smallest_number_of_singular_vectors(comm, folder):
    out = folder / "found"
    request = CompressRequest(
        folder / "digits" / "job.toml",
        max_loss=40.0,
        seeds=2,
        overrides=("training.epochs=12", "solver.reference=false"),
    )
    assert run_compress(request, None, out, comm) == 0
    comm.Barrier()
    found = json.loads((out / "compress.json").read_text())
    assert found["method"] == "svd"
    k = found["answer"]["n_inputs"]
    arrays = safetensors.numpy.load_file(out / "projection.safetensors")
    assert arrays["components"].shape == (k, 64)
    assert arrays["eigenvalues"].shape == (k,)
    assert not arrays["mean"].any()
    assert "with the projection" in (out / "compress.md").read_text()
    images = np.load(folder / "digits" / "digits.npz")
    (path,) = out.glob("classifier-embedded-*.safetensors")
    network = load_classifier(path).model
    said = predict_logits(network, in_double(out, images["x"]).astype(np.float32))
    assert (said.argmax(axis=1) == images["y"]).mean() > 0.3
    model = hpcembed.load(out)
    np.testing.assert_allclose(model.predict_logits(images["x"]), said, atol=1e-5)
    assert model.description["embedding"]["method"] == "svd"
    assert model.description["n_components"] == k


def test_a_search_on_an_embedding_that_is_not_linear(comm, folder, bent, monkeypatch):
    warned = []
    monkeypatch.setattr(
        "hpcembed.jobs.compress.search_result._log.warning", lambda *words: warned.append(words)
    )
    out = folder / "found"
    request = CompressRequest(
        folder / "digits" / "job.toml",
        max_loss=90.0,
        seeds=2,
        overrides=("training.epochs=1", "solver.reference=false"),
    )
    assert run_compress(request, None, out, comm) == 0
    comm.Barrier()
    found = json.loads((out / "compress.json").read_text())
    assert found["explained_variance_ratio"] is None
    assert "without the embedding, which is not a projection" in (out / "compress.md").read_text()
    assert len(warned) == (comm.rank == 0)
    assert not (out / "model").exists()
