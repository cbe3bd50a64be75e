"""Random projections, which preserve distances without any training data."""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.embedding.projections.bounds import distortion_probability, least_components
    from hpcembed.embedding.projections.fast import FastJohnsonLindenstrauss
    from hpcembed.embedding.projections.gaussian import GaussianProjection
    from hpcembed.embedding.projections.sparse import SparseProjection

__all__ = [
    "FastJohnsonLindenstrauss",
    "GaussianProjection",
    "SparseProjection",
    "distortion_probability",
    "least_components",
]
