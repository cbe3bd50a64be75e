"""Encoders and decoders: shared reductions, tied heads, divergence, exported models."""

import numpy as np
import pytest
import torch

from benchmark_models import MODELS, needs_models, reference_models
from hpcembed.networks.compression import ModelCompression, Request, Settings, compress_model

pytest.importorskip("tokenizers")
reference_models()

from reference_models import llama, minilm  # noqa: E402

SHAPE = llama.LlamaShape(24, 40, 2, 6, 3, vocabulary=50, rotary_base=500.0, epsilon=1e-4)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def small_llama():
    model = llama.Llama(SHAPE).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_a_decoder_shares_reductions_and_keeps_its_tied_head():
    model = small_llama()
    ids = torch.randint(0, 50, (30, 12))
    small, report = compress_model(
        model, ids.split(10), budget={"parameters": 0.7}, metric="divergence",
        validation=[ids[:10]],
    )  # fmt: skip
    by_name = {layer.name: layer for layer in report.layers}
    assert by_name["head"].reason.startswith("its weight is tied")
    assert small.head.weight is small.embedding.weight
    assert report.parameters_kept <= 0.7
    groups = {(layer.name, *layer.shared_with) for layer in report.layers if layer.shared_with}
    assert groups, "no group of layers shares a reduction"
    for name, *others in groups:
        for other in others:
            assert small.get_submodule(name)[0] is small.get_submodule(other)[0]
    assert 0 < report.loss < 1


def test_an_encoder_is_compressed_with_its_mask():
    model = minilm.MiniLM(layers=2, width=16, heads=4, intermediate=24, vocabulary=40).eval()
    ids = torch.randint(0, 40, (40, 9))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[::2, 6:] = False
    batch = {"token_ids": ids, "mask": mask}
    settings = Settings(metric="cosine")
    compression = ModelCompression(model, [batch], settings=settings, validation=[batch])
    rows = {
        m.count for entry in compression.solved.data.values() for m in entry.moments.all_moments()
    }
    assert rows == {int(mask.sum())}
    small, report = compression.compress(Request(budget={"macs": 0.8}))
    with torch.no_grad():
        cosine = torch.cosine_similarity(model(**batch), small(**batch)).mean()
    assert report.small_score == pytest.approx(float(cosine), abs=1e-5)
    assert report.loss == pytest.approx(1 - float(cosine), abs=1e-5)
    assert cosine > 0.9


@needs_models
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_trained_decoder_loses_less_than_by_its_weights_alone(tmp_path):
    """stories260K at 70 % of its parameters, on text that it writes itself."""
    model = llama.load_stories260k(MODELS / "stories260K.bin")
    torch.set_num_threads(1)
    text = llama.generate(model, torch.ones(32, 1, dtype=torch.int64), 96, temperature=1.0, seed=1)
    calibration, validation = text[:24].split(8), text[24:].split(8)
    small, report = compress_model(
        model, calibration, budget={"parameters": 0.7}, metric="divergence", validation=validation
    )
    compression = ModelCompression(
        model, calibration, settings=Settings(metric="divergence", objective="output"),
        validation=validation,
    )  # fmt: skip
    by_weight = small_by_weights(compression, 0.7)
    damage = compression.evaluator.score(by_weight).loss
    assert report.loss <= 0.5 * damage

    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "small.onnx"
    torch.onnx.export(small, (text[:2],), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(path))
    found = session.run(None, {session.get_inputs()[0].name: text[:2].numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, small(text[:2]).numpy(), atol=1e-4, rtol=1e-5)


def small_by_weights(compression, share):
    """Return the model with truncated singular value decompositions of its weights."""
    import copy

    small = copy.deepcopy(compression.model)
    total = compression.cost.parameters
    cut = sum(w.size for data in compression.solved.data.values() for w in data.weights)
    keep = 1 - (1 - share) * total / cut
    for name, data in compression.solved.data.items():
        W = data.weights[0]
        rank = int(keep * W.size / sum(W.shape))
        U, s, V = np.linalg.svd(W, full_matrices=False)
        low = (U[:, :rank] * s[:rank]) @ V[:rank]
        module = small.get_submodule(name)
        module.weight.data = torch.from_numpy(low).to(module.weight.dtype)
    return small
