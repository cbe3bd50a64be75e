"""Compression of trained torch models: low-rank layers of least error, ranks under a budget."""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.networks.compression.compress import compress_model
    from hpcembed.networks.compression.model_compression import ModelCompression
    from hpcembed.networks.compression.settings import Settings
    from hpcembed.networks.low_rank.request import Request
    from hpcembed.networks.low_rank.shape import Ranks

__all__ = ["ModelCompression", "Ranks", "Request", "Settings", "compress_model"]
