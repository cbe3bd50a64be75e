"""Labels of graph nodes in a text file: a node id and a label in each line, in any order.

Comments, header and separators are the same as in :mod:`hpcembed.data.graphs.edge_list`. The label
is the second column; further columns are ignored. Each rank reads the lines of its own byte range.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.edge_list import node_id, word_problem
from hpcembed.data.graphs.node_words import word_array
from hpcembed.data.graphs.pair_columns import Ids, is_utf8, numbered_lines, pair_columns
from hpcembed.data.labels import LocalLabels, as_classes, labels_from_text, unusable
from hpcembed.data.line_ranges import share_lines
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError

__all__ = ["read_label_lines"]

_log = logging.getLogger(__name__)


def read_label_lines(
    path: Path, comm: MPI.Comm, *, has_words: bool = False
) -> tuple[NDArray[Any], LocalLabels]:
    """Read the ids and labels of this rank's lines.

    Collective. A header line and ignored columns are logged once.

    Parameters
    ----------
    has_words : bool
        Whether node ids are words.

    Returns
    -------
    ids : ndarray of int64, or of bytes
    labels : LocalLabels

    Raises
    ------
    InputError
        On all ranks, with file and line.
    """
    with agreement(comm):
        kind: Ids = "words" if has_words else "numbers"
        columns = pair_columns(path, "a node id and a label", ids=kind, n_ids=1)
    ranges, _ = share_lines([columns.file], comm, skipped="comment")
    ids: list[int] = []
    words: list[str] = []
    texts: list[str] = []
    further = ""
    with agreement(comm):
        for part in ranges:
            for line, block in part.blocks():
                for number, fields in numbered_lines(block, line, columns.delimiter):
                    if len(fields) < 2:
                        raise InputError(f"{path}: line {number}: no label after the node id")
                    if not has_words:
                        ids.append(node_id(fields[0], path, number))
                    elif problem := word_problem(fields[0]):
                        name = ascii(fields[0][:40])
                        raise InputError(f"{path}: line {number}: node id {name} {problem}")
                    else:
                        words.append(fields[0])
                    if not is_utf8(fields[1]):
                        raise InputError(f"{path}: line {number}: the label is not UTF-8 text")
                    if reason := unusable(fields[1]):
                        raise InputError(
                            f"{path}: line {number}: the label is {reason}: remove such lines"
                        )
                    texts.append(fields[1])
                    if len(fields) > 2 and not further:
                        further = (
                            f"line {number}: {fields[1][:40]!r} is the label, further columns are "
                            "ignored: separate names of several words by a comma"
                        )
        begin = ranges[0].first_row if ranges else 0
        labels = as_classes(labels_from_text(texts, str(path), begin))
    first = next(filter(None, comm.allgather(further)), "")
    if first and comm.rank == 0:
        _log.info("%s: %s", path, first)
    if columns.header and comm.rank == 0:
        _log.info("%s: the first line, %r, is read as a header", path, columns.header)
    return word_array(words) if has_words else np.array(ids, dtype=np.int64), labels
