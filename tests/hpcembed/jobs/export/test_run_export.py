"""From a run to its model: three ways to the same logits, the card, what is refused."""

import json
import shutil

import numpy as np
import onnxruntime
import pytest
import safetensors.numpy
from mpi4py import MPI

import hpcembed
from hpcembed.data.reading import read_dataset
from hpcembed.jobs.configuration import load_job
from hpcembed.jobs.export.card import Accuracy
from hpcembed.jobs.export.run_export import export_run
from hpcembed.jobs.job import prepare
from hpcembed.networks.training.evaluation import predict_logits
from hpcembed.networks.training.serialise import load_classifier
from hpcembed.runtime.errors import ConfigError, HpcembedError, InputError, OutputExistsError

pytestmark = pytest.mark.slow

NETWORKS = ["embedded-12", "embedded-64-64", "full-12", "full-64-64"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, request):
    """A run of digits with a network wider than the projection and one that is narrower."""
    from hpcembed.jobs.run import run_job

    out = tmp_path_factory.mktemp("run") / "out"
    job = prepare(
        request.config.rootpath / "jobs" / "digits.toml",
        ["classifier.hidden=['low', [12]]", "training.epochs=20", "output.figures=false"],
        None,
        out,
        MPI.COMM_SELF,
    )
    assert run_job(job) == 0
    return out


@pytest.fixture
def digits(run):
    """Raw test rows and their labels."""
    data = read_dataset(load_job(run / "job.toml").data, run, MPI.COMM_SELF)
    return data.test.rows, data.test.labels.codes


def through_torch(run, network, X):
    """What training computed: scaling and projection in double, float32 rows, torch."""
    embedding = safetensors.numpy.load_file(run / "projection.safetensors")
    rows = (X - embedding["scaling_shift"]) * embedding["scaling_factor"]
    if network.startswith("embedded"):
        rows = (rows - embedding["mean"]) @ embedding["components"].T
    saved = load_classifier(run / f"classifier-{network}.safetensors")
    return predict_logits(saved.model, rows.astype(np.float32))


@pytest.mark.parametrize("network", NETWORKS)
def test_torch_onnxruntime_and_numpy_agree(run, digits, tmp_path, network):
    X, y = digits
    export_run(run, tmp_path / "m", network)
    expected = through_torch(run, network, X)
    model = hpcembed.load(tmp_path / "m")
    logits = model.predict_logits(X)
    session = onnxruntime.InferenceSession(tmp_path / "m" / "model.onnx")
    outputs = session.run(None, {"features": X.astype(np.float32)})
    assert np.abs(expected).max() > 2  # there is something to lose
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(outputs[0], expected, atol=1e-5)
    np.testing.assert_array_equal(logits.argmax(axis=1), expected.argmax(axis=1))
    np.testing.assert_array_equal(outputs[2], expected.argmax(axis=1))
    record = json.loads((run / "run.json").read_text())
    (entry,) = [
        one
        for one in record["classifiers"]
        if f"{one['input']}-{'-'.join(map(str, one['hidden']))}" == network
    ]
    assert model.score(X, y) == pytest.approx(entry["test_accuracy"], abs=1e-12)
    np.testing.assert_array_equal(model.classes_, np.arange(10))
    assert model.description["accuracy"]["test"] == entry["test_accuracy"]
    assert model.description["parameters"]["network"] == entry["parameters"]
    weights = safetensors.numpy.load_file(tmp_path / "m" / "model.safetensors")
    stored = sum(array.size for array in weights.values())
    assert model.description["parameters"]["stored"] == stored


def test_the_run_leaves_the_model_of_its_best_network(run, digits, tmp_path):
    record = json.loads((run / "run.json").read_text())
    embedded = [one for one in record["classifiers"] if one["input"] == "embedded"]
    best = max(embedded, key=lambda one: (one["validation_accuracy"], -one["parameters"]))
    network = "embedded-" + "-".join(map(str, best["hidden"]))
    left = hpcembed.load(run)
    assert left.description["network"] == network
    export_run(run, tmp_path / "again")
    for name in ("model.onnx", "model.safetensors", "model.json", "README.md"):
        again, first = (tmp_path / "again" / name), (run / "model" / name)
        assert again.read_bytes() == first.read_bytes(), name
    assert not list(run.glob("**/.partial*"))


def test_the_smaller_network_wins_a_tie(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    for accuracy, network in ((0.9, "embedded-12"), (None, "embedded-12")):
        for one in record["classifiers"]:
            one["validation_accuracy"] = accuracy
        (copy / "run.json").write_text(json.dumps(record))
        export_run(copy, tmp_path / str(accuracy))
        assert hpcembed.load(tmp_path / str(accuracy)).description["network"] == network


def test_card_of_a_kept_and_of_a_folded_projection(run, tmp_path):
    texts = {}
    for network in NETWORKS[:3]:
        export_run(run, tmp_path / network, network)
        texts[network] = " ".join((tmp_path / network / "README.md").read_text().split())
    # 64 features, 20 components: 64*12 = 768 against 20*(64+12) = 1520; 4096 against 2560.
    assert (
        "folded into the first layer: one matrix of 768 numbers instead of 1,520 for both"
        in (texts["embedded-12"])
    )
    assert (
        "kept apart from the first layer: both have 2,560 numbers, and one matrix for both"
        in (texts["embedded-64-64"])
    )
    for network in NETWORKS[:2]:
        for words in (
            f"# digits, network {network}",
            "20 principal components of 64 features",
            "one seed; its spread is not known",
            f"- {network.removeprefix('embedded-')} on all features: test",
            "1,438 training and 359 test rows",
            "CONVERGED_TOL",
            "Seeds: split 0, solver 0, network 0",
            f"Versions: hpcembed {hpcembed.__version__}, Python",
            "[classifier] enabled = true",
        ):
            assert words in texts[network], words
    assert "part of the first layer's weights" in texts["full-12"]
    assert "on all 64 features" in texts["full-12"]
    assert " on all features: test" not in texts["full-12"]
    assert "trained parameters, without the projection | 382 |" in texts["embedded-12"]
    # shift, folded matrix and bias, last layer
    assert f"the shift | {64 + 64 * 12 + 12 + 12 * 10 + 10:,} |" in texts["embedded-12"]


def test_a_residual_that_is_not_finite_is_unknown(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    record["embedding"]["residual_norms"][3] = None  # NaN
    (copy / "run.json").write_text(json.dumps(record))
    export_run(copy, tmp_path / "m")
    certificate = hpcembed.load(tmp_path / "m").description["embedding"]
    assert certificate["largest_relative_residual"] is None
    assert "largest relative residual unknown; " in (tmp_path / "m" / "README.md").read_text()


def test_accuracy_over_seeds_is_told(run, tmp_path):
    export_run(run, tmp_path / "m", accuracy=Accuracy(0.975, 0.97, 0.0031, 5))
    text = (tmp_path / "m" / "README.md").read_text()
    assert "Test: 97.50 % +- 0.31 (standard deviation), mean of 5 seeds; this network" in text
    assert hpcembed.load(tmp_path / "m").description["accuracy"]["n_seeds"] == 5


def test_paths_of_the_machine_stay_there(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    job = (copy / "job.toml").read_text()
    job = job.replace('format = "digits"', 'format = "npz"')
    job = job.replace("train = []", 'train = ["/secret/place/train.npz"]')
    (copy / "job.toml").write_text(job)
    export_run(copy, tmp_path / "m")
    for path in (tmp_path / "m").iterdir():
        content = path.read_bytes()
        assert b"secret" not in content, path.name
        assert str(copy).encode() not in content, path.name
    assert 'train = ["train.npz"]' in (tmp_path / "m" / "README.md").read_text()


def test_offsets_that_float32_cannot_hold(run, digits, tmp_path):
    """A run whose features lie at 1e8 with deviations of a few: the input is double."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    embedding = safetensors.numpy.load_file(run / "projection.safetensors")
    with safetensors.safe_open(run / "projection.safetensors", framework="np") as file:
        about = file.metadata()
    embedding["scaling_shift"] = embedding["scaling_shift"] + 1e8
    safetensors.numpy.save_file(embedding, copy / "projection.safetensors", about)
    export_run(copy, tmp_path / "m", "embedded-12")
    X = digits[0].astype(np.float64) + 1e8
    expected = through_torch(run, "embedded-12", digits[0])
    model = hpcembed.load(tmp_path / "m")
    assert model.description["input_type"] == "float64"
    np.testing.assert_allclose(model.predict_logits(X), expected, atol=1e-5)
    session = onnxruntime.InferenceSession(tmp_path / "m" / "model.onnx")
    (logits,) = session.run(["logits"], {"features": X})
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert "float64 of shape (rows, 64), because float32" in (
        (tmp_path / "m" / "README.md").read_text()
    )


def test_class_names_that_are_numbers_become_texts(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    arrays = safetensors.numpy.load_file(run / "projection.safetensors")
    with safetensors.safe_open(run / "projection.safetensors", framework="np") as file:
        about = file.metadata() | {"class_names": json.dumps(list(range(10)))}
    safetensors.numpy.save_file(arrays, copy / "projection.safetensors", about)
    export_run(copy, tmp_path / "m", "embedded-12")
    assert hpcembed.load(tmp_path / "m").description["class_names"] == [str(i) for i in range(10)]


def damage(kind, folder):
    if kind == "unfinished":
        (folder / "run.json").unlink()
    elif kind == "not json":
        (folder / "run.json").write_text("{")
    elif kind == "foreign":
        (folder / "run.json").write_text("{}")
    elif kind == "no job":
        (folder / "job.toml").unlink()
    elif kind == "no projection":
        (folder / "projection.safetensors").unlink()
    elif kind == "bad projection":
        (folder / "projection.safetensors").write_bytes(b"x" * 99)
    elif kind == "older":
        arrays = safetensors.numpy.load_file(folder / "projection.safetensors")
        del arrays["feature_variances"]
        with safetensors.safe_open(folder / "projection.safetensors", framework="np") as file:
            about = file.metadata()
        safetensors.numpy.save_file(arrays, folder / "projection.safetensors", about)
    elif kind == "no networks":
        for path in folder.glob("classifier-*"):
            path.unlink()
    elif kind == "foreign network":
        shutil.copy(
            folder / "projection.safetensors", folder / "classifier-embedded-12.safetensors"
        )
        (folder / "classifier-embedded-64-64.safetensors").unlink()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unfinished", "contains no run.json: not a finished run"),
        ("not json", "run.json: not JSON"),
        ("foreign", "not the record of a run"),
        ("no job", "job.toml: No such file"),
        ("no projection", "projection.safetensors: No such file"),
        ("bad projection", "not a safetensors file"),
        ("older", "not a run of this version (KeyError 'feature_variances'): run it again"),
        ("no networks", "no network on the embedding (it has none)"),
        ("foreign network", "not a run of this version"),
    ],
)
def test_folders_that_are_no_run_are_one_line(run, tmp_path, kind, words):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    damage(kind, copy)
    with pytest.raises(HpcembedError) as caught:
        export_run(copy, tmp_path / "m")
    assert words in str(caught.value)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_what_else_is_refused(run, tmp_path):
    with pytest.raises(ConfigError, match=r"--network embedded-13: .* has embedded-12, emb"):
        export_run(run, tmp_path / "m", "embedded-13")
    with pytest.raises(InputError, match="no such folder"):
        export_run(tmp_path / "none", tmp_path / "m")
    with pytest.raises(OutputExistsError, match="not empty"):
        export_run(run, run / "model")


def test_a_model_that_cannot_be_written_does_not_fail_the_run(tmp_path, request, monkeypatch):
    from hpcembed.jobs.run import run_job

    monkeypatch.setattr("hpcembed.jobs.export.onnx_graph.LARGEST", 1000)
    warned = []
    monkeypatch.setattr("hpcembed.jobs.results._log.warning", lambda *words: warned.append(words))
    job = prepare(
        request.config.rootpath / "jobs" / "digits.toml",
        ["training.epochs=1", "classifier.baseline=false", "output.figures=false"],
        None,
        tmp_path / "out",
        MPI.COMM_SELF,
    )
    assert run_job(job) == 0
    assert not (tmp_path / "out" / "model").exists()
    assert "do not fit one ONNX file" in str(warned)
