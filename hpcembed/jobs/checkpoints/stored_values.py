"""Fitted estimators as JSON values and arrays, without pickle.

A value is packed into a JSON value, in which arrays are replaced by their names. Classes are
dataclasses, enumerations and estimators of this project; nothing else is created on reading, and
no method is called. A value of another kind is not stored (:class:`NotStorableError`): the step
that computed it is then repeated.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from importlib import import_module
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix

__all__ = ["NotStorableError", "pack", "unpack"]

#: Packages whose classes are stored.
_PACKAGES = ("hpcembed", "miramns")
#: Key of the kind of a value that JSON does not have.
_KIND = "$"
_NUMBERS = "biufc"


class NotStorableError(ValueError):
    """A value has no stored form."""


def pack(value: Any, train: DataMatrix | None = None) -> tuple[Any, dict[str, NDArray[Any]]]:
    """Return a value as a JSON value and the arrays in it.

    Parameters
    ----------
    train : DataMatrix, optional
        The training rows: a reference to them is stored as such.

    Raises
    ------
    NotStorableError
        The value, or a part of it, is of a class of another package.

    Examples
    --------
    >>> import numpy as np
    >>> value = {"tol": 1e-10, "sizes": (3, 4), "mean": np.zeros(2)}
    >>> content, arrays = pack(value)
    >>> content["mean"], sorted(arrays)
    ({'$': 'array', 'name': 'array0'}, ['array0'])
    >>> unpack(content, arrays)["sizes"]
    (3, 4)
    """
    arrays: dict[str, NDArray[Any]] = {}

    def packed(one: Any) -> Any:
        if one is None or isinstance(one, bool | str):
            return one
        if isinstance(one, Enum):
            return {_KIND: "enum", "class": _name_of(type(one)), "value": packed(one.value)}
        if isinstance(one, int):
            return int(one)
        if isinstance(one, float) and not isinstance(one, np.generic):
            return one if math.isfinite(one) else {_KIND: "float", "value": str(one)}
        if isinstance(one, complex) and not isinstance(one, np.generic):
            return {_KIND: "complex", "value": [packed(one.real), packed(one.imag)]}
        if isinstance(one, np.ndarray | np.generic):
            return _packed_array(one, arrays, packed)
        if isinstance(one, list | tuple):
            kind = "tuple" if isinstance(one, tuple) else "list"
            return {_KIND: kind, "value": [packed(part) for part in one]}
        if isinstance(one, Mapping) and all(isinstance(key, str) for key in one):
            return {f"={key}" if key[:1] in ("$", "=") else key: packed(one[key]) for key in one}
        if train is not None and one is train:
            return {_KIND: "train"}
        if isinstance(one, MPI.Comm):
            return {_KIND: "comm"}
        return {_KIND: "object", "class": _name_of(type(one)), "value": packed(_fields(one))}

    return packed(value), arrays


def _packed_array(one: Any, arrays: dict[str, NDArray[Any]], packed: Any) -> dict[str, Any]:
    """Return the JSON value of an array or a number of numpy."""
    array = np.asarray(one)
    if array.dtype.kind not in _NUMBERS:
        return {_KIND: "words", "value": packed(array.tolist())}
    name = f"array{len(arrays)}"
    content: dict[str, Any] = {_KIND: "array", "name": name}
    # The order of the entries in memory decides the last bits of products.
    if array.ndim > 1 and array.flags.f_contiguous and not array.flags.c_contiguous:
        array, content["order"] = array.T, "F"
    if isinstance(one, np.generic):
        content[_KIND] = "number"
    arrays[name] = np.ascontiguousarray(array)
    return content


def _fields(one: Any) -> dict[str, Any]:
    """Return the attributes of an object of this project."""
    if dataclasses.is_dataclass(one) and not hasattr(one, "__dict__"):
        return {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    if not hasattr(one, "__dict__") or isinstance(one, DataMatrix) or callable(one):
        raise NotStorableError(type(one).__qualname__)
    fields = dict(vars(one))
    if "solver" in fields and dataclasses.is_dataclass(fields["solver"]):
        fields["solver"] = None  # settings of a fit, with functions
    return fields


def _name_of(kind: type) -> str:
    if kind.__module__.partition(".")[0] not in _PACKAGES or "." in kind.__qualname__:
        raise NotStorableError(f"{kind.__module__}.{kind.__qualname__}")
    return f"{kind.__module__}:{kind.__qualname__}"


def _class_of(name: str) -> type:
    module, _, kind = name.partition(":")
    if module.partition(".")[0] not in _PACKAGES:
        raise NotStorableError(name)
    found = getattr(import_module(module), kind, None)
    if not isinstance(found, type) or found.__module__ != module:
        raise NotStorableError(name)
    if not (dataclasses.is_dataclass(found) or issubclass(found, Enum)):
        raise NotStorableError(name)
    return found


def unpack(
    content: Any, arrays: Mapping[str, NDArray[Any]], train: DataMatrix | None = None
) -> Any:
    """Return the value that :func:`pack` was given.

    Raises
    ------
    NotStorableError
        A class is not one of this project.
    """

    def unpacked(one: Any) -> Any:
        if not isinstance(one, dict):
            return one
        kind = one.get(_KIND)
        if kind is None:
            return {key[1:] if key[:1] == "=" else key: unpacked(one[key]) for key in one}
        if kind in ("array", "number"):
            array = arrays[one["name"]]
            if kind == "number":
                return array.reshape(-1)[0]
            return array.T if one.get("order") == "F" else array
        if kind in ("list", "tuple"):
            parts = [unpacked(part) for part in one["value"]]
            return tuple(parts) if kind == "tuple" else parts
        if kind == "float":
            return float(one["value"])
        if kind == "complex":
            return complex(*map(unpacked, one["value"]))
        if kind == "words":
            return np.asarray(unpacked(one["value"]), dtype=object)
        if kind == "train":
            return train
        if kind == "comm":
            return MPI.COMM_SELF if train is None else train.comm
        found = _class_of(one["class"])
        value = unpacked(one["value"])
        return found(value) if kind == "enum" else _made(found, value)

    return unpacked(content)


def _made(kind: type, fields: Mapping[str, Any]) -> Any:
    """Return an object with these attributes, without a call of its methods."""
    made: Any = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made
