"""Estimators in scikit-learn's manner: fit finds certified components, transform projects."""

from hpcembed.embedding.pca import PCA
from hpcembed.embedding.solving import SolverSettings, engine_tolerance

__all__ = ["PCA", "SolverSettings", "engine_tolerance"]
