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

__all__ = [
    "Rows",
    "SparseRows",
    "instruction_set",
    "load",
    "pass_function",
    "sparse_pass_function",
    "square_function",
    "supported_sets",
]

#: The file that the build hook makes.
PATH = Path(__file__).parents[2] / "operators" / "native" / "passes.so"

#: Environment variable that selects an instruction set, or numpy by "none".
_VARIABLE = "HPCEMBED_NATIVE"

_POINTER = ctypes.c_void_p


class Rows(ctypes.Structure):
    """Rows for the library: ``struct rows`` of ``passes.c``."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("n", ctypes.c_ssize_t),
        ("n_features", ctypes.c_ssize_t),
        ("row_stride", ctypes.c_ssize_t),
        ("column_stride", ctypes.c_ssize_t),
        ("shift", ctypes.c_void_p),
        ("factor", ctypes.c_void_p),
        ("type", ctypes.c_int),
        ("by_rows", ctypes.c_int),
    )


class SparseRows(ctypes.Structure):
    """Sparse rows for the library: ``struct sparse_rows`` of ``passes.c``."""

    _fields_ = (
        ("values", ctypes.c_void_p),
        ("indices", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("n", ctypes.c_ssize_t),
        ("n_features", ctypes.c_ssize_t),
        ("value_bytes", ctypes.c_int),
        ("index_bytes", ctypes.c_int),
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


def pass_function(dtype: np.dtype[Any], columns: int) -> Callable[..., int]:
    """Return the compiled pass in float32 or float64. There must be an instruction set in use."""
    chosen = instruction_set()
    if chosen == "avx512" and "avx2" in supported_sets():
        # tiles of two vectors: shorter ones where they leave fewer columns empty
        group = 128 // dtype.itemsize
        if 0 < columns % group <= group // 2:
            chosen = "avx2"
    arguments = [_POINTER, _POINTER, ctypes.c_ssize_t, *[_POINTER] * 5]
    return _function("pass", dtype, chosen, arguments)


def square_function(dtype: np.dtype[Any]) -> Callable[..., int]:
    """Return the compiled square in float32 or float64. There must be an instruction set in use."""
    arguments = [_POINTER, ctypes.c_int, _POINTER, _POINTER]
    return _function("square", dtype, instruction_set(), arguments)


def sparse_pass_function(dtype: np.dtype[Any]) -> Callable[..., int]:
    """Return the compiled pass over sparse rows. There must be an instruction set in use."""
    chosen = instruction_set()
    if chosen == "avx512" and "avx2" in supported_sets():
        chosen = "avx2"  # memory limits these passes: fewer columns at once stay in the cache
    size = ctypes.c_ssize_t
    arguments = [_POINTER, _POINTER, size, _POINTER, size, _POINTER, _POINTER]
    return _function("sparse_pass", dtype, chosen, arguments)


def _function(
    name: str, dtype: np.dtype[Any], chosen: str | None, arguments: list[Any]
) -> Callable[..., int]:
    library = load()
    assert library is not None  # callers ask instruction_set
    function = library[f"{name}_{'f32' if dtype == np.float32 else 'f64'}_{chosen}"]
    function.argtypes = arguments
    return function
