"""Co-occurrence counts of words within a window, on one rank, a piece of the documents at a time.

For a piece of L positions let D (L, n) have a one at the term of each position, and let row p of
B (L, n) have the weights of the terms that follow position p within the window and the document.
Then ``D'B`` counts every pair (term at p, following term) once, with its weight. The product of two
sparse matrices accumulates one dense row of n numbers after another, so the pairs are never sorted:
on 20 Newsgroups this takes a third of the time of sorting 64-bit keys.

Weights are stored as whole numbers over a common denominator. Their sums are exact in double
precision up to 2^53, hence independent of the order in which pieces and ranks are summed.

Reference: F. Gustavson, Two fast algorithms for sparse matrices, ACM TOMS 4 (1978).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import scipy.sparse
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from hpcembed.runtime.arguments import check_choice, is_integer
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["PAIR_BYTES", "TokenDocuments", "Weighting", "Window", "following_counts"]

Weighting = Literal["none", "harmonic", "linear"]

#: Largest memory of a counted pair, from its entry in B to its entry in a message.
PAIR_BYTES = 56

#: Largest common denominator of harmonic weights: windows up to 18.
_LARGEST_DENOMINATOR = 2**24

#: Largest window; for larger ones count whole documents.
_WIDEST = 1000


@dataclass(frozen=True, slots=True)
class TokenDocuments:
    """This rank's documents as concatenated term numbers.

    Attributes
    ----------
    tokens : ndarray of int, shape (n_tokens,)
        Numbers of terms; -1 for a word that is not in the vocabulary.
    offsets : ndarray of int, shape (n_documents + 1,)
        Document i is ``tokens[offsets[i]:offsets[i + 1]]``, possibly empty.

    Examples
    --------
    >>> documents = TokenDocuments.packed([np.array([0, 2]), np.array([1])])
    >>> documents.tokens, documents.offsets
    (array([0, 2, 1]), array([0, 2, 3]))
    """

    tokens: NDArray[Any]
    offsets: NDArray[Any]

    @classmethod
    def packed(cls, documents: Sequence[Any]) -> TokenDocuments:
        """Concatenate arrays of term numbers, one a document. Not collective.

        Raises
        ------
        InputError
            An array that is not one-dimensional or not of integers.
        """
        arrays = [np.asarray(document) for document in documents]
        for i, array in enumerate(arrays):
            if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
                raise InputError(
                    f"document {i} is an array of shape {array.shape} and type {array.dtype}: "
                    "give one-dimensional arrays of term numbers, -1 for unknown words"
                )
        filled = [array for array in arrays if array.size]
        tokens = np.concatenate(filled) if filled else np.zeros(0, np.int32)
        return cls(tokens, np.cumsum([0] + [array.size for array in arrays]))

    @property
    def n_documents(self) -> int:
        """Number of documents of this rank."""
        return len(self.offsets) - 1

    def check(self, n_terms: int) -> None:
        """Check types, offsets and the range of the term numbers. Not collective.

        Raises
        ------
        InputError
        """
        tokens, offsets = self.tokens, self.offsets
        for name, array in (("tokens", tokens), ("offsets", offsets)):
            if array.ndim != 1 or array.dtype.kind not in "iu":
                raise InputError(
                    f"{name} of shape {array.shape} and type {array.dtype}: "
                    "give a one-dimensional array of whole numbers"
                )
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(tokens):
            raise InputError(
                f"offsets must begin with 0 and end with {len(tokens)}, the number of tokens"
            )
        if (np.diff(offsets.astype(np.int64)) < 0).any():
            raise InputError("offsets must not decrease: give the documents in order")
        if len(tokens) and (tokens.min() < -1 or tokens.max() >= n_terms):
            wrong = np.flatnonzero((tokens < -1) | (tokens >= n_terms))
            place = int(np.searchsorted(offsets, wrong[0], side="right")) - 1
            raise InputError(
                f"document {place} contains the term number {tokens[wrong[0]]}: numbers go from 0 "
                f"to {n_terms - 1}, -1 for a word that is not in the vocabulary"
            )


@dataclass(frozen=True, slots=True)
class Window:
    """Size of the window, and the weight of a distance.

    Attributes
    ----------
    size : int
        Largest distance in positions that counts.
    weighting : {"none", "harmonic", "linear"}
        Weight of distance s: 1, 1 / s, or (size - s + 1) / size.
    skip_unknown : bool
        Remove words that are not in the vocabulary before distances are measured. By default they
        keep their positions, so that distances do not depend on the vocabulary.

    Examples
    --------
    >>> Window(3, "harmonic").weights()
    (array([6., 3., 2.]), 6.0)
    """

    size: int = 5
    weighting: Weighting = "none"
    skip_unknown: bool = False

    def check(self) -> None:
        """Check size and weighting. Not collective.

        Raises
        ------
        ConfigError
        """
        if not is_integer(self.size) or not 1 <= self.size <= _WIDEST:
            raise ConfigError(f"window must be an integer from 1 to {_WIDEST}, got {self.size!r}")
        check_choice("weighting", self.weighting, get_args(Weighting))

    def weights(self) -> tuple[NDArray[np.float64], float]:
        """Return the numerators of the weights of distances 1, 2, ..., and their denominator.

        The numerators are whole numbers, except for harmonic weights of windows larger than 18.
        """
        distances = np.arange(1.0, self.size + 1)
        if self.weighting == "none":
            return np.ones(self.size), 1.0
        if self.weighting == "linear":
            return self.size + 1 - distances, float(self.size)
        common = math.lcm(*range(1, int(self.size) + 1))
        if common > _LARGEST_DENOMINATOR:
            return 1 / distances, 1.0
        return np.round(common / distances), float(common)


def following_counts(
    documents: TokenDocuments, n_terms: int, window: Window, n_positions: int
) -> Iterator[Any]:
    """Yield weighted counts of the terms that follow each term, for one piece after another.

    Not collective.

    Parameters
    ----------
    documents : TokenDocuments
        Checked.
    n_terms : int
    window : Window
    n_positions : int
        Positions in a piece, at least the size of the window.

    Yields
    ------
    csr_array of shape (n_terms, n_terms)
        Numerators (see :meth:`Window.weights`), rows sorted. Their sum over all pieces is the
        count.
    """
    weights, _ = window.weights()
    tokens: NDArray[np.int32] = np.zeros(0, np.int32)
    numbers: NDArray[np.int64] = np.zeros(0, np.int64)
    for piece, piece_numbers in _pieces(documents, n_positions, window.skip_unknown):
        seen = len(tokens)
        tokens = np.concatenate([tokens, piece])
        numbers = np.concatenate([numbers, piece_numbers])
        yield _counted(tokens, numbers, seen, n_terms, weights)
        # the next piece may begin within the window of these positions
        tokens, numbers = tokens[-window.size :], numbers[-window.size :]


def _pieces(
    documents: TokenDocuments, n_positions: int, skip_unknown: bool
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """Yield tokens, and the document number of each."""
    starts = documents.offsets[:-1]
    for first in range(0, len(documents.tokens), n_positions):
        tokens = documents.tokens[first : first + n_positions].astype(np.int32)
        begun, ended = np.searchsorted(starts, [first + 1, first + len(tokens)])
        changes = np.bincount(starts[begun:ended] - first, minlength=len(tokens))
        numbers = begun + np.cumsum(changes)
        if skip_unknown:
            known = tokens >= 0
            tokens, numbers = tokens[known], numbers[known]
        yield tokens, numbers


def _counted(
    tokens: NDArray[np.int32],
    numbers: NDArray[np.int64],
    seen: int,
    n_terms: int,
    weights: NDArray[np.float64],
) -> Any:
    """Return ``D'B`` of these positions without the pairs inside the first `seen` of them."""
    length, size = len(tokens), len(weights)
    beyond = np.full(size, -1, np.int32)
    following = sliding_window_view(np.concatenate([tokens[1:], beyond]), size)[:length]
    counts = following >= 0
    counts &= (
        sliding_window_view(np.concatenate([numbers[1:], beyond]), size)[:length]
        == numbers[:, None]
    )
    counts &= (tokens >= 0)[:, None]
    counts[:seen] &= np.arange(size) >= seen - 1 - np.arange(seen)[:, None]
    # both before B is created, because the boolean selection needs as much memory
    columns = following[counts]
    values = np.broadcast_to(weights, counts.shape)[counts]
    indptr = np.concatenate([[0], np.cumsum(counts.sum(axis=1))])
    del following, counts
    B = scipy.sparse.csr_array((values, columns, indptr), shape=(length, n_terms))
    owners = scipy.sparse.csc_array(
        (np.ones(length), np.maximum(tokens, 0), np.arange(length + 1)), shape=(n_terms, length)
    )
    product = owners.tocsr() @ B
    del B, values, columns
    # conversion to CSC and back sorts the rows in linear time
    return product.tocsc().tocsr()
