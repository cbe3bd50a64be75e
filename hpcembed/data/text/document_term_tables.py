"""Training and test documents to document-term matrices.

The split comes first. Vocabulary and idf are then learned from the training documents of all ranks
(:mod:`hpcembed.data.text.vocabulary_learning`), and each rank vectorises its own documents.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from mpi4py import MPI

from hpcembed.data.labels import as_classes
from hpcembed.data.settings import DataSettings
from hpcembed.data.table import Table
from hpcembed.data.text.formats import rules_of
from hpcembed.data.text.term_relevance import term_relevance
from hpcembed.data.text.tokens import index_tokens
from hpcembed.data.text.vectoriser import TermWeights, Vectoriser
from hpcembed.data.text.vocabulary_learning import learn_vocabulary
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.machine.memory import check_fits

__all__ = ["vectorise_tables"]

_log = logging.getLogger(__name__)

#: A value, a column index, and the copies that are made while they are sorted.
_BYTES_PER_TOKEN = 48


def vectorise_tables(
    train: Table, test: Table, config: DataSettings, comm: MPI.Comm, available_bytes: int
) -> tuple[Table, Table, Vectoriser]:
    """Replace the texts of two tables by rows of document-term matrices.

    Collective.

    Parameters
    ----------
    train, test : Table
        Their rows are arrays of str, shape (n_local,).
    config : DataSettings
        Weighting and limits of the vocabulary.
    available_bytes : int
        Memory that a rank may use.

    Returns
    -------
    train, test : Table
    vectoriser : Vectoriser
        Makes rows of new texts.

    Raises
    ------
    InputError
        The training documents have no term within the limits.
    MemoryLimitError
        The rows of a rank do not fit.
    """
    with agreement(comm):
        indexed = [index_tokens(table.rows) for table in (train, test)]
    needed = _BYTES_PER_TOKEN * max(part.ids.size for part in indexed)
    check_fits(
        int(comm.allreduce(needed, op=MPI.MAX)),
        available_bytes,
        f"{config.name}: rows of terms",
        "use more ranks, or raise data.min_df",
    )
    vocabulary = learn_vocabulary(
        indexed[0],
        comm,
        min_df=config.min_df,
        max_df=config.max_df,
        max_features=config.max_features,
        source=", ".join(config.train),
    )
    weights = TermWeights(config.weighting, config.sublinear_tf, config.smooth_idf, config.norm)
    plain = Vectoriser(vocabulary, weights)
    with agreement(comm):
        counts = [plain.counts(part) for part in indexed]
    relevance = None
    if config.relevance == "classes":
        relevance = term_relevance(
            counts[0], as_classes(train.labels).codes, len(train.class_names), comm
        )
    vectoriser = Vectoriser(vocabulary, weights, relevance, rules_of(config))
    with agreement(comm):
        tables = [
            replace(table, rows=vectoriser.apply_weights(part), feature_names=vocabulary.terms)
            for table, part in zip((train, test), counts, strict=True)
        ]
    _warn_of_empty_rows(tables, config, comm)
    return tables[0], tables[1], vectoriser


def _warn_of_empty_rows(tables: Sequence[Table], config: DataSettings, comm: MPI.Comm) -> None:
    empty = np.array([np.count_nonzero(np.diff(table.rows.indptr) == 0) for table in tables])
    comm.Allreduce(MPI.IN_PLACE, empty)
    if comm.rank == 0 and empty.any():
        _log.warning(
            "%s: %d training and %d test documents have no term of the vocabulary: rows of zeros",
            config.name, *empty.tolist(),
        )  # fmt: skip
