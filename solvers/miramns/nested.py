"""Nested subspaces K_m1 < K_m2 < ... < K_ml: their sizes, the measure of each, the best of them.

All subspaces of MIRAMns share one start vector and differ in size only, so they live in one Arnoldi
factorisation, and looking at a smaller one costs a small dense problem but no product.

* In the published method every size is examined once the largest is reached; the one with the
  smallest measure is restarted from. The measure is ``||(est_1 .. est_k)||_2 / ||A||_F``.
* In the default variant the sizes are checkpoints: the run ends at the first one that has the
  answer.

Reference: Shahzadeh Fazeli, Emad, Liu, Numerical Algorithms (2015); Emad, Shahzadeh Fazeli,
Dongarra (2010); sizes and measure as in the code released with Petit, Li, Emad, Dongarra (2025).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["checkpoints", "largest_size", "published_measure", "published_sizes"]

#: Checkpoints grow by this fraction, so that the products made after the answer was there stay few
#: and the small problems stay cheap beside the products.
_GROWTH = 0.06

#: Largest subspace of the default variant where nothing is measured: so many columns, or so many
#: times k. Beyond, products hardly get fewer, while the small problem grows with the third power;
#: it is solved by the QR algorithm for nonsymmetric operators, which takes ten times as long.
_LARGEST, _LARGEST_PER_PAIR = 120, 6
_LARGEST_NONSYMMETRIC, _LARGEST_PER_PAIR_NONSYMMETRIC = 60, 5

#: Size up to which the published method builds its nested set.
_PUBLISHED_LARGEST = 200


def largest_size(k: int, n: int, basis_columns: int, *, hermitian: bool = True) -> int:
    """Size m_l of the default variant: generous, but within n and the memory for the basis.

    Parameters
    ----------
    basis_columns : int
        Columns of the basis that memory allows.
    """
    if hermitian:
        wanted = max(_LARGEST, _LARGEST_PER_PAIR * k)
    else:
        wanted = max(_LARGEST_NONSYMMETRIC, _LARGEST_PER_PAIR_NONSYMMETRIC * k)
    return max(min(wanted, basis_columns - 1, n), min(k + 2, n))


def checkpoints(k: int, largest: int) -> tuple[int, ...]:
    """Sizes at which the default variant looks at the projected problem."""
    sizes = []
    size = min(k + 2, largest)
    while size < largest:
        sizes.append(size)
        size += max(2, round(_GROWTH * size))
    return (*sizes, largest)


def published_sizes(k: int, n: int, largest: int = 0) -> tuple[int, ...]:
    """Sizes of the published code: every integer from 2k to m_l (from m_l to 2k if that is less).

    Deviation: sizes that leave no shift (at most k) or exceed n are left out.
    """
    largest = largest or _PUBLISHED_LARGEST
    low, high = sorted((2 * k, largest))
    low, high = max(low, k + 1), min(high, n)
    return tuple(range(min(low, high), high + 1))


def published_measure(estimates: NDArray[np.float64], frobenius_norm: float) -> float:
    """How far the wanted Ritz pairs of one subspace are from converged."""
    if frobenius_norm == 0.0:
        return 0.0
    return float(np.linalg.norm(estimates)) / frobenius_norm
