"""What an embedding would take, from the shape of the data alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpcembed.embedding.limits import check_limits
from hpcembed.operators import EnginePlan, plan_engine
from hpcembed.runtime.errors import InputError

__all__ = ["estimate_memory"]


def estimate_memory(
    n_rows: int,
    n_features: int,
    n_components: int,
    *,
    dtype: Any = np.float32,
    n_nonzeros: int | None = None,
    ranks: int = 1,
    threads: int = 1,
    tol: float | None = None,
    streamed: bool = False,
) -> EnginePlan:
    """Memory and predicted seconds of every engine of PCA, on one rank, beyond the data.

    Not collective; nothing is read or allocated.

    Parameters
    ----------
    dtype : data-type
        Of the rows as they are held.
    n_nonzeros : int, optional
        Stored entries of sparse rows.
    ranks, threads : int
        Ranks, and BLAS threads of each.
    tol : float, optional
        Default: that of :class:`~hpcembed.embedding.PCA`.
    streamed : bool
        Rows stay in files.

    Returns
    -------
    EnginePlan
        ``costs`` lists ``kind``, ``seconds`` and ``bytes`` of every engine that suits the data,
        ``kind`` is the one that would be chosen, ``describe()`` says it in a line.

    Raises
    ------
    InputError
        When the numbers make no sense.
    """
    numbers = (
        n_rows,
        n_features,
        n_components,
        ranks,
        threads,
        0 if n_nonzeros is None else n_nonzeros,
    )
    check_limits(tol, None, None)
    whole = all(isinstance(number, int | np.integer) for number in numbers)
    positive = whole and min(numbers[:-1]) >= 1 and numbers[-1] >= 0
    if not positive or n_components > n_features:
        raise InputError(
            f"need positive sizes and 1 <= n_components <= n_features, got {n_rows} x {n_features} "
            f"and n_components={n_components}"
        )
    item = np.dtype(dtype).itemsize
    return plan_engine(
        n_rows,
        n_features,
        n_components,
        ranks=ranks,
        threads=threads,
        available_bytes=2**62,
        n_nonzeros=n_nonzeros,
        item_bytes=item,
        tol=default_tolerance(item) if tol is None else tol,
        streamed=streamed,
    )


def default_tolerance(item_bytes: int) -> float:
    """Tolerance relative to the largest eigenvalue, for rows of numbers of so many bytes."""
    return 1e-10 if item_bytes > 4 else 1e-6
