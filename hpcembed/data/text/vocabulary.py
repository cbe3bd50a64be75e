"""A vocabulary: the terms that are columns of a document-term matrix, and their training counts.

:func:`hpcembed.data.text.vocabulary_learning.learn_vocabulary` makes one from documents on many
ranks. This module needs neither MPI nor the training text, so that deployed models can import it.
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
    """Terms in the order of their code points, with document and term frequencies.

    Parameters
    ----------
    terms : sequence of str
        Sorted, without repetition; the index of a term is its id.
    document_frequencies, term_frequencies : sequence of int, shape (n_terms,)
        Number of training documents that contain a term, and of its occurrences in all of them.
    n_documents : int
        Number of training documents, including empty ones.

    Attributes
    ----------
    terms : tuple of str
    document_frequencies, term_frequencies : ndarray of int64, shape (n_terms,)
    n_documents : int

    Raises
    ------
    ValueError
        Terms that are not sorted or not distinct; counts of another length.

    Examples
    --------
    >>> vocabulary = Vocabulary(["sea", "ship"], [2, 1], [3, 1], n_documents=2)
    >>> "ship" in vocabulary, len(vocabulary), vocabulary.ids(["ship", "road"]).tolist()
    (True, 2, [1, -1])
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
        self._ids = {term: i for i, term in enumerate(self.terms)}

    def __len__(self) -> int:
        return len(self.terms)

    def __contains__(self, term: object) -> bool:
        return term in self._ids

    def __repr__(self) -> str:
        return f"<Vocabulary: {len(self.terms):,} terms of {self.n_documents:,} documents>"

    def ids(self, tokens: Iterable[str]) -> NDArray[np.int64]:
        """Return the id of each token, -1 for a token that is not a term.

        Returns
        -------
        ndarray of int64, shape (n_tokens,)
        """
        find = self._ids.get
        return np.fromiter((find(token, -1) for token in tokens), dtype=np.int64)

    def term_ids(self, documents: TokenIds) -> NDArray[np.int64]:
        """Return the term id of every token of documents, -1 for a token that is not a term.

        Parameters
        ----------
        documents : TokenIds
            From :func:`~hpcembed.data.text.tokens.index_tokens`. Each distinct token is looked up
            once.

        Returns
        -------
        ndarray of int64, shape (n_tokens,)
            In the order of the text.
        """
        return self.ids(documents.tokens)[documents.ids]
