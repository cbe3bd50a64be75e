"""A reduction of embeddings as the last layer of a torch model."""

from __future__ import annotations

import torch
from torch import nn

from hpcembed.networks.retrieval.reduction import EmbeddingReduction

__all__ = ["reduction_layer"]


def reduction_layer(reduction: EmbeddingReduction, dtype: torch.dtype = torch.float32) -> nn.Linear:
    """Return the projection as ``nn.Linear(d, k)``; the coordinates are not scaled to length 1.

    Append it to an encoder, for example ``nn.Sequential(encoder, reduction_layer(reduction))``.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcembed.networks.retrieval import fit_reduction
    >>> rows = np.random.default_rng(0).standard_normal((200, 16)) * 0.8 ** np.arange(16)
    >>> layer = reduction_layer(fit_reduction(rows, 4))
    >>> layer.in_features, layer.out_features
    (16, 4)
    """
    k, d = reduction.components.shape
    layer = torch.nn.utils.skip_init(nn.Linear, d, k, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(reduction.projection))
        layer.bias.copy_(torch.from_numpy(-reduction.projection @ reduction.mean))
    return layer
