"""Estimators with scikit-learn's names over distributed rows."""

from hpcembed.embedding.pca import PCA

__all__ = ["PCA"]
