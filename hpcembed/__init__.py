"""Compress the input of neural networks with certified spectral embeddings, at any scale."""

__version__ = "0.1.0"
