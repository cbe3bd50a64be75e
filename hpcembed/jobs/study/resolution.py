"""What one row is worth: accuracies of n rows are multiples of 1 / n."""

from __future__ import annotations

__all__ = ["too_few_rows"]


def too_few_rows(n_train: int, n_test: int, validation_fraction: float, margin: float) -> str:
    """One line where one row is worth more than the margin, else nothing. Not collective.

    Parameters
    ----------
    n_train, n_test : int
        Rows; of the training rows `validation_fraction` is held out.
    margin : float
        Share of accuracy that may be lost; with 0 nothing is said, which any row is more than.
    """
    held_out = max(1, round(validation_fraction * n_train))
    few = [
        (f"each of {n:,} {what} rows" if n > 1 else f"the only {what} row")
        + f" is worth {100 / n:.3g} points"
        for n, what in ((held_out, "held-out"), (n_test, "test"))
        if n * margin < 1.0
    ]
    if not few or margin <= 0:
        return ""
    return (
        f"warning: {' and '.join(few)}, more than the margin of {100 * margin:g}, so that a loss "
        "of the margin cannot be seen: give more rows, or a larger margin"
    )
