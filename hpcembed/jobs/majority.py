"""Accuracy of a constant prediction, which every network must exceed."""

from __future__ import annotations

import math

import numpy as np

from hpcembed.data.matrix import DataMatrix

__all__ = ["majority_shares"]


def majority_shares(train: DataMatrix, test: DataMatrix) -> tuple[float, float] | None:
    """Return the shares of the largest training class among training and test rows.

    Collective. They are the accuracies of a constant prediction; NaN without test rows. None for a
    regression.
    """
    n_classes = len(train.class_names)
    if n_classes == 0:
        return None
    counts = [
        train.comm.allreduce(np.bincount(part.labels, minlength=n_classes))
        for part in (train, test)
    ]
    largest = int(np.argmax(counts[0]))
    shares = [float(one[largest] / one.sum()) if one.sum() else math.nan for one in counts]
    return shares[0], shares[1]
