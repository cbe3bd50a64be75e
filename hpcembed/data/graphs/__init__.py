"""Readers of graphs, and the symmetric adjacency matrix distributed by rows."""
