"""Operators: a DataMatrix in, a square PETSc Mat out whose dominant eigenvectors embed the data."""

from hpcembed.operators.cost import CovariancePlan, expected_products, plan_covariance
from hpcembed.operators.covariance import CovarianceOperator, covariance

__all__ = [
    "CovarianceOperator",
    "CovariancePlan",
    "covariance",
    "expected_products",
    "plan_covariance",
]
