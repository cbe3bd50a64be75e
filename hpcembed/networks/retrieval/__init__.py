"""Embeddings for retrieval: fewer dimensions or bits, and the neighbours that remain."""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.networks.retrieval.coder import EmbeddingCoder, fit_coder
    from hpcembed.networks.retrieval.faiss_index import write_faiss_index
    from hpcembed.networks.retrieval.neighbours import class_precision, nearest, recall
    from hpcembed.networks.retrieval.reduction import EmbeddingReduction, fit_reduction
    from hpcembed.networks.retrieval.retrieval_table import (
        RetrievalRecord,
        RetrievalTable,
        retrieval_table,
    )

__all__ = [
    "EmbeddingCoder", "EmbeddingReduction", "RetrievalRecord", "RetrievalTable", "class_precision",
    "fit_coder", "fit_reduction", "nearest", "recall", "retrieval_table", "write_faiss_index",
]  # fmt: skip
