"""Operators of graphs.

``graph_operators`` (adjacency, Laplacians, modularity), ``component_eigenvectors`` (eigenvectors
that the connected components give without a solver), ``smoothing`` (attributes averaged over
neighbours).
"""
