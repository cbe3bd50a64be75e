"""Training and test documents become tables of weighted terms.

The split comes first, then vocabulary and idf are learned from the training documents of all ranks
(:mod:`hpcembed.data.text.vocabulary_learning`); each rank makes the rows of its own documents.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.dataset import Table
from hpcembed.data.settings import DataSettings
from hpcembed.data.text import TermRows, TermWeights, TokenIds, index_tokens
from hpcembed.data.text.documents import rules_of
from hpcembed.data.text.term_relevance import term_relevance
from hpcembed.data.text.vocabulary_learning import learn_vocabulary
from hpcembed.runtime.memory import check_fits
from hpcembed.runtime.ranks import agreement

__all__ = ["as_term_rows"]

_log = logging.getLogger(__name__)

#: A value, a column index, and the copies that are made while they are sorted.
_BYTES_PER_TOKEN = 48


def as_term_rows(
    train: Table, test: Table, config: DataSettings, comm: MPI.Comm, available_bytes: int
) -> tuple[Table, Table, TermRows]:
    """The same tables with rows of terms in the place of texts, and what makes such rows.

    Collective.

    Parameters
    ----------
    train, test : Table
        Their rows are arrays of str, shape (n_local,).
    config : DataSettings
        Weighting and limits of the vocabulary.

    Raises
    ------
    InputError
        The training documents hold no term that passes the limits.
    MemoryLimitError
        A rank's rows do not fit.
    """
    indexed: list[TokenIds] = []
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
    plain = TermRows(vocabulary, weights)
    counts: list[Any] = []
    with agreement(comm):
        counts = [plain.counts(part) for part in indexed]
    relevance: NDArray[np.float64] | None = None
    if config.relevance == "classes":
        relevance = term_relevance(counts[0], train.labels, len(train.class_names), comm)
    term_rows = TermRows(vocabulary, weights, relevance, rules_of(config))
    tables: list[Table] = []
    with agreement(comm):
        tables = [
            replace(table, rows=term_rows.weighted(part), feature_names=vocabulary.terms)
            for table, part in zip((train, test), counts, strict=True)
        ]
    _report(tables, config, comm)
    return tables[0], tables[1], term_rows


def _report(tables: Sequence[Table], config: DataSettings, comm: MPI.Comm) -> None:
    empty = np.array([np.count_nonzero(np.diff(table.rows.indptr) == 0) for table in tables])
    comm.Allreduce(MPI.IN_PLACE, empty)
    if comm.rank == 0 and empty.any():
        _log.warning(
            "%s: %d training and %d test documents have no term of the vocabulary: rows of zeros",
            config.name, *empty.tolist(),
        )  # fmt: skip
