"""Compiled passes over the rows: present, loadable, and with the best instruction set."""

from __future__ import annotations

import ctypes
import os

from hpcembed.jobs.doctor.finding import Finding, found
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.machine import native_library

__all__ = ["check_compiled_passes"]


def check_compiled_passes() -> list[Finding]:
    """Return findings about the library of compiled passes."""
    if not native_library.PATH.exists():
        return [found("compiled-passes-missing")]
    if native_library.load() is None:
        return [found("compiled-passes-broken", error=_error())]
    available = native_library.supported_sets()
    try:
        used = native_library.instruction_set()
    except ConfigError as error:
        return [found("compiled-passes-unknown", error=error)]
    if used != available[0]:
        value = os.environ.get("HPCEMBED_NATIVE", "")
        return [found("compiled-passes-off", value=value, best=available[0])]
    return [found("compiled-passes", instructions=used, all=", ".join(available))]


def _error() -> str:
    try:
        ctypes.CDLL(str(native_library.PATH))
    except OSError as error:
        return str(error)
    return "unknown reason"
