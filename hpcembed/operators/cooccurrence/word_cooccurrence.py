"""Co-occurrence counts of words within a window, over documents distributed over the ranks.

``C[i, j]`` is the sum, over all positions of term i and all positions of term j at most a window
away in the same document, of a weight that depends on their distance. A pair of positions adds its
weight to ``C[i, j]`` and to ``C[j, i]``, and twice to the diagonal if both positions have the same
term. Without ``symmetric`` only pairs in which j follows i count.

Method: ranks go through their documents in pieces of bounded size
(:mod:`hpcembed.operators.cooccurrence.windows`), and the counts of each piece are summed by the
owners of their rows (:mod:`hpcembed.operators.cooccurrence.distributed_sum`). Only the following
terms are counted; the transpose is added at the end. Each rank owns consecutive rows with about the
same expected number of entries.

Memory of a rank: at most `buffer_bytes`, its documents, 100 bytes per term, and 80 bytes per entry
of its rows, of which the result keeps 12.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.operators.cooccurrence.cooccurrence_matrix import CooccurrenceMatrix
from hpcembed.operators.cooccurrence.distributed_sum import (
    BUFFER_BYTES,
    balanced_bounds,
    plus_transpose,
    sum_contributions,
)
from hpcembed.operators.cooccurrence.windows import (
    PAIR_BYTES,
    TokenDocuments,
    Window,
    following_counts,
)
from hpcembed.runtime.agreement import agreement, same_on_all_ranks
from hpcembed.runtime.arguments import is_integer
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["cooccurrence", "term_counts"]

#: Tokens that are counted at a time; their temporary arrays fit the cache.
_COUNTED = 2**14


def cooccurrence(
    documents: TokenDocuments,
    n_terms: int,
    comm: MPI.Intracomm,
    *,
    window: Window | None = None,
    symmetric: bool = True,
    buffer_bytes: int = BUFFER_BYTES,
) -> CooccurrenceMatrix:
    """Count the terms that occur near each other.

    Collective.

    Parameters
    ----------
    documents : TokenDocuments
        This rank's documents, possibly none.
    n_terms : int
        Size of the vocabulary, the same on all ranks.
    comm : MPI.Intracomm
    window : Window, optional
        Default: five positions to each side, all distances with weight one.
    symmetric : bool
        Count both sides; otherwise only terms that follow.
    buffer_bytes : int
        Memory of a rank for counts that are not summed yet. Larger pieces are faster.

    Returns
    -------
    CooccurrenceMatrix
        The same on any number of ranks: to the last bit if counts are below 2^53 and the weights
        are not harmonic or the window is at most 18, to rounding otherwise.

    Raises
    ------
    InputError
        Term numbers outside the vocabulary, on all ranks.
    ConfigError
        Invalid settings, or settings that differ between ranks.

    Examples
    --------
    The documents "a b a" and "b c" over the terms a, b, c:

    >>> documents = TokenDocuments.packed([np.array([0, 1, 0]), np.array([1, 2])])
    >>> counts = cooccurrence(documents, 3, MPI.COMM_SELF, window=Window(1))
    >>> counts.rows.toarray()
    array([[0., 2., 0.],
           [2., 0., 1.],
           [0., 1., 0.]])
    """
    window = window or Window()
    _check_settings(comm, n_terms, window, symmetric, buffer_bytes)
    with agreement(comm):
        documents.check(n_terms)
    # upper bound of the number of different terms near each term
    most_near = np.minimum(2.0 * window.size * term_counts(comm, documents, n_terms), n_terms)
    bounds = balanced_bounds(most_near, comm.size)
    n_pairs = buffer_bytes // PAIR_BYTES
    pieces = following_counts(documents, n_terms, window, n_pairs // window.size)
    rows = sum_contributions(comm, pieces, bounds, n_pairs)
    if symmetric:
        rows = plus_transpose(comm, rows, bounds, n_pairs)
    rows.data /= window.weights()[1]
    own = (int(bounds[comm.rank]), int(bounds[comm.rank + 1]))
    return CooccurrenceMatrix(rows, own, comm, symmetric)


def term_counts(comm: MPI.Intracomm, documents: TokenDocuments, n_terms: int) -> NDArray[np.int64]:
    """Count the occurrences of each term on all ranks; return the counts on every rank.

    Collective.

    Returns
    -------
    ndarray of int64, shape (n_terms,)
    """
    # the index after the last term counts unknown words
    counts = np.zeros(n_terms + 1, np.int64)
    for first in range(0, len(documents.tokens), _COUNTED):
        part = documents.tokens[first : first + _COUNTED]
        counts += np.bincount(np.where(part < 0, n_terms, part), minlength=n_terms + 1)
    comm.Allreduce(MPI.IN_PLACE, counts)
    return counts[:-1]


def _check_settings(
    comm: MPI.Intracomm, n_terms: int, window: Window, symmetric: bool, buffer_bytes: int
) -> None:
    with agreement(comm):
        window.check()
        for name, value in (("n_terms", n_terms), ("buffer_bytes", buffer_bytes)):
            if not is_integer(value):
                raise ConfigError(f"{name} must be an integer, got {value!r}")
        if not 1 <= n_terms < 2**31 - 1:
            raise InputError(f"a vocabulary of {n_terms} words: give at least one, below 2^31")
        least = PAIR_BYTES * int(window.size) ** 2
        if buffer_bytes < least:
            raise ConfigError(
                f"buffer_bytes = {buffer_bytes}: a window of {window.size} needs at least {least}"
            )
    same_on_all_ranks(
        comm, n_terms=n_terms, window=window, symmetric=symmetric, buffer_bytes=buffer_bytes
    )
