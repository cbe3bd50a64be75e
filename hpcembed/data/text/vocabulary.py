"""A vocabulary: terms in the order of their code points, each with its counts in training text.

The counts are learned by :func:`hpcembed.data.text.vocabulary_learning.learn_vocabulary`; what is
here needs neither MPI nor the training text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.text.tokens import TokenIds

__all__ = ["Vocabulary"]


class Vocabulary:
    """Terms and what is known of them.

    Not collective.

    Parameters
    ----------
    terms : sequence of str
        Sorted, without repetition; the place of a term is its id.
    document_frequencies, term_frequencies : sequence of int, shape (n_terms,)
        Training documents that hold a term, and its occurrences in all of them.
    n_documents : int
        Training documents, empty ones among them.

    Attributes
    ----------
    terms : tuple of str
    document_frequencies, term_frequencies : ndarray of int64, shape (n_terms,)
    n_documents : int

    Raises
    ------
    ValueError
        Terms that are not sorted or that repeat, counts of another length.
    """

    def __init__(
        self,
        terms: Sequence[str],
        document_frequencies: Sequence[int] | NDArray[np.integer[Any]],
        term_frequencies: Sequence[int] | NDArray[np.integer[Any]],
        n_documents: int,
    ) -> None:
        self.terms = tuple(terms)
        self.document_frequencies = np.asarray(document_frequencies, dtype=np.int64)
        self.term_frequencies = np.asarray(term_frequencies, dtype=np.int64)
        self.n_documents = int(n_documents)
        if any(a >= b for a, b in pairwise(self.terms)):
            raise ValueError("the terms of a vocabulary must be sorted and must not repeat")
        for counts in (self.document_frequencies, self.term_frequencies):
            if counts.shape != (len(self.terms),):
                raise ValueError(f"counts of shape {counts.shape} for {len(self.terms)} terms")
        self._ids = {term: place for place, term in enumerate(self.terms)}

    def __len__(self) -> int:
        return len(self.terms)

    def __contains__(self, term: object) -> bool:
        return term in self._ids

    def __repr__(self) -> str:
        return f"<Vocabulary: {len(self.terms):,} terms of {self.n_documents:,} documents>"

    def ids(self, tokens: Iterable[str]) -> NDArray[np.int64]:
        """The id of each token, -1 for one that is no term.

        Returns
        -------
        ndarray of int64, shape (n_tokens,)
        """
        find = self._ids.get
        return np.fromiter((find(token, -1) for token in tokens), dtype=np.int64)

    def places(self, indexed: TokenIds) -> NDArray[np.int64]:
        """The id of every token of documents, in the order of the text, -1 for one that is no term.

        Parameters
        ----------
        indexed : TokenIds
            From :func:`~hpcembed.data.text.tokens.index_tokens`; each distinct token is looked up
            once.

        Returns
        -------
        ndarray of int64, shape (n_tokens,)
        """
        return self.ids(indexed.tokens)[indexed.ids]
