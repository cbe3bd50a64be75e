"""Documents as sparse rows: a column for every term of a vocabulary, weighted.

For a term with tf occurrences in a document, in df of the n training documents:

    tf            or 1 + log tf (sublinear_tf), or 1 (binary)
    idf           log((1 + n) / (1 + df)) + 1, or log(n / df) + 1 without smoothing
    relevance     1, or what the term says of the class (:mod:`hpcembed.data.text.term_relevance`)
    row           tf idf relevance, divided by its length (norm = "l2")

Without relevance these are the formulas, and to rounding the numbers, of scikit-learn's
TfidfVectorizer. Here ``weighting = "binary"`` has no idf; neither has ``"counts"``. A document
without any term of the vocabulary is a row of zeros.

Reference: G. Salton, C. Buckley, Term-weighting approaches in automatic text retrieval, Information
Processing & Management 24 (1988).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.text.cleaning import Cleaner, TextRules
from hpcembed.data.text.tokens import TokenIds, index_tokens
from hpcembed.data.text.vocabulary import Vocabulary

__all__ = ["TermRows", "TermWeights"]


@dataclass(frozen=True, slots=True)
class TermWeights:
    """What a document has for a term.

    Attributes
    ----------
    weighting : {"tfidf", "counts", "binary"}
    sublinear_tf : bool
        1 + log of the occurrences; not with ``binary``.
    smooth_idf : bool
    norm : {"l2", "none"}
    """

    weighting: str = "tfidf"
    sublinear_tf: bool = False
    smooth_idf: bool = True
    norm: str = "l2"


class TermRows:
    """Makes rows of documents, with what was learned from the training documents.

    Not collective: rows depend on the document and the vocabulary only.

    Parameters
    ----------
    vocabulary : Vocabulary
    weights : TermWeights
    relevance : ndarray of float64, shape (n_terms,), optional
        A further factor of every term.
    rules : TextRules, optional
        How the training documents were cleaned.

    Attributes
    ----------
    idf : ndarray of float64, shape (n_terms,)
        1 for every term where the weighting has no idf.
    relevance : ndarray or None
    rules : TextRules
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        weights: TermWeights,
        relevance: NDArray[np.float64] | None = None,
        rules: TextRules | None = None,
    ) -> None:
        self.vocabulary, self.weights, self.relevance = vocabulary, weights, relevance
        self.rules = rules or TextRules()
        self.idf: NDArray[np.float64] = np.ones(len(vocabulary))
        if weights.weighting == "tfidf":
            extra = int(weights.smooth_idf)
            n = vocabulary.n_documents + extra
            self.idf = np.log(n / (vocabulary.document_frequencies + extra)) + 1.0

    def counts(self, documents: TokenIds | Iterable[str]) -> Any:
        """How often each document holds each term.

        Parameters
        ----------
        documents : TokenIds or iterable of str

        Returns
        -------
        scipy.sparse.csr_array of float64, shape (n_documents, n_terms)
            Columns in ascending order in each row, no zeros stored.
        """
        import scipy.sparse  # here: what reads a vocabulary needs numpy only

        indexed = documents if isinstance(documents, TokenIds) else index_tokens(documents)
        places = self.vocabulary.places(indexed)
        known = places >= 0
        before = np.concatenate([[0], np.cumsum(known)])
        # As scipy does it: 32 bits wherever they suffice.
        kind = np.int32 if max(before[-1], len(self.vocabulary)) < 2**31 else np.int64
        counts = scipy.sparse.csr_array(
            (
                np.ones(int(before[-1])),
                places[known].astype(kind),
                before[indexed.starts].astype(kind),
            ),
            shape=(indexed.n_documents, len(self.vocabulary)),
        )
        counts.sum_duplicates()
        return counts

    def rows(self, documents: TokenIds | Iterable[str]) -> Any:
        """The rows of some documents: :meth:`counts`, weighted."""
        return self.weighted(self.counts(documents))

    def cleaned_rows(self, texts: Iterable[str]) -> Any:
        """The rows of texts as a person has them: headers and quotes go as in training."""
        return self.rows(map(Cleaner(self.rules).clean, texts))

    def weighted(self, counts: Any) -> Any:
        """Weights in the place of counts, which are overwritten.

        Parameters
        ----------
        counts : csr_array of shape (n_documents, n_terms)
        """
        counts.data = self._values(counts)
        if self.relevance is not None:
            counts.eliminate_zeros()  # of terms that say nothing
        return counts

    def _values(self, counts: Any) -> NDArray[np.float64]:
        values: NDArray[np.float64] = counts.data
        if self.weights.weighting == "binary":
            values = np.ones_like(values)
        elif self.weights.sublinear_tf:
            values = 1.0 + np.log(values)
        values = values * self.idf[counts.indices]
        if self.relevance is not None:
            values *= self.relevance[counts.indices]
        if self.weights.norm == "l2":
            sizes = np.diff(counts.indptr)
            row = np.repeat(np.arange(sizes.size), sizes)
            lengths = np.sqrt(np.bincount(row, weights=values**2, minlength=sizes.size))
            values /= np.where(lengths > 0, lengths, 1.0)[row]
        return values
