"""A vectoriser: documents in, a sparse document-term matrix out, one weighted column per term.

Weight of a term that occurs tf times in a document and in df of the n training documents:

    tf            or 1 + log tf (sublinear_tf), or 1 (binary)
    idf           log((1 + n) / (1 + df)) + 1, or log(n / df) + 1 without smoothing
    relevance     1, or the factor of :mod:`hpcembed.data.text.term_relevance`
    row           tf * idf * relevance, divided by its Euclidean norm (norm = "l2")

Without relevance these are the formulas, and to rounding the numbers, of scikit-learn's
TfidfVectorizer. Deviation: ``weighting = "binary"`` and ``"counts"`` have no idf. A document
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
from hpcembed.data.text.term_rows import TermRows
from hpcembed.data.text.tokens import TokenIds, index_tokens
from hpcembed.data.text.vocabulary import Vocabulary
from hpcembed.runtime.optional import is_installed

__all__ = ["TermWeights", "Vectoriser"]


@dataclass(frozen=True, slots=True)
class TermWeights:
    """Weighting scheme of a document-term matrix.

    Attributes
    ----------
    weighting : {"tfidf", "counts", "binary"}
    sublinear_tf : bool
        Use 1 + log tf in place of tf; without effect for "binary".
    smooth_idf : bool
    norm : {"l2", "none"}
    """

    weighting: str = "tfidf"
    sublinear_tf: bool = False
    smooth_idf: bool = True
    norm: str = "l2"


class Vectoriser:
    """Make rows of a document-term matrix with the statistics of the training documents.

    A row depends on its document and the vocabulary only, so every rank makes its own rows.

    Parameters
    ----------
    vocabulary : Vocabulary
    weights : TermWeights
    relevance : ndarray of float64, shape (n_terms,), optional
        A further factor of every column.
    rules : TextRules, optional
        Rules by which the training documents were cleaned.

    Attributes
    ----------
    idf : ndarray of float64, shape (n_terms,)
        All ones if the weighting has no idf.
    relevance : ndarray or None
    rules : TextRules

    Examples
    --------
    >>> vocabulary = Vocabulary(["sea", "ship"], [2, 1], [3, 1], n_documents=2)
    >>> vectoriser = Vectoriser(vocabulary, TermWeights("counts", norm="none"))
    >>> vectoriser.transform(["sea ship sea", "a road"]).toarray()
    array([[2., 1.],
           [0., 0.]])
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
        """Count the occurrences of each term in each document.

        Parameters
        ----------
        documents : TokenIds or iterable of str

        Returns
        -------
        scipy.sparse.csr_array of float64, shape (n_documents, n_terms)
            Columns in ascending order in each row, no zeros stored. Without SciPy: TermRows.
        """
        indexed = documents if isinstance(documents, TokenIds) else index_tokens(documents)
        columns = self.vocabulary.term_ids(indexed)
        known = columns >= 0
        before = np.concatenate([[0], np.cumsum(known)])
        if not is_installed("scipy"):
            starts = before[indexed.starts]
            return TermRows.count(columns[known], starts, len(self.vocabulary))
        import scipy.sparse  # here: a deployed model needs numpy only

        # As in scipy: 32-bit indices wherever they suffice.
        index = np.int32 if max(before[-1], len(self.vocabulary)) < 2**31 else np.int64
        counts = scipy.sparse.csr_array(
            (
                np.ones(int(before[-1])),
                columns[known].astype(index),
                before[indexed.starts].astype(index),
            ),
            shape=(indexed.n_documents, len(self.vocabulary)),
        )
        counts.sum_duplicates()
        return counts

    def transform(self, documents: TokenIds | Iterable[str]) -> Any:
        """Return the document-term matrix of cleaned documents: :meth:`counts`, weighted."""
        return self.apply_weights(self.counts(documents))

    def clean_and_transform(self, texts: Iterable[str]) -> Any:
        """Return the document-term matrix of raw texts, cleaned as the training documents were."""
        return self.transform(map(Cleaner(self.rules).clean, texts))

    def apply_weights(self, counts: Any) -> Any:
        """Replace counts by weights, in place.

        Parameters
        ----------
        counts : csr_array of shape (n_documents, n_terms)

        Returns
        -------
        csr_array of shape (n_documents, n_terms)
            The same object.
        """
        counts.data = self._weights_of(counts)
        if self.relevance is not None:
            counts.eliminate_zeros()  # terms of relevance zero
        return counts

    def _weights_of(self, counts: Any) -> NDArray[np.float64]:
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
