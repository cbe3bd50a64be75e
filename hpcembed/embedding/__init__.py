"""Estimators with scikit-learn's contract: fit finds certified components, transform projects.

A new estimator is a module with a dataclass on one of the bases (:mod:`._covariance`,
:mod:`._kernel`, :mod:`._mutual_information`, or :class:`~._estimator.CertifiedEstimator`). Its
fields are its parameters. It has ``plan`` and ``fit``, and :class:`~._eigensolver.Eigensolver`
finds its eigenpairs. A job uses it after an entry in
:data:`hpcembed.jobs.embedding_methods.METHODS`.
"""

from hpcembed.embedding._parameters import SolverSettings
from hpcembed.embedding.cooccurrence import CooccurrenceEmbedding
from hpcembed.embedding.kernel_pca import KernelPCA
from hpcembed.embedding.nystroem import Nystroem, RandomFourierFeatures
from hpcembed.embedding.pca import PCA, estimate_memory
from hpcembed.embedding.protocol import (
    Embedding,
    LinearMap,
    Machine,
    Monitor,
    Plan,
    Shape,
    Spectrum,
    shape_of,
)
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
    "Monitor",
    "Nystroem",
    "Plan",
    "RandomFourierFeatures",
    "Shape",
    "SolverSettings",
    "SpectralEmbedding",
    "Spectrum",
    "TruncatedSVD",
    "WordVectors",
    "estimate_memory",
    "shape_of",
]
