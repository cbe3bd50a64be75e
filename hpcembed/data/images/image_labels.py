"""Labels of images in a CSV file: one line for each image, with its file name and its label.

The first line may name the columns: ``data.label_column`` is then the label, and a column named
``file``, ``image``, ``id`` or similar the file name. By default the first column is the file name
and the second one the label. File names may lack their folder or their ending.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from hpcembed.data.file_validation import file_size, named_errors, open_stream
from hpcembed.data.images.image_files import ImageFile, is_image
from hpcembed.data.labels import unusable
from hpcembed.runtime.errors import InputError

__all__ = ["ImageLabels", "open_image_labels"]

_NAMES = (
    "file", "filename", "file_name", "image", "image_name", "image_id", "img", "path", "filepath",
    "id", "name",
)  # fmt: skip


class ImageLabels:
    """The label of each image by its file name.

    Attributes
    ----------
    name : str
        The file.
    """

    def __init__(self, name: str, rows: Sequence[tuple[int, str, str]]) -> None:
        self.name = name
        self._labels: dict[str, tuple[int, str]] = {}
        for line, file, label in rows:
            file = file.replace("\\", "/").removeprefix("./")
            if reason := unusable(label):
                raise InputError(f"{name}: line {line}: the label is {reason}: remove such lines")
            line_before, before = self._labels.get(file, (line, label))
            if before != label:
                raise InputError(
                    f"{name}: line {line}: {file!r} has another label in line {line_before}: "
                    "remove one"
                )
            self._labels[file] = line_before, label
        self.n_labels = len(self._labels)

    def select(self, images: Sequence[ImageFile]) -> list[tuple[ImageFile, str]]:
        """Return the images that have a label, and their labels.

        Raises
        ------
        InputError
            A line names no image, or a name stands for several ones.
        """
        found: list[tuple[ImageFile, str]] = []
        used: dict[str, str] = {}
        for image in images:
            for key in _keys(image.name):
                if key not in self._labels:
                    continue
                if key in used:
                    raise InputError(
                        f"{self.name}: {key!r} stands for {used[key]} and {image.path}: write the "
                        "names with folder and ending"
                    )
                used[key] = image.path
                found.append((image, self._labels[key][1]))
                break
        for file, (line, _) in self._labels.items():
            if file not in used:
                raise InputError(
                    f"{self.name}: line {line}: no image {file!r} in the folder: remove the line, "
                    "or check data.train and data.test"
                )
        return found


def open_image_labels(path: Path, label_column: str) -> ImageLabels:
    """Read a CSV file of file names and labels.

    Raises
    ------
    InputError
        The file is missing or not a table, or has no column of this name.
    """
    file_size(path)
    with named_errors(path), open_stream(path) as stream:
        raw = stream.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: a CSV file of file names and labels is needed") \
            from error  # fmt: skip
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file of file names and labels: {error}") from error
    if not lines:
        raise InputError(f"{path}: no line with a file name and a label")
    file_at, label_at, has_header = _columns(path, lines[0][1], label_column)
    rows = []
    for number, row in lines[has_header:]:
        if len(row) <= max(file_at, label_at):
            raise InputError(
                f"{path}: line {number}: {len(row)} columns where a file name and a label are "
                "needed"
            )
        rows.append((number, row[file_at], row[label_at]))
    return ImageLabels(str(path), rows)


def _columns(path: Path, first: Sequence[str], label_column: str) -> tuple[int, int, bool]:
    """Return the columns of file name and label, and whether the first line names the columns."""
    lower = [name.lower() for name in first]
    named = [i for i, name in enumerate(lower) if name in _NAMES]
    has_header = bool(named) or (label_column in first and not any(map(is_image, first)))
    if label_column and label_column not in first:
        raise InputError(
            f"{path}: no column {label_column!r}; it has {', '.join(first[:20])}: set "
            "data.label_column"
        )
    file_at = named[0] if named else 0
    if label_column:
        return file_at, first.index(label_column), True
    return file_at, next(i for i in range(2) if i != file_at), has_header


def _keys(name: str) -> list[str]:
    """Return the ways to write the name of an image: with and without folder and ending."""
    path = PurePosixPath(name)
    return list(dict.fromkeys([name, path.name, str(path.with_suffix("")), path.stem]))
