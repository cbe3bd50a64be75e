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


class CheckpointError(MiramnsError):
    """A checkpoint cannot be written or read; the message names the path and the remedy."""


class CheckpointMismatchError(CheckpointError):
    """A checkpoint belongs to another configuration, version or data.

    Attributes
    ----------
    differences : dict of str to tuple
        Stored and present value of each key that differs; None where the key is missing.
    """

    def __init__(self, message: str, differences: dict[str, tuple[object, object]]) -> None:
        super().__init__(message, differences)
        self.differences = differences

    def __str__(self) -> str:
        return str(self.args[0])


class StoppedAtCheckpointError(MiramnsError):
    """The run was asked to stop, and has written a checkpoint from which it can go on."""
