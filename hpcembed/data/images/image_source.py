"""Images as a table: one row of pixels (uint8) for each image.

Pixels are in the order height, width, channel. Every rank lists the files, and decodes those of its
own rows. Size and mode are those of the first image unless they are stated; they are kept with the
table, so that further images are decoded alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mpi4py import MPI

from hpcembed.data.file_validation import BLOCK_BYTES
from hpcembed.data.images.decoding import Decoder, check_pillow, parse_size
from hpcembed.data.images.image_files import list_images
from hpcembed.data.images.image_labels import ImageLabels
from hpcembed.data.labels import LocalLabels, RowLabels, as_classes, labels_from_text, no_labels
from hpcembed.data.table import Summary, Table
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range

__all__ = ["ImageSource"]


class ImageSource:
    """The images of folders, or some image files, as one table.

    Parameters
    ----------
    paths : sequence of Path
        Folders of images, with a sub-folder for each class, or image files.
    labels : ImageLabels, bool or None
        Labels by file name; True: the name of the sub-folder is the label, and every image needs
        one; None: the label is the name of the sub-folder, or empty outside of sub-folders.
    image_size : str
        ``WIDTHxHEIGHT``, or "native": all images must have the size of the first one.
    image_mode : {"auto", "grey", "rgb"}

    Attributes
    ----------
    row_shape : tuple of int
        Height, width and, for colours, 3.
    reading : dict
        ``image_size`` and ``image_mode``, auto replaced by the mode that was found.

    Raises
    ------
    InputError
        There are no images, an image has no class, or the first image cannot be decoded.
    ConfigError
        A wrong size, or Pillow is not installed.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: ImageLabels | bool | None,
        *,
        image_size: str = "native",
        image_mode: Literal["auto", "grey", "rgb"] = "auto",
    ) -> None:
        check_pillow()
        size = parse_size(image_size)
        self.source = ", ".join(map(str, paths))
        self.images = list_images(paths)
        self._labels: list[str] = [image.folder for image in self.images]
        self._is_labelled = bool(labels) or any(self._labels)
        self._named_by = "folders"
        if isinstance(labels, ImageLabels):
            self._named_by = "labels"
            selected = labels.select(self.images)
            self.images = [image for image, _ in selected]
            self._labels = [label for _, label in selected]
        elif labels:
            self._check_folders()
        self.decoder = Decoder.like_first(self.images[0].path, size, image_mode)
        self.row_shape = self.decoder.row_shape
        self.reading: dict[str, Any] = {
            "image_size": image_size, "image_mode": self.decoder.mode,
            "row_shape": list(self.row_shape),
        }  # fmt: skip

    def _check_folders(self) -> None:
        for image in self.images:
            if not image.folder:
                raise InputError(
                    f"{image.path}: is in no sub-folder, which would name its class: put the "
                    "images of each class into a folder of their own, or set data.train_labels to "
                    "a CSV file of file names and labels"
                )

    @property
    def summary(self) -> Summary:
        """Number of images and of pixels, and type. Not collective."""
        return Summary(len(self.images), math.prod(self.row_shape), np.dtype(np.uint8))

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes that reading needs on the rank that needs most. Not collective."""
        share = -(-len(self.images) // comm.size)
        return share * (math.prod(self.row_shape) + 200) + 2 * BLOCK_BYTES

    def read(self, comm: MPI.Comm) -> Table:
        """Decode the images of this rank. Collective."""
        n_rows = len(self.images)
        start, stop = ownership_range(n_rows, comm)
        own = self.images[start:stop]
        with agreement(comm):
            labels = self._local_labels(start, stop)
            rows = np.empty((len(own), math.prod(self.row_shape)), dtype=np.uint8)
            for row, image in zip(rows, own, strict=True):
                row[:] = self.decoder.decode(image.path).reshape(-1)
        names = tuple(image.name for image in own)
        return Table(
            rows, labels, start, n_rows, (), self.source, reading=self.reading, row_names=names
        )

    def _local_labels(self, start: int, stop: int) -> RowLabels:
        texts, name = self._labels[start:stop], f"{self.source}, {self._named_by}"
        if not self._is_labelled:
            return no_labels(len(texts))
        if all(texts):
            labels = labels_from_text(texts, name, start)
            is_named = self._named_by == "folders"
            return replace(as_classes(labels), are_classes=True) if is_named else labels
        codes = {text: code for code, text in enumerate(dict.fromkeys(texts))}
        return LocalLabels(np.array([codes[text] for text in texts], np.int64), tuple(codes), name)
