"""Checks of single arguments: integers, numbers and choices."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.errors import ConfigError, InputError, error_text

__all__ = ["as_array", "check_choice", "check_count", "check_flag", "is_integer", "is_number"]


def as_array(name: str, value: Any) -> NDArray[Any]:
    """Return a value as an array, without a copy where possible.

    Errors of the conversion become InputError, so that ranks can agree on them.

    Raises
    ------
    InputError
        Rows have different lengths, or a tensor of torch has a gradient or a type that numpy lacks.

    Examples
    --------
    >>> as_array("rows", [[1, 2], [3, 4]]).shape
    (2, 2)
    """
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: this is no array of numbers: {error_text(error)}") from error


def is_integer(value: Any) -> TypeGuard[int]:
    """Return whether a value is an integer, and no bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a finite real number, and no bool."""
    is_real = isinstance(value, int | float | np.integer | np.floating)
    return is_real and not isinstance(value, bool) and math.isfinite(value)


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raise ConfigError unless a value is one of the choices."""
    if value not in choices:
        raise ConfigError(f"{name} = {value!r} is not one of {', '.join(choices)}")


def check_flag(name: str, value: Any, *, optional: bool = False) -> None:
    """Raise ConfigError unless a value is True or False, or None if it is optional."""
    if not isinstance(value, bool | np.bool_) and not (value is None and optional):
        raise ConfigError(f"{name}: {value!r} is not True or False")


def check_count(name: str, value: Any, *, optional: bool = False) -> None:
    """Raise ConfigError unless a value is a positive integer, or None if it is optional."""
    if (value is None and optional) or (is_integer(value) and value >= 1):
        return
    either = " or None" if optional else ""
    raise ConfigError(f"{name} must be a positive integer{either}, got {value!r}")
