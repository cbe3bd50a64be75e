"""Settings of estimators that are numbers within limits."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpcembed.runtime.errors import ConfigError

__all__ = ["check_limits"]


def check_limits(tol: Any, memory_limit: Any, n_threads: Any) -> None:
    """Refuse numbers that are none, or make no sense. Not collective.

    Raises
    ------
    ConfigError
    """
    if tol is not None and (not isinstance(tol, float | np.floating) or not 0 < tol < 1):
        raise ConfigError(f"tol must lie between 0 and 1, got {tol!r}")
    for name, value in (("memory_limit", memory_limit), ("n_threads", n_threads)):
        is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and not (is_whole and value > 0):
            raise ConfigError(f"{name} must be a positive integer or None, got {value!r}")
