"""Estimators in scikit-learn's manner: fit finds certified components, transform projects."""

from hpcembed.embedding.contract import Embedding, LinearMap, Machine, Plan, Shape, Spectrum
from hpcembed.embedding.cooccurrence import CooccurrenceEmbedding
from hpcembed.embedding.estimate import estimate_memory
from hpcembed.embedding.kernel_pca import KernelPCA
from hpcembed.embedding.nystroem import Nystroem, RandomFourierFeatures
from hpcembed.embedding.pca import PCA
from hpcembed.embedding.solving import SolverSettings, engine_tolerance
from hpcembed.embedding.spectral import SpectralEmbedding
from hpcembed.embedding.truncated_svd import TruncatedSVD
from hpcembed.embedding.word_vectors import WordVectors

__all__ = [
    "PCA",
    "CooccurrenceEmbedding",
    "Embedding",
    "KernelPCA",
    "LinearMap",
    "Machine",
    "Nystroem",
    "Plan",
    "RandomFourierFeatures",
    "Shape",
    "SolverSettings",
    "SpectralEmbedding",
    "Spectrum",
    "TruncatedSVD",
    "WordVectors",
    "engine_tolerance",
    "estimate_memory",
]
