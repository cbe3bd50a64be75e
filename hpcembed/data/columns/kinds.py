"""The kind of a column, from its summary over all rows.

Numbers, booleans and dates are columns whose cells all have this form. A column of numbers with a
few other texts is an error, because these are most likely mistakes. Other texts are categories.
Columns without information are left out: constants, columns that count the rows, the index that R
and pandas write into a column without a name, identifiers and free text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcembed.data.columns.cells import DateOrder
from hpcembed.data.columns.options import ColumnOptions
from hpcembed.data.columns.scan import MOST_ODD, ColumnSummary
from hpcembed.data.number_text import NumberStyle, common_style
from hpcembed.runtime.errors import InputError

__all__ = ["MAX_LEVELS", "Decision", "decide", "odd_cell", "prefers_comma"]

#: A category with more levels is left out.
MAX_LEVELS = 2**17

#: Smallest number of rows from which a column is called an identifier, a counter or free text.
_MANY = 20
#: Share of different texts of an identifier.
_IDENTIFIER_SHARE = 0.9
#: Mean length of free text in characters and blanks, and its share of different texts.
_FREE_TEXT = (40.0, 4.0, 0.5)
#: Largest share of cells that are taken for mistakes in a column of numbers.
_ODD_SHARE = 0.01
_LEAST_NUMBERS = 10
#: Names of the column into which R and pandas write the index of the rows.
_INDEX_NAMES = ("", "Unnamed: 0")


@dataclass(frozen=True, slots=True)
class Decision:
    """Kind of a column.

    Attributes
    ----------
    kind : str
        number, boolean, date, category, or drop.
    style, order : str
        How numbers and dates are written.
    reason : str
        Why the column is left out.
    """

    kind: str
    style: NumberStyle = "plain"
    order: DateOrder = "iso"
    reason: str = ""


def decide(
    name: str, summary: ColumnSummary, options: ColumnOptions, comma: bool | None, source: str
) -> Decision:
    """Return the kind of a column.

    Parameters
    ----------
    comma : bool or None
        Whether other columns of the table have decimal commas; None if they do not show it.

    Raises
    ------
    InputError
        Numbers or dates can be read in two ways, or the column is not of the kind in the settings.
    """
    asked = options.kinds.get(name)
    if name in options.dropped:
        return Decision("drop", reason="left out by the settings")
    if asked is not None:
        return _as_asked(name, asked, summary, comma, source)
    if summary.n_given == 0:
        return Decision("drop", reason="all cells are missing")
    if summary.storage == {"number"}:
        return _of_numbers(name, summary)
    if summary.storage == {"date"}:
        if summary.low == summary.high and not summary.n_missing:
            return Decision("drop", reason="constant")
        return Decision("date")
    return _of_texts(name, summary, comma, source)


def odd_cell(summary: ColumnSummary) -> str:
    """Return the first of a few texts in a column of numbers that are most likely mistakes."""
    numbers = max(summary.n_styles.values(), default=0)
    n_odd = sum(count for count, _ in summary.odd.values())
    few = n_odd <= max(1.0, _ODD_SHARE * summary.n_given)
    if not summary.odd or len(summary.odd) >= MOST_ODD or numbers < _LEAST_NUMBERS or not few:
        return ""
    if numbers + n_odd != summary.n_given:
        return ""
    return min(summary.odd, key=lambda text: summary.odd[text][1])


def prefers_comma(summaries: Mapping[str, ColumnSummary]) -> bool | None:
    """Return whether a table has decimal commas, by the columns that can be read in one way."""
    signs = set()
    for one in summaries.values():
        n, styles = one.n_given, one.n_styles
        if one.n_fractions and (not styles or styles["plain"] == n):
            signs.add(False)
        elif styles and n and styles["plain"] < n:
            if styles["comma"] == n > styles["point"]:
                signs.add(True)
            elif styles["point"] == n > styles["comma"]:
                signs.add(False)
    return signs.pop() if len(signs) == 1 else None


def _of_numbers(name: str, summary: ColumnSummary) -> Decision:
    if summary.low == summary.high and not summary.n_missing:
        return Decision("drop", reason="constant")
    if name.strip() in _INDEX_NAMES and summary.are_integers and not summary.n_missing:
        return Decision("drop", reason="an index: integers without a name")
    if summary.counts_rows and summary.n >= _MANY:
        return Decision("drop", reason="counts the rows")
    return Decision("number")


def _of_texts(name: str, summary: ColumnSummary, comma: bool | None, source: str) -> Decision:
    n, distinct = summary.n_given, summary.n_distinct
    if distinct == 1 and not summary.n_missing:
        return Decision("drop", reason="constant")
    if any(count == n for count in summary.n_words.values()):
        return Decision("boolean")
    if max(summary.n_styles.values()) == n:
        _check_units(name, summary, source)
        return Decision("number", style=_style(name, summary, comma, source))
    if max(summary.n_dates.values()) == n:
        return Decision("date", order=_order(name, summary, source))
    length, blanks, share = _FREE_TEXT
    if n >= _MANY:
        if (
            summary.n_characters >= length * n
            and summary.n_blanks >= blanks * n
            and distinct >= share * n
        ):
            return Decision("drop", reason="free text: data.text_column reads documents")
        if distinct >= _IDENTIFIER_SHARE * n:
            return Decision("drop", reason="an identifier: nearly all texts are different")
    if distinct > MAX_LEVELS:
        return Decision("drop", reason=f"an identifier: about {distinct:,} different texts")
    return Decision("category")


def _check_units(name: str, summary: ColumnSummary, source: str) -> None:
    """Raise InputError if numbers have several units, or some of them a percent sign."""
    units = sorted(summary.units)
    remedy = "or set the column to category in data.columns"
    if "%" in units and (len(units) > 1 or summary.n_plain):
        raise InputError(
            f"{source}: column {name!r} has numbers with and without a percent sign, which divides "
            f"by 100: write all of them in one way, {remedy}"
        )
    if len(units) > 1:
        raise InputError(
            f"{source}: column {name!r} has amounts in {' and '.join(units[:4])}: convert them to "
            f"one currency, {remedy}"
        )


def _style(name: str, summary: ColumnSummary, comma: bool | None, source: str) -> NumberStyle:
    style = common_style(summary.n_styles, summary.n_given, comma)
    if style is None:
        raise InputError(
            f"{source}: column {name!r}: the commas or points of its numbers can be decimal "
            f"marks or separators of thousands: set data.columns = {{ {_key(name)} = "
            '"decimal_comma" } or "decimal_point"'
        )
    return style


def _order(name: str, summary: ColumnSummary, source: str) -> DateOrder:
    n, orders = summary.n_given, summary.n_dates
    if orders.get("iso") == n:
        return "iso"
    if orders.get("day_first") == orders.get("month_first") == n:
        raise InputError(
            f"{source}: column {name!r}: its dates can begin with the day or with the month: set "
            f'data.columns = {{ {_key(name)} = "day_first" }} or "month_first"'
        )
    return "day_first" if orders.get("day_first") == n else "month_first"


def _as_asked(
    name: str, asked: str, summary: ColumnSummary, comma: bool | None, source: str
) -> Decision:
    if "date" in summary.storage and asked not in ("date", "day_first", "month_first"):
        raise InputError(f"{source}: column {name!r} holds dates: data.columns has {asked!r}")
    if asked in ("number", "decimal_point", "decimal_comma"):
        _check_units(name, summary, source)
    if asked in ("decimal_point", "decimal_comma"):
        return Decision("number", style="comma" if asked == "decimal_comma" else "point")
    if asked == "day_first":
        return Decision("date", order="day_first")
    if asked == "month_first":
        return Decision("date", order="month_first")
    if asked == "number" and summary.storage != {"number"}:
        styles = summary.n_styles
        if max(styles.values()) < summary.n_given:  # the cells that differ are named later
            return Decision("number", style=max(styles, key=lambda style: styles[style]))
        return Decision("number", style=_style(name, summary, comma, source))
    if asked == "date" and summary.storage != {"date"}:
        if summary.storage == {"number"}:
            raise InputError(f"{source}: column {name!r} holds numbers, not dates: use number")
        orders = summary.n_dates
        if max(orders.values()) < summary.n_given:
            return Decision("date", order=max(orders, key=lambda order: orders[order]))
        return Decision("date", order=_order(name, summary, source))
    return Decision(asked)


def _key(name: str) -> str:
    """Return a name as key of TOML."""
    plain = name.replace("_", "").replace("-", "")
    if plain.isascii() and plain.isalnum():
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
