"""Plan of vectors from co-occurrence: memory of the counts and of the vectors."""

from __future__ import annotations

from dataclasses import dataclass

from hpcembed.operators.cooccurrence.distributed_sum import BUFFER_BYTES
from hpcembed.operators.cost import Machine, Shape
from hpcembed.runtime.machine.memory import check_fits, format_bytes

__all__ = ["InformationPlan", "plan_shared_rows", "plan_word_vectors"]

#: Memory for each entry of the co-occurrence while it is made (measured), and for an entry of the
#: vectors: gathered, and as much on the way.
_ENTRY_BYTES = 80
_VECTOR_BYTES = 16

#: Mean square of the lengths of documents over the square of their mean.
_DISPERSION = 4.0


@dataclass(frozen=True, slots=True)
class InformationPlan:
    """Predicted memory of vectors from co-occurrence, on one rank.

    Attributes
    ----------
    items : str
        The items that co-occur: "features that share rows", "words".
    bytes : int
        Memory beyond the data.
    n_entries : int or None
        Estimated entries of the co-occurrence on all ranks; None where only counting gives them.
    """

    items: str
    bytes: int
    n_entries: int | None

    def describe(self) -> str:
        """Return the plan as one line of text."""
        entries = "" if self.n_entries is None else f"up to {self.n_entries:,} entries, "
        return f"information of {self.items}: {entries}{format_bytes(self.bytes)} per rank"


def plan_shared_rows(shape: Shape, k: int, machine: Machine) -> InformationPlan:
    """Return the memory of k vectors of features that share rows.

    Raises
    ------
    MemoryLimitError
        If they do not fit.
    """
    d, ranks, items = shape.n_features, machine.ranks, "features that share rows"
    pairs = float(d) ** 2
    if shape.n_nonzeros is not None:
        shared = float(shape.n_nonzeros) ** 2 / max(shape.n_train, 1)
        pairs = min(pairs, _DISPERSION * shared)
    own, columns = int(pairs) // ranks + d, 3 * k + 40
    needed = BUFFER_BYTES + _ENTRY_BYTES * own + _VECTOR_BYTES * d * k + 8 * columns * (d // ranks)
    remedy = "lower data.max_features, or use more ranks"
    check_fits(needed, machine.available_bytes, f"information of {items}", remedy)
    return InformationPlan(items, needed, int(pairs))


def plan_word_vectors(n_words: int, k: int, machine: Machine) -> InformationPlan:
    """Return the memory of k-dimensional vectors of words.

    Raises
    ------
    MemoryLimitError
        If they do not fit.
    """
    needed = _VECTOR_BYTES * n_words * k
    check_fits(needed, machine.available_bytes, "word vectors", "ask for fewer components")
    return InformationPlan("words", needed, None)
