"""Projections without an eigenproblem: random ones, lowest frequencies, some of the features."""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.embedding.projections.bounds import distortion_probability, least_components
    from hpcembed.embedding.projections.cosine import CosineTransform
    from hpcembed.embedding.projections.fast import FastJohnsonLindenstrauss
    from hpcembed.embedding.projections.gaussian import GaussianProjection
    from hpcembed.embedding.projections.sparse import SparseProjection
    from hpcembed.embedding.projections.truncation import FeatureTruncation

__all__ = [
    "CosineTransform",
    "FastJohnsonLindenstrauss",
    "FeatureTruncation",
    "GaussianProjection",
    "SparseProjection",
    "distortion_probability",
    "least_components",
]
