"""The choice of kinds and encodings, as a table for people and as records."""

from __future__ import annotations

import math

import numpy as np

from hpcembed.data.columns.encoding import ColumnEncoding, EncodedColumn

__all__ = ["choice_lines", "choice_records"]

_MOST_LINES = 60
_WIDEST = 28


def choice_records(encoding: ColumnEncoding) -> list[dict[str, str]]:
    """Return one record for each raw column: column, kind, values, missing, becomes.

    Examples
    --------
    >>> age = EncodedColumn("age", "number", fill=40.0, has_indicator=True, n_missing=1, low=30.0,
    ...     high=50.0)
    >>> choice_records(ColumnEncoding((age,)))[0]["becomes"]
    'number, missing cells 40, and an indicator'
    """
    records = [
        {
            "column": one.name,
            "kind": one.kind,
            "values": _values(one),
            "missing": str(one.n_missing),
            "becomes": _result(one),
        }
        for one in encoding.columns
    ]
    records += [
        {"column": one.name, "kind": "dropped", "values": "", "missing": "", "becomes": one.reason}
        for one in encoding.dropped
    ]
    return records


def choice_lines(encoding: ColumnEncoding) -> list[str]:
    """Return the choice as lines of a table, at most 60 columns of the data."""
    records = choice_records(encoding)
    shown = [{key: key for key in ("column", "kind", "values", "missing", "becomes")}]
    shown += records[:_MOST_LINES]
    widths = {
        key: max(min(len(record[key]), _WIDEST) for record in shown)
        for key in ("column", "kind", "values", "missing")
    }
    lines = [
        "  ".join(
            [*(_cut(record[key]).ljust(width) for key, width in widths.items()), record["becomes"]]
        )
        for record in shown
    ]
    if len(records) > _MOST_LINES:
        lines.append(f"... and {len(records) - _MOST_LINES} more columns")
    return lines


def _cut(text: str) -> str:
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= _WIDEST else plain[: _WIDEST - 3] + "..."


def _values(one: EncodedColumn) -> str:
    if one.kind == "category":
        return f"{len(one.levels)} levels"
    if one.kind == "boolean":
        return "false, true"
    if not (math.isfinite(one.low) and math.isfinite(one.high)):
        return "none"
    if one.kind == "date":
        return f"{_day(one.low)} to {_day(one.high)}"
    return f"{one.low:.6g} to {one.high:.6g}"


def _day(days: float) -> str:
    return str(np.datetime64(0, "D") + math.floor(days))


def _result(one: EncodedColumn) -> str:
    indicator = ", and an indicator" if one.has_indicator else ""
    if one.kind == "category":
        n = len(one.levels)
        return ("rank by frequency" if one.is_ordinal else f"{n} columns of 0 and 1") + indicator
    name = {"date": "days since 1970-01-01", "boolean": "0 or 1"}.get(one.kind, "number")
    fill = _day(one.fill) if one.kind == "date" else f"{one.fill:.6g}"
    return name + (f", missing cells {fill}{indicator}" if one.has_indicator else "")
