"""A decoder of the llama type in plain torch.

RMSNorm before each part, rotary embeddings, grouped key and value heads, a gated network (SwiGLU),
and output weights that are those of the embedding (Touvron et al., arXiv 2302.13971; Ainslie et
al., arXiv 2305.13245). Rotary embeddings turn element i of a head together with element i + d/2
("half-split"). Weights of the other convention, elements 2i and 2i + 1, need their rows of queries
and keys reordered by :func:`half_split_rows`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DecoderLayer", "Llama", "LlamaShape", "RMSNorm", "half_split_rows"]


class LlamaShape(NamedTuple):
    """Dimensions and constants of a decoder."""

    width: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    rotary_base: float = 10_000.0
    epsilon: float = 1e-5


class RMSNorm(nn.Module):
    """Rows divided by their root mean square and multiplied by a weight for each column."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.epsilon) * self.weight


class DecoderLayer(nn.Module):
    """Causal self-attention and a gated network, each added to its input."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.heads, self.key_value_heads = shape.heads, shape.key_value_heads
        key_width = shape.width // shape.heads * shape.key_value_heads
        self.attention_norm = RMSNorm(shape.width, shape.epsilon)
        self.query = nn.Linear(shape.width, shape.width, bias=False)
        self.key = nn.Linear(shape.width, key_width, bias=False)
        self.value = nn.Linear(shape.width, key_width, bias=False)
        self.attention_output = nn.Linear(shape.width, shape.width, bias=False)
        self.norm = RMSNorm(shape.width, shape.epsilon)
        self.gate = nn.Linear(shape.width, shape.intermediate, bias=False)
        self.up = nn.Linear(shape.width, shape.intermediate, bias=False)
        self.down = nn.Linear(shape.intermediate, shape.width, bias=False)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """Output of shape (n, length, width); the tables have shape (length, head width)."""
        y = self.attention_norm(x)
        query = self.query(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key = self.key(y).unflatten(2, (self.key_value_heads, -1)).transpose(1, 2)
        value = self.value(y).unflatten(2, (self.key_value_heads, -1)).transpose(1, 2)
        copies = self.heads // self.key_value_heads
        attended = functional.scaled_dot_product_attention(
            _rotate(query, cosines, sines),
            _rotate(key, cosines, sines).repeat_interleave(copies, dim=1),
            value.repeat_interleave(copies, dim=1),
            is_causal=True,
        )
        x = x + self.attention_output(attended.transpose(1, 2).flatten(2))
        y = self.norm(x)
        z: Tensor = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return z


def _rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-second, first), dim=-1) * sines


class Llama(nn.Module):
    """Language model: logits of the next token at each position.

    The weight of `head` is that of `embedding`: one parameter with two names.

    Examples
    --------
    >>> import torch
    >>> model = Llama(LlamaShape(16, 32, 1, 4, 2, vocabulary=50))
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 50])
    """

    inverse_frequencies: Tensor

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.epsilon)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        head_width = shape.width // shape.heads
        exponents = torch.arange(0, head_width, 2, dtype=torch.float64) / head_width
        frequencies = (shape.rotary_base**-exponents).to(torch.float32)
        self.register_buffer("inverse_frequencies", frequencies, persistent=False)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Logits of shape (n, length, vocabulary) of int64 tokens of shape (n, length)."""
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)
        angles = positions[:, None] * self.inverse_frequencies
        angles = torch.cat((angles, angles), dim=1)
        x = self.embedding(token_ids)
        cosines, sines = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in self.layers:
            x = layer(x, cosines, sines)
        logits: Tensor = self.head(self.norm(x))
        return logits


def half_split_rows(weight: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys with rotary pairs (2i, 2i + 1), reordered to pairs (i, i + d/2).

    Parameters
    ----------
    weight : Tensor, shape (heads * d, n)
    heads : int
        Heads of this weight: `key_value_heads` for keys.
    """
    pairs = weight.view(heads, -1, 2, weight.shape[1])
    return pairs.transpose(1, 2).reshape(weight.shape)
