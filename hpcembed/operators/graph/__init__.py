"""Operators of graphs.

``graph_operators`` (adjacency, Laplacians, modularity), ``component_eigenvectors`` (eigenvectors
from the connected components, without a solver), ``smoothing`` (attributes averaged over
neighbours).
"""
