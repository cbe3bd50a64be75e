"""Text of predictions: the CSV file and the line of the score, the same for every reader."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.report.tables import csv_text
from hpcembed.runtime.wording import counted

__all__ = ["accuracy_line", "error_line", "prediction_csv", "target_csv"]


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


def target_csv(predicted: NDArray[np.float64], files: Sequence[str] = ()) -> str:
    r"""Return predicted targets as CSV; rows count from 1.

    Parameters
    ----------
    predicted : ndarray of shape (n,)
        In the unit of the target.
    files : sequence of str, optional
        Name of the file of each row, for rows that are images.

    Examples
    --------
    >>> target_csv(np.array([152.5]))
    'row,prediction\n1,152.5\n'
    """
    return csv_text(
        {
            "row": range(1, predicted.size + 1),
            **({"file": files} if files else {}),
            "prediction": predicted,
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


def error_line(
    n_rows: int, squares: float, absolute: float, spread: float
) -> tuple[float | None, str]:
    """Return R2 of predicted targets, and the line with R2, RMSE and MAE.

    Parameters
    ----------
    squares, absolute : float
        Sums over the rows of the squared and of the absolute errors.
    spread : float
        Sum of the squared differences of the targets from their mean.

    Returns
    -------
    r2 : float or None
        None if all targets are equal.
    line : str

    Examples
    --------
    >>> error_line(4, 1.0, 2.0, 100.0)
    (0.99, 'R2 0.9900, RMSE 0.5, MAE 0.5, of 4 rows')
    """
    rows = counted(n_rows, "row")
    errors = f"RMSE {math.sqrt(squares / n_rows):.6g}, MAE {absolute / n_rows:.6g}, of {rows}"
    if not spread > 0:
        return None, f"no R2: all targets are equal; {errors}"
    r2 = 1.0 - squares / spread
    return r2, f"R2 {r2:.4f}, {errors}"
