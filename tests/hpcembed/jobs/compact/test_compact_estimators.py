"""hpcembed.compress, hpcembed.study and the estimators, on small data sets of scikit-learn."""

import pickle

import numpy as np
import onnxruntime
import pytest
import scipy.sparse
from mpi4py import MPI
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import hpcembed
from hpcembed.jobs.compact.estimators import original_classes
from hpcembed.runtime.errors import ConfigError, InputError

SMALL = {"max_loss": 5, "networks": [(16,)], "seeds": 3}


@pytest.fixture(scope="module")
def groups():
    """Rows of three classes that are far from each other."""
    rows, classes = make_blobs(300, 13, centers=3, random_state=0)
    return 100.0 + 30.0 * rows, classes


@pytest.fixture(scope="module")
def fitted(groups):
    X, y = groups
    return hpcembed.CompactClassifier(**SMALL).fit(X, y)


def test_fitted_attributes_and_accuracy(fitted, groups):
    X, y = groups
    assert fitted.n_features_in_ == 13
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.score(X, y) > 0.9
    proba = fitted.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    np.testing.assert_array_equal(proba.argmax(axis=1), fitted.predict(X))


def test_report_is_that_of_the_search(fitted):
    report = fitted.report
    assert report.hidden == (16,)
    assert report.verdict == report.content["answer"]["verdict"] == "keeps"
    assert report.task == "classification"
    assert 1 <= report.n_components <= 13
    assert f"k = {report.n_components}" in report.answer
    n = report.n_components
    assert repr(report) == (
        f"<CompressReport: keeps, network 16 on {n} component{'s' if n > 1 else ''}>"
    )
    assert "<table>" in report._repr_html_()
    assert str(report) == report.text
    assert report.text.index("## How many dimensions?") < report.text.index("## Search")
    assert report.content["dimensions"]["spectrum"]["n_possible"] == 13
    assert "dimension" not in report.answer


def test_a_notebook_shows_the_estimator_and_its_report(fitted):
    shown = fitted._repr_mimebundle_()
    assert shown["text/plain"] == repr(fitted)
    assert repr(fitted).startswith("CompactClassifier(max_loss=")
    assert len(repr(fitted)) < 200
    assert "sk-container" in shown["text/html"]
    assert shown["text/html"].endswith(fitted.report._repr_html_())
    assert "<table>" not in clone(fitted)._repr_mimebundle_()["text/html"].rpartition("</style>")[2]


def test_pickle_and_clone(fitted, groups):
    X, _ = groups
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    unfitted = clone(fitted)
    assert unfitted.get_params() == fitted.get_params()
    with pytest.raises(ValueError, match="not fitted"):
        unfitted.predict(X)


def test_saved_model_and_onnx_are_equal(fitted, groups, tmp_path):
    X, _ = groups
    model = hpcembed.load(fitted.save(tmp_path / "model"))
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))
    session = onnxruntime.InferenceSession(fitted.to_onnx(tmp_path / "groups.onnx"))
    (one,) = session.get_inputs()
    kind = np.float64 if "double" in one.type else np.float32
    (found,) = session.run(["probabilities"], {one.name: X.astype(kind)})
    np.testing.assert_allclose(found, fitted.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize(
    "values",
    [np.array(["red", "green", "blue"]), np.array([True, False, True]), np.array([7, 2, 5])],
)
def test_classes_have_the_type_of_the_labels(groups, values):
    X, y = groups
    labels = values[y]
    model = hpcembed.CompactClassifier(**SMALL).fit(X, labels)
    assert model.classes_.dtype.kind == labels.dtype.kind
    assert model.classes_.tolist() == np.unique(labels).tolist()
    assert model.score(X, labels) > 0.9


def test_pipeline_and_cross_validation(groups):
    X, y = groups
    pipeline = make_pipeline(MinMaxScaler(), hpcembed.CompactClassifier(**SMALL))
    assert cross_val_score(pipeline, X, y, cv=2).min() > 0.8


def test_images_sparse_rows_and_tensors_give_the_same_model():
    torch = pytest.importorskip("torch")
    digits = load_digits()
    X, y = digits.images[:600].astype(np.float32), digits.target[:600]
    settings = {**SMALL, "scaling": "none"}
    flat = hpcembed.CompactClassifier(**settings).fit(X.reshape(600, 64), y)
    expected = flat.predict_proba(X.reshape(600, 64))
    for rows in (X, torch.from_numpy(X)):
        model = hpcembed.CompactClassifier(**settings).fit(rows, torch.from_numpy(y))
        np.testing.assert_array_equal(model.predict_proba(rows), expected)
    sparse = scipy.sparse.csr_array(X.reshape(600, 64))
    model = hpcembed.CompactClassifier(**settings).fit(sparse, y)
    assert np.mean(model.predict(sparse) == y) > 0.9


def test_texts():
    rng = np.random.default_rng(0)
    words = {"sea": ["wave", "ship", "salt", "tide"], "hill": ["goat", "rock", "path", "snow"]}
    labels = np.array(["sea", "hill"])[rng.integers(0, 2, 200)]
    texts = [" ".join(rng.choice([*words[label], "the", "a"], 8)) for label in labels]
    model = hpcembed.compress(texts, labels, scaling="none", **SMALL)
    assert model.score(texts, labels) > 0.95
    assert model.predict(["a ship on a wave", "the goat and the snow"]).tolist() == ["sea", "hill"]


def test_rows_of_files(tmp_path, groups):
    X, y = groups
    np.save(tmp_path / "rows.npy", X)
    stream = hpcembed.open_rows(tmp_path / "rows.npy")
    model = hpcembed.CompactClassifier(**SMALL).fit(stream, y)
    expected = hpcembed.CompactClassifier(**SMALL).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))


def test_test_rows_of_the_caller_are_used(groups):
    X, y = groups
    part = np.arange(len(y)) % 3 == 0
    model = hpcembed.CompactClassifier(**SMALL).fit(X[~part], y[~part], test=(X[part], y[part]))
    (point,) = {len(one["confusion"] or [0]) and sum(map(sum, one["confusion"]))
                for one in model.report.content["results"]}  # fmt: skip
    assert point == part.sum()


def test_settings_of_a_job_file(groups):
    X, y = groups
    model = hpcembed.compress(X, y, settings={"embedding.method": "svd"}, **SMALL)
    assert model.report.content["method"] == "svd"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"epochs": 3}}, "settings: 'epochs': give section.key"),
        ({"settings": {"data.train": ["a.csv"]}}, "settings: data.train: the data are in memory"),
        ({"settings": {"training.epoch": 3}}, "settings: unknown key training.epoch"),
        ({"networks": ["tiny"]}, "settings: classifier.hidden: 'tiny' is not one of"),
        ({"networks": []}, "settings: classifier.hidden names no network"),
        ({"max_loss": -1}, "max-loss -1"),
    ],
)
def test_wrong_parameters(groups, change, message):
    X, y = groups
    with pytest.raises(ConfigError, match=message):
        hpcembed.CompactClassifier(**{**SMALL, **change}).fit(X, y)


def test_unknown_parameter(groups):
    with pytest.raises(ConfigError, match=r"compress: unknown parameter epochs: choose from conf"):
        hpcembed.compress(*groups, epochs=3)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((4, 2)), [0, 1, 0], "y: 3 labels for the 4 rows of X"),
        (np.zeros((2, 2)), [[0, 1], [1, 0]], r"y: shape \(2, 2\): give one label for each row"),
        (np.zeros(3), [0, 1, 0], r"X: shape \(3,\): give a table"),
        (np.full((3, 1), np.inf), [0, 1, 0], "X: row 1, column 1: inf is not a finite number"),
        (np.zeros((3, 2)), ["a", None, "b"], "y: row 2: the label is missing"),
        (np.zeros((0, 2)), [], "X: zero rows: there is nothing to learn from"),
        (np.zeros((2, 2), dtype=complex), [0, 1], "X: features of type complex128"),
    ],
)
def test_wrong_data(X, y, message):
    with pytest.raises(InputError, match=message):
        hpcembed.CompactClassifier(**SMALL).fit(X, y)


def test_study(groups, tmp_path):
    found = hpcembed.study(*groups, dimensions=[2, 5], networks=[(16,)], seeds=2)
    points = [(one["input"], one["n_inputs"]) for one in found.points]
    assert points == [("full", 13), ("spectral", 2), ("spectral", 5)]
    assert found.content["study"]["seeds"] == [0, 1]
    found.save(tmp_path / "study")
    assert "Compression study" in (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert "<table>" in found._repr_html_()
    assert str(found) == found.text
    with pytest.raises(ConfigError, match="20 dimensions of 13 features"):
        hpcembed.study(*groups, dimensions=[20], networks=[(16,)], seeds=2)


def test_rivals_of_a_study(groups):
    found = hpcembed.study(
        *groups, dimensions=[2], networks=[(8,)], seeds=2, rivals=["lda", "truncation"]
    )
    assert {point["input"] for point in found.rivals} == {"spectral", "lda", "truncation"}
    assert "the network 8, " in found.content["rivals"]["answer"]
    assert hpcembed.study(*groups, dimensions=[2], networks=[(8,)], seeds=2).rivals == []
    with pytest.raises(ConfigError, match=r"rivals.*'pca' is not one of"):
        hpcembed.study(*groups, dimensions=[2], networks=[(8,)], rivals=["pca"])


def test_study_leaves_out_dimensions_beyond_the_features(groups, tmp_path):
    found = hpcembed.study(*groups, networks=[(8,)], seeds=2, out=tmp_path / "study",
                           settings={"output.figures": False})  # fmt: skip
    spectral = [one["n_inputs"] for one in found.points if one["input"] == "spectral"]
    assert spectral == list(range(1, 14))
    assert found.folder == tmp_path / "study"


@pytest.mark.mpi
def test_ranks_share_the_rows(groups):
    comm = MPI.COMM_WORLD
    X, y = groups
    y = np.array(["a", "b", "c"])[y]
    bounds = np.linspace(0, len(y), comm.size + 1).astype(int)
    mine = slice(*bounds[comm.rank : comm.rank + 2])
    model = hpcembed.CompactClassifier(**SMALL).fit(X[mine], y[mine], comm=comm)
    alone = hpcembed.CompactClassifier(**SMALL).fit(X, y)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.report.hidden == alone.report.hidden
    chances = model.predict_proba(X)
    assert np.abs(chances - comm.bcast(chances)).max() == 0.0
    assert model.score(X, y) > 0.9


@pytest.mark.mpi
def test_error_of_one_rank_is_raised_on_all(groups):
    comm = MPI.COMM_WORLD
    X, y = groups
    X = X.copy()
    if comm.rank == comm.size - 1:
        X[3, 2] = np.inf
    with pytest.raises(InputError, match="row 4, column 3"):
        hpcembed.CompactClassifier(**SMALL).fit(X, y, comm=comm)


def test_classes_have_no_blanks_at_their_ends(comm):
    labels = np.array(["u ", "u", " v", "v "])
    assert original_classes(labels, ("u", "v"), comm).tolist() == ["u", "v"]


def test_classes_are_the_values_of_y(comm):
    for labels, names in (
        ([" u", "v ", "v "], ("u", "v")),
        (["01", "02", "01"], ("01", "02")),
        ([True, False, True], ("False", "True")),
        (np.array([True, False], dtype=object), ("False", "True")),
    ):
        classes = original_classes(labels, names, comm)
        assert classes.tolist() == sorted(set(labels))
        assert (classes.dtype.kind == "b") == isinstance(labels[0], bool)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("False", "True"), [False, True]),
        (("0", "12"), [0, 12]),
        (("0.5", "1.0"), [0.5, 1.0]),
        (("01", "02"), ["01", "02"]),
        (("+1", "2"), ["+1", "2"]),
        (("1_0", "2"), ["1_0", "2"]),
    ],
)
def test_classes_of_deployed_models(names, classes):
    from hpcembed.jobs.export.inference import DeployedClassifier
    from hpcembed.jobs.export.model import Model, Stage

    stage = Stage(np.eye(2, dtype=np.float32), None, relu=False)
    found = DeployedClassifier(Model(np.zeros(2, dtype=np.float32), (stage,), names), {})
    assert found.classes_.tolist() == classes
    assert found.score([[1.0, 0.0], [0.0, 1.0]], classes) == 1.0


def test_an_array_with_gaps_and_a_constant_column_is_predicted(groups):
    X, y = groups
    X = X.copy()
    X[::9, 3], X[:, 5] = np.nan, 1.0
    model = hpcembed.CompactClassifier(**SMALL).fit(X, y)
    assert model.n_features_in_ == 13
    assert model.score(X, y) > 0.9
