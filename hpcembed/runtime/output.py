"""Files and folders that are written: never over something else, whole or absent."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hpcembed.runtime.errors import OutputError, OutputExistsError

__all__ = ["check_free", "output_error", "write_whole"]


def check_free(path: Path) -> None:
    """Refuse a path that holds something, without making anything.

    Not collective.

    Raises
    ------
    OutputExistsError
        It exists and holds something, or is a file.
    OutputError
        It cannot be looked into.
    """
    try:
        occupied = any(path.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise OutputExistsError(f"{path}: is a file; choose another --out") from error
    except OSError as error:
        raise output_error(path, error) from error
    if occupied:
        raise OutputExistsError(f"{path}: not empty; choose another --out or remove it")


def output_error(path: Path, error: OSError) -> OutputError:
    """What the operating system said, as an error of the path. Not collective."""
    reason = error.strerror or str(error) or type(error).__name__
    return OutputError(f"{path}: cannot write: {reason}; free space there or choose another --out")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it; its folder is made as needed.

    Not collective.

    Raises
    ------
    OutputError
        It cannot be written; nothing is left.
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        # Without the folder, or on a file system that went away, there is nothing to remove.
        with suppress(OSError):
            partial.unlink(missing_ok=True)
