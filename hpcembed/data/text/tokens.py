r"""Tokens of a text: the matches of ``(?u)\b\w\w+\b`` in its lower-case form.

A token has two or more letters, digits or underscores of any script, the default of scikit-learn's
vectorisers: "don't" gives "don", a single letter gives no token.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PATTERN", "TokenIds", "index_tokens", "index_words", "tokenise"]

#: Pattern of a token, applied to lower-case text.
PATTERN = r"(?u)\b\w\w+\b"

_TOKEN = re.compile(PATTERN)


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Tokenised documents, each distinct token stored once.

    Attributes
    ----------
    tokens : tuple of str
        Distinct tokens of these documents, in the order of their first occurrence.
    ids : ndarray of int32, shape (n_tokens,)
        Index into `tokens` of every token of all documents, in the order of the text.
    starts : ndarray of int64, shape (n_documents + 1,)
        Document i has the tokens ``ids[starts[i]:starts[i + 1]]``.
    """

    tokens: tuple[str, ...]
    ids: NDArray[np.int32]
    starts: NDArray[np.int64]

    @property
    def n_documents(self) -> int:
        """Number of documents, including empty ones."""
        return self.starts.size - 1


def tokenise(text: str) -> list[str]:
    """Return the tokens of one text, in order.

    Examples
    --------
    >>> tokenise("Don't sail to a North Sea port")
    ['don', 'sail', 'to', 'north', 'sea', 'port']
    """
    return _TOKEN.findall(text.lower())


def index_tokens(texts: Iterable[str]) -> TokenIds:
    """Tokenise documents; `texts` is iterated over once.

    Examples
    --------
    >>> indexed = index_tokens(["sea ship sea", "", "ship road"])
    >>> indexed.tokens, indexed.ids.tolist(), indexed.starts.tolist()
    (('sea', 'ship', 'road'), [0, 1, 0, 1, 2], [0, 3, 3, 5])
    """
    return index_words(map(tokenise, texts))


def index_words(documents: Iterable[Iterable[str]]) -> TokenIds:
    """Return documents that are words as tokens; `documents` is iterated over once."""
    index: defaultdict[str, int] = defaultdict()
    index.default_factory = index.__len__
    ids = array("i")
    starts = array("q", [0])
    for words in documents:
        ids.extend(map(index.__getitem__, words))
        starts.append(len(ids))
    return TokenIds(tuple(index), np.array(ids, dtype=np.int32), np.array(starts, dtype=np.int64))
