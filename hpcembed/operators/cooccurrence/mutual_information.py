"""Positive pointwise mutual information of co-occurrence counts, in place.

With counts C and row sums r, the shifted and smoothed information of a term i and a context j is

    x_ij = log(C_ij / r_i) - log(r_j^a / sum_l r_l^a) - log k,    M_ij = max(x_ij, 0),

with the shift log k and the smoothing exponent a. Entries without counts remain zero.

Deviation from the reference: for a != 1 a rare word has less information as a context than as a
term, so M is not symmetric although C is. The result is the symmetric part (M + M') / 2, the
symmetric matrix nearest to M in the Frobenius norm. Both summands of an entry need only C_ij and
the row sums, so no entry is communicated.

Reference: O. Levy, Y. Goldberg, I. Dagan, Improving distributional similarity with lessons learned
from word embeddings, TACL 3 (2015).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcembed.operators.cooccurrence.cooccurrence_matrix import CooccurrenceMatrix
from hpcembed.runtime.arguments import is_number
from hpcembed.runtime.errors import ConfigError

__all__ = ["check_information", "positive_information"]

#: Entries processed at a time; their temporary arrays fit the cache.
_STEP = 2**18


def positive_information(
    counts: CooccurrenceMatrix, *, shift: float = 1.0, smoothing: float = 0.75
) -> CooccurrenceMatrix:
    """Replace counts by their symmetric positive pointwise mutual information.

    Collective: one gather of n numbers. The result takes over the memory of `counts`, which must
    not be used afterwards.

    Parameters
    ----------
    counts : CooccurrenceMatrix
        Symmetric, without negative entries.
    shift : float
        k > 0: log k is subtracted, which corresponds to k negative samples in word2vec; 1 for no
        shift.
    smoothing : float
        Exponent of the context distribution, between 0 and 1; 1 for no smoothing.

    Returns
    -------
    CooccurrenceMatrix
        Symmetric to the last bit; the same on any number of ranks.

    Raises
    ------
    ConfigError
        Counts that are not symmetric, a shift or a smoothing out of range.

    Examples
    --------
    >>> import scipy.sparse
    >>> from mpi4py import MPI
    >>> rows = scipy.sparse.csr_array([[0.0, 3.0], [3.0, 2.0]])
    >>> counts = CooccurrenceMatrix(rows, (0, 2), MPI.COMM_SELF, symmetric=True)
    >>> positive_information(counts, smoothing=1.0).rows.toarray().round(3)
    array([[0.  , 0.47],
           [0.47, 0.  ]])
    """
    check_information(shift, smoothing)
    if not counts.symmetric:
        raise ConfigError("information needs symmetric counts: count with symmetric=True")
    sums = counts.row_sums()
    with np.errstate(divide="ignore"):
        logarithms = np.log(sums)
    # any value will do for a term without counts, which has no entries
    logarithms[sums == 0] = 0.0
    powers = np.power(sums, smoothing, where=sums > 0, out=np.zeros_like(sums))
    offset = float(np.log(powers.sum() or 1.0) - np.log(shift))
    _replace(counts, logarithms, smoothing, offset)
    counts.rows.eliminate_zeros()
    return counts


def _replace(
    counts: CooccurrenceMatrix, logarithms: NDArray[np.float64], smoothing: float, offset: float
) -> None:
    rows = counts.rows
    first = counts.row_range[0]
    for begin in range(0, rows.nnz, _STEP):
        part = slice(begin, min(begin + _STEP, rows.nnz))
        places = np.arange(part.start, part.stop)
        i = first + np.searchsorted(rows.indptr, places, side="right") - 1
        a, b = logarithms[i], logarithms[rows.indices[part]]
        common = np.log(rows.data[part]) + offset
        one_way = np.maximum(common - (a + smoothing * b), 0.0)
        other_way = np.maximum(common - (b + smoothing * a), 0.0)
        rows.data[part] = 0.5 * (one_way + other_way)


def check_information(shift: float, smoothing: float) -> None:
    """Check the range of shift and smoothing. Not collective.

    Raises
    ------
    ConfigError
    """
    for name, value in (("shift", shift), ("smoothing", smoothing)):
        if not is_number(value):
            raise ConfigError(f"{name} must be a finite number, got {value!r}")
    if shift <= 0:
        raise ConfigError(f"shift must be positive, got {shift!r}: 1 shifts by nothing")
    if not 0 <= smoothing <= 1:
        raise ConfigError(f"smoothing must lie between 0 and 1, got {smoothing!r}: 1 for none")
