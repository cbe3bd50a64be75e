"""Assembled or matrix-free: a written cost model, so that the choice can be read and repeated.

Assembling the covariance of n rows of d features costs ``n d^2 / 2`` multiply-adds at BLAS-3 speed
(half of the square, by symmetry), one reduction of ``d (d + 1) / 2`` numbers, and then ``8 d^2``
bytes read per product. Matrix-free, every product reads all rows once, at the speed of a
memory-bound pass that converts them on the way. With q products in all,

    assembled    n_rank d^2 / (2 t F)  +  8 d^2 / N  +  q 8 d^2 / (p B)
    matrix-free  q n_rank d / (t E)          (sparse: q 2 nnz_rank / S)

where t is threads per rank and p ranks. The rates F, E, B, S, N are constants, not measurements of
the moment: the same job makes the same choice every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpcembed.errors import MemoryLimitError
from hpcembed.memory import format_bytes

__all__ = ["CovariancePlan", "expected_products", "plan_covariance"]

#: Multiply-adds per second of one thread in a symmetric rank-b update (half the square counted).
_SYRK_RATE = 1.5e10
#: Entries per second of one thread in a pass that converts and multiplies twice.
_PASS_RATE = 3.0e8
#: Bytes per second of one rank reading an assembled matrix.
_READ_RATE = 8.0e9
#: Non-zeros per second of one rank in a sparse product.
_SPARSE_RATE = 2.5e8
#: Bytes per second of a reduction over the ranks.
_NETWORK_RATE = 2.0e9


@dataclass(frozen=True, slots=True)
class CovariancePlan:
    """What forming the covariance will take.

    Attributes
    ----------
    kind : {"assembled", "matrix_free"}
    reason : str
        Why, in words.
    assembled_seconds, matrix_free_seconds : float
        Predicted time of operator and products.
    assembled_bytes, matrix_free_bytes : int
        Memory on one rank beyond the data.
    """

    kind: Literal["assembled", "matrix_free"]
    reason: str
    assembled_seconds: float
    matrix_free_seconds: float
    assembled_bytes: int
    matrix_free_bytes: int

    @property
    def bytes(self) -> int:
        """Memory on one rank of the chosen kind."""
        return self.assembled_bytes if self.kind == "assembled" else self.matrix_free_bytes

    def describe(self) -> str:
        """One line for the terminal."""
        return (
            f"covariance {self.kind.replace('_', '-')} ({self.reason}): predicted "
            f"{self.assembled_seconds:.2g} s and {format_bytes(self.assembled_bytes)} per rank "
            f"assembled, {self.matrix_free_seconds:.2g} s and "
            f"{format_bytes(self.matrix_free_bytes)} matrix-free"
        )


def expected_products(k: int) -> int:
    """Products that finding and certifying k pairs of a decaying spectrum takes, roughly."""
    return 3 * k + 40


def plan_covariance(
    n_rows: int,
    n_features: int,
    n_products: int,
    *,
    ranks: int,
    threads: int,
    available_bytes: int,
    n_nonzeros: int | None = None,
    kind: Literal["auto", "assembled", "matrix_free"] = "auto",
) -> CovariancePlan:
    """Choose how to form the covariance.

    Not collective; the same arguments on all ranks give the same choice.

    Parameters
    ----------
    n_products : int
        Products expected in all, the reference solver's included.
    available_bytes : int
        Memory that one rank may still take.
    n_nonzeros : int, optional
        For sparse rows.

    Raises
    ------
    MemoryLimitError
        When the kind asked for does not fit, or neither does.
    """
    d, rows = n_features, -(-n_rows // ranks)
    square = 8 * d * d
    # The accumulated square, its packed triangle for the reduction, and this rank's rows.
    assembled_bytes = square + (square // 2 + square // ranks if ranks > 1 else square)
    matrix_free_bytes = 8 * 4 * d + 2 * 4 * 2**20
    reduction = square / _NETWORK_RATE if ranks > 1 else 0.0
    assembled = rows * d * d / 2 / (threads * _SYRK_RATE) + reduction
    assembled += n_products * square / (ranks * _READ_RATE)
    if n_nonzeros is None:
        matrix_free = n_products * rows * d / (threads * _PASS_RATE)
    else:
        matrix_free = n_products * 2 * n_nonzeros / ranks / _SPARSE_RATE
        # Sparse rows are made dense a block at a time to be assembled.
    fits = assembled_bytes <= available_bytes
    if kind != "auto":
        chosen, reason = kind, "as asked"
    elif not fits:
        chosen, reason = "matrix_free", "the square does not fit"
    elif assembled <= matrix_free:
        chosen, reason = "assembled", "faster"
    else:
        chosen, reason = "matrix_free", "faster"
    plan = CovariancePlan(
        chosen, reason, assembled, matrix_free, assembled_bytes, matrix_free_bytes
    )
    if plan.bytes > available_bytes:
        hint = 'set embedding.operator = "matrix_free"' if chosen == "assembled" else "more ranks"
        raise MemoryLimitError(
            f"the {chosen.replace('_', '-')} covariance of {d} features needs "
            f"{format_bytes(plan.bytes)} per rank, {format_bytes(available_bytes)} are available: "
            f"{hint}"
        )
    return plan
