"""Estimators in scikit-learn's manner: fit finds certified components, transform projects."""

from hpcembed.embedding.contract import Embedding, LinearMap, Machine, Plan, Shape, Spectrum
from hpcembed.embedding.cooccurrence import CooccurrenceEmbedding
from hpcembed.embedding.estimate import estimate_memory
from hpcembed.embedding.kernel_features import Nystroem, RandomFourierFeatures
from hpcembed.embedding.kernel_pca import KernelPCA
from hpcembed.embedding.methods import (
    METHODS,
    Method,
    embedding_settings,
    largest_dimension,
    make_embedding,
    plan_embedding,
)
from hpcembed.embedding.pca import PCA
from hpcembed.embedding.solving import SolverSettings, engine_tolerance
from hpcembed.embedding.spectral import SpectralEmbedding
from hpcembed.embedding.svd import TruncatedSVD
from hpcembed.embedding.word_vectors import WordVectors

__all__ = [
    "METHODS",
    "PCA",
    "CooccurrenceEmbedding",
    "Embedding",
    "KernelPCA",
    "LinearMap",
    "Machine",
    "Method",
    "Nystroem",
    "Plan",
    "RandomFourierFeatures",
    "Shape",
    "SolverSettings",
    "SpectralEmbedding",
    "Spectrum",
    "TruncatedSVD",
    "WordVectors",
    "embedding_settings",
    "engine_tolerance",
    "estimate_memory",
    "largest_dimension",
    "make_embedding",
    "plan_embedding",
]
