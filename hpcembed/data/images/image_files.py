"""Image files in folders: the class of an image is the name of its sub-folder.

Names that begin with a dot are skipped, and files that are no images are counted. The files of a
folder are in the order of their sorted paths, so they have the same order on every machine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcembed.data.file_validation import MissingFileError, file_size
from hpcembed.runtime.errors import InputError

__all__ = ["IMAGE_ENDINGS", "ImageFile", "holds_images", "list_images", "own_folders"]

_log = logging.getLogger(__name__)

#: Endings of the formats that are read: PNG, JPEG, BMP, GIF, TIFF, WebP, PGM and PPM.
IMAGE_ENDINGS = (
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm",
)  # fmt: skip

#: Files in which :func:`holds_images` searches for an image.
_MOST_SEARCHED = 10_000
_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "validation", "valid")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file.

    Attributes
    ----------
    path : str
    name : str
        Path relative to the folder of the images, with ``/``.
    folder : str
        Name of the sub-folder, the class; empty for files outside of sub-folders.
    """

    path: str
    name: str
    folder: str


def is_image(name: str) -> bool:
    """Return whether the ending of a file name is that of an image."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_ENDINGS


def holds_images(path: Path) -> bool:
    """Return whether a folder or its sub-folders contain an image file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "cats").mkdir()
    ...     before = holds_images(Path(folder))
    ...     (Path(folder) / "cats" / "felix.png").touch()
    ...     before, holds_images(Path(folder))
    (False, True)
    """
    if not path.is_dir():
        return False
    for count, (_, name) in enumerate(_walk(path)):
        if is_image(name):
            return True
        if count >= _MOST_SEARCHED:
            break
    return False


def list_images(paths: Sequence[Path]) -> list[ImageFile]:
    """List the images of folders, and image files that are named.

    Raises
    ------
    InputError
        A path does not exist, or there is no image.
    """
    found: list[ImageFile] = []
    for root in paths:
        if not root.is_dir():
            if not root.exists():
                raise MissingFileError(f"{root}: no such file or folder")
            file_size(root)
            found.append(ImageFile(str(root), root.name, ""))
            continue
        n_others, images = 0, []
        for parts, name in _walk(root):
            if not is_image(name):
                n_others += 1
                continue
            inside = (*parts, name)
            folder = parts[0] if parts else ""
            images.append(
                (inside, ImageFile(str(root.joinpath(*inside)), "/".join(inside), folder))
            )
        found += [image for _, image in sorted(images, key=lambda pair: pair[0])]
        if n_others:
            _log.debug("%s: %d files that are no images are skipped", root, n_others)
    if not found:
        listed = ", ".join(map(str, paths))
        raise InputError(
            f"{listed}: no image files in it; files that end in {', '.join(IMAGE_ENDINGS)} are read"
        )
    return found


def own_folders(path: Path) -> tuple[Path, Path] | None:
    """Return the sub-folders of training and test images of a folder, None unless it has both."""
    if not path.is_dir():
        return None
    folders = {entry.name.lower(): entry for entry in path.iterdir() if entry.is_dir()}
    train = next((folders[name] for name in _TRAIN if name in folders), None)
    test = next((folders[name] for name in _TEST if name in folders), None)
    if train is None or test is None or not (holds_images(train) and holds_images(test)):
        return None
    return train, test


def _walk(root: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the sub-folders and the name of every file that is not hidden."""
    for folder, names, leaves in os.walk(root, onerror=_raise):
        names[:] = sorted(name for name in names if not name.startswith("."))
        parts = Path(folder).relative_to(root).parts
        for leaf in leaves:
            if not leaf.startswith("."):
                yield parts, leaf


def _raise(error: OSError) -> None:
    raise error
