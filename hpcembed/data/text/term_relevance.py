"""How much a term says of the class of a document, learned from the training documents.

TF-IDF rates a term by its rarity alone, so the directions of largest variance are the topics of the
text, whether or not the classes differ in them: of film reviews, the kind of film and not the
verdict. Here every column is multiplied by the root of what its term tells, the divergence of
the classes of the documents that hold it from those of all documents,

    r_t^2 = sum_c p(c | t) log( p(c | t) / p(c) ),    p(c | t) = (n_tc + p(c)) / (n_t + 1)

n_t being the training documents that hold term t, n_tc those of class c among them. The one
document that is added to each term, shared out as p(c), keeps rare terms small.

These factors know the labels of all training rows, also of those that a classifier sets aside for
validation: validation accuracies are then too high, test accuracies are not. Where classes are to
be chosen between by validation, compare inputs that have the same factors.

Reference: F. Debole, F. Sebastiani, Supervised term weighting for automated text categorization,
Proc. ACM Symposium on Applied Computing (2003). Deviation: there chi-square, information gain or
gain ratio of each class stand in the place of idf; here one divergence over all classes multiplies
it, because rows are made once for all classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["term_relevance"]

#: Counts of (term, class) that are added up over ranks at a time.
_COUNTS_AT_A_TIME = 2**22


def term_relevance(
    rows: Any, labels: NDArray[np.int64], n_classes: int, comm: MPI.Comm
) -> NDArray[np.float64]:
    """The factor of every term, the same on all ranks. Collective.

    Parameters
    ----------
    rows : csr_array of shape (n_local, n_terms)
        This rank's training documents; which terms are stored is all that counts.
    labels : ndarray of int64, shape (n_local,)
    n_classes : int

    Returns
    -------
    ndarray of float64, shape (n_terms,)
        0 for a term that all classes have alike; at most the root of the log of the number of
        classes where those are of one size.
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
        cells = (columns[inside] - first) * n_classes + classes[inside]
        counts = np.bincount(cells, minlength=(last - first) * n_classes).astype(np.float64)
        counts = sum_over_ranks(comm, counts).reshape(-1, n_classes)
        share = (counts + prior) / (counts.sum(axis=1, keepdims=True) + 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(share > 0, share * np.log(share / prior), 0.0)
        relevance[first:last] = terms.sum(axis=1)
    return np.sqrt(np.maximum(relevance, 0.0))
