"""Spectral transformations, and problems ``A x = lambda B x`` solved with them."""
