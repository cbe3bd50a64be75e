"""Centred kernel operators of distributed rows, and feature maps that approximate kernels."""
