"""Embeddings for retrieval: fewer dimensions, one byte for each, and the neighbours that remain."""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.networks.retrieval.faiss_index import write_faiss_index
    from hpcembed.networks.retrieval.neighbours import nearest, recall
    from hpcembed.networks.retrieval.reduction import EmbeddingReduction, fit_reduction

__all__ = ["EmbeddingReduction", "fit_reduction", "nearest", "recall", "write_faiss_index"]
