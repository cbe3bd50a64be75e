"""Node ids that are words: numbered in their order, the same on any number of ranks.

Each rank keeps its distinct words once and refers to them by their index. The words of all ranks
are numbered as other ids are (:mod:`hpcembed.data.graphs.numbering`): in the order of their UTF-8
bytes, divided among the ranks, so that no rank holds all words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.graph import Graph, LocalEdges
from hpcembed.data.graphs.numbering import Numbering
from hpcembed.data.graphs.owner_exchange import Lookup

__all__ = ["LONGEST_WORD", "NodeWords", "WordIndex", "number_words", "word_array"]

#: Bytes of the longest node id.
LONGEST_WORD = 255


class WordIndex:
    """The distinct words of one rank, in the order in which they occur.

    Examples
    --------
    >>> index = WordIndex()
    >>> index.codes(["ann", "bob", "ann"]).tolist(), index.words().tolist()
    ([0, 1, 0], [b'ann', b'bob'])
    """

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def codes(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Return the index of each word; new words are added."""
        places = self._places
        return np.array([places.setdefault(word, len(places)) for word in words], dtype=np.int64)

    def words(self) -> NDArray[np.bytes_]:
        """Return the words as UTF-8."""
        return word_array(list(self._places))


def word_array(words: Sequence[str]) -> NDArray[np.bytes_]:
    """Return words as an array of UTF-8 bytes."""
    return np.array([word.encode("utf-8") for word in words] or [b""])[: len(words)]


@dataclass(frozen=True, slots=True)
class NodeWords:
    """The words of all ranks in ascending order, divided as PETSc divides rows.

    Attributes
    ----------
    comm : MPI.Intracomm
    n_words : int
    local : ndarray of bytes
        Words of this rank.
    """

    comm: MPI.Intracomm
    n_words: int
    local: NDArray[Any]

    def name_nodes(self, graph: Graph) -> Graph:
        """Return a graph with the names of its nodes, whose ids are numbers of words.

        Collective.
        """
        words = Lookup(self.comm, self.n_words, graph.node_ids).values(self.local)
        return replace(graph, node_names=tuple(word.decode("utf-8") for word in words.tolist()))


def number_words(
    edges: LocalEdges, further: NDArray[Any], comm: MPI.Intracomm
) -> tuple[LocalEdges, NDArray[np.int64], NodeWords]:
    """Replace words by their numbers in the order of all words.

    Collective.

    Parameters
    ----------
    edges : LocalEdges
        With words.
    further : ndarray of bytes
        Further node ids, of a file of labels.

    Returns
    -------
    edges : LocalEdges
        Source and target are numbers of words.
    further : ndarray of int64
    words : NodeWords
    """
    assert edges.words is not None
    width = max(edges.words.dtype.itemsize, further.dtype.itemsize, 1)
    width = comm.allreduce(width, op=MPI.MAX)
    words, others = (array.astype(f"S{width}") for array in (edges.words, further))
    numbering = Numbering(comm, [words, others])
    numbers = numbering.numbers(words)
    numbered = replace(
        edges, source=numbers[edges.source], target=numbers[edges.target], words=None
    )
    found = NodeWords(comm, numbering.n_nodes, numbering.local_ids())
    return numbered, numbering.numbers(others), found
