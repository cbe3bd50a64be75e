"""Operators of graphs.

``graph_operators`` (adjacency, Laplacians, modularity), ``component_eigenvectors`` (eigenvectors
from the connected components, without a solver), ``smoothing`` (attributes averaged over
neighbours), ``graph_plan`` (memory of the solver's basis and of the coordinates),
``node_extension`` (coordinates of new nodes).
"""
