"""Output folders that are complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcembed.runtime.errors import OutputError, OutputExistsError
from hpcembed.runtime.output.files import check_free, give_usual_mode, output_error

__all__ = ["whole_folder"]


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, and rename it to `path` at the end of the block.

    The temporary folder is removed when the block raises.

    Raises
    ------
    OutputExistsError
        `path` is a file, or a folder that is not empty.
    OutputError
        The folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with whole_folder(Path(parent) / "result") as partial:
    ...         _ = (partial / "numbers.txt").write_text("1 2 3")
    ...     os.listdir(Path(parent) / "result")
    ['numbers.txt']
    """
    check_free(path)
    if path.is_dir() and path.samefile(os.curdir):
        raise OutputExistsError(f"{path}: is the current folder: give the name of a new folder")
    partial = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)  # of a killed run
        partial.mkdir()
        try:
            yield partial
            for file in partial.rglob("*"):
                if file.is_file() and not file.is_symlink():
                    give_usual_mode(file)
            os.replace(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OutputError:
        raise
    except OSError as error:
        raise output_error(path, error) from error
