"""Recall and class precision of reduced embeddings by number of coordinates and bytes.

Queries are a sample of the rows. Their exact neighbours, by cosines of whole embeddings, are
compared with those by cosines between the reduced queries, as float32, and the stored rows. A query
is not its own neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hpcembed.networks.retrieval.coder import fit_coder
from hpcembed.networks.retrieval.neighbours import class_precision, nearest, recall, without_query
from hpcembed.networks.retrieval.reduction import EmbeddingReduction, fit_reduction
from hpcembed.runtime.arguments import check_choice, check_count, check_flag, is_integer
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["RetrievalRecord", "RetrievalTable", "TableStorage", "retrieval_table"]

TableStorage = Literal["float32", "int8", "float8"]


@dataclass(frozen=True)
class RetrievalRecord:
    """Neighbours of one reduction.

    Attributes
    ----------
    k : int
        Number of coordinates.
    storage : str
        ``float32``, ``int8`` or ``float8``; ``bits`` for a coder.
    whiten : bool
    bytes_per_row : int
    recall : float
        Share of the exact neighbours that are found.
    class_precision : float or None
        Share of the neighbours with the label of the query; None without labels.
    on_frontier : bool
        No other record has fewer bytes at no less recall, or more recall in no more bytes.
    """

    k: int
    storage: str
    whiten: bool
    bytes_per_row: int
    recall: float
    class_precision: float | None
    on_frontier: bool = False


@dataclass(frozen=True)
class RetrievalTable:
    """Records of all reductions, and of the whole embeddings.

    Attributes
    ----------
    whole : RetrievalRecord
        The embeddings themselves as float32: recall 1.
    records : tuple of RetrievalRecord
        One for each number of coordinates, whitening and storage, in this order; then one for each
        coder.
    n_rows, n_queries, n_neighbors : int
    """

    whole: RetrievalRecord
    records: tuple[RetrievalRecord, ...]
    n_rows: int
    n_queries: int
    n_neighbors: int

    def markdown(self) -> str:
        """Return the table as Markdown; records on the frontier are marked by an asterisk."""
        n = self.n_neighbors
        lines = [
            f"| coordinates | storage | bytes a row | recall@{n} | class precision@{n} |",
            "|---|---|--:|--:|--:|",
        ]
        for one in (self.whole, *self.records):
            kind = f"{one.k} whitened" if one.whiten else f"{one.k}"
            if one is self.whole:
                kind += " (whole)"
            precision = "" if one.class_precision is None else f"{one.class_precision:.3f}"
            mark = " *" if one.on_frontier else ""
            lines.append(
                f"| {kind} | {one.storage} | {one.bytes_per_row:,} | {one.recall:.3f}{mark} "
                f"| {precision} |"
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.markdown()


def retrieval_table(
    embeddings: NDArray[Any],
    ks: Sequence[int],
    *,
    storages: Sequence[TableStorage] = ("float32", "int8", "float8"),
    whiten: Sequence[bool] = (False,),
    n_bytes: Sequence[int] = (),
    labels: NDArray[Any] | None = None,
    n_neighbors: int = 10,
    n_queries: int = 1000,
    seed: int = 0,
) -> RetrievalTable:
    """Compare reductions by the neighbours that they keep.

    Parameters
    ----------
    embeddings : ndarray of shape (n, d)
        All rows, to which the reductions are fitted.
    ks : sequence of int
        Numbers of coordinates.
    storages : sequence of {"float32", "int8", "float8"}
    whiten : sequence of bool
        ``(False, True)`` compares both.
    n_bytes : sequence of int
        Bytes of a row of coders (:func:`~hpcembed.networks.retrieval.fit_coder`), which are
        compared as well.
    labels : ndarray of shape (n,), optional
        Classes of the rows.
    n_neighbors, n_queries : int
        Neighbours of a query; number of rows that are drawn as queries, all if there are fewer.
    seed : int
        Seed of the draw.

    Raises
    ------
    ConfigError
        If an argument has no meaning.
    InputError
        If embeddings are not a table, have too few rows or columns, or do not match the labels.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).standard_normal((200, 16)) * 0.7 ** np.arange(16)
    >>> table = retrieval_table(rows, [4, 16], storages=["float32", "int8"], n_queries=50)
    >>> [(one.k, one.storage, one.bytes_per_row) for one in table.records]
    [(4, 'float32', 16), (4, 'int8', 4), (16, 'float32', 64), (16, 'int8', 16)]
    """
    embeddings = np.asarray(embeddings)
    _check(embeddings, ks, storages, whiten, n_bytes, labels)
    for name, count in (("n_neighbors", n_neighbors), ("n_queries", n_queries)):
        check_count(name, count)
    if not is_integer(seed) or seed < 0:
        raise ConfigError(f"seed = {seed!r}: give an integer of at least 0")
    n, d = embeddings.shape
    if n_neighbors >= n:
        raise InputError(f"{n_neighbors} neighbours are wanted of {n - 1} other rows")
    queries = np.sort(np.random.default_rng(seed).permutation(n)[:n_queries])
    exact = without_query(nearest(embeddings, embeddings[queries], n_neighbors + 1), queries)

    def precision(found: NDArray[np.int64]) -> float | None:
        if labels is None:
            return None
        return class_precision(np.asarray(labels), np.asarray(labels)[queries], found)

    records = []
    for k in ks:
        for white in whiten:
            reduction = fit_reduction(embeddings, k, whiten=white)
            rows = reduction.transform(embeddings)
            for storage in storages:
                stored = _stored(reduction, embeddings, rows, storage)
                found = nearest(stored, rows[queries], n_neighbors + 1)
                found = without_query(found, queries)
                size = reduction.bytes_per_row[0 if storage == "float32" else 1]
                records.append(
                    RetrievalRecord(k, storage, white, size, recall(exact, found), precision(found))
                )
    for size in n_bytes:
        coder = fit_coder(embeddings, size)
        found = coder.search(coder.codes(embeddings), embeddings[queries], n_neighbors + 1)
        found = without_query(found, queries)
        share = recall(exact, found)
        records.append(
            RetrievalRecord(
                len(coder.bits), "bits", False, coder.bytes_per_row, share, precision(found)
            )
        )
    whole = RetrievalRecord(d, "float32", False, 4 * d, 1.0, precision(exact))
    return RetrievalTable(whole, _with_frontier(records), n, len(queries), n_neighbors)


def _stored(
    reduction: EmbeddingReduction,
    embeddings: NDArray[Any],
    rows: NDArray[np.float32],
    storage: TableStorage,
) -> NDArray[np.float32]:
    """Return the rows as they are after storage."""
    if storage == "float32":
        return rows
    return reduction.decode(reduction.codes(embeddings, storage))


def _with_frontier(records: list[RetrievalRecord]) -> tuple[RetrievalRecord, ...]:
    """Return the records, with those marked that no other one dominates."""

    def dominates(one: RetrievalRecord, other: RetrievalRecord) -> bool:
        smaller, better = one.bytes_per_row, one.recall
        equal = smaller == other.bytes_per_row and better == other.recall
        return smaller <= other.bytes_per_row and better >= other.recall and not equal

    return tuple(
        replace(one, on_frontier=not any(dominates(other, one) for other in records))
        for one in records
    )


def _check(
    embeddings: NDArray[Any],
    ks: Sequence[int],
    storages: Sequence[str],
    whiten: Sequence[bool],
    n_bytes: Sequence[int],
    labels: NDArray[Any] | None,
) -> None:
    """Raise an error unless the arguments match each other."""
    if embeddings.ndim != 2:
        raise InputError(f"embeddings of shape {embeddings.shape}: give an array of shape (n, d)")
    given = {"ks": ks, "storages": storages, "whiten": whiten, "n_bytes": n_bytes}
    for name, values in given.items():
        if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
            raise ConfigError(f"{name} = {values!r} is no list")
        if not len(values) and name != "n_bytes":
            raise ConfigError(f"{name} is empty: give at least one value")
    for k in ks:
        check_count("k", k)
    for size in n_bytes:
        check_count("n_bytes", size)
    for storage in storages:
        check_choice("storage", storage, get_args(TableStorage))
    for white in whiten:
        check_flag("whiten", white)
    if labels is not None and np.shape(labels) != (len(embeddings),):
        raise InputError(
            f"labels of shape {np.shape(labels)} do not match {len(embeddings)} embeddings: "
            "give one label for each row"
        )
