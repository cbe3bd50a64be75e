r"""Words of a text: lower case, then every match of ``(?u)\b\w\w+\b``.

That is two or more letters, digits or underscores of any script, as scikit-learn's vectorisers take
them by default: "don't" gives "don", a single letter gives nothing.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PATTERN", "TokenIds", "index_tokens", "tokenise"]

#: What a token is, after the text was put in lower case.
PATTERN = r"(?u)\b\w\w+\b"

_TOKEN = re.compile(PATTERN)


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Documents as numbers of tokens, in the order of the text.

    Attributes
    ----------
    tokens : tuple of str
        The distinct tokens of these documents, in the order in which they first occur.
    ids : ndarray of int32, shape (n_tokens,)
        Index into `tokens` of every token of all documents.
    starts : ndarray of int64, shape (n_documents + 1,)
        Document i has ``ids[starts[i]:starts[i + 1]]``.
    """

    tokens: tuple[str, ...]
    ids: NDArray[np.int32]
    starts: NDArray[np.int64]

    @property
    def n_documents(self) -> int:
        """Documents, empty ones among them."""
        return self.starts.size - 1


def tokenise(text: str) -> list[str]:
    """The tokens of one text, in order. Not collective."""
    return _TOKEN.findall(text.lower())


def index_tokens(texts: Iterable[str]) -> TokenIds:
    """The tokens of documents as numbers: each text is looked at once. Not collective."""
    index: defaultdict[str, int] = defaultdict()
    index.default_factory = index.__len__
    ids = array("i")
    starts = array("q", [0])
    for text in texts:
        ids.extend(map(index.__getitem__, _TOKEN.findall(text.lower())))
        starts.append(len(ids))
    return TokenIds(tuple(index), np.array(ids, dtype=np.int32), np.array(starts, dtype=np.int64))
