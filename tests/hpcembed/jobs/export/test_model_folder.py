"""The folder of a model: whole or absent, read back to the same numbers, or refused in one line."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy

import hpcembed
from hpcembed.jobs.export.layer_folding import build_model
from hpcembed.jobs.export.model_folder import read_model, write_model
from hpcembed.jobs.export.onnx_graph import onnx_bytes
from hpcembed.runtime.errors import InputError, OutputError, OutputExistsError


def same(model, other):
    assert model.class_names == other.class_names
    assert model.feature_names == other.feature_names
    np.testing.assert_array_equal(model.shift, other.shift)
    assert len(model.stages) == len(other.stages)
    for one, two in zip(model.stages, other.stages, strict=True):
        assert one.relu == two.relu
        np.testing.assert_array_equal(one.weight, two.weight)
        assert (one.bias is None) == (two.bias is None)
        if one.bias is not None:
            np.testing.assert_array_equal(one.bias, two.bias)


@pytest.fixture
def make(parts):
    def build(fold=False, offset=0.0, names=("0", "1", "7"), **sizes):
        scaling, projection, trained, _ = parts(offset=offset, **sizes)
        d = scaling.shift.size
        return build_model(
            scaling,
            projection,
            trained,
            projection.mean,
            np.ones(d),
            class_names=names,
            feature_names=tuple(f"f{i}" for i in range(d)),
            fold=fold,
        )

    return build


@pytest.fixture
def folder(make, tmp_path):
    write_model(tmp_path / "m", make(), {"name": "toy", "hpcembed": "0.1.0"}, "# Card\n")
    return tmp_path / "m"


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("fold", [True, False])
def test_round_trip(make, tmp_path, fold, offset):
    model = make(fold, offset)
    write_model(tmp_path / "new" / "m", model, {"name": "toy", "hpcembed": "0.1.0"}, "# Card\n")
    read, description = read_model(tmp_path / "new" / "m")
    same(model, read)
    assert description["name"] == "toy"
    assert description["version"] == 1
    assert sorted(path.name for path in (tmp_path / "new" / "m").iterdir()) == [
        "README.md",
        "manifest.json",
        "model.json",
        "model.onnx",
        "model.safetensors",
    ]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m"]


@pytest.mark.parametrize(("fold", "offset"), [(True, 0), (False, 0), (True, 1e9), (False, 1e9)])
def test_onnxruntime_and_numpy_agree(make, tmp_path, fold, offset):
    model = make(fold, offset)
    write_model(tmp_path / "m", model, {}, "")
    session = onnxruntime.InferenceSession(tmp_path / "m" / "model.onnx")
    (given,) = session.get_inputs()
    assert (given.name, given.shape) == ("features", ["batch", 30])
    assert given.type == ("tensor(double)" if offset else "tensor(float)")
    loaded = hpcembed.load(tmp_path / "m")
    for n in (1, 3, 700):
        X = np.random.default_rng(n).standard_normal((n, 30)) + offset
        logits, chances, index = session.run(None, {"features": X.astype(model.input_type)})
        assert logits.dtype == chances.dtype == np.float32
        assert index.dtype == np.int64
        np.testing.assert_allclose(loaded.predict_logits(X), logits, atol=1e-5)
        np.testing.assert_allclose(loaded.predict_proba(X), chances, atol=1e-5)
        np.testing.assert_array_equal(loaded.predict(X), loaded.classes_[index])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == ["0", "1", "7"]
    assert json.loads(metadata["feature_names"])[:2] == ["f0", "f1"]


def test_the_graph_is_plain_and_always_the_same(make):
    model = make()
    content = onnx_bytes(model, {"name": "toy"})
    assert content == onnx_bytes(model, {"name": "toy"})
    proto = onnx.load_from_string(content)
    onnx.checker.check_model(proto, full_check=True)
    assert [node.op_type for node in proto.graph.node] == [
        *("Sub", "MatMul"),
        *("Gemm", "Relu") * 2,
        *("Gemm", "Softmax", "ArgMax"),
    ]
    assert {opset.version for opset in proto.opset_import} == {13}


def test_weights_beyond_one_onnx_file_are_refused(make, monkeypatch):
    monkeypatch.setattr("hpcembed.jobs.export.onnx_graph.LARGEST", 100)
    with pytest.raises(InputError, match="do not fit one ONNX file"):
        onnx_bytes(make(), {})


def test_nothing_is_written_over(make, tmp_path, folder):
    with pytest.raises(OutputExistsError, match="not empty; choose another folder"):
        write_model(folder, make(), {}, "")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputExistsError, match="is a file"):
        write_model(tmp_path / "file", make(), {}, "")
    with pytest.raises(OutputExistsError, match="choose another path"):
        write_model(tmp_path / "file" / "m", make(), {}, "")
    with pytest.raises(OutputError, match="name too long"):
        write_model(tmp_path / ("m" * 300), make(), {}, "")
    (tmp_path / "empty").mkdir()
    write_model(tmp_path / "empty", make(), {}, "")
    assert (tmp_path / "empty" / "model.onnx").is_file()


def edit(folder, **changes):
    """Change the description, as in a folder of an earlier version, which had no manifest."""
    content = json.loads((folder / "model.json").read_text())
    content.update({"has_manifest": None, **changes})
    (folder / "model.json").write_text(json.dumps(content))


def reweigh(folder, change):
    """Other tensors, with the digest that belongs to them."""
    import hashlib

    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    edit(folder, sha256=digest)


DAMAGES = {
    "gone": (lambda f: (f / "model.json").unlink(), "contains no model.json"),
    "not json": (lambda f: (f / "model.json").write_text("{"), "not JSON"),
    "not text": (lambda f: (f / "model.json").write_bytes(b"\xff\xfe"), "not JSON"),
    "foreign": (lambda f: (f / "model.json").write_text('{"model": 1}'), "not the description"),
    "a list": (lambda f: (f / "model.json").write_text("[1]"), "not the description"),
    "newer": (lambda f: edit(f, version=3), "version 3, and this hpcembed reads up to 2"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "No such file"),
    "other weights": (
        lambda f: (f / "model.safetensors").write_bytes(b"x" * 100),
        "not the weights of model.json",
    ),
    "names": (lambda f: edit(f, class_names=["a", "b"]), "2 class names for 3 outputs"),
    "features": (lambda f: edit(f, n_features=31), "shift is float32 of shape"),
    "feature names": (lambda f: edit(f, feature_names=["x"]), "1 feature names for 30"),
    "type": (lambda f: edit(f, input_type="int8"), "input of type int8"),
    "stages": (lambda f: edit(f, stages=7), "damaged model"),
    "no stages": (lambda f: edit(f, stages=[]), "damaged model"),
    "key": (lambda f: edit(f, stages=[{}]), "damaged model"),
    "lacks": (lambda f: reweigh(f, lambda t: t.pop("shift")), "damaged model"),
    "nan": (
        lambda f: reweigh(f, lambda t: t["stage1.bias"].fill(np.nan)),
        "stage1.bias contains NaN",
    ),
    "chain": (
        lambda f: reweigh(f, lambda t: t.update({"stage1.weight": t["stage1.weight"].T.copy()})),
        "stage1.weight is float32 of shape",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_and_foreign_folders_are_one_line(folder, damage):
    spoil, words = DAMAGES[damage]
    spoil(folder)
    with pytest.raises(InputError) as caught:
        hpcembed.load(folder)
    assert words in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_load_takes(folder, tmp_path):
    assert hpcembed.load(str(folder)).n_features_in_ == 30
    assert hpcembed.load(folder / "model.json").n_features_in_ == 30
    folder.rename(tmp_path / "model")
    assert hpcembed.load(tmp_path).n_features_in_ == 30
    with pytest.raises(InputError, match="no such folder"):
        hpcembed.load(tmp_path / "none")


def test_loading_needs_numpy_only(folder):
    script = (
        "import sys, hpcembed\n"
        "heavy = {'numpy', 'mpi4py', 'petsc4py', 'slepc4py', 'torch', 'sklearn', 'scipy', 'onnx'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
        "model = hpcembed.load(sys.argv[1])\n"
        "print(model.predict([[0.0] * 30]))\n"
        "heavy -= {'numpy'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, folder], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def other_model(make, folder):
    write_model(folder.with_name("other"), make(names=("x", "y", "z")), {"name": "other"}, "")
    return folder.with_name("other")


@pytest.mark.parametrize("name", ["model.json", "model.onnx"])
def test_a_file_of_another_model_is_refused(make, folder, name):
    content = (other_model(make, folder) / name).read_bytes()
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: not the file listed in manifest.json: export"):
        read_model(folder)


def test_manifest_is_needed_but_card_and_graph_are_not(folder):
    (folder / "README.md").write_text("another card")
    (folder / "model.onnx").unlink()
    read_model(folder)
    for content, words in ((b"{", "not a manifest"), (b'{"sha256": {}}', "does not list")):
        (folder / "manifest.json").write_bytes(content)
        with pytest.raises(InputError, match=words):
            read_model(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"manifest.json: No such file"):
        read_model(folder)


def test_a_model_of_an_earlier_version_is_read(folder):
    edit(folder)
    (folder / "manifest.json").unlink()
    _, description = read_model(folder)
    assert description["name"] == "toy"
