"""Operators: a DataMatrix in, a square PETSc Mat out whose dominant eigenvectors embed the data."""

from hpcembed.operators.cooccurrence.cooccurrence_matrix import CooccurrenceMatrix
from hpcembed.operators.cooccurrence.distributed_sum import BUFFER_BYTES
from hpcembed.operators.cooccurrence.feature_cooccurrence import (
    correlation,
    feature_cooccurrence,
    sparse_feature_cooccurrence,
)
from hpcembed.operators.cooccurrence.mutual_information import (
    check_information,
    positive_information,
)
from hpcembed.operators.cooccurrence.windows import TokenDocuments, Window
from hpcembed.operators.cooccurrence.word_cooccurrence import (
    cooccurrence,
    same_on_all_ranks,
    term_counts,
)
from hpcembed.operators.cost import (
    SINGLE_TOLERANCE,
    EngineCost,
    EngineKind,
    EnginePlan,
    block_sizes,
    block_width,
    expected_products,
    plan_engine,
)
from hpcembed.operators.covariance.covariance import (
    CovarianceOperator,
    covariance,
    covariance_triangle,
    shifted_triangle,
    symmetric_mat,
)
from hpcembed.operators.covariance.gram import GramPasses, gram_shell
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.operators.covariance.passes import CovariancePasses, Moments, covariance_shell
from hpcembed.operators.kernel.cost import KernelPlan, kernel_sizes, plan_kernel
from hpcembed.operators.kernel.feature_maps import (
    FeaturePlan,
    FourierFeatures,
    LandmarkFeatures,
    RowFeatures,
    feature_rows,
    feature_scatter,
    fourier_features,
    independent_landmarks,
    plan_features,
)
from hpcembed.operators.kernel.kernel import KernelPasses, KernelRows, kernel_shell
from hpcembed.operators.kernel.rows_of_all import RowsOfAll, broadcast_array, kernel_coordinates
from hpcembed.operators.kernel.sampled_rows import sampled_rows
from hpcembed.operators.kernel.tiles import KERNELS, Kernel, largest_entries, tile_rows, tiles

__all__ = [
    "BUFFER_BYTES",
    "KERNELS",
    "SINGLE_TOLERANCE",
    "CooccurrenceMatrix",
    "CovarianceOperator",
    "CovariancePasses",
    "EngineCost",
    "EngineKind",
    "EnginePlan",
    "FeaturePlan",
    "FourierFeatures",
    "GramPasses",
    "Kernel",
    "KernelPasses",
    "KernelPlan",
    "KernelRows",
    "LandmarkFeatures",
    "Moments",
    "RowFeatures",
    "RowsOfAll",
    "TokenDocuments",
    "Window",
    "block_sizes",
    "block_width",
    "broadcast_array",
    "check_information",
    "column_moments",
    "cooccurrence",
    "correlation",
    "covariance",
    "covariance_shell",
    "covariance_triangle",
    "expected_products",
    "feature_cooccurrence",
    "feature_rows",
    "feature_scatter",
    "fourier_features",
    "gram_shell",
    "independent_landmarks",
    "kernel_coordinates",
    "kernel_shell",
    "kernel_sizes",
    "largest_entries",
    "plan_engine",
    "plan_features",
    "plan_kernel",
    "positive_information",
    "same_on_all_ranks",
    "sampled_rows",
    "shifted_triangle",
    "sparse_feature_cooccurrence",
    "symmetric_mat",
    "term_counts",
    "tile_rows",
    "tiles",
]
