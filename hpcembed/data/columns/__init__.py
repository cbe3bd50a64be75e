"""Columns of any kind in, rows of numbers out: categories, dates, booleans, gaps.

``raw_columns`` (a rank's columns as they were read) and ``named_tables`` (columns of data frames,
Arrow tables, dictionaries and arrays); ``cells`` (a text as number, date or boolean); ``options``
(the settings); ``scan`` and ``kinds`` (the kind of every column, from all rows of all ranks);
``fitting`` (parameters, from training rows); ``encoding`` (the result) and ``serialise`` (its JSON
text). A deployed model imports ``raw_columns``, ``named_tables``, ``cells``, ``encoding`` and
``serialise``, which do without MPI.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: Public names and their modules: some import MPI, which starts on import.
_PUBLIC = {
    "ColumnEncoding": "encoding",
    "ColumnOptions": "options",
    "RawColumns": "raw_columns",
    "fit_encoding": "fitting",
    "raw_columns_of": "named_tables",
    "scan_table": "fitting",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
