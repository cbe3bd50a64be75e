"""Similarity of representations: linear CKA, SVCCA and PWCCA of features, layers of networks."""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.networks.similarity.layers import LayerSimilarity, layer_similarity
    from hpcembed.networks.similarity.measures import (
        CanonicalSimilarity,
        linear_cka,
        pwcca,
        svcca,
    )

__all__ = [
    "CanonicalSimilarity",
    "LayerSimilarity",
    "layer_similarity",
    "linear_cka",
    "pwcca",
    "svcca",
]
