"""Exceptions of the package."""

from __future__ import annotations


class MiramnsError(ValueError):
    """The arguments do not describe a problem that can be solved.

    Examples
    --------
    >>> import miramns
    >>> from petsc4py import PETSc
    >>> A = PETSc.Mat().createDense((4, 4), comm=PETSc.COMM_SELF)
    >>> A.setUp().assemble()
    >>> try:
    ...     miramns.solve(A, k=5)
    ... except miramns.MiramnsError as error:
    ...     print(error)
    need 1 <= k <= n, got k=5, n=4
    """


class OperatorError(MiramnsError):
    """A product with the operator is not finite, or its norm overflows or underflows.

    Examples
    --------
    >>> import miramns
    >>> from petsc4py import PETSc
    >>> A = PETSc.Mat().createDense((4, 4), array=[[float("nan")] * 4] * 4, comm=PETSc.COMM_SELF)
    >>> A.assemble()
    >>> try:
    ...     miramns.solve(A, k=1)
    ... except miramns.OperatorError as error:
    ...     print(error)
    the matrix has entries that are not finite: check the data for NaN or Inf
    """
