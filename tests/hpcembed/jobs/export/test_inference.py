"""scikit-learn's methods on a loaded model: shapes, types, what is refused."""

import numpy as np
import pandas
import pyarrow
import pytest
import scipy.sparse
from sklearn.metrics import accuracy_score

import hpcembed
from hpcembed.jobs.export.deployed_model import BLOCK_ROWS
from hpcembed.jobs.export.inference import DeployedClassifier
from hpcembed.jobs.export.layer_folding import build_model
from hpcembed.runtime.errors import InputError


@pytest.fixture
def model(parts):
    def make(class_names=("3", "5", "8"), feature_names=(), offset=0.0):
        scaling, projection, trained, _ = parts(offset=offset)
        built = build_model(
            scaling,
            projection,
            trained,
            projection.mean,
            np.ones(30),
            class_names=class_names,
            feature_names=feature_names,
        )
        return DeployedClassifier(built, {"name": "toy", "network": "embedded-8-6"})

    return make


@pytest.fixture(name="X")
def rows():
    return np.random.default_rng(1).standard_normal((40, 30))


def test_shapes_and_types(model, X):
    one = model()
    assert repr(one) == "<toy embedded-8-6: 30 features, 3 classes>"
    assert one.n_features_in_ == 30
    assert not hasattr(one, "feature_names_in_")
    assert one.predict_logits(X).dtype == np.float32
    chances = one.predict_proba(X)
    assert chances.shape == (40, 3)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-14)
    predicted = one.predict(X)
    np.testing.assert_array_equal(predicted, np.array([3, 5, 8])[chances.argmax(axis=1)])
    y = np.where(np.arange(40) % 4, predicted, 3)
    assert one.score(X, y) == accuracy_score(y, predicted) < 1
    assert one.predict(X[:0]).shape == (0,)
    assert one.predict_proba(X[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("3", "5", "8"), np.array([3, 5, 8])),
        (("0.5", "1", "2"), np.array([0.5, 1, 2])),
        (("a", "b", "c"), np.array(["a", "b", "c"])),
        (("1", "2", "x"), np.array(["1", "2", "x"])),
        (("1", "2", "nan"), np.array(["1", "2", "nan"])),
        (("1", "2", "1" * 30), np.array([1, 2, float("1" * 30)])),
    ],
)
def test_classes_are_what_they_were(model, X, names, classes):
    one = model(class_names=names)
    np.testing.assert_array_equal(one.classes_, classes)
    assert one.classes_.dtype.kind == classes.dtype.kind
    assert one.score(X, one.predict(X).tolist()) == 1.0
    assert one.score(X, one.predict(X).astype(object)) == 1.0


def test_sparse_rows_and_other_types_give_the_same(model, X):
    one = model()
    X = np.where(X > 0, X, 0)
    expected = one.predict_logits(X)
    np.testing.assert_array_equal(one.predict_logits(scipy.sparse.csr_array(X)), expected)
    np.testing.assert_array_equal(one.predict_logits(scipy.sparse.coo_matrix(X)), expected)
    np.testing.assert_array_equal(one.predict_logits(X.tolist()), expected)
    np.testing.assert_array_equal(one.predict_logits(X.astype(np.float32)), expected)
    np.testing.assert_array_equal(one.predict_logits(X.astype(object)), expected)
    images = (100 * X).astype(np.uint8)
    np.testing.assert_array_equal(
        one.predict_logits(images), one.predict_logits(images.astype(np.float64))
    )
    before = X.copy()
    one.predict(X)
    np.testing.assert_array_equal(X, before)


def test_a_row_has_the_same_bits_whatever_comes_with_it(model):
    one = model()
    X = np.random.default_rng(1).standard_normal((3 * BLOCK_ROWS, 30))
    whole = one.predict_logits(X)
    for first, last in [(0, 1), (1, 2), (7, 300), (255, 258), (256, 768), (700, 701)]:
        part = one.predict_logits(X[first:last], first_row=first)
        assert part.tobytes() == whole[first:last].tobytes()


def test_a_row_is_computed_at_its_place_in_the_table(model, monkeypatch):
    """A BLAS may treat the rows at a block's edge differently: the place is the global one."""
    one, places = model(), {}

    def forward(block):
        assert len(block) == BLOCK_ROWS
        for place in np.flatnonzero(block[:, 0]):
            places[int(block[place, 0])] = int(place)
        return np.zeros((len(block), 3), dtype=np.float32)

    monkeypatch.setattr(one, "_forward", forward)
    for first, last in [(0, 7), (7, 250), (250, 251), (251, 700)]:
        rows = np.zeros((last - first, 30))
        rows[:, 0] = 1 + np.arange(first, last)
        one.predict_logits(rows, first_row=first)
    assert places == {row + 1: row % BLOCK_ROWS for row in range(700)}


def test_columns_are_found_by_name(model, X):
    names = tuple(f"f{i}" for i in range(30))
    one = model(feature_names=names)
    np.testing.assert_array_equal(one.feature_names_in_, np.array(names, dtype=object))
    table = pandas.DataFrame(X, columns=names)
    further = table[list(names[::-1])].assign(target="text")
    for rows in (table, further, pyarrow.Table.from_pandas(further)):
        np.testing.assert_array_equal(one.predict_proba(rows), one.predict_proba(X))
    with pytest.raises(InputError, match=r"features are missing: f0, f1$"):
        one.predict(table.drop(columns=["f0", "f1"]))
    # the table is not changed
    assert list(further.columns) == [*names[::-1], "target"]


def put(X, row, value, column=2):
    X[row, column] = value
    return X


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X: X[:, :29], "rows of 29 features: the model takes 30"),
        (lambda X: X[0], r"rows of shape \(30,\)"),
        (lambda X: X.astype(complex), "rows of type complex128"),
        (lambda X: X.astype(str), "rows of type <U"),
        (lambda X: put(X.astype(object), 1, "x"), "rows are not numbers"),
        (lambda X: put(X, 1, np.nan), "row 2: NaN, infinity, or a value"),
        (lambda X: put(X, 3, 1e300), "row 4: NaN, infinity, or a value"),
        (lambda X: put(X, 3, 3e38, slice(None)), "row 4: the outputs overflow float32"),
        (lambda X: scipy.sparse.csr_array(X[:, 1:]), "rows of 29 features"),
    ],
)
def test_rows_that_are_refused(model, X, change, words):
    with pytest.raises(InputError, match=words):
        model().predict_proba(change(X))


def test_labels_that_are_refused(model, X):
    numbers, words = model(), model(class_names=("a", "b", "c"))
    with pytest.raises(InputError, match="labels are text where the model's classes are numbers"):
        numbers.score(X, ["3"] * 40)
    with pytest.raises(InputError, match="labels are numbers where the model's classes are text"):
        words.score(X, np.zeros(40))
    with pytest.raises(InputError, match=r"labels of shape \(39,\) for 40 rows"):
        numbers.score(X, np.zeros(39))
    assert words.score(X, words.predict(X).astype(bytes)) == 1.0


def test_an_unknown_attribute_is_an_error():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        hpcembed.lode  # noqa: B018
