"""Operators: a DataMatrix in, a square PETSc Mat out whose dominant eigenvectors embed the data."""

from hpcembed.operators.cost import CovariancePlan, plan_covariance
from hpcembed.operators.covariance import CovarianceOperator, covariance

__all__ = ["CovarianceOperator", "CovariancePlan", "covariance", "plan_covariance"]
