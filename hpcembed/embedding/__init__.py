"""Estimators in scikit-learn's manner: fit finds certified components, transform projects."""

from hpcembed.embedding.estimate import estimate_memory
from hpcembed.embedding.pca import PCA
from hpcembed.embedding.solving import SolverSettings, engine_tolerance
from hpcembed.embedding.svd import TruncatedSVD

__all__ = ["PCA", "SolverSettings", "TruncatedSVD", "engine_tolerance", "estimate_memory"]
