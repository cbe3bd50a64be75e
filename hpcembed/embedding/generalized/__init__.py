"""Linear embeddings whose components solve a generalised eigenproblem ``A v = lambda B v``."""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.embedding.generalized.canonical import CanonicalCorrelation
    from hpcembed.embedding.generalized.discriminants import LinearDiscriminantAnalysis
    from hpcembed.embedding.generalized.locality import LocalityPreservingProjection

__all__ = ["CanonicalCorrelation", "LinearDiscriminantAnalysis", "LocalityPreservingProjection"]
