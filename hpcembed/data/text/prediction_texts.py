"""Documents that a trained network is to judge, with labels where they have some.

In a CSV file the label is the column of the training data's name. In folders and archives it is the
folder, where that is the name of a class. A line of a text file begins with a label where every
line's first word is the name of a class; otherwise the whole line is text.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from mpi4py import MPI

from hpcembed.data.dataset import RawTable
from hpcembed.data.labels import LocalLabels, labels_from_text
from hpcembed.data.prediction_rows import NewRows
from hpcembed.data.settings import DataSettings
from hpcembed.data.tables.csv_header import read_header
from hpcembed.data.text.documents import TEXT_FORMATS, open_text
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.memory import available_per_rank, check_fits
from hpcembed.runtime.ranks import agreement

__all__ = ["read_new_texts"]


def read_new_texts(
    config: DataSettings, path: Path, class_names: Collection[str], comm: MPI.Comm
) -> NewRows:
    """Read the documents of a folder, an archive or a file; each rank takes a consecutive share.

    Collective.

    Parameters
    ----------
    config : DataSettings
        Format, names of columns, and what is removed from texts.
    class_names : collection of str
        What tells a label from a text.

    Returns
    -------
    NewRows
        The rows of its table are texts.

    Raises
    ------
    InputError, ConfigError, MemoryLimitError
        One line, on all ranks.
    """
    with agreement(comm):
        kind = _kind(config, path)
        has_labels = False
        if kind == "text_csv":
            has_labels = config.label_column in read_header(path, None, config.delimiter).names
        of_folder = None if kind in ("text_folder", "text_tar") else False
        source = open_text(kind, (path,), config, labelled=has_labels or of_folder)
    needed = source.measure(comm)
    check_fits(needed, available_per_rank(comm), f"reading {path}", "use more ranks")
    table = source.read(comm)
    if kind == "text_lines":
        has_labels = _begin_with_classes(table, class_names, comm)
        if has_labels:
            with agreement(comm):
                table = _parted(table)
    elif kind in ("text_folder", "text_tar"):
        known = any(value in class_names for value in table.labels.values)
        has_labels = bool(comm.allreduce(known, op=MPI.LOR))
    return NewRows(table, has_labels)


def _kind(config: DataSettings, path: Path) -> str:
    if config.format in TEXT_FORMATS:
        return config.format
    if config.format != "auto":
        raise ConfigError(
            f"data.format = {config.format}: the model takes texts: use one of "
            f"{', '.join(TEXT_FORMATS)}"
        )
    name = path.name.lower().removesuffix(".gz")
    if path.is_dir():
        return "text_folder"
    if name.endswith((".tar", ".tgz")):
        return "text_tar"
    return "text_csv" if name.endswith((".csv", ".tsv")) and config.text_column else "text_lines"


def _begin_with_classes(table: RawTable, class_names: Collection[str], comm: MPI.Comm) -> bool:
    """Whether every line with a word begins with a class, and there is such a line. Collective."""
    first_words = [text.split(maxsplit=1)[0] for text in table.rows if text.split()]
    known = all(word in class_names for word in first_words)
    found = bool(comm.allreduce(bool(first_words), op=MPI.LOR))
    return bool(comm.allreduce(known, op=MPI.LAND)) and found


def _parted(table: RawTable) -> RawTable:
    parts = [[*text.split(maxsplit=1), "", ""] for text in table.rows]
    rows = np.empty(len(parts), dtype=object)
    rows[:] = [part[1] for part in parts]
    labels: LocalLabels = labels_from_text([part[0] for part in parts], table.source, table.start)
    return replace(table, rows=rows, labels=labels)
