"""Seconds of the parts of an iteration on a nominal machine, for choices that must repeat.

Sizes that follow from measured seconds differ from run to run, and a run that continues from a
checkpoint would not repeat the one that was not interrupted. With checkpoints the sizes follow from
these seconds instead: bytes that are read and operations that are made, over the rates of a core
that shares the memory of its machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from petsc4py import PETSc

from miramns.products import is_shell

#: Bytes per second that a rank reads, and multiply-adds per second in products of matrices.
_BANDWIDTH, _MULTIPLIES = 4e9, 4e9

#: Vectors that are read and written for one column beside the product.
_VECTORS = 10

#: Vectors that the product of a shell is taken to read, and bytes of an entry of a matrix.
_SHELL_VECTORS, _ENTRY = 20, 12

#: Passes over a column of the basis for each new column, as reorthogonalisations are rare.
_PASSES = 0.2

#: Multiply-adds of the projected problem of size 1.
_PROJECTED = 9


@dataclass(frozen=True, slots=True)
class NominalSeconds:
    """Seconds of a column, its reorthogonalisation per column of the basis, and a multiply-add."""

    column: float
    reorthogonalization: float
    multiply: float

    def projected(self, size: int) -> float:
        """Return the seconds of the projected problem."""
        return _PROJECTED * float(size) ** 3 * self.multiply


def nominal_seconds(A: PETSc.Mat, n_local: int) -> NominalSeconds:
    """Return the seconds for an operator with at most `n_local` rows on a rank. Collective."""
    vector = 8 * n_local / _BANDWIDTH
    product = _SHELL_VECTORS * vector
    if not is_shell(A):
        entries = A.getInfo(PETSc.Mat.InfoType.GLOBAL_MAX)["nz_used"]
        product = _ENTRY * float(entries) / _BANDWIDTH
    return NominalSeconds(product + _VECTORS * vector, _PASSES * vector, 1 / _MULTIPLIES)
