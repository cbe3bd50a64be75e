"""Bases of the estimators with kernels; the estimators are public modules of the folder above.

``kernel_embedding`` is the base of all of them and has the exact eigenpairs, for
:class:`~hpcembed.embedding.KernelPCA`; ``feature_components`` the components of approximate
features, for :class:`~hpcembed.embedding.Nystroem`; ``affinity`` the graphs of kernels and of
neighbours, for :class:`~hpcembed.embedding.SpectralEmbedding`.
"""
