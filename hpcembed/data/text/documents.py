"""Documents: the texts of this rank, in an order that does not depend on the number of ranks.

A folder or an archive holds one document a file, a text or CSV file one a line or record
(:mod:`hpcembed.data.text.document_files`, :mod:`hpcembed.data.text.document_records`). Every rank
holds a consecutive share with about the same number of bytes. A document without any text stays, as
an empty one: row numbers are those of the files. How many there are, and how many bytes could not
be decoded, is said in one line each.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI

from hpcembed.data.dataset import RawTable, Summary, place_rows
from hpcembed.data.labels import LocalLabels
from hpcembed.data.settings import DataSettings
from hpcembed.data.text.cleaning import Cleaner, TextRules
from hpcembed.data.text.document_files import TextFiles, open_folders, open_tars
from hpcembed.data.text.document_records import CsvDocuments, LineDocuments, RecordSource
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.memory import available_per_rank, check_fits
from hpcembed.runtime.ranks import agreement
from hpcembed.runtime.settings import build

__all__ = ["TEXT_FORMATS", "Documents", "TextSource", "open_text", "read_text", "rules_of"]

TEXT_FORMATS = ("text_folder", "text_tar", "text_lines", "text_csv")

#: Bytes that a document takes per byte on disk: its text, copies on the way, its tokens.
_BYTES_PER_BYTE = 6

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Documents:
    """This rank's consecutive share of some documents.

    Attributes
    ----------
    texts : sequence of str, n_local of them
    labels : LocalLabels
        As the files name them; the empty text for documents without labels.
    start : int
        Global index of the first local document.
    n_documents : int
        Documents on all ranks.
    source : str
        Name of the files, for messages.
    comm : MPI.Comm
    """

    texts: Sequence[str]
    labels: LocalLabels
    start: int
    n_documents: int
    source: str
    comm: MPI.Comm


def read_text(
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    comm: MPI.Comm,
    *,
    format: str = "auto",
    labelled: bool = True,
    text_column: str = "",
    label_column: str = "",
    delimiter: str = "auto",
    headers: str = "keep",
    quoting: str = "keep",
    encoding: str = "utf-8",
    encoding_errors: str = "replace",
) -> Documents:
    """Read documents; each rank keeps a consecutive share.

    Collective.

    Parameters
    ----------
    paths : path-like, or a sequence of them
        Folders, tar archives, or files, all of one kind; they count as one.
    comm : MPI.Comm
    format : {"auto", "text_folder", "text_tar", "text_lines", "text_csv"}
        auto: by what the first path is: a folder, a ``.tar`` or ``.tgz``, a CSV file where
        `text_column` is given, else a document on every line.
    labelled : bool
        Whether documents have labels: the folder they are in, the first word of the line, the
        column `label_column`.
    text_column, label_column, delimiter, headers, quoting, encoding, encoding_errors : str
        As the keys of the same name in the ``[data]`` section of a job.

    Returns
    -------
    Documents

    Raises
    ------
    InputError, ConfigError, MemoryLimitError
        One line, on all ranks.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files = tuple(Path(path) for path in given)
    with agreement(comm):
        config = build(
            DataSettings,
            {
                "text_column": text_column, "label_column": label_column, "delimiter": delimiter,
                "headers": headers, "quoting": quoting,
                "encoding": encoding, "encoding_errors": encoding_errors,
            },
            "read_text",
        )  # fmt: skip
        if not files:
            raise ConfigError("no paths: name a folder, an archive or a file")
        kind = _kind_of(files[0], text_column) if format == "auto" else format
        source = open_text(kind, files, config, labelled=labelled)
    needed = source.measure(comm)
    check_fits(needed, available_per_rank(comm), f"reading {source.name}", "use more ranks")
    return source.documents(comm)


def _kind_of(path: Path, text_column: str) -> str:
    name = path.name.lower().removesuffix(".gz")
    if path.is_dir():
        return "text_folder"
    if name.endswith((".tar", ".tgz")):
        return "text_tar"
    return "text_csv" if text_column else "text_lines"


def rules_of(config: DataSettings) -> TextRules:
    """How bytes become text. Not collective."""
    return TextRules(config.headers, config.quoting, config.encoding, config.encoding_errors)


def open_text(
    kind: str, paths: Sequence[Path], config: DataSettings, *, labelled: bool | None = True
) -> TextSource:
    """Open documents: what headers say is read and checked. Not collective.

    Parameters
    ----------
    labelled : bool or None
        None: files without a folder have the empty label; lines have none.

    Raises
    ------
    InputError, ConfigError
        A path that is not there or not what it should be, an encoding that is not known.
    """
    rules = rules_of(config)
    reader: RecordSource | TextFiles
    if kind == "text_folder":
        reader = open_folders(paths, labelled=labelled)
    elif kind == "text_tar":
        reader = open_tars(paths, labelled=labelled)
    elif kind == "text_lines":
        rules.check_lines()
        reader = LineDocuments(paths, labelled=bool(labelled))
    elif kind == "text_csv":
        rules.check_lines()
        label = config.label_column if labelled else None
        reader = CsvDocuments(paths, config.text_column, label, config.delimiter)
    else:
        raise ConfigError(f"format {kind!r}: documents are one of {', '.join(TEXT_FORMATS)}")
    return TextSource(reader, rules, ", ".join(map(str, paths)))


class TextSource:
    """Opened documents as a table whose rows are texts: :attr:`RawTable.rows` is an object array.

    Parameters
    ----------
    reader : TextFiles or RecordSource
    rules : TextRules
    name : str
        Name of the files, for messages.
    """

    def __init__(self, reader: TextFiles | RecordSource, rules: TextRules, name: str) -> None:
        self.reader, self.rules, self.name = reader, rules, name

    @property
    def summary(self) -> Summary:
        """Sparse rows of a width that the vocabulary decides. Not collective."""
        n_rows, is_estimate = self.reader.n_rows_expected()
        return Summary(n_rows, None, np.dtype(np.float64), is_sparse=True, is_estimate=is_estimate)

    def measure(self, comm: MPI.Comm) -> int:
        """Bytes that reading will need on the rank that needs most. Collective."""
        local = self.reader.share(comm)
        return int(comm.allreduce(_BYTES_PER_BYTE * local, op=MPI.MAX))

    def documents(self, comm: MPI.Comm) -> Documents:
        """This rank's documents; call :meth:`measure` first. Collective."""
        cleaner = Cleaner(self.rules)
        texts: list[str] = []
        labels = LocalLabels(np.empty(0, dtype=np.int64), (), self.name)
        with agreement(comm):
            texts, labels = self.reader.read(cleaner)
        start, n_documents = place_rows(len(texts), comm)
        self._report(texts, cleaner, n_documents, comm)
        return Documents(texts, labels, start, n_documents, self.name, comm)

    def read(self, comm: MPI.Comm) -> RawTable:
        """This rank's documents as rows of one text each. Collective."""
        found = self.documents(comm)
        rows = np.empty(len(found.texts), dtype=object)
        rows[:] = found.texts
        return RawTable(rows, found.labels, found.start, found.n_documents, (), self.name)

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
                "%s: %d of %d documents are empty: they stay, as rows of zeros",
                self.name, empty, n_documents,
            )  # fmt: skip
        if replaced:
            _log.warning(
                "%s: %d places in %d documents are not %s and became U+FFFD: see data.encoding",
                self.name, replaced, damaged, self.rules.encoding,
            )  # fmt: skip
