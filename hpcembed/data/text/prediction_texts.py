"""Input texts for prediction by a trained network, with labels if the files contain them.

In a CSV file the labels are in the column that had them in the training data. In folders and
archives the label is the folder, if that is the name of a class. A line of a text file starts with
a label if the first word of every line is the name of a class; otherwise the whole line is text.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from mpi4py import MPI

from hpcembed.data.labels import is_number, labels_from_text
from hpcembed.data.settings import DataSettings
from hpcembed.data.table import Table
from hpcembed.data.tables.csv_header import read_header
from hpcembed.data.text.formats import TEXT_FORMATS, open_text, text_format
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.machine.memory import available_per_rank, check_fits

__all__ = ["read_prediction_texts"]


def read_prediction_texts(
    config: DataSettings, path: Path, class_names: Collection[str], comm: MPI.Comm
) -> tuple[Table, bool]:
    """Read the documents of a folder, an archive or a file; each rank takes a consecutive share.

    Collective.

    Parameters
    ----------
    config : DataSettings
        Format, names of columns, and rules for cleaning.
    class_names : collection of str
        Names by which labels are recognised; empty for targets, which are numbers.

    Returns
    -------
    table : Table
        Its rows are texts.
    has_labels : bool

    Raises
    ------
    InputError, ConfigError, MemoryLimitError
        On all ranks.
    """
    with agreement(comm):
        format = _format(config, path)
        has_labels = False
        if format == "text_csv":
            has_labels = config.label_column in read_header(path, None, config.delimiter).names
        is_in_folders = format in ("text_folder", "text_tar")
        labelled = has_labels or (None if is_in_folders else False)
        source = open_text(format, (path,), config, labelled=labelled)
    needed = source.measure(comm)
    check_fits(needed, available_per_rank(comm), f"reading {path}", "use more ranks")
    table = source.read(comm)
    if format == "text_lines":
        has_labels = _start_with_classes(table, class_names, comm)
        if has_labels:
            with agreement(comm):
                table = _with_labels_split_off(table)
    elif is_in_folders:
        known = any(value in class_names for value in table.class_names)
        has_labels = bool(comm.allreduce(known, op=MPI.LOR))
    return table, has_labels


def _format(config: DataSettings, path: Path) -> str:
    if config.format in TEXT_FORMATS:
        return config.format
    if config.format != "auto":
        raise ConfigError(
            f"data.format = {config.format}: the model takes texts: use one of "
            f"{', '.join(TEXT_FORMATS)}"
        )
    is_csv = path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))
    return text_format(path, has_columns=is_csv and bool(config.text_column))


def _start_with_classes(table: Table, class_names: Collection[str], comm: MPI.Comm) -> bool:
    """Whether all lines with a word, at least one, start with a label. Collective."""
    first_words = [text.split(maxsplit=1)[0] for text in table.rows if text.split()]
    known = all(word in class_names if class_names else is_number(word) for word in first_words)
    found = bool(comm.allreduce(bool(first_words), op=MPI.LOR))
    return bool(comm.allreduce(known, op=MPI.LAND)) and found


def _with_labels_split_off(table: Table) -> Table:
    parts = [[*text.split(maxsplit=1), "", ""] for text in table.rows]
    rows = np.array([part[1] for part in parts], dtype=object)
    labels = labels_from_text([part[0] for part in parts], table.source, table.start)
    return replace(table, rows=rows, labels=labels)
