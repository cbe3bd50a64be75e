"""Scores by a function of the user, on all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from mpi4py import MPI

from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError, HpcembedError, error_text

__all__ = ["mean_score"]

Model = TypeVar("Model")


def mean_score(metric: Callable[[Model], Any], model: Model, comm: MPI.Comm) -> float:
    """Return the mean over the ranks of ``metric(model)``.

    Collective.

    Raises
    ------
    ConfigError
        On all ranks, if the function raises an exception on one of them, or does not return a
        finite number.

    Examples
    --------
    >>> mean_score(len, "abc", MPI.COMM_SELF)
    3.0
    """
    value = 0.0
    with agreement(comm):
        try:
            score = metric(model)
        except HpcembedError:
            raise
        except Exception as error:  # of the user's code
            raise ConfigError(f"metric: it raises {error_text(error)}") from error
        value = _number(score)
    return float(comm.allreduce(value)) / comm.size


def _number(score: Any) -> float:
    try:
        value = float(score)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"metric: it returns {score!r}, which is not a number") from error
    if not math.isfinite(value):
        raise ConfigError(f"metric: it returns {score!r}, which is not a number")
    return value
