"""Stages of a start: which components of a surrogate are added, and when a stage ends.

Small singular values lie below the noise that the missing entries give the surrogate, and the first
spectral start has no direction of theirs. So the components above the noise are fitted first, in a
few iterations. The noise of the residual is smaller; its spectral start has the next components.
"""

from __future__ import annotations

from hpcembed.networks.deep_linear.surrogate_spectrum import (
    LARGEST_RANK,
    SpectralStart,
    components_above,
)

__all__ = ["STAGE_ITERATIONS", "components_added", "is_flat"]

#: Largest number of iterations of a stage that is not the last one.
STAGE_ITERATIONS = 100
#: Such a stage ends when an iteration reduces the loss by less than this share ...
_FLAT = 0.1
#: ... after this many iterations.
_SETTLED = 3
#: Components of one stage have at least this share of the largest singular value ...
_STAGE_SHARE = 0.8
#: ... or exceed the noise edge by this factor.
_CLEAR = 10.0


def components_added(
    spectrum: SpectralStart, rank: int | None, reached: int, smaller: int
) -> tuple[int, bool]:
    """Return how many components of a surrogate the next stage adds, and whether it is the last.

    Parameters
    ----------
    rank : int or None
        The given rank.
    reached : int
        Components so far.
    smaller : int
        The smaller dimension of the matrix. Without a given rank, half of it is the limit.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcembed.networks.deep_linear import Factorisation, spectral_start
    >>> start = spectral_start(Factorisation(np.diag([3.0, 2.0, 0.0, 0.0])))
    >>> components_added(start, None, 0, 4)
    (2, True)
    """
    missing = (max(1, min(LARGEST_RANK, smaller // 2)) if rank is None else rank) - reached
    above = components_above(spectrum.values, spectrum.noise_edge)
    bound = min(_STAGE_SHARE * spectrum.values[0], _CLEAR * spectrum.noise_edge)
    comparable = int((spectrum.values >= bound).sum())
    # a matrix that is not zero has a component, and a given rank is reached
    least = 1 if rank is not None or not reached else 0
    added = min(max(least, min(above, comparable)), missing)
    return added, added in (0, missing)


def is_flat(iterations: int, before: float, loss: float) -> bool:
    """Return whether a stage that is not the last one ends after this iteration."""
    return iterations >= _SETTLED and loss > (1 - _FLAT) * before
