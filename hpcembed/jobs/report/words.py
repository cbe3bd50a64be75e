"""Nearest words: what an embedding of terms holds to be alike.

A term's vector is its entry in each component, taken with length one, times the root of the modulus
of the eigenvalue: inner products are those of the operator's leading part. Nearness is the cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Neighbours", "nearest_words", "word_columns"]

#: Words whose neighbours are listed, and neighbours of each.
WORDS, NEIGHBOURS = 12, 6


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A word, those nearest to it, and their cosines in descending order."""

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
    """List the neighbours of the most important words.

    Not collective.

    Parameters
    ----------
    components : ndarray of shape (k, d)
    eigenvalues : ndarray of shape (k,)
    names : sequence of str
        Of the d words.
    importance : ndarray of shape (d,)
        The words with the largest are listed; ties go to the first. Words with a zero vector have
        no neighbours and are left out.
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
    """Columns of a table with a row for each word and neighbour. Not collective."""
    rows = [
        (one.word, near, cosine)
        for one in words
        for near, cosine in zip(one.nearest, one.cosines, strict=True)
    ]
    return {name: [row[i] for row in rows] for i, name in enumerate(("word", "nearest", "cosine"))}
