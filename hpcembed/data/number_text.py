"""A text as a number: in a cell of a table, as a label, as a target.

A number is written plainly (``-1.5e3``), with a decimal point and separators of thousands
(``1,234.5``, ``1 234.5``, ``1'234.5``), or with a decimal comma (``1.234,5``, ``1 234,5``). It may
have a currency (``$1,234.50``, ``12,50 EUR``), which is ignored, or end in ``%``, which divides it
by 100.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Literal

__all__ = [
    "DEFAULT_MISSING",
    "NUMBER_STYLES",
    "NumberStyle",
    "are_numbers",
    "common_style",
    "currency_of",
    "number_of",
    "other_unit",
    "unit_of",
]

NumberStyle = Literal["plain", "point", "comma"]

NUMBER_STYLES: tuple[NumberStyle, ...] = ("plain", "point", "comma")

#: Texts that mean "missing" in any column, in capital or small letters.
DEFAULT_MISSING = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "NaT", "null", "None", "?", "-")

_BLANKS = " \u00a0\u2009\u202f"
_EXPONENT = r"(?:[eE][+-]?\d{1,4})?"
_PLAIN = re.compile(rf"[+-]?(?:\d+\.?\d*|\.\d+){_EXPONENT}", re.ASCII)
_POINT = re.compile(
    rf"[+-]?(?:\d{{1,3}}(?:([,'’{_BLANKS}])\d{{3}})(?:\1\d{{3}})*|\d+)?(?:\.\d*)?{_EXPONENT}",
    re.ASCII,
)
_COMMA = re.compile(
    rf"[+-]?(?:\d{{1,3}}(?:([.'’{_BLANKS}])\d{{3}})(?:\1\d{{3}})*|\d+)?(?:,\d*)?{_EXPONENT}",
    re.ASCII,
)
_SIGNS = "$¢£¤¥৳฿₡₦₩₪₫€₭₮₱₲₴₵₸₹₺₽₾₿"
_CODES = ("EUR", "USD", "GBP", "JPY", "CHF", "CNY", "INR", "CAD", "AUD", "SEK", "NOK", "DKK", "PLN",
          "CZK", "BRL", "MXN", "KRW", "ZAR")  # fmt: skip
_CURRENCY = rf"[{_SIGNS}]|US\$|{'|'.join(_CODES)}"
_MONEY = re.compile(rf"([+-]?)(?:({_CURRENCY})[{_BLANKS}]?)?(.*?)(?:[{_BLANKS}]?({_CURRENCY}))?")
_SAME_CURRENCY = {"EUR": "€", "USD": "$", "US$": "$", "GBP": "£", "JPY": "¥"}


def number_of(text: str, style: NumberStyle) -> float:
    """Return a text as number in a style; NaN if it is none or not finite.

    Examples
    --------
    >>> number_of("1,234.5", "point"), number_of("1.234,5", "comma"), number_of("25 %", "plain")
    (1234.5, 1234.5, 0.25)
    >>> number_of("1,234.5", "comma")
    nan
    """
    text, _ = _split_currency(text.strip())
    divisor = 1.0
    if text.endswith("%"):
        text, divisor = text[:-1].rstrip(), 100.0
    if style == "plain":
        if not _PLAIN.fullmatch(text):
            return math.nan
    else:
        match = (_POINT if style == "point" else _COMMA).fullmatch(text)
        if match is None or not any(character.isdigit() for character in text):
            return math.nan
        if match[1]:
            text = text.replace(match[1], "")
        text = text.replace(",", ".") if style == "comma" else text
        if not _PLAIN.fullmatch(text):
            return math.nan
    value = float(text) / divisor
    return value if math.isfinite(value) else math.nan


def currency_of(text: str) -> str:
    """Return the currency of an amount, the empty text without one.

    Examples
    --------
    >>> currency_of("-$1,234.50"), currency_of("12,50 EUR"), currency_of("12.5")
    ('$', '€', '')
    """
    return _split_currency(text.strip())[1]


def unit_of(text: str) -> str:
    """Return ``%`` or the currency of a number, the empty text without one.

    Examples
    --------
    >>> unit_of("25 %"), unit_of("$3"), unit_of("7")
    ('%', '$', '')
    """
    return "%" if text.rstrip().endswith("%") else currency_of(text)


def other_unit(text: str, style: NumberStyle, unit: str) -> bool:
    """Return whether a text is a number whose unit contradicts that of a column.

    A percent sign divides by 100, so it must be in all numbers but 0, or in none. A currency may be
    absent.

    Examples
    --------
    >>> [other_unit(text, "plain", "%") for text in ("25 %", "25", "0")]
    [False, True, False]
    >>> [other_unit(text, "plain", "$") for text in ("$3", "3", "3 EUR")]
    [False, False, True]
    """
    value, own = number_of(text, style), unit_of(text)
    if own == unit or not value or math.isnan(value):
        return False
    return "%" in (own, unit) or "" not in (own, unit)


def are_numbers(texts: Collection[str]) -> bool:
    """Return whether all texts are numbers in one style.

    Examples
    --------
    >>> are_numbers(["1.234,5", "7"]), are_numbers(["1.234,5", "7.25"])
    (True, False)
    """
    return any(
        not any(math.isnan(number_of(text, style)) for text in texts) for style in NUMBER_STYLES
    )


def common_style(
    counts: Mapping[NumberStyle, int], n: int, comma: bool | None
) -> NumberStyle | None:
    """Return the style in which all of `n` texts are numbers.

    Parameters
    ----------
    counts : mapping
        Number of texts that are numbers in each style; `n` in one of them at least.
    comma : bool or None
        Whether the decimal mark is a comma, if the texts do not show it; None: unknown.

    Returns
    -------
    str or None
        None if the texts have two meanings and `comma` is None.

    Examples
    --------
    >>> common_style({"plain": 1, "point": 2, "comma": 2}, 2, None)
    >>> common_style({"plain": 1, "point": 1, "comma": 2}, 2, None)
    'comma'
    """
    if counts.get("plain") == n:
        return "plain"
    point, with_comma = counts.get("point") == n, counts.get("comma") == n
    if point and with_comma:
        return None if comma is None else "comma" if comma else "point"
    return "comma" if with_comma else "point"


def _split_currency(text: str) -> tuple[str, str]:
    """Return an amount without its currency, and the currency; other texts are unchanged."""
    ends_plainly = text[:1] in "+-.0123456789" and text[-1:] in ".,%0123456789"
    if ends_plainly and text[1:2] in ".,%0123456789":
        return text, ""
    match = _MONEY.fullmatch(text)
    if match is None or bool(match[2]) == bool(match[4]):
        return text, ""
    currency = match[2] or match[4]
    return match[1] + match[3], _SAME_CURRENCY.get(currency, currency)
