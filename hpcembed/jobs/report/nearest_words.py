"""Nearest words: similarity of terms in an embedding.

The vector of a term holds its entry of each component, scaled to unit length and multiplied by the
square root of the modulus of the eigenvalue, so that inner products are those of the leading part
of the operator. Similarity is the cosine of two vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.report.tables import columns_of

__all__ = ["Neighbours", "nearest_words", "word_columns"]

#: Number of words that are listed, and of neighbours of each.
WORDS, NEIGHBOURS = 12, 6


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A word, its nearest words, and their cosines in descending order."""

    word: str
    nearest: tuple[str, ...]
    cosines: tuple[float, ...]


def nearest_words(
    components: NDArray[np.float64],
    eigenvalues: NDArray[np.float64],
    names: Sequence[str],
    importance: NDArray[np.float64],
    n_words: int = WORDS,
    n_neighbours: int = NEIGHBOURS,
) -> list[Neighbours]:
    """Find the nearest words of the most important words.

    Parameters
    ----------
    components : ndarray of shape (k, d)
    eigenvalues : ndarray of shape (k,)
    names : sequence of str
        The d words.
    importance : ndarray of shape (d,)
        The `n_words` words of largest importance are listed, the first of equal ones first. A word
        whose vector is zero has no neighbours and is left out.

    Examples
    --------
    >>> components = np.array([[1.0, 0.9, 0.1]])
    >>> nearest_words(components, np.ones(1), ("ship", "sail", "car"), np.array([3, 2, 1]), 1, 1)
    [Neighbours(word='ship', nearest=('sail',), cosines=(1.0,))]
    """
    scale = np.maximum(np.linalg.norm(components, axis=1), np.finfo(np.float64).tiny)
    vectors = components.T * (np.sqrt(np.abs(eigenvalues)) / scale)
    length = np.linalg.norm(vectors, axis=1)
    known = length > 0
    vectors[known] /= length[known, np.newaxis]
    order = np.argsort(-np.asarray(importance), kind="stable")
    found = []
    for word in order[known[order]][:n_words]:
        cosines = vectors @ vectors[word]
        cosines[~known] = -np.inf
        cosines[word] = -np.inf
        nearest = np.argsort(-cosines, kind="stable")[:n_neighbours]
        nearest = nearest[np.isfinite(cosines[nearest])]
        found.append(
            Neighbours(
                names[word],
                tuple(names[i] for i in nearest),
                tuple(float(cosines[i]) for i in nearest),
            )
        )
    return found


def word_columns(words: Sequence[Neighbours]) -> dict[str, list[object]]:
    """Collect words and neighbours as columns, one row for each pair."""
    rows = [
        (one.word, near, cosine)
        for one in words
        for near, cosine in zip(one.nearest, one.cosines, strict=True)
    ]
    return columns_of(("word", "nearest", "cosine"), rows)
