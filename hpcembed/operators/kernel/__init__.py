"""Centred kernel operators of distributed rows, and feature maps that approximate kernels.

* ``kernel_functions``: the kernels, tile by tile. A new kernel is added here, and its name in
  ``jobs.configuration``, ``embedding._kernels.kernel_embedding`` and the estimators.
* ``centred_kernel``, ``row_panels``: products of the centred kernel; rows of all ranks by panels.
* ``feature_maps``, ``sampled_rows``: landmarks and random Fourier features.
* ``kernel_plan``, ``feature_plan``: memory and predicted seconds.
"""
