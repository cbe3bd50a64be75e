"""The compiled library of products, if it was built, and the instruction set in use."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hpcembed.runtime.errors import ConfigError

__all__ = ["Rows", "instruction_set", "load", "pass_function", "supported_sets"]

#: The file that the build hook makes.
PATH = Path(__file__).parents[1] / "operators" / "native" / "passes.so"

#: Environment variable that selects an instruction set, or numpy by "none".
_VARIABLE = "HPCEMBED_NATIVE"


class Rows(ctypes.Structure):
    """Argument of a compiled pass: ``struct rows`` of ``passes.c``."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("n", ctypes.c_ssize_t),
        ("n_features", ctypes.c_ssize_t),
        ("row_stride", ctypes.c_ssize_t),
        ("column_stride", ctypes.c_ssize_t),
        ("shift", ctypes.c_void_p),
        ("factor", ctypes.c_void_p),
        ("type", ctypes.c_int),
    )


@cache
def load() -> ctypes.CDLL | None:
    """Return the library, or None if the package was built without it."""
    try:
        library = ctypes.CDLL(str(PATH))
    except OSError:
        return None
    library.supported.restype = ctypes.c_char_p
    return library


def supported_sets() -> list[str]:
    """Return the instruction sets that the library has and this processor supports, best first."""
    library = load()
    return [] if library is None else library.supported().decode().split()


def instruction_set() -> str | None:
    """Return the instruction set of the compiled passes, or None if numpy is used.

    It is the best one of this processor, or the one that the environment variable HPCEMBED_NATIVE
    names; "none" selects numpy.

    Raises
    ------
    ConfigError
        HPCEMBED_NATIVE names an instruction set that is not available.
    """
    requested = os.environ.get(_VARIABLE, "")
    if requested == "none":
        return None
    available = supported_sets()
    if requested and requested not in available:
        raise ConfigError(
            f"{_VARIABLE}={requested}: not available here; use {', '.join(['none', *available])}"
        )
    return requested or (available[0] if available else None)


def pass_function(dtype: np.dtype[Any]) -> Callable[..., int]:
    """Return the compiled pass in float32 or float64. There must be an instruction set in use."""
    library = load()
    assert library is not None  # callers ask instruction_set
    function = library[f"pass_{'f32' if dtype == np.float32 else 'f64'}_{instruction_set()}"]
    pointer = ctypes.c_void_p
    function.argtypes = [ctypes.POINTER(Rows), pointer, ctypes.c_ssize_t, *[pointer] * 5]
    return function
