"""Decoders of the benchmarks: files against a plain loop, tokenizers, windows and perplexity.

stories260K and SmolLM2 are tested if HPCEMBED_MODELS_DIR names the folder that contains them.
"""

from __future__ import annotations

import importlib.metadata
import math
import struct

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmark_models import MODELS, needs_models, reference_models
from hpcembed.runtime.errors import InputError

pytest.importorskip("tokenizers")

reference_models()

from reference_models import llama  # noqa: E402

needs_smollm2 = pytest.mark.skipif(
    not any(True for _ in importlib.metadata.distributions(name=llama.PACKAGE)),
    reason=f"{llama.PACKAGE} is not installed",
)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


SHAPE = llama.LlamaShape(24, 40, 2, 6, 3, vocabulary=50, rotary_base=500.0, epsilon=1e-4)


def reference_logits(weights, shape, tokens):
    """Decoder in double, position by position, with rotary pairs (2i, 2i + 1) as in llama2.c."""
    d = shape.width // shape.heads

    def norm(x, weight):
        return x / np.sqrt(np.mean(x * x) + shape.epsilon) * weight

    def rotated(x, position):
        frequencies = shape.rotary_base ** (-np.arange(0, d, 2) / d)
        pairs = x.reshape(-1, d // 2, 2)
        turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * position * frequencies)
        return np.stack((turned.real, turned.imag), axis=-1).reshape(-1, d)

    caches = [([], []) for _ in range(shape.layers)]
    logits = []
    for position, token in enumerate(tokens):
        x = weights["embedding"][token]
        for i, (keys, values) in enumerate(caches):
            layer = {k.split(".")[1]: w for k, w in weights.items() if k.startswith(f"{i}.")}
            y = norm(x, layer["attention_norm"])
            query = rotated(layer["query"] @ y, position)
            keys.append(rotated(layer["key"] @ y, position))
            values.append((layer["value"] @ y).reshape(-1, d))
            heads = []
            for h in range(shape.heads):
                shared = h // (shape.heads // shape.key_value_heads)
                scores = np.array([key[shared] @ query[h] for key in keys]) / math.sqrt(d)
                scores = np.exp(scores - scores.max())
                heads.append(scores / scores.sum() @ np.array([v[shared] for v in values]))
            x = x + layer["attention_output"] @ np.concatenate(heads)
            y = norm(x, layer["norm"])
            gate = layer["gate"] @ y
            x = x + layer["down"] @ (gate / (1 + np.exp(-gate)) * (layer["up"] @ y))
        logits.append(weights["embedding"] @ norm(x, weights["norm"]))
    return np.array(logits)


def random_weights(shape, seed=0):
    """Weights in the convention of the files: float32 values as float64."""
    rng = np.random.default_rng(seed)
    key_width = shape.width // shape.heads * shape.key_value_heads
    sizes = {
        "attention_norm": (shape.width,), "query": (shape.width, shape.width),
        "key": (key_width, shape.width), "value": (key_width, shape.width),
        "attention_output": (shape.width, shape.width), "norm": (shape.width,),
        "gate": (shape.intermediate, shape.width), "down": (shape.width, shape.intermediate),
        "up": (shape.intermediate, shape.width),
    }  # fmt: skip
    all_sizes = {"embedding": (shape.vocabulary, shape.width), "norm": (shape.width,)}
    for i in range(shape.layers):
        all_sizes |= {f"{i}.{name}": size for name, size in sizes.items()}
    return {
        name: rng.normal(size=size).astype(np.float32).astype(np.float64) * 0.5
        for name, size in all_sizes.items()
    }


def write_llama2c(path, shape, weights, length=16):
    kinds = ["attention_norm", "query", "key", "value", "attention_output", "norm"]
    kinds += ["gate", "down", "up"]
    parts = [weights["embedding"]]
    parts += [weights[f"{i}.{kind}"] for kind in kinds for i in range(shape.layers)]
    parts += [weights["norm"], np.zeros(length * (shape.width // shape.heads))]
    values = np.concatenate([part.ravel() for part in parts]).astype("<f4")
    path.write_bytes(struct.pack("<7i", *shape[:6], length) + values.tobytes())


def test_llama2c_file_gives_the_logits_of_a_plain_loop(tmp_path):
    shape = SHAPE._replace(rotary_base=10_000.0, epsilon=1e-5)
    weights = random_weights(shape)
    write_llama2c(tmp_path / "m.bin", shape, weights)
    model = llama.load_stories260k(tmp_path / "m.bin")
    assert model.head.weight is model.embedding.weight
    tokens = [3, 14, 15, 9, 2, 6, 5, 35]
    expected = reference_logits(weights, shape, tokens)
    torch.testing.assert_close(
        model(torch.tensor([tokens]))[0].double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-4
    )


def test_truncated_llama2c_file_is_refused(tmp_path):
    write_llama2c(tmp_path / "m.bin", SHAPE, random_weights(SHAPE))
    content = (tmp_path / "m.bin").read_bytes()
    (tmp_path / "m.bin").write_bytes(content[:-4])
    with pytest.raises(InputError, match=r"m\.bin: \d+ values, not \d+"):
        llama.load_stories260k(tmp_path / "m.bin")


def write_gguf(path, shape, weights, tokens, merges):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_block_count(shape.layers)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value_heads)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_rope_freq_base(shape.rotary_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(merges)
    for name, weight in weights.items():
        if name[0].isdigit():
            layer, _, kind = name.partition(".")
            stored = f"blk.{layer}.{llama.GGUF_NAMES[kind]}.weight"
        else:
            stored = {"embedding": "token_embd.weight", "norm": "output_norm.weight"}[name]
        writer.add_tensor(stored, weight.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_file_gives_the_logits_of_a_plain_loop(tmp_path):
    weights = random_weights(SHAPE)
    tokens = ["<|im_start|>", *"abcdeĠ12", "ab", "Ġab", "12", "Ã", "¼"]
    write_gguf(tmp_path / "m.gguf", SHAPE, weights, tokens, ["a b", "Ġ ab", "1 2"])
    model = llama.load_smollm2(tmp_path / "m.gguf")
    assert model.shape[:7] == SHAPE[:7]
    ids = [3, 14, 15, 9, 2, 6]
    expected = torch.from_numpy(reference_logits(weights, SHAPE, ids))
    ours = model(torch.tensor([ids]))[0].double()
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    tokenizer = llama.load_smollm2_tokenizer(tmp_path / "m.gguf")
    text = "<|im_start|>ab ab12ü"
    pieces = ["<|im_start|>", "ab", "Ġab", "1", "2", "Ã", "¼"]
    assert tokenizer.encode(text) == [tokens.index(piece) for piece in pieces]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.fixture
def stories_tokenizer(tmp_path):
    pieces = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{b:02X}>" for b in range(256))]
    pieces += [" ", "a", "b", "c", "ab", " a", "abc", " ab", "ca"]
    scores = [0.0] * 259 + [-9.0, -9, -9, -9, -3, -2, -4, -5, -8]
    with (tmp_path / "t.bin").open("wb") as file:
        file.write(struct.pack("<i", 7))
        for piece, score in zip(pieces, scores, strict=True):
            file.write(struct.pack("<fi", score, len(piece)) + piece.encode())
    return llama.StoriesTokenizer(tmp_path / "t.bin")


def test_stories_tokenizer_merges_by_score(stories_tokenizer):
    # " a" has the greatest score, then "ab"; "ca" would be the first from the left
    assert stories_tokenizer.encode("ab cabca") == [266, 259, 262, 265, 260]
    assert stories_tokenizer.encode("aé\n") == [264, 3 + 0xC3, 3 + 0xA9, 3 + 10]
    text = "ab  c é\nabc"
    assert stories_tokenizer.decode([1, *stories_tokenizer.encode(text)]) == text


def test_perplexity_is_that_of_the_windows():
    model = llama.Llama(SHAPE).eval()
    tokens = torch.randint(0, 50, (33,))
    losses = []
    for start in (0, 10, 20):
        window = tokens[start : start + 10]
        logits = model(window[None])[0, :-1]
        losses += functional.cross_entropy(logits, window[1:], reduction="none").tolist()
    assert len(losses) == 27
    assert llama.perplexity(model, tokens, 10) == pytest.approx(math.exp(np.mean(losses)), rel=1e-6)
    first = math.exp(np.mean(losses[:18]))
    assert llama.perplexity(model, tokens, 10, count=2, batch_size=2) == pytest.approx(first)
    nn.init.zeros_(model.embedding.weight)
    assert llama.perplexity(model, tokens.tolist(), 10) == pytest.approx(50)
    with pytest.raises(InputError, match="33 tokens contain no window of 34"):
        llama.perplexity(model, tokens, 34)


def test_windows_do_not_overlap(stories_tokenizer):
    text = "abc" * 20
    ids = stories_tokenizer.encode(text)
    windows = llama.token_windows(text, stories_tokenizer, 4, len(ids) // 4)
    assert windows.flatten().tolist() == ids[: len(ids) // 4 * 4]
    text = "abc a bb cab c ab bca " * 10
    some = llama.token_windows(text, stories_tokenizer, 5, 6, seed=1)
    again = llama.token_windows(text, stories_tokenizer, 5, 6, seed=1)
    other = llama.token_windows(text, stories_tokenizer, 5, 6, seed=2)
    assert some.shape == (6, 5)
    assert torch.equal(some, again)
    assert not torch.equal(some, other)
    with pytest.raises(InputError, match=r"tokens are \d windows of 40, not 9"):
        llama.token_windows(text, stories_tokenizer, 40, 9)


def test_generation_is_greedy_or_drawn_by_seed():
    model = llama.Llama(SHAPE).eval()
    start = torch.tensor([[1], [7]])
    tokens = llama.generate(model, start, 6)
    assert torch.equal(model(tokens[:, :-1])[:, 0].argmax(1), tokens[:, 1])
    assert torch.equal(model(tokens[:, :-1])[:, -1].argmax(1), tokens[:, -1])
    drawn = [llama.generate(model, start, 12, temperature=1.0, seed=s) for s in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    second = llama.generate(model, torch.full((20_000, 1), 7), 2, temperature=3.0)[:, 1]
    frequencies = torch.bincount(second, minlength=50) / 20_000
    expected = torch.softmax(model(torch.tensor([[7]]))[0, 0] / 3, dim=0)
    torch.testing.assert_close(frequencies, expected, rtol=0, atol=0.015)


@needs_models
def test_stories260k_writes_the_published_text():
    model = llama.load_stories260k(MODELS / "stories260K.bin")
    tokenizer = llama.StoriesTokenizer(MODELS / "tok512.bin")
    tokens = llama.generate(model, torch.tensor([[1]]), 70)[0].tolist()
    text = tokenizer.decode(tokens)
    assert text.startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the "
        "park. One day, she saw a big, red ball. She wanted to play with it, but it was too high."
    )
    assert [1, *tokenizer.encode(text)] == tokens


@needs_models
@needs_smollm2
@pytest.mark.slow
def test_smollm2_predicts_wikitext():
    model, tokenizer = llama.load_smollm2(), llama.load_smollm2_tokenizer()
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    ids = tokenizer.encode((MODELS / "text" / "valid.txt").read_text(encoding="utf-8"))
    assert len(ids) == 273_868
    # measured here; a wrong rotary convention gives more than 1,000
    assert llama.perplexity(model, ids, 512, count=4) < 25
