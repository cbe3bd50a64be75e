"""Relevance of a term: how much its presence reveals about the class of a document.

TF-IDF rates a term by its rarity alone. The directions of largest variance are then the topics of
the text, whether or not the classes differ in them: for film reviews, the kind of film and not the
verdict. Here the column of term t is multiplied by r_t, where r_t^2 is the divergence of the class
distribution of the documents that contain t from that of all documents,

    r_t^2 = sum_c p(c | t) log( p(c | t) / p(c) ),    p(c | t) = (n_tc + p(c)) / (n_t + 1)

with n_t the number of training documents that contain t, and n_tc of those in class c. The one
document added to each term, distributed as p(c), keeps the factors of rare terms small.

The factors use the labels of all training rows, including those that a classifier later holds out
for validation. Validation accuracy is therefore too high; test accuracy is not affected. To choose
between inputs by validation accuracy, compare inputs with the same factors.

Reference: F. Debole, F. Sebastiani, Supervised term weighting for automated text categorization,
Proc. ACM Symposium on Applied Computing (2003). Deviation: the reference replaces idf by
chi-square, information gain or gain ratio of one class; here one divergence over all classes
multiplies idf, because rows are made once for all classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["term_relevance"]

#: Number of (term, class) counts summed over ranks at a time.
_COUNTS_AT_A_TIME = 2**22


def term_relevance(
    rows: Any, labels: NDArray[np.int64], n_classes: int, comm: MPI.Comm
) -> NDArray[np.float64]:
    """Return the factor of every term, the same on all ranks.

    Collective.

    Parameters
    ----------
    rows : csr_array of shape (n_local, n_terms)
        This rank's training documents; only the positions of the entries are used.
    labels : ndarray of int64, shape (n_local,)
        Class codes.
    n_classes : int

    Returns
    -------
    ndarray of float64, shape (n_terms,)
        0 for a term that is equally frequent in all classes; at most ``sqrt(log(n_classes))`` for
        classes of equal size.

    Examples
    --------
    Both classes contain "sea" alike; only class 1 contains "ship":

    >>> import scipy.sparse
    >>> rows = scipy.sparse.csr_array([[1, 0], [1, 0], [1, 1], [1, 1]])
    >>> term_relevance(rows, np.array([0, 0, 1, 1]), 2, MPI.COMM_SELF).round(3)
    array([0.   , 0.493])
    """
    n_terms = rows.shape[1]
    sizes = sum_over_ranks(comm, np.bincount(labels, minlength=n_classes).astype(np.float64))
    prior = sizes / sizes.sum()
    columns = rows.indices.astype(np.int64)
    classes = np.repeat(labels, np.diff(rows.indptr))
    relevance = np.empty(n_terms)
    step = max(1, _COUNTS_AT_A_TIME // n_classes)
    for first in range(0, n_terms, step):
        last = min(first + step, n_terms)
        inside = (columns >= first) & (columns < last)
        pairs = (columns[inside] - first) * n_classes + classes[inside]
        counts = np.bincount(pairs, minlength=(last - first) * n_classes).astype(np.float64)
        counts = sum_over_ranks(comm, counts).reshape(-1, n_classes)
        share = (counts + prior) / (counts.sum(axis=1, keepdims=True) + 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(share > 0, share * np.log(share / prior), 0.0)
        relevance[first:last] = terms.sum(axis=1)
    return np.sqrt(np.maximum(relevance, 0.0))
