"""Operators: a DataMatrix in, a square PETSc Mat out whose dominant eigenvectors embed the data."""

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
from hpcembed.operators.covariance import (
    CovarianceOperator,
    covariance,
    covariance_triangle,
    shifted_triangle,
    symmetric_mat,
)
from hpcembed.operators.gram import GramPasses, gram_shell
from hpcembed.operators.kernel import KernelPasses, KernelRows, kernel_shell
from hpcembed.operators.kernel_cost import KernelPlan, kernel_sizes, plan_kernel
from hpcembed.operators.kernel_tiles import KERNELS, Kernel, tile_rows, tiles
from hpcembed.operators.moments import column_moments
from hpcembed.operators.passes import CovariancePasses, Moments, covariance_shell
from hpcembed.operators.rows_of_all import RowsOfAll, kernel_coordinates
from hpcembed.operators.sampled_rows import sampled_rows

__all__ = [
    "KERNELS",
    "SINGLE_TOLERANCE",
    "CovarianceOperator",
    "CovariancePasses",
    "EngineCost",
    "EngineKind",
    "EnginePlan",
    "GramPasses",
    "Kernel",
    "KernelPasses",
    "KernelPlan",
    "KernelRows",
    "Moments",
    "RowsOfAll",
    "block_sizes",
    "block_width",
    "column_moments",
    "covariance",
    "covariance_shell",
    "covariance_triangle",
    "expected_products",
    "gram_shell",
    "kernel_coordinates",
    "kernel_shell",
    "kernel_sizes",
    "plan_engine",
    "plan_kernel",
    "sampled_rows",
    "shifted_triangle",
    "symmetric_mat",
    "tile_rows",
    "tiles",
]
