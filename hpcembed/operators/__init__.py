"""Operators: rows in, a symmetric PETSc Mat out whose dominant eigenvectors embed the data.

A new operator is a module in one of the folders (``covariance``, ``kernel``, ``cooccurrence``,
``graph``) that returns a Mat: assembled, or a shell whose products come from a
:class:`~hpcembed.operators.block_shell.BlockProducts`. Its plan is a module beside it, on the model
and the rates of :mod:`hpcembed.operators.cost`.

A new kernel function is an entry in :mod:`hpcembed.operators.kernel.kernel_functions`; a new
operator of graphs is a case of :func:`hpcembed.operators.graph.graph_operators.graph_operator`.
"""
