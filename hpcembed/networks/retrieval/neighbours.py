"""Exact nearest neighbours by cosines, the share that a reduction keeps, and their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.errors import InputError

__all__ = ["class_precision", "nearest", "recall", "unit_rows", "without_query"]

#: Cosines that are formed at a time.
_BLOCK = 16 * 2**20


def nearest(rows: NDArray[Any], queries: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Return the k rows with the largest cosines to each query, best first, shape (m, k).

    Rows of equal cosine are in increasing order.

    Raises
    ------
    InputError
        If rows and queries are not tables of finite numbers with the same number of columns, or `k`
        is larger than the number of rows.

    Examples
    --------
    >>> import numpy as np
    >>> nearest(np.eye(3), np.array([[0.1, 1.0, 0.5]]), 2)
    array([[1, 2]])
    """
    if np.ndim(rows) != 2 or np.ndim(queries) != 2 or np.shape(rows)[1] != np.shape(queries)[1]:
        raise InputError(
            f"rows of shape {np.shape(rows)} and queries of shape {np.shape(queries)}: give two "
            "tables with the same number of columns"
        )
    if not 1 <= k <= len(rows):
        raise InputError(f"{k} neighbours are wanted of {len(rows)} rows")
    table = _unit(rows, "row")
    found = np.empty((len(queries), k), dtype=np.int64)
    step = max(1, _BLOCK // len(rows))
    for start in range(0, len(queries), step):
        cosines = _unit(queries[start : start + step], "query", start) @ table.T
        best = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        best.sort(axis=1)
        order = np.argsort(-np.take_along_axis(cosines, best, axis=1), axis=1, kind="stable")
        found[start : start + step] = np.take_along_axis(best, order, axis=1)
    return found


def recall(exact: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Return the mean share of exact neighbours among those found, for arrays of shape (m, k).

    Examples
    --------
    >>> import numpy as np
    >>> recall(np.array([[0, 1], [2, 3]]), np.array([[1, 0], [3, 7]]))
    0.75
    """
    if exact.shape[0] != found.shape[0]:
        raise InputError(f"{len(exact)} and {len(found)} queries are not the same")
    hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
    return float(np.sum(hits) / exact.size)


def class_precision(
    labels: NDArray[Any], query_labels: NDArray[Any], found: NDArray[np.int64]
) -> float:
    """Return the mean share of neighbours that have the label of the query.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Labels of the rows that are searched.
    query_labels : ndarray of shape (m,)
    found : ndarray of shape (m, k)
        Rows that are neighbours of each query.

    Examples
    --------
    >>> import numpy as np
    >>> class_precision(np.array(["a", "a", "b"]), np.array(["a"]), np.array([[1, 2]]))
    0.5
    """
    labels, query_labels = np.asarray(labels), np.asarray(query_labels)
    if len(query_labels) != len(found):
        raise InputError(f"{len(query_labels)} labels and {len(found)} queries are not the same")
    if found.size and not 0 <= found.min() <= found.max() < len(labels):
        raise InputError(f"neighbours up to row {found.max()} have no label: {len(labels)} labels")
    return float(np.mean(labels[found] == query_labels[:, None]))


def without_query(found: NDArray[np.int64], queries: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first k - 1 neighbours of each query other than the query itself.

    Parameters
    ----------
    found : ndarray of shape (m, k)
        Neighbours, best first.
    queries : ndarray of shape (m,)
        Rows that the queries are.

    Examples
    --------
    >>> import numpy as np
    >>> without_query(np.array([[4, 0, 7], [1, 2, 3]]), np.array([0, 9]))
    array([[4, 7],
           [1, 2]])
    """
    others = found != queries[:, None]
    others[others.all(axis=1), -1] = False
    return found[others].reshape(len(found), -1)


def unit_rows(rows: NDArray[Any], dtype: type = np.float32) -> NDArray[Any]:
    """Return rows divided by their lengths, computed in a precision; rows of zeros remain.

    Rows are first multiplied by powers of two, so that their squares neither over- nor underflow.

    Examples
    --------
    >>> import numpy as np
    >>> unit_rows(np.array([[3e200, 4e200], [0.0, 0.0]])).round(3)
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    largest = np.max(np.abs(rows), axis=1, keepdims=True, initial=0.0)
    rows = np.ldexp(rows, -np.frexp(largest)[1]).astype(dtype)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, dtype(1))


def _unit(rows: NDArray[Any], name: str, first: int = 0) -> NDArray[np.float32]:
    """Return rows of length 1 in single precision; an entry that is not finite is an error."""
    rows = np.asarray(rows)
    rows = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float64)
    if not np.isfinite(rows).all():
        place = first + int(np.argmin(np.isfinite(rows).all(axis=1)))
        raise InputError(f"{name} {place} (counted from 0) is not finite: remove it")
    return unit_rows(rows)
