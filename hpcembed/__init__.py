"""Compress the input of neural networks with certified spectral embeddings, at any scale."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hpcembed.runtime.optional import optional_imports

__version__ = "0.1.0"

#: Public names and their modules, which are imported on first use because MPI starts on import.
_PUBLIC = {
    "Autoencoder": "hpcembed.networks.training.autoencoder",
    "CanonicalCorrelation": "hpcembed.embedding",
    "CompactClassifier": "hpcembed.jobs.compact",
    "CompactRegressor": "hpcembed.jobs.compact",
    "CosineTransform": "hpcembed.embedding",
    "DataMatrix": "hpcembed.data.matrix",
    "Documents": "hpcembed.data.text.documents",
    "FastJohnsonLindenstrauss": "hpcembed.embedding",
    "FeatureTruncation": "hpcembed.embedding",
    "GaussianProjection": "hpcembed.embedding",
    "KernelPCA": "hpcembed.embedding",
    "LinearDiscriminantAnalysis": "hpcembed.embedding",
    "LocalityPreservingProjection": "hpcembed.embedding",
    "Nystroem": "hpcembed.embedding",
    "RandomFourierFeatures": "hpcembed.embedding",
    "PCA": "hpcembed.embedding",
    "SparseProjection": "hpcembed.embedding",
    "SpectralEmbedding": "hpcembed.embedding",
    "TruncatedSVD": "hpcembed.embedding",
    "Vocabulary": "hpcembed.data.text.vocabulary",
    "WordVectors": "hpcembed.embedding",
    "read_graph": "hpcembed.data.graphs.reading",
    "estimate_memory": "hpcembed.embedding",
    "layer_similarity": "hpcembed.networks.similarity",
    "linear_cka": "hpcembed.networks.similarity",
    "pwcca": "hpcembed.networks.similarity",
    "svcca": "hpcembed.networks.similarity",
    "intrinsic_dimension": "hpcembed.embedding.diagnostics",
    "spectrum_measures": "hpcembed.embedding.diagnostics",
    "suggested_sizes": "hpcembed.embedding.diagnostics",
    "learn_vocabulary": "hpcembed.data.text.vocabulary_learning",
    "load": "hpcembed.jobs.export",
    "open_rows": "hpcembed.data.row_stream",
    "read_text": "hpcembed.data.text.reading",
    "ModelCompression": "hpcembed.networks.compression",
    "compress": "hpcembed.jobs.compact",
    "study": "hpcembed.jobs.compact",
    "compress_model": "hpcembed.networks.compression",
    "compress_onnx": "hpcembed.networks.onnx_compression",
    "complete_table": "hpcembed.networks.deep_linear",
    "hessian_eigenpairs": "hpcembed.networks.curvature",
    "load_completion": "hpcembed.jobs.completion_folder",
    "random_subspace_dimension": "hpcembed.networks.random_subspaces",
    "study_heads": "hpcembed.networks.heads",
    "write_completion": "hpcembed.jobs.completion_folder",
    "write_compressed_model": "hpcembed.jobs.network_compression.model_folder",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        with optional_imports():
            return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hpcembed' has no attribute {name!r}")
