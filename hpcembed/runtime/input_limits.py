"""Limits on input files that an environment variable raises.

They protect against files that are made to exhaust a machine; a rare honest file is beyond them.
"""

from __future__ import annotations

import os

from hpcembed.runtime.errors import ConfigError

__all__ = ["MAX_EXPANSION", "MAX_LINE_MIB", "MAX_PIXELS", "limit_of"]

#: Environment variables, which a message of an error names.
MAX_EXPANSION = "HPCEMBED_MAX_EXPANSION"
MAX_LINE_MIB = "HPCEMBED_MAX_LINE_MIB"
MAX_PIXELS = "HPCEMBED_MAX_PIXELS"


def limit_of(variable: str, default: int) -> int:
    """Return the value of an environment variable, or the default if it is not set.

    Raises
    ------
    ConfigError
        The value is not an integer of at least 1.

    Examples
    --------
    >>> limit_of("HPCEMBED_MAX_EXPANSION", 200)
    200
    """
    text = os.environ.get(variable, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0):
        raise ConfigError(
            f"the environment variable {variable} is {text!r}: give an integer from 1"
        )
    return int(text)
