"""Model folder: what it holds, that it loads without hpcembed, ONNX, and refusals."""

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import save_file
from torch import nn

from hpcembed.jobs.network_compression.model_folder import write_compressed_model
from hpcembed.jobs.network_compression.report import write_report_folder
from hpcembed.networks.compression import compress_model
from hpcembed.networks.compression.model_file import write_model_files
from hpcembed.runtime.errors import ConfigError, InputError, OutputError, OutputExistsError

SOURCE = Path(__file__).with_name("example_networks.py")

#: Started without site packages: paths are added, and files of editable installs are not read.
RESTORE = """
import importlib.util
import json
import sys

sys.path[:0] = [sys.argv[1]]
sys.path += json.loads(sys.argv[2])
assert importlib.util.find_spec("hpcembed") is None

from safetensors.torch import load_file, save_file

import example_networks
import load_model

model = load_model.restore(getattr(example_networks, sys.argv[3])(), sys.argv[1])
inputs = load_file(sys.argv[4])["inputs"]
save_file({"outputs": model(inputs).detach().contiguous()}, sys.argv[5])
assert "hpcembed" not in sys.modules
print(model.training, len(list(model.parameters())), sum(p.numel() for p in model.parameters()))
"""


def restored(folder, name, inputs, place):
    """Outputs of the restored model in a process without hpcembed, and what it prints."""
    copied = place / "elsewhere"
    shutil.copytree(folder, copied)
    shutil.copy(SOURCE, copied)
    save_file({"inputs": inputs.contiguous()}, place / "inputs.safetensors")
    packages = sorted({str(Path(m.__file__).parents[1]) for m in (torch, safetensors, np)})
    done = subprocess.run(
        [
            sys.executable, "-S", "-I", "-c", RESTORE, str(copied), json.dumps(packages), name,
            str(place / "inputs.safetensors"), str(place / "outputs.safetensors"),
        ],
        capture_output=True, text=True, check=False, cwd=place, timeout=240,
        env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with safetensors.safe_open(place / "outputs.safetensors", framework="pt") as file:
        return file.get_tensor("outputs"), done.stdout.split()


def outputs(model, inputs):
    with torch.no_grad():
        return model(inputs)


def load_script(folder):
    namespace = {"__file__": str(folder / "load_model.py")}
    exec(compile((folder / "load_model.py").read_text(), "load_model.py", "exec"), namespace)
    return namespace["restore"]


@pytest.fixture(scope="module")
def convolution_folder(convolutions, tmp_path_factory):
    small, report, images = convolutions
    return write_compressed_model(
        small, report, tmp_path_factory.mktemp("conv") / "small", example=images[:3],
        model_name="Conv <net>", data_name="random walks | 8 x 8",
    )  # fmt: skip


@pytest.fixture(scope="module")
def attention_folder(attention, tmp_path_factory):
    small, report, _ = attention
    return write_compressed_model(small, report, tmp_path_factory.mktemp("tokens") / "small")


def test_files(convolution_folder, attention_folder):
    common = {
        "README.md", "figures", "frontier.csv", "layers.csv", "layers.json", "load_model.py",
        "model.safetensors", "report.html", "report.json",
    }  # fmt: skip
    assert set(os.listdir(attention_folder)) == common
    assert set(os.listdir(convolution_folder)) == common | {"model.onnx"}
    assert os.listdir(convolution_folder.parent) == ["small"]


def test_convolutions_without_hpcembed(convolutions, convolution_folder, tmp_path):
    small, _, images = convolutions
    found, printed = restored(convolution_folder, "ConvNet", images, tmp_path)
    assert torch.equal(found, outputs(small, images))
    parameters = list(small.parameters())
    assert printed == ["False", str(len(parameters)), str(sum(p.numel() for p in parameters))]


def test_shared_reduction_without_hpcembed(attention, attention_folder, tmp_path):
    small, _, ids = attention
    found, printed = restored(attention_folder, "TokenNet", ids, tmp_path)
    assert torch.equal(found, outputs(small, ids))
    # Parameters are counted once: the restored reduction is one module, and the head is tied.
    parameters = list(small.parameters())
    assert printed[1:] == [str(len(parameters)), str(sum(p.numel() for p in parameters))]


def test_layers_json(convolutions, convolution_folder):
    _, report, _ = convolutions
    content = json.loads((convolution_folder / "layers.json").read_text())
    weights = (convolution_folder / "model.safetensors").read_bytes()
    assert content.pop("sha256") == hashlib.sha256(weights).hexdigest()
    reduced = {
        "in_channels": 32, "out_channels": 10, "kernel_size": [3, 1], "stride": [2, 2],
        "padding": [1, 0], "dilation": [1, 1], "groups": 2, "bias": False,
    }  # fmt: skip
    expanded = {
        "in_channels": 10, "out_channels": 32, "kernel_size": [1, 1], "stride": [1, 1],
        "padding": [0, 0], "dilation": [1, 1], "groups": 2, "bias": True,
    }  # fmt: skip
    layers = content.pop("layers")
    assert list(layers) == ["wide", "grouped", "head"] == list(report.ranks)
    assert layers["grouped"] == [
        {"type": "Conv2d", "arguments": reduced},
        {"type": "Conv2d", "arguments": expanded},
    ]
    assert layers["wide"][0]["arguments"]["padding"] == "same"
    assert layers["head"] == [
        {"type": "Linear", "arguments": {"in_features": 512, "out_features": 7, "bias": False}},
        {"type": "Linear", "arguments": {"in_features": 7, "out_features": 10, "bias": True}},
    ]
    assert content == {
        "format": "hpcembed compressed network", "version": 1, "aliases": {}, "not_written": [],
        "identities": ["stem.1", "norm_wide", "norm_grouped"], "biases": ["stem.0", "norm_alone"],
    }  # fmt: skip


def test_every_tensor_is_written_once(attention, attention_folder):
    small, _, _ = attention
    content = json.loads((attention_folder / "layers.json").read_text())
    assert content["aliases"]["head.weight"] == "words.weight"
    assert content["aliases"]["k.0.weight"] == content["aliases"]["v.0.weight"] == "q.0.weight"
    assert [content["layers"][name][0] for name in "kv"] == [{"same_as": "q.0"}] * 2
    with safetensors.safe_open(attention_folder / "model.safetensors", framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = small.state_dict()
    assert set(stored) | set(content["aliases"]) == set(state)
    assert not set(stored) & set(content["aliases"])
    assert all(torch.equal(tensor, state[name]) for name, tensor in stored.items())
    assert sum(t.numel() for t in stored.values()) == sum(p.numel() for p in small.parameters())


def test_onnx(convolutions, convolution_folder):
    import onnxruntime

    small, _, images = convolutions
    session = onnxruntime.InferenceSession(convolution_folder / "model.onnx")
    (given,) = session.get_inputs()
    for count in (1, 5, 240):
        (logits,) = session.run(None, {given.name: images[:count].numpy()})
        expected = outputs(small, images[:count]).numpy()
        assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


def test_onnx_has_no_paths_of_this_machine(convolution_folder):
    content = (convolution_folder / "model.onnx").read_bytes()
    assert b"example_networks" not in content
    assert b".py" not in content


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
def test_onnx_of_named_inputs(attention, tmp_path, monkeypatch, exporter):
    import onnxruntime

    small, report, ids = attention
    if exporter == "legacy":
        hide(monkeypatch, "onnxscript")
    files = write_model_files(small, report, tmp_path, {"ids": ids[:1]})
    assert files.names == ("model.safetensors", "layers.json", "model.onnx")
    assert files.warnings == ()
    assert 0 <= files.onnx_deviation <= 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (logits,) = session.run(None, {"ids": ids[:7].numpy()})
    expected = outputs(small, ids[:7]).numpy()
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


def hide(monkeypatch, package):
    """Let a package seem to be absent."""
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == package else found(name, *more),
    )


def test_record_of_the_files(attention, tmp_path, monkeypatch):
    small, report, ids = attention
    hide(monkeypatch, "onnxruntime")
    files = write_model_files(small, report, tmp_path, ids[:2])
    weights = (tmp_path / "model.safetensors").read_bytes()
    assert files.sha256 == hashlib.sha256(weights).hexdigest()
    assert files.n_tensors == len(list(small.parameters()))
    assert files.n_bytes == 4 * sum(p.numel() for p in small.parameters())
    assert files.onnx_deviation is None
    assert files.warnings == (
        "model.onnx was not compared with torch: onnxruntime is not installed",
    )


@pytest.mark.parametrize(
    ("deviation", "kept", "text"),
    [
        (2e-4, True, "model.onnx: its outputs deviate from those of torch by 2.0e-04"),
        (0.5, False, "model.onnx was not written: its outputs deviate from those of torch by 5.0e"),
        (float("nan"), False, "model.onnx was not written: its outputs deviate"),
    ],
)
def test_onnx_that_deviates(attention, tmp_path, monkeypatch, deviation, kept, text):
    small, report, ids = attention
    where = "hpcembed.networks.compression.model_file._relative"
    monkeypatch.setattr(where, lambda found, expected: deviation)
    files = write_model_files(small, report, tmp_path, ids[:2])
    assert (tmp_path / "model.onnx").exists() == kept
    assert ("model.onnx" in files.names) == kept
    assert len(files.warnings) == 1
    assert files.warnings[0].startswith(text)


def test_model_that_cannot_be_exported(networks, tmp_path):
    torch.manual_seed(0)
    rows = torch.randn(200, 12)
    small, report = compress_model(
        networks.BranchingNet(), [rows], budget={"parameters": 0.7}, objective="output",
        sensitivity=False,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"^model\.onnx was not written: ") as caught:
        folder = write_compressed_model(small, report, tmp_path / "small", example=rows[:4])
    assert len(caught) == 1
    text = str(caught[0].message)
    assert "\n" not in text
    assert not list(folder.glob("model.onnx*"))
    assert (folder / "model.safetensors").exists()
    assert "model.onnx was not written" in (folder / "README.md").read_text()
    assert "model.onnx was not written" in (folder / "report.html").read_text()
    assert text in json.loads((folder / "report.json").read_text())["warnings"]


def test_card(convolutions, convolution_folder):
    small, report, _ = convolutions
    card = (convolution_folder / "README.md").read_text()
    lines = card.splitlines()
    assert lines[0] == r"# Conv \<net\>, compressed"
    parameters = sum(p.numel() for p in small.parameters())
    assert f"3 of 4 layers were cut: {report.before.parameters:,.0f} -> {parameters:,}" in card
    assert r"- Data: random walks \| 8 x 8." in lines
    assert "- Calibration: 240 samples; labels were not used." in lines
    assert f"- SHA-256 of the calibration batches: {report.calibration_hash}." in lines
    assert "- Seed: 3." in lines
    weights = (convolution_folder / "model.safetensors").read_bytes()
    assert f"{len(small.state_dict())} tensors" in card
    assert hashlib.sha256(weights).hexdigest() in card
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    assert ["accuracy, validation", "100 %", f"{report.small_score:.5g} %", ""] in cells
    assert ["accuracy, test", "100 %", f"{report.test_scores[1]:.5g} %", ""] in cells
    assert ["request.ranks.grouped", "5"] in cells
    (grouped,) = [layer for layer in report.layers if layer.name == "grouped"]
    assert [
        "grouped", "conv", "32 x 32, kernel 3, 2 groups", "output 5",
        f"{100 * grouped.captured:.3f}", f"{grouped.error_measured:.2e}", "1,568", "672",
    ] in cells  # fmt: skip
    assert "folded into the layers before them: `stem.1`, `norm\\_wide`, `norm\\_grouped`" in card
    assert "load_model.restore(MyNet()" in card
    assert f"torch {torch.__version__.split('+')[0]}" in card
    assert "Largest deviation of its outputs from those of torch" in card


def test_half_precision_and_other_device_types(attention, networks, tmp_path):
    """The restored model has the types of the file, those of its unstored buffers too."""
    small, report, ids = attention
    halved = copy.deepcopy(small).to(torch.bfloat16)
    folder = write_compressed_model(halved, report, tmp_path / "small")
    model = load_script(folder)(networks.TokenNet(), folder)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.slopes.dtype == torch.bfloat16
    assert torch.equal(outputs(model, ids), outputs(halved, ids))


def test_mixed_types(attention, networks, tmp_path):
    small, report, ids = attention
    mixed = copy.deepcopy(small)
    mixed.out = mixed.out.double()
    mixed.out.register_forward_pre_hook(lambda module, inputs: inputs[0].double())
    folder = write_compressed_model(mixed, report, tmp_path / "small")
    model = load_script(folder)(networks.TokenNet(), folder)
    model.out.register_forward_pre_hook(lambda module, inputs: inputs[0].double())
    assert {p.dtype for p in model.out.parameters()} == {torch.float64}
    assert model.q[0].weight.dtype == torch.float32
    mixed.head = model.head = nn.Identity()
    assert torch.equal(outputs(model, ids), outputs(mixed, ids))


def test_two_names_of_one_layer(tmp_path):
    """A module with two names stays one module, and parts of one memory are written apart."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(16, 16)
            self.again = self.first
            self.last = nn.Linear(16, 3)
            memory = torch.arange(10.0)
            self.register_buffer("left", memory[:5])
            self.register_buffer("right", memory[5:])

        def forward(self, x):
            return self.last(self.again(torch.relu(self.first(x)))) + self.right[0] - self.left[1]

    torch.manual_seed(0)
    rows = torch.randn(120, 16)
    small, report = compress_model(
        Twice(), [rows], ranks={"first": 4}, objective="output", sensitivity=False
    )
    folder = write_compressed_model(small, report, tmp_path / "small")
    model = load_script(folder)(Twice(), folder)
    assert model.first[0] is model.again[0]
    assert torch.equal(outputs(model, rows), outputs(small, rows))
    assert torch.equal(model.right, torch.arange(5.0, 10.0))


def test_loader_refuses_another_network(attention_folder, networks, tmp_path):
    restore = load_script(attention_folder)
    with pytest.raises(ValueError, match=r"^the model has no layer q: give the network before its"):
        restore(networks.ConvNet(), attention_folder)
    with pytest.raises(ValueError, match=r"^\w+\S* has shape \(\d+"):
        restore(networks.TokenNet(width=32), attention_folder)
    deeper = networks.TokenNet()
    deeper.more = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"has more\.bias, which was not compressed"):
        restore(deeper, attention_folder)
    shallower = networks.TokenNet()
    del shallower.norm.weight
    shallower.norm.register_parameter("weight", None)
    with pytest.raises(ValueError, match=r"^the model lacks norm\.weight"):
        restore(shallower, attention_folder)
    broken = tmp_path / "broken"
    shutil.copytree(attention_folder, broken)
    content = bytearray((broken / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (broken / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"not the weights of layers\.json"):
        restore(networks.TokenNet(), broken)


def test_model_of_another_report(attention, networks, tmp_path):
    small, report, _ = attention
    with pytest.raises(ConfigError, match="q is not a replaced layer"):
        write_compressed_model(networks.TokenNet(), report, tmp_path / "small")
    other = copy.deepcopy(small)
    other.q[1] = nn.ReLU()
    with pytest.raises(ConfigError, match="q contains ReLU"):
        write_compressed_model(other, report, tmp_path / "small")
    with pytest.raises(ConfigError, match="has no dense values"):
        write_compressed_model(copy.deepcopy(small).to("meta"), report, tmp_path / "small")
    assert os.listdir(tmp_path) == []


def test_folded_normalisation_of_another_model(convolutions, tmp_path):
    small, report, _ = convolutions
    other = copy.deepcopy(small)
    other.norm_wide = nn.BatchNorm2d(32)
    with pytest.raises(ConfigError, match="norm_wide is not folded"):
        write_compressed_model(other, report, tmp_path / "small")


def test_example_that_the_model_does_not_take(attention, tmp_path):
    small, report, _ = attention
    with pytest.raises(InputError, match="example: the model does not take batch 0"):
        write_compressed_model(small, report, tmp_path / "small", example=torch.randn(3, 4))
    with pytest.raises(InputError, match="example: batch 0 is str"):
        write_compressed_model(small, report, tmp_path / "small", example="text")
    assert os.listdir(tmp_path) == []


def test_folder_that_cannot_be_written(attention, tmp_path):
    small, report, _ = attention
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    with pytest.raises(OutputExistsError, match="full: not empty"):
        write_compressed_model(small, report, tmp_path / "full")
    assert (tmp_path / "full" / "file").read_text() == "kept"
    with pytest.raises(OutputExistsError, match="file: is a file"):
        write_compressed_model(small, report, tmp_path / "full" / "file")
    with pytest.raises(OutputExistsError, match="below: is a file"):
        write_compressed_model(small, report, tmp_path / "full" / "file" / "below")
    with pytest.raises(OutputError, match="cannot write: "):
        write_compressed_model(small, report, "/proc/small")
    assert os.listdir(tmp_path) == ["full"]


def test_arguments_in_the_wrong_order(attention, tmp_path):
    small, report, _ = attention
    path = tmp_path / "small"
    with pytest.raises(ConfigError, match=r"report: the second result of compress_model is needed"):
        write_compressed_model(report, small, path)
    with pytest.raises(ConfigError, match="small: the first result of compress_model is needed"):
        write_compressed_model({}, report, path)
    with pytest.raises(ConfigError, match="folder: a path is needed, not int"):
        write_compressed_model(small, report, 3)
    with pytest.raises(ConfigError, match=r"report: the second result .*, not str"):
        write_report_folder("small", path)
    assert os.listdir(tmp_path) == []


def test_weights_that_cannot_be_written(attention, tmp_path, monkeypatch):
    """An error of safetensors is one line, and nothing remains."""
    small, report, _ = attention

    def fail(*arguments):
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OutputError, match=r"^model\.safetensors: cannot write: .*No space left"):
        write_compressed_model(small, report, tmp_path / "small")
    assert os.listdir(tmp_path) == []


def test_model_is_not_changed(attention, tmp_path):
    small, report, ids = attention
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    trained = copy.deepcopy(small).train()
    write_compressed_model(trained, report, tmp_path / "small", example=ids[:2])
    assert trained.training
    assert all(torch.equal(t, before[name]) for name, t in trained.state_dict().items())
    assert trained.q[0] is trained.k[0]


def test_values_that_are_no_tensors(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(20, 30), nn.Linear(30, 4)

        def get_extra_state(self):
            return {"steps": 5}

        def set_extra_state(self, state):
            raise AssertionError("the file has no such state")

        def forward(self, x):
            return self.last(torch.relu(self.first(x)))

    torch.manual_seed(0)
    rows = torch.randn(100, 20)
    small, report = compress_model(
        Net(), [rows], budget={"parameters": 0.7}, objective="output", sensitivity=False
    )
    with pytest.warns(UserWarning, match="_extra_state is not a tensor and was not written"):
        folder = write_compressed_model(small, report, tmp_path / "small")
    model = load_script(folder)(Net(), folder)
    assert torch.equal(outputs(model, rows), outputs(small, rows))
