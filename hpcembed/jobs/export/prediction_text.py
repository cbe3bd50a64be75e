"""Text of predictions: the CSV file and the line of the accuracy, the same for every reader."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.report.tables import csv_text
from hpcembed.runtime.wording import counted

__all__ = ["accuracy_line", "prediction_csv"]


def prediction_csv(
    class_names: Sequence[str],
    codes: NDArray[np.int64],
    chances: NDArray[np.float64],
    files: Sequence[str] = (),
) -> str:
    r"""Return predicted classes and their probabilities as CSV; rows count from 1.

    Parameters
    ----------
    class_names : sequence of str
    codes : ndarray of int, shape (n,)
        Positions in `class_names`.
    chances : ndarray of shape (n,)
        Probability of each predicted class.
    files : sequence of str, optional
        Name of the file of each row, for rows that are images.

    Examples
    --------
    >>> prediction_csv(("cat", "dog"), np.array([1]), np.array([0.75]))
    'row,prediction,probability\n1,dog,0.750000\n'
    """
    return csv_text(
        {
            "row": range(1, codes.size + 1),
            **({"file": files} if files else {}),
            "prediction": [class_names[code] for code in codes],
            "probability": [f"{chance:.6f}" for chance in chances],
        }
    )


def accuracy_line(known: int, correct: int, total: int) -> str:
    """Return the accuracy of `correct` rows out of `known` rows with a class of the model.

    Examples
    --------
    >>> accuracy_line(2, 1, 3)
    'accuracy 50.00 % of 2 rows (1 more row has labels that are not classes of the model)'
    """
    if not known:
        return "no accuracy: no label is one of the classes of the model"
    line = f"accuracy {100 * correct / known:.2f} % of {counted(known, 'row')}"
    if known < total:
        others = counted(total - known, "more row has", "more rows have")
        line += f" ({others} labels that are not classes of the model)"
    return line
