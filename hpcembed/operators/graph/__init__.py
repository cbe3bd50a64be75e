"""Operators of a graph: Laplacians, adjacency, modularity; smoothing of node attributes."""
