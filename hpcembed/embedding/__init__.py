"""Estimators with scikit-learn's contract: fit finds certified components, transform projects.

To add an estimator, follow the steps in :mod:`hpcembed.embedding._estimator`.
"""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.embedding._parameters import SolverSettings
    from hpcembed.embedding.cooccurrence import CooccurrenceEmbedding
    from hpcembed.embedding.generalized import (
        CanonicalCorrelation,
        LinearDiscriminantAnalysis,
        LocalityPreservingProjection,
    )
    from hpcembed.embedding.kernel_pca import KernelPCA
    from hpcembed.embedding.nystroem import Nystroem, RandomFourierFeatures
    from hpcembed.embedding.pca import PCA, estimate_memory
    from hpcembed.embedding.projections import (
        CosineTransform,
        FastJohnsonLindenstrauss,
        FeatureTruncation,
        GaussianProjection,
        SparseProjection,
    )
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
    "CanonicalCorrelation",
    "CooccurrenceEmbedding",
    "CosineTransform",
    "Embedding",
    "FastJohnsonLindenstrauss",
    "FeatureTruncation",
    "GaussianProjection",
    "KernelPCA",
    "LinearDiscriminantAnalysis",
    "LinearMap",
    "LocalityPreservingProjection",
    "Machine",
    "Monitor",
    "Nystroem",
    "Plan",
    "RandomFourierFeatures",
    "Shape",
    "SolverSettings",
    "SparseProjection",
    "SpectralEmbedding",
    "Spectrum",
    "TruncatedSVD",
    "WordVectors",
    "estimate_memory",
    "shape_of",
]
