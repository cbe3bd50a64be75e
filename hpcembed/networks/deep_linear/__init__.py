"""Deep linear networks and matrices of low rank: factorisation, completion and sensing."""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.networks.deep_linear.completed_table import TableCompletion
    from hpcembed.networks.deep_linear.completion import Completion
    from hpcembed.networks.deep_linear.least_squares import fit_least_squares
    from hpcembed.networks.deep_linear.networks import fit_compressed_network, fit_full_network
    from hpcembed.networks.deep_linear.problems import Factorisation, Problem, Truth
    from hpcembed.networks.deep_linear.record import ConvergedReason, Recovery, Stage
    from hpcembed.networks.deep_linear.scaled_gradient import fit_scaled_gradient
    from hpcembed.networks.deep_linear.sensing import Sensing
    from hpcembed.networks.deep_linear.surrogate_spectrum import SpectralStart, spectral_start
    from hpcembed.networks.deep_linear.table_completion import complete_table
    from hpcembed.networks.deep_linear.table_fits import Candidate
    from hpcembed.networks.deep_linear.triplets import read_triplets

__all__ = [
    "Candidate",
    "Completion",
    "ConvergedReason",
    "Factorisation",
    "Problem",
    "Recovery",
    "Sensing",
    "SpectralStart",
    "Stage",
    "TableCompletion",
    "Truth",
    "complete_table",
    "fit_compressed_network",
    "fit_full_network",
    "fit_least_squares",
    "fit_scaled_gradient",
    "read_triplets",
    "spectral_start",
]
