"""Models of ONNX made smaller, without torch: ONNX Runtime computes, and the graph is rewritten.

:func:`compress_onnx` is the entry point; :mod:`hpcembed.networks.low_rank` has the eigenproblems
and the choice of ranks.
"""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.networks.onnx_compression.compress import compress_onnx
    from hpcembed.networks.onnx_compression.compression import OnnxCompression
    from hpcembed.networks.onnx_compression.model_files import read_model, write_model

__all__ = ["OnnxCompression", "compress_onnx", "read_model", "write_model"]
