"""Nodes of an ONNX graph that encode raw columns as the rows of a model.

Each raw column is an input of shape (batch, 1). A number or a date is NaN where it is missing: the
median replaces it, and the indicator is the comparison of the input with itself. The text of a
category or a boolean becomes a code (LabelEncoder of the opset ``ai.onnx.ml``), and the code a row
of a table with the values of each level, of missing cells and of unknown levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpcembed.data.columns.cells import BOOLEAN_WORDS
from hpcembed.data.columns.encoding import ColumnEncoding, EncodedColumn
from hpcembed.jobs.export.column_inputs import input_names

__all__ = ["ML_OPSET", "EncodingGraph", "encoding_graph"]

#: Version of the operators of ``ai.onnx.ml``.
ML_OPSET = 2


@dataclass(frozen=True, slots=True)
class EncodingGraph:
    """Nodes that compute ``features``, with their inputs and initial values."""

    inputs: list[Any] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)


def encoding_graph(encoding: ColumnEncoding, number_type: np.dtype[Any]) -> EncodingGraph:
    """Return the part of a graph from raw columns to ``features``.

    Parameters
    ----------
    number_type : numpy.dtype
        Type of the features, and of the inputs of numbers and dates.
    """
    from onnx import TensorProto, helper

    graph = EncodingGraph()
    names = input_names(encoding)
    parts: list[str] = []
    for number, one in enumerate(encoding.columns, 1):
        name, prefix = names[one.name], f"column{number}."
        kind = (
            TensorProto.STRING if one.takes_text else helper.np_dtype_to_tensor_dtype(number_type)
        )
        graph.inputs.append(helper.make_tensor_value_info(name, kind, ["batch", 1]))
        if one.takes_text:
            parts.append(_append_levels(graph, one, encoding, name, prefix, number_type))
        else:
            parts += _append_number(graph, one, name, prefix, number_type)
    graph.nodes.append(helper.make_node("Concat", parts, ["features"], axis=1))
    return graph


def _append_number(
    graph: EncodingGraph, one: EncodedColumn, name: str, prefix: str, number_type: np.dtype[Any]
) -> list[str]:
    from onnx import helper, numpy_helper

    fill, filled, given = f"{prefix}fill", f"{prefix}filled", f"{prefix}given"
    graph.initializers.append(numpy_helper.from_array(np.array([[one.fill]], number_type), fill))
    graph.nodes.append(helper.make_node("Equal", [name, name], [given]))  # NaN differs from itself
    graph.nodes.append(helper.make_node("Where", [given, name, fill], [filled]))
    if not one.has_indicator:
        return [filled]
    missing, indicator = f"{prefix}missing", f"{prefix}indicator"
    to = helper.np_dtype_to_tensor_dtype(number_type)
    graph.nodes.append(helper.make_node("Not", [given], [missing]))
    graph.nodes.append(helper.make_node("Cast", [missing], [indicator], to=to))
    return [filled, indicator]


def _append_levels(
    graph: EncodingGraph,
    one: EncodedColumn,
    encoding: ColumnEncoding,
    name: str,
    prefix: str,
    number_type: np.dtype[Any],
) -> str:
    from onnx import helper, numpy_helper

    codes_of = _codes(one, encoding)
    table, codes, flat, rows = (f"{prefix}{part}" for part in ("table", "codes", "flat", "rows"))
    shape = f"{prefix}shape"
    graph.initializers.append(numpy_helper.from_array(one.table.astype(number_type), table))
    graph.initializers.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), shape))
    graph.nodes.append(
        helper.make_node(
            "LabelEncoder",
            [name],
            [codes],
            domain="ai.onnx.ml",
            keys_strings=list(codes_of),
            values_int64s=list(codes_of.values()),
            default_int64=len(one.table) - 1,
        )
    )
    graph.nodes.append(helper.make_node("Reshape", [codes, shape], [flat]))
    graph.nodes.append(helper.make_node("Gather", [table, flat], [rows], axis=0))
    return rows


def _codes(one: EncodedColumn, encoding: ColumnEncoding) -> dict[str, int]:
    """Return the code of every text that is known: levels, and texts that mean "missing"."""
    n = 2 if one.kind == "boolean" else len(one.levels)
    known = {text: n for mark in encoding.marks for text in _spellings(mark)}
    if one.kind == "boolean":
        pairs = (*BOOLEAN_WORDS, ("0", "1"))
        words = {word: code for pair in pairs for code, word in enumerate(pair)}
        return known | {text: code for word, code in words.items() for text in _spellings(word)}
    return known | {level: code for code, level in enumerate(one.levels)}


def _spellings(word: str) -> list[str]:
    return list(dict.fromkeys([word, word.upper(), word.title(), _mixed(word)]))


def _mixed(word: str) -> str:
    """Return the usual spelling of a word for missing values."""
    return {"nan": "NaN", "nat": "NaT", "#n/a": "#N/A", "<na>": "<NA>"}.get(word, word)
