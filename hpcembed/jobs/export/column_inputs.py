"""Inputs of the ONNX graph of a model of raw columns: one array for each column."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.columns.encoding import ColumnEncoding
from hpcembed.data.columns.named_tables import raw_columns_of

__all__ = ["column_inputs", "input_names"]

#: Names of other tensors of the graph.
_RESERVED = frozenset(["features", "shift", "logits", "probabilities", "class_index"])


def input_names(encoding: ColumnEncoding) -> dict[str, str]:
    """Return the name of the graph's input for each raw column: its name where that is possible.

    Examples
    --------
    >>> from hpcembed.data.columns.encoding import EncodedColumn
    >>> input_names(ColumnEncoding((EncodedColumn("age", "number"), EncodedColumn("", "number"))))
    {'age': 'age', '': 'column 2'}
    """
    names: dict[str, str] = {}
    for number, name in enumerate(encoding.input_names, 1):
        # The tensors of the graph itself begin with "stage" or "column" and have a point.
        is_free = name and name not in _RESERVED and not name.startswith(("stage", "column"))
        names[name] = name if is_free else f"column {number}" + (f": {name}" if name else "")
    return names


def column_inputs(
    encoding: ColumnEncoding, X: Any, number_type: np.dtype[Any]
) -> dict[str, NDArray[Any]]:
    """Return the inputs of the graph for the raw columns of a table.

    Returns
    -------
    dict of str to ndarray of shape (n, 1)
        Numbers and dates (days since 1970-01-01) of `number_type`, NaN for a missing cell; texts of
        levels as objects, "" for a missing cell.

    Raises
    ------
    InputError
        As :meth:`~hpcembed.data.columns.encoding.ColumnEncoding.transform`.
    """
    raw = raw_columns_of(X, encoding.input_names, encoding.names)
    names = input_names(encoding)
    inputs = {}
    for one in encoding.columns:
        if one.takes_text:
            levels = ("false", "true") if one.kind == "boolean" else one.levels
            # A text of no level stands for unknown ones.
            texts = np.array([*levels, "", _unknown(levels)], dtype=object)
            values: NDArray[Any] = texts[one.codes(raw.column(one.name), encoding.marks)]
        else:
            values = encoding.read_numbers(one, raw).astype(number_type)
        inputs[names[one.name]] = values[:, None]
    return inputs


def _unknown(levels: tuple[str, ...]) -> str:
    text = "unknown"
    while text in levels:
        text += "_"
    return text
