"""Documents distributed over ranks, in an order that does not depend on the number of ranks.

Each rank holds a consecutive share with about the same number of bytes. An empty document is kept
as an empty text, so that row numbers agree with the files. The numbers of empty documents and of
bytes that could not be decoded are logged, one line each.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from mpi4py import MPI

from hpcembed.data.labels import RowLabels
from hpcembed.data.table import Summary, Table
from hpcembed.data.text.cleaning import Cleaner, TextRules
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import place_rows

__all__ = ["DocumentReader", "DocumentSource", "Documents"]

#: Memory of a document per byte on disk: its text, copies during reading, its tokens.
_BYTES_PER_BYTE = 6

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Documents:
    """This rank's consecutive share of documents.

    Attributes
    ----------
    texts : sequence of str, n_local of them
    labels : RowLabels
        As written in the files; the empty text for documents without labels.
    start : int
        Global index of the first local document.
    n_documents : int
        Number of documents on all ranks.
    source : str
        Names of the files, for messages.
    comm : MPI.Comm

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from hpcembed.data.labels import no_labels
    >>> documents = Documents(["a ship", "a road"], no_labels(2), 0, 2, "two texts", MPI.COMM_SELF)
    >>> documents.n_documents, documents.labels.values
    (2, ('',))
    """

    texts: Sequence[str]
    labels: RowLabels
    start: int
    n_documents: int
    source: str
    comm: MPI.Comm


class DocumentReader(Protocol):
    """Opened files of one format."""

    def n_rows_expected(self) -> tuple[int | None, bool]:
        """Return the number of documents (None if unknown), and whether it is an estimate."""

    def share(self, comm: MPI.Comm) -> int:
        """Assign documents to ranks; return the bytes of this rank's. Collective."""

    def read(self, cleaner: Cleaner) -> tuple[list[str], RowLabels]:
        """Read this rank's texts and labels, after :meth:`share`. Not collective."""


class DocumentSource:
    """Opened documents as a table with one text per row (``rows`` is an array of objects).

    Parameters
    ----------
    reader : DocumentReader
    rules : TextRules
    name : str
        Names of the files, for messages.
    """

    def __init__(self, reader: DocumentReader, rules: TextRules, name: str) -> None:
        self.reader, self.rules, self.name = reader, rules, name

    @property
    def summary(self) -> Summary:
        """Number of documents if known; the vocabulary decides the number of columns later."""
        n_rows, is_estimate = self.reader.n_rows_expected()
        return Summary(n_rows, None, np.dtype(np.float64), is_sparse=True, is_estimate=is_estimate)

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes that reading needs on the rank that needs most. Collective."""
        local = self.reader.share(comm)
        return int(comm.allreduce(_BYTES_PER_BYTE * local, op=MPI.MAX))

    def documents(self, comm: MPI.Comm) -> Documents:
        """Read this rank's documents, after :meth:`measure`. Collective."""
        cleaner = Cleaner(self.rules)
        with agreement(comm):
            texts, labels = self.reader.read(cleaner)
        start, n_documents = place_rows(len(texts), comm)
        self._report(texts, cleaner, n_documents, comm)
        return Documents(texts, labels, start, n_documents, self.name, comm)

    def read(self, comm: MPI.Comm) -> Table:
        """Read this rank's documents as rows of one text each. Collective."""
        found = self.documents(comm)
        rows = np.array(found.texts, dtype=object)
        return Table(rows, found.labels, found.start, found.n_documents, (), self.name)

    def _report(
        self, texts: Sequence[str], cleaner: Cleaner, n_documents: int, comm: MPI.Comm
    ) -> None:
        n_empty = sum(1 for text in texts if not text or text.isspace())
        counts = np.array([n_empty, cleaner.n_replaced, cleaner.n_documents], dtype=np.int64)
        comm.Allreduce(MPI.IN_PLACE, counts)
        if comm.rank:
            return
        empty, replaced, damaged = counts.tolist()
        if empty:
            _log.warning(
                "%s: %d of %d documents are empty: they are kept as rows of zeros",
                self.name, empty, n_documents,
            )  # fmt: skip
        if replaced:
            _log.warning(
                "%s: %d byte sequences in %d documents are not valid %s and were replaced by "
                "U+FFFD: see data.encoding",
                self.name, replaced, damaged, self.rules.encoding,
            )  # fmt: skip
