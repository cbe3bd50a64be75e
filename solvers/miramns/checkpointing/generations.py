"""The folders of a store: one for each checkpoint, numbered, and published by one renaming.

::

    STORE/.lock
    STORE/NAME/000007/basis.npy ...     the last but one checkpoint
    STORE/NAME/000008/basis.npy ...     the newest one
    STORE/NAME/.partial-000009/         being written: never read

A checkpoint is written under a temporary name. Its files go down to the disk, then its manifest,
then the folder is renamed and the entry of the parent goes down to the disk. Whenever the writer is
killed, the folders with a number are whole, or the digests show that the disk was not.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from miramns.checkpointing.manifest import FILE_NAME, JSON, DamagedError, Manifest, read_manifest

_NUMBER = re.compile(r"[0-9]{6,12}")
_TEMPORARY = re.compile(r"\.(partial|removed)-[0-9]{6,12}")


def generations(folder: Path) -> list[int]:
    """Return the numbers of the checkpoints in a folder, the newest first."""
    if folder.is_symlink():
        raise NotADirectoryError(0, "is a link, not a folder", str(folder))
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted((int(name) for name in names if _NUMBER.fullmatch(name)), reverse=True)


def path_of(folder: Path, generation: int) -> Path:
    """Return the folder of a checkpoint."""
    return folder / f"{generation:06d}"


def partial_path(folder: Path, generation: int) -> Path:
    """Return the folder of a checkpoint that is being written."""
    return folder / f".partial-{generation:06d}"


def new_folder(folder: Path, generation: int) -> Path:
    """Create the temporary folder of a checkpoint, and that of its name."""
    folder.mkdir(exist_ok=True)
    partial = partial_path(folder, generation)
    shutil.rmtree(partial, ignore_errors=True)  # of an earlier failure
    partial.mkdir()
    return partial


def publish(partial: Path, generation: int, manifest: Manifest) -> None:
    """Write the manifest of a complete temporary folder, and give the folder its number."""
    with (partial / FILE_NAME).open("xb") as file:
        file.write(manifest.encoded())
        file.flush()
        os.fsync(file.fileno())
    sync_folder(partial)
    os.rename(partial, path_of(partial.parent, generation))
    sync_folder(partial.parent)
    sync_folder(partial.parent.parent)


def remove(folder: Path, numbers: Iterable[int]) -> None:
    """Remove checkpoints: in one step from the view of a reader, then their files."""
    for number in numbers:
        removed = folder / f".removed-{number:06d}"
        shutil.rmtree(removed, ignore_errors=True)
        with suppress(FileNotFoundError):
            os.rename(path_of(folder, number), removed)
        shutil.rmtree(removed, ignore_errors=True)  # leftovers are removed by `clean`


def clean(store: Path) -> None:
    """Remove folders that killed processes have left."""
    for folder in names(store):
        for name in os.listdir(folder):
            if _TEMPORARY.fullmatch(name):
                shutil.rmtree(folder / name, ignore_errors=True)


def names(store: Path) -> list[Path]:
    """Return the folders of a store, one for each name of a checkpoint."""
    return sorted(one for one in store.iterdir() if one.is_dir() and not one.is_symlink())


def sync_folder(folder: Path) -> None:
    """Write the entries of a folder down to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # some network file systems refuse this for folders, and need it not
        pass
    finally:
        os.close(descriptor)


def stored_identity(store: Path | str) -> dict[str, JSON] | None:
    """Return the identity of the newest readable checkpoint in a folder; None if there is none.

    Not collective. The folder need not be a store, and is not locked.

    Examples
    --------
    >>> import tempfile
    >>> from miramns.checkpointing import CheckpointStore
    >>> from mpi4py import MPI
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with CheckpointStore(folder, {"k": 50}, MPI.COMM_SELF) as store:
    ...         _ = store.save("solver", state={"restarts": 3})
    ...     stored_identity(folder)
    {'k': 50}
    """
    found = []
    try:
        for folder in names(Path(store)):
            for number in generations(folder):
                path = path_of(folder, number)
                with suppress(DamagedError):
                    found.append((os.lstat(path).st_mtime_ns, read_manifest(path).identity))
    except OSError:
        return None
    return max(found, key=lambda one: one[0])[1] if found else None
