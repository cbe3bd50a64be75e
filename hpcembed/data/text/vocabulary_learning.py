"""Learn a vocabulary from documents that are distributed over ranks.

Each rank counts the tokens of its own documents. A hash of the token selects the rank that sums its
counts, so that no rank holds all tokens: natural language has many more distinct tokens, most of
them seen once or twice, than terms worth keeping. The terms within the limits are sorted and sent
to all ranks.

Terms, ids and counts do not depend on the number of ranks. The hash is CRC-32, because Python's own
differs between processes.
"""

from __future__ import annotations

import heapq
import zlib
from itertools import islice

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.text.tokens import TokenIds
from hpcembed.data.text.vocabulary import Vocabulary
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import allgather_rows

__all__ = ["learn_vocabulary", "unusable_word"]

#: Distinct tokens that a rank sends at a time; bounds the size of messages.
_TOKENS_AT_A_TIME = 2**20

_Counts = dict[str, tuple[int, int]]


def learn_vocabulary(
    indexed: TokenIds,
    comm: MPI.Comm,
    *,
    min_df: float = 1,
    max_df: float = 1.0,
    max_features: int = 0,
    source: str = "the training documents",
) -> Vocabulary:
    """Return the terms of all ranks' documents within the limits, with their counts.

    Collective. A rank needs memory for its own tokens, its share of all tokens, and the vocabulary.

    Parameters
    ----------
    indexed : TokenIds
        This rank's training documents, possibly none.
    comm : MPI.Comm
    min_df : float
        Least number of documents that contain a term; a fraction of all documents if below 1.
    max_df : float
        Largest number of documents that contain a term; a fraction of all documents up to 1.
    max_features : int
        Keep this many terms with the most occurrences, ties in the order of the terms; 0 keeps all.
    source : str
        Name of the documents, for messages.

    Returns
    -------
    Vocabulary
        The same on all ranks.

    Raises
    ------
    InputError
        No token, or none within the limits; a token that contains a line break or is not UTF-8
        text, with its document on this rank.

    Examples
    --------
    >>> from hpcembed.data.text.tokens import index_tokens
    >>> indexed = index_tokens(["sea ship sea", "a ship on a road"])
    >>> vocabulary = learn_vocabulary(indexed, MPI.COMM_SELF, max_features=2)
    >>> vocabulary.terms, vocabulary.term_frequencies.tolist()
    (('sea', 'ship'), [2, 2])
    """
    with agreement(comm):
        _check_tokens(indexed, source)
    n_documents = int(comm.allreduce(indexed.n_documents))
    counts = _owned_counts(indexed, comm)
    n_tokens = int(comm.allreduce(len(counts)))
    if n_tokens == 0:
        raise InputError(f"{source}: not one word of two letters or more: check data.format")
    least = min_df if min_df >= 1 else min_df * n_documents
    most = max_df if max_df > 1 else max_df * n_documents
    kept = {token: pair for token, pair in counts.items() if least <= pair[0] <= most}
    if max_features:
        kept = _most_frequent(kept, max_features, comm)
    if comm.allreduce(len(kept)) == 0:
        raise InputError(
            f"{source}: none of {n_tokens} words is in at least {least:g} and at most {most:g} of "
            f"{n_documents} documents: change data.min_df or data.max_df"
        )
    return _shared(kept, n_documents, comm)


def _check_tokens(indexed: TokenIds, source: str) -> None:
    """Refuse tokens that cannot be sent as lines of text. Not collective."""
    for token, word in enumerate(indexed.tokens):
        reason = unusable_word(word)
        if reason:
            first = int(np.flatnonzero(indexed.ids == token)[0])
            document = int(np.searchsorted(indexed.starts, first, side="right")) - 1
            raise InputError(f"{source}: document {document}: the word {word!a} {reason}")


def unusable_word(word: str) -> str:
    """Return why a word cannot be a term, with the remedy; "" if it can. Not collective."""
    if "\n" in word:
        return "contains a line break: split it or leave it out"
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        return "cannot be written as UTF-8: decode its bytes in another way or leave it out"
    return ""


def _owned_counts(indexed: TokenIds, comm: MPI.Comm) -> _Counts:
    """Sum document and term frequencies of the tokens whose hash selects this rank. Collective."""
    documents, occurrences = _local_counts(indexed)
    encoded = [token.encode("utf-8") for token in indexed.tokens]
    owner = np.array([zlib.crc32(token) % comm.size for token in encoded], dtype=np.int64)
    n_rounds = comm.allreduce(-(-len(encoded) // _TOKENS_AT_A_TIME), op=MPI.MAX)
    owned: _Counts = {}
    for turn in range(n_rounds):
        first = turn * _TOKENS_AT_A_TIME
        order = first + np.argsort(owner[first : first + _TOKENS_AT_A_TIME], kind="stable")
        counts = np.stack([documents[order], occurrences[order]], axis=1)
        lines = [encoded[i] + b"\n" for i in order]
        received, pairs = _exchange(lines, counts, owner[order], comm)
        for token, (n_documents, n_occurrences) in zip(received, pairs.tolist(), strict=True):
            before = owned.get(token, (0, 0))
            owned[token] = before[0] + n_documents, before[1] + n_occurrences
    return owned


def _local_counts(indexed: TokenIds) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count this rank's documents that contain each token, and its occurrences in them."""
    n_tokens = len(indexed.tokens)
    occurrences = np.bincount(indexed.ids, minlength=n_tokens).astype(np.int64)
    documents = np.zeros(n_tokens, dtype=np.int64)
    for first, last in zip(indexed.starts[:-1], indexed.starts[1:], strict=True):
        documents[np.unique(indexed.ids[first:last])] += 1
    return documents, occurrences


def _exchange(
    lines: list[bytes], counts: NDArray[np.int64], owner: NDArray[np.int64], comm: MPI.Comm
) -> tuple[list[str], NDArray[np.int64]]:
    """Send tokens, in the order of their owners, with two counts each. Collective."""
    n_lines = np.bincount(owner, minlength=comm.size)
    lengths = np.array([len(line) for line in lines], dtype=np.int64)
    n_bytes = np.bincount(owner, weights=lengths, minlength=comm.size).astype(np.int64)
    sizes = np.stack([n_lines, n_bytes], axis=1)
    incoming = np.empty_like(sizes)
    comm.Alltoall(sizes, incoming)
    text = np.empty(int(incoming[:, 1].sum()), dtype=np.uint8)
    mine = np.frombuffer(b"".join(lines), dtype=np.uint8)
    comm.Alltoallv((mine, n_bytes), (text, incoming[:, 1]))
    pairs = np.empty((int(incoming[:, 0].sum()), 2), dtype=np.int64)
    comm.Alltoallv((np.ascontiguousarray(counts), 2 * n_lines), (pairs, 2 * incoming[:, 0]))
    return text.tobytes().decode("utf-8").split("\n")[:-1], pairs


def _most_frequent(counts: _Counts, n: int, comm: MPI.Comm) -> _Counts:
    """Keep this rank's part of the `n` tokens with the most occurrences. Collective."""

    def merge(left: list[tuple[int, str]], right: list[tuple[int, str]]) -> list[tuple[int, str]]:
        return list(islice(heapq.merge(left, right), n))

    ranked = heapq.nsmallest(n, ((-pair[1], token) for token, pair in counts.items()))
    # Reduced in a tree and cut after n: no rank holds more than two such lists.
    last = comm.allreduce(ranked, op=merge)[-1:]
    return {token: counts[token] for rank, token in ranked if (rank, token) <= last[0]}


def _shared(kept: _Counts, n_documents: int, comm: MPI.Comm) -> Vocabulary:
    """Gather the terms of all ranks on every rank. Collective."""
    terms = list(kept)
    text = np.frombuffer("".join(f"{term}\n" for term in terms).encode("utf-8"), dtype=np.uint8)
    counts = np.array([kept[term] for term in terms], dtype=np.int64).reshape(-1, 2)
    all_terms = allgather_rows(comm, text).tobytes().decode("utf-8").split("\n")[:-1]
    all_counts = allgather_rows(comm, counts)
    order = sorted(range(len(all_terms)), key=all_terms.__getitem__)
    return Vocabulary(
        [all_terms[i] for i in order],
        all_counts[order, 0],
        all_counts[order, 1],
        n_documents,
    )
