"""Output files: written whole or not at all, and never over existing results."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcembed.runtime.errors import OutputError, OutputExistsError

__all__ = [
    "check_free",
    "give_usual_mode",
    "ordered_safetensors",
    "output_error",
    "whole_file",
    "write_whole",
]


def check_free(path: Path) -> None:
    """Raise an error unless a path does not exist or is an empty folder; create nothing.

    The marker of the job that owns the folder (:mod:`hpcembed.runtime.output.lock`) does not count.

    Raises
    ------
    OutputExistsError
        The path is a file or a folder that is not empty.
    OutputError
        The folder cannot be read.
    """
    try:
        lock = f".{path.resolve().name}.lock"
        occupied = any(one.name != lock for one in path.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise OutputExistsError(f"{path}: is a file; choose another path or remove it") from error
    except OSError as error:
        raise output_error(path, error) from error
    if occupied:
        raise OutputExistsError(f"{path}: not empty; choose another folder or remove it")


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the error of the operating system as an error that names the path."""
    reason = error.strerror or str(error) or type(error).__name__
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free space there or choose another path" if full else "choose another path"
    return OutputError(f"{path}: cannot write: {reason}; {remedy}")


def ordered_safetensors(content: bytes) -> bytes:
    """Return the bytes of a safetensors file with its header in a fixed order.

    The library writes metadata in an order that differs between processes. Here tensors are in the
    order of their places in the file and metadata in the order of the keys, so that equal contents
    give equal files.

    Examples
    --------
    >>> import numpy as np
    >>> import safetensors.numpy
    >>> array = {"x": np.zeros(2)}
    >>> files = [
    ...     ordered_safetensors(safetensors.numpy.save(array, metadata))
    ...     for metadata in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    ... ]
    >>> files[0] == files[1]
    True
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__", None)
    ordered = {} if metadata is None else {"__metadata__": dict(sorted(metadata.items()))}
    places = sorted(header.items(), key=lambda one: (one[1]["data_offsets"], one[0]))
    ordered |= {
        name: {key: entry[key] for key in ("dtype", "shape", "data_offsets")}
        for name, entry in places
    }
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def give_usual_mode(path: Path) -> None:
    """Let a file have the permissions of a new one: some libraries let its owner alone read it."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it; create its folder as needed.

    Raises
    ------
    OutputError
        The file cannot be written; no partial file remains.
    """
    with whole_file(path) as partial:
        partial.write_bytes(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename it to `path` at the end of the block.

    The folder of `path` is created as needed. The temporary file is removed when the block raises.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        give_usual_mode(partial)
        os.replace(partial, path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        # If the folder or its file system is gone, the temporary file is gone as well.
        with suppress(OSError):
            partial.unlink(missing_ok=True)
