"""Numbers with their nouns."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun, in the singular for 1.

    Parameters
    ----------
    number : int
    noun : str
        Singular.
    plural : str, optional
        By default the singular and "s".

    Examples
    --------
    >>> counted(1, "rank"), counted(1200, "test row"), counted(2, "class", "classes")
    ('1 rank', '1,200 test rows', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
