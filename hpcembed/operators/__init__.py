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
from hpcembed.operators.moments import column_moments
from hpcembed.operators.passes import CovariancePasses, Moments, covariance_shell

__all__ = [
    "SINGLE_TOLERANCE",
    "CovarianceOperator",
    "CovariancePasses",
    "EngineCost",
    "EngineKind",
    "EnginePlan",
    "GramPasses",
    "Moments",
    "block_sizes",
    "block_width",
    "column_moments",
    "covariance",
    "covariance_shell",
    "covariance_triangle",
    "expected_products",
    "gram_shell",
    "plan_engine",
    "shifted_triangle",
    "symmetric_mat",
]
