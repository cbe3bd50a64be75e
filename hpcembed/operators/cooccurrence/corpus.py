"""Documents in any form that word vectors accept, as numbers of terms."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.text.tokens import TokenIds, index_tokens, index_words
from hpcembed.data.text.vocabulary import Vocabulary
from hpcembed.data.text.vocabulary_learning import learn_vocabulary, unusable_word
from hpcembed.operators.cooccurrence.windows import TokenDocuments
from hpcembed.operators.cooccurrence.word_cooccurrence import term_counts
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError, HpcembedError, InputError

__all__ = ["Corpus", "as_numbers", "corpus_of", "weighted_rows"]

#: Documents whose terms are counted at once.
_STEP = 4096


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents over a vocabulary.

    Attributes
    ----------
    documents : TokenDocuments
        Documents of this rank.
    terms : tuple of str
        Terms in the order of their numbers, the same on all ranks.
    term_frequencies, document_frequencies : ndarray of int64, shape (n_terms,)
        Occurrences of each term, and documents that hold it, on all ranks.
    n_documents : int
        Documents on all ranks.
    """

    documents: TokenDocuments
    terms: tuple[str, ...]
    term_frequencies: NDArray[np.int64]
    document_frequencies: NDArray[np.int64]
    n_documents: int


def corpus_of(
    documents: Any,
    vocabulary: Any,
    comm: MPI.Intracomm,
    *,
    min_df: float,
    max_df: float,
    max_features: int,
) -> Corpus:
    """Return the documents of all ranks as numbers over one vocabulary.

    Collective.

    Parameters
    ----------
    documents : TokenDocuments, or a sequence of texts or of lists of words
        Documents of this rank, possibly none.
    vocabulary : Vocabulary, sequence of str, or None
        None learns it from the documents, within the limits.

    Raises
    ------
    InputError
        On all ranks.
    """
    given = vocabulary is not None
    if len(set(comm.allgather(given))) > 1:
        raise ConfigError("some ranks have a vocabulary and some not: give all the same")
    if given:
        with agreement(comm), _refused():
            terms = checked_terms(vocabulary)
            numbers = as_numbers(documents, {term: i for i, term in enumerate(terms)})
            numbers.check(len(terms))
        # unlike the hash of Python, the same in every process
        checksum = zlib.crc32("\n".join(terms).encode("utf-8"))
        if len(set(comm.allgather(checksum))) > 1:
            raise ConfigError("the vocabulary differs between ranks: give all the same")
        counts = term_counts(comm, numbers, len(terms))
        in_documents = document_counts(comm, numbers, len(terms))
        n_documents = int(comm.allreduce(numbers.n_documents))
        return Corpus(numbers, terms, counts, in_documents, n_documents)
    with agreement(comm), _refused():
        indexed = indexed_documents(documents)
    learned = learn_vocabulary(
        indexed,
        comm,
        min_df=min_df,
        max_df=max_df,
        max_features=max_features,
        source="the documents",
    )
    numbers = TokenDocuments(learned.term_ids(indexed).astype(np.int32), indexed.starts)
    return Corpus(
        numbers,
        learned.terms,
        learned.term_frequencies,
        learned.document_frequencies,
        learned.n_documents,
    )


def checked_terms(vocabulary: Any) -> tuple[str, ...]:
    """Return the words of a vocabulary in the order of their numbers.

    Raises
    ------
    InputError
    """
    if isinstance(vocabulary, str) or not isinstance(
        vocabulary, Vocabulary | Sequence | np.ndarray
    ):
        raise InputError(
            f"a vocabulary of type {type(vocabulary).__name__}: give a sequence of words, in the "
            "order of their numbers"
        )
    words = vocabulary.terms if isinstance(vocabulary, Vocabulary) else vocabulary
    terms = tuple(str(word) for word in words)
    for term in terms:
        reason = unusable_word(term)
        if reason:
            raise InputError(f"the vocabulary: the word {term!a} {reason}")
    if not terms:
        raise InputError("the vocabulary is empty: give at least one word")
    if len(set(terms)) < len(terms):
        seen: set[str] = set()
        twice = next(term for term in terms if term in seen or seen.add(term))  # type: ignore[func-returns-value]
        raise InputError(f"the vocabulary contains {twice!r} twice: give each word once")
    return terms


@contextmanager
def _refused() -> Iterator[None]:
    """Raise Python's errors about documents as InputError, on which ranks can agree."""
    try:
        yield
    except HpcembedError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"documents that cannot be used ({type(error).__name__}: {error}): give texts, lists "
            "of words, or one-dimensional arrays of term numbers"
        ) from error


def as_numbers(documents: Any, numbers: dict[str, int]) -> TokenDocuments:
    """Return documents as numbers of known words, -1 for other words.

    Raises
    ------
    InputError
        If `documents` is not a list of documents.
    """
    if isinstance(documents, TokenDocuments):
        return documents
    if _holds_numbers(documents):
        return TokenDocuments.packed(documents)
    indexed = indexed_documents(documents)
    places = np.array([numbers.get(token, -1) for token in indexed.tokens], dtype=np.int32)
    return TokenDocuments(places[indexed.ids] if places.size else indexed.ids, indexed.starts)


def indexed_documents(documents: Any) -> TokenIds:
    """Return the words of texts, or of lists of words, as numbers.

    Raises
    ------
    InputError
    """
    if isinstance(documents, str | bytes) or not isinstance(documents, Iterable):
        raise InputError(
            f"documents of type {type(documents).__name__}: give a list of texts, of lists of "
            "words, or of arrays of term numbers"
        )
    if isinstance(documents, TokenDocuments) or _holds_numbers(documents):
        raise InputError("term numbers need a vocabulary: give it as well")
    documents = list(documents)
    if all(isinstance(document, str) for document in documents):
        return index_tokens(documents)
    odd = [i for i, document in enumerate(documents) if not isinstance(document, Iterable)]
    odd = odd or [i for i, document in enumerate(documents) if isinstance(document, str)]
    if odd:
        raise InputError(
            f"document {odd[0]} is of type {type(documents[odd[0]]).__name__}: give all documents "
            "as texts, or all as lists of words"
        )
    return index_words(map(_word, document) for document in documents)


def _word(word: Any) -> str:
    if not isinstance(word, str):
        raise InputError(f"{word!r} is not a word: give documents as texts or as lists of words")
    return word


def _holds_numbers(documents: Any) -> bool:
    """Return whether the first document that is not empty is an array of numbers."""
    if not isinstance(documents, Sequence):
        return False
    # Items without a length are not documents; indexed_documents names their place.
    first = next((item for item in documents if not isinstance(item, Sized) or len(item)), None)
    if isinstance(first, str) or not isinstance(first, Sized):
        return False
    try:
        return isinstance(first[0], int | np.integer)  # type: ignore[index]
    except (LookupError, TypeError):
        return False


def document_counts(
    comm: MPI.Intracomm, documents: TokenDocuments, n_terms: int
) -> NDArray[np.int64]:
    """Return the number of documents on all ranks that hold each term. Collective."""
    counts = np.zeros(n_terms, np.int64)
    ones = np.ones(n_terms)
    for first in range(0, documents.n_documents, _STEP):
        rows = weighted_rows(documents, ones, first, first + _STEP)
        counts += np.bincount(rows.indices, minlength=n_terms)
    comm.Allreduce(MPI.IN_PLACE, counts)
    return counts


def weighted_rows(
    documents: TokenDocuments, weights: NDArray[np.float64], first: int, last: int
) -> Any:
    """Return documents `first` to `last` as sparse rows: occurrences of each term times its weight.

    Returns
    -------
    csr_array of shape (last - first, n_terms)
        Each term once in a row.
    """
    offsets = np.asarray(documents.offsets[first : last + 1], dtype=np.int64)
    tokens = documents.tokens[offsets[0] : offsets[-1]]
    known = tokens >= 0
    before = np.concatenate([[0], np.cumsum(known)])
    columns = tokens[known]
    rows = scipy.sparse.csr_array(
        (weights[columns], columns, before[offsets - offsets[0]]),
        shape=(len(offsets) - 1, len(weights)),
    )
    rows.sum_duplicates()
    return rows
