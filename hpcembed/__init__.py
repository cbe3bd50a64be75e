"""Compress the input of neural networks with certified spectral embeddings, at any scale."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: Public names and where they are: imported when first asked for, because MPI starts on import.
_PUBLIC = {
    "DataMatrix": "hpcembed.matrix",
    "Documents": "hpcembed.data.documents",
    "KernelPCA": "hpcembed.embedding",
    "Nystroem": "hpcembed.embedding",
    "RandomFourierFeatures": "hpcembed.embedding",
    "PCA": "hpcembed.embedding",
    "SpectralEmbedding": "hpcembed.embedding",
    "TruncatedSVD": "hpcembed.embedding",
    "Vocabulary": "hpcembed.text",
    "WordVectors": "hpcembed.embedding",
    "read_graph": "hpcembed.data.graph_reading",
    "estimate_memory": "hpcembed.embedding",
    "learn_vocabulary": "hpcembed.data.vocabulary",
    "load": "hpcembed.export",
    "open_rows": "hpcembed.data.streamed",
    "read_text": "hpcembed.data.documents",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hpcembed' has no attribute {name!r}")
