"""An encoding of columns as JSON text, which is stored with a run and a model."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from hpcembed.data.columns.cells import DATE_ORDERS, NUMBER_STYLES
from hpcembed.data.columns.encoding import ColumnEncoding, DroppedColumn, EncodedColumn

__all__ = ["COLUMNS_FILE", "encoding_from_json", "encoding_to_json"]

#: Name of the file in the folder of a run and of a model.
COLUMNS_FILE = "columns.json"

_FORMAT, _VERSION = "hpcembed columns", 1
_KINDS = ("number", "date", "boolean", "category")
_OPTIONAL = ("low", "high")


def encoding_to_json(encoding: ColumnEncoding) -> str:
    """Serialise an encoding; numbers keep all their digits.

    Examples
    --------
    >>> encoding = ColumnEncoding((EncodedColumn("age", "number", fill=0.1),))
    >>> encoding_from_json(encoding_to_json(encoding)).columns[0].fill
    0.1
    """
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "missing": list(encoding.missing),
        "columns": [_plain(one) for one in encoding.columns],
        "names": list(encoding.names),
        "dropped": [dataclasses.asdict(one) for one in encoding.dropped],
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def encoding_from_json(text: str) -> ColumnEncoding:
    """Return the encoding that :func:`encoding_to_json` serialised.

    Raises
    ------
    ValueError
        Text of another kind or version, with the reason.
    """
    try:
        content = json.loads(text)
        if content["format"] != _FORMAT or content["version"] != _VERSION:
            raise ValueError(f"not {_FORMAT} of version {_VERSION}")
        columns = tuple(_column(one) for one in content["columns"])
        dropped = tuple(DroppedColumn(str(o["name"]), str(o["reason"])) for o in content["dropped"])
        missing, names = content["missing"], content.get("names", ())  # not in older files
        return ColumnEncoding(columns, dropped, tuple(map(str, missing)), tuple(map(str, names)))
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _plain(one: EncodedColumn) -> dict[str, Any]:
    content = dataclasses.asdict(one)
    for key in _OPTIONAL:  # JSON has no NaN and no infinity
        content[key] = content[key] if math.isfinite(content[key]) else None
    return content


def _column(content: dict[str, Any]) -> EncodedColumn:
    values = {key: math.nan if content[key] is None else float(content[key]) for key in _OPTIONAL}
    levels = tuple(map(str, content["levels"]))
    one = EncodedColumn(
        str(content["name"]),
        content["kind"],
        content["style"],
        content["order"],
        float(content["fill"]),
        bool(content["has_indicator"]),
        levels,
        bool(content["is_ordinal"]),
        int(content["n_missing"]),
        **values,
        unit=None if content.get("unit") is None else str(content["unit"]),  # not in older files
    )
    known = one.kind in _KINDS and one.style in NUMBER_STYLES and one.order in DATE_ORDERS
    if not known or not math.isfinite(one.fill) or len(set(levels)) != len(levels):
        raise ValueError(f"column {one.name!r} is not a valid encoding")
    return one
