"""Typed settings from plain tables: unknown keys and wrong types are refused."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from hpcembed.runtime.errors import ConfigError

__all__ = ["build"]

Section = TypeVar("Section")


def build(kind: type[Section], table: Mapping[str, Any], source: str) -> Section:
    """Make a dataclass of sections out of a table; unknown keys and wrong types are refused.

    Raises
    ------
    ConfigError
        Naming `source`, the key and what would be right.
    """
    return typing.cast(Section, _build(kind, table, source, ""))


def _build(kind: type[Any], table: Mapping[str, Any], source: str, prefix: str) -> Any:
    hints = typing.get_type_hints(kind)
    for key in table:
        if key not in hints:
            raise ConfigError(f"{source}: unknown key {prefix}{key}{_nearest(key, hints)}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        expected = hints[key]
        if dataclasses.is_dataclass(expected):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{source}: {prefix}{key} is a section: write [{prefix}{key}]")
            values[key] = _build(typing.cast(type, expected), value, source, f"{prefix}{key}.")
        else:
            values[key] = _convert(value, expected, f"{source}: {prefix}{key}")
    return kind(**values)


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known keys: {', '.join(known)}"


def _convert(value: Any, expected: Any, where: str) -> Any:
    origin = typing.get_origin(expected)
    if origin is Literal:
        choices = typing.get_args(expected)
        if value not in choices:
            listed = ", ".join(map(str, choices))
            close = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{where}: {value!r} is not one of {listed}{hint}")
        return value
    if origin is tuple:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        element = typing.get_args(expected)[0]
        return tuple(_convert(item, element, where) for item in items)
    if origin in (typing.Union, types.UnionType):
        if isinstance(value, str):
            return value
        return _convert(value, typing.get_args(expected)[1], where)
    if expected is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ConfigError(f"{where} must be a finite number")
        return number
    if type(value) is not expected:
        raise ConfigError(f"{where}: expected {expected.__name__}, got {value!r}")
    return value
