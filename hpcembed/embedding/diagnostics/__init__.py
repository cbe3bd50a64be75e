"""Numbers of dimensions of data before any training: of the spectrum, and of neighbours."""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.embedding.diagnostics.intrinsic_dimension import (
        DimensionEstimate,
        IntrinsicDimension,
        intrinsic_dimension,
    )
    from hpcembed.embedding.diagnostics.neighbour_distances import (
        NearestDistances,
        nearest_distances,
    )
    from hpcembed.embedding.diagnostics.neighbour_estimates import mle_dimension, two_nn_dimension
    from hpcembed.embedding.diagnostics.spectrum import (
        Interval,
        SpectrumMeasures,
        spectrum_measures,
    )
    from hpcembed.embedding.diagnostics.suggested_size import SuggestedSize, suggested_sizes

__all__ = [
    "DimensionEstimate",
    "Interval",
    "IntrinsicDimension",
    "NearestDistances",
    "SpectrumMeasures",
    "SuggestedSize",
    "intrinsic_dimension",
    "mle_dimension",
    "nearest_distances",
    "spectrum_measures",
    "suggested_sizes",
    "two_nn_dimension",
]
