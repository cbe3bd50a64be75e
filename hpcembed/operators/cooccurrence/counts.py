"""Counts of words that stand near each other, over documents that are spread over the ranks.

``C[i, j]`` is the sum, over all positions of term i and all positions of term j at most a window
away in the same document, of a weight that depends on their distance. Both sides count: a pair of
positions adds its weight to ``C[i, j]`` and to ``C[j, i]``, twice to the diagonal when both hold
the same term. Without ``symmetric`` only the side behind counts: j follows i.

Method. Ranks go through their documents in pieces of bounded size (:mod:`.window_counts`), the
counts of each piece travel to the owners of their rows in rounds of bounded size, and are added up
there (:mod:`.term_rows`). Only one side is counted; its transpose is added in the end. Rows are
owned consecutively, cut where about as many entries are expected on each rank.

Memory. A rank takes at most `buffer_bytes`, its documents, 100 bytes for each term, and 80 bytes
for each entry of its rows, of which it hands back 12.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.operators.cooccurrence.count_matrix import (
    Runs,
    TermRows,
    balanced_bounds,
    deliver,
    plus_transpose,
)
from hpcembed.operators.cooccurrence.windows import PAIR_BYTES, TokenDocuments, Window, later_terms
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import agreement

__all__ = ["BUFFER_BYTES", "cooccurrence", "same_on_all_ranks", "summed_parts", "term_counts"]

#: Memory for counting, by default: some million pairs at a time.
BUFFER_BYTES = 256 * 2**20

#: Tokens that are counted at once by themselves: they stay in the cache.
_COUNTED = 2**14


def cooccurrence(
    documents: TokenDocuments,
    n_terms: int,
    comm: MPI.Intracomm,
    *,
    window: Window | None = None,
    symmetric: bool = True,
    buffer_bytes: int = BUFFER_BYTES,
) -> TermRows:
    """Count the terms that stand near each other.

    Collective.

    Parameters
    ----------
    documents : TokenDocuments
        This rank's, perhaps none.
    n_terms : int
        Size of the vocabulary, the same on all ranks.
    window : Window, optional
        Default: five positions to each side, all distances alike.
    symmetric : bool
        Count both sides, or the terms that follow only.
    buffer_bytes : int
        Memory of a rank for what is not counted yet. More makes larger pieces, which is faster.

    Returns
    -------
    TermRows
        The same on any number of ranks, to the last bit where weights are whole multiples of a
        fraction (all but harmonic ones of windows beyond 18) and counts are below 2^53; to rounding
        otherwise.

    Raises
    ------
    InputError
        Term numbers beyond the vocabulary, on all ranks.
    ConfigError
        Settings that make no sense, or differ between ranks.
    """
    window = window or Window()
    _check_settings(comm, n_terms, window, symmetric, buffer_bytes)
    with agreement(comm):
        documents.check(n_terms)
    # what a term can have at most beside it
    most_near = np.minimum(2.0 * window.size * term_counts(comm, documents, n_terms), n_terms)
    bounds = balanced_bounds(most_near, comm.size)
    n_pairs = buffer_bytes // PAIR_BYTES
    pieces = later_terms(documents, n_terms, window, n_pairs // window.size)
    rows = summed_parts(comm, pieces, bounds, n_pairs)
    if symmetric:
        rows = plus_transpose(comm, rows, bounds, n_pairs)
    rows.data /= window.weights()[1]
    own = (int(bounds[comm.rank]), int(bounds[comm.rank + 1]))
    return TermRows(rows, own, comm, symmetric)


def term_counts(comm: MPI.Intracomm, documents: TokenDocuments, n_terms: int) -> NDArray[np.int64]:
    """How often each term occurs on all ranks, shape (n_terms,), on every rank. Collective."""
    # the place behind the last term takes words that are not in the vocabulary
    counts = np.zeros(n_terms + 1, np.int64)
    for first in range(0, len(documents.tokens), _COUNTED):
        part = documents.tokens[first : first + _COUNTED]
        counts += np.bincount(np.where(part < 0, n_terms, part), minlength=n_terms + 1)
    comm.Allreduce(MPI.IN_PLACE, counts)
    return counts[:-1]


def summed_parts(
    comm: MPI.Intracomm, parts: Iterator[Any], bounds: NDArray[np.int64], most: int
) -> Any:
    """Sum of the parts of all ranks: this rank's rows.

    Collective.

    Parameters
    ----------
    parts : iterator of csr_array of shape (n, n)
        Of this rank, rows sorted; ranks may have different numbers of them. Made without any
        collective call.
    bounds, most
        As for :func:`~hpcembed.operators.cooccurrence.count_matrix.deliver`.

    Returns
    -------
    csr_array of shape (n_local, n)
    """
    n = int(bounds[-1])
    shape = (int(bounds[comm.rank + 1] - bounds[comm.rank]), n)
    runs = Runs(shape)
    while True:
        part = _next(comm, parts)
        if not comm.allreduce(part is not None, op=MPI.LOR):
            return runs.total()
        part = scipy.sparse.csr_array((n, n)) if part is None else part
        for arrived in deliver(comm, part, bounds, most):
            runs.add(arrived)


def _next(comm: MPI.Intracomm, parts: Iterator[Any]) -> Any:
    """The next part, or None; memory that one rank lacks stops all."""
    with agreement(comm):
        return next(parts, None)


def _check_settings(
    comm: MPI.Intracomm, n_terms: int, window: Window, symmetric: bool, buffer_bytes: int
) -> None:
    with agreement(comm):
        window.check()
        if isinstance(n_terms, bool) or not isinstance(n_terms, int | np.integer):
            raise ConfigError(f"n_terms must be an integer, got {n_terms!r}")
        if not 1 <= n_terms < 2**31 - 1:
            raise InputError(f"a vocabulary of {n_terms} words: give at least one, below 2^31")
        least = PAIR_BYTES * int(window.size) ** 2
        if isinstance(buffer_bytes, bool) or not isinstance(buffer_bytes, int | np.integer):
            raise ConfigError(f"buffer_bytes must be an integer, got {buffer_bytes!r}")
        if buffer_bytes < least:
            raise ConfigError(
                f"buffer_bytes = {buffer_bytes}: a window of {window.size} needs at least {least}"
            )
    same_on_all_ranks(
        comm, n_terms=n_terms, window=window, symmetric=symmetric, buffer_bytes=buffer_bytes
    )


def same_on_all_ranks(comm: MPI.Intracomm, **settings: object) -> None:
    """Refuse settings that differ between ranks.

    Collective.

    Raises
    ------
    ConfigError
    """
    of_all: list[dict[str, str]] = comm.allgather({key: repr(settings[key]) for key in settings})
    for name in settings:
        values = sorted({of_rank[name] for of_rank in of_all})
        if len(values) > 1:
            raise ConfigError(
                f"{name} differs between ranks: {', '.join(values)}: give all the same"
            )
