"""Curvature of the loss of torch models: eigenvectors of its Hessian, and the gradient in them."""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.networks.curvature.overlap import (
        SubspaceRecord,
        SubspaceTracker,
        gradient_share,
        subspace_overlap,
    )
    from hpcembed.networks.curvature.products import CurvatureProducts
    from hpcembed.networks.curvature.spectrum import CurvatureSpectrum, hessian_eigenpairs

__all__ = [
    "CurvatureProducts",
    "CurvatureSpectrum",
    "SubspaceRecord",
    "SubspaceTracker",
    "gradient_share",
    "hessian_eigenpairs",
    "subspace_overlap",
]
