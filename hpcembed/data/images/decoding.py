"""Decoding of an image to pixels of 8 bits, by Pillow.

The first frame of a file is turned upright by its EXIF orientation. Transparent pixels are blended
with white. Greys of 16 bits are divided by 257, so 65535 becomes 255. Colours become grey by their
luminance (ITU-R 601-2). An image that is resized is stretched to the new size, by bilinear
interpolation over all pixels that a new pixel covers.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.file_validation import open_plain
from hpcembed.runtime.errors import ConfigError, HpcembedError, InputError
from hpcembed.runtime.input_limits import MAX_PIXELS, limit_of
from hpcembed.runtime.machine.memory import available_here, check_fits, memory_error

__all__ = ["Decoder", "check_pillow", "parse_size"]

Mode = Literal["grey", "rgb"]

#: Pillow's names of the formats: others are not opened.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, KeyError, OverflowError,
    struct.error, zlib.error,
)  # fmt: skip
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_ALPHA_MODES = ("LA", "La", "RGBA", "RGBa", "PA")
_LONGEST_SIDE = 2**16
#: Bytes of a pixel while it is decoded: as stored, with transparency, on white, as a result.
_BYTES_PER_PIXEL = 20
_BLOCK_PIXELS = 2**20
#: Memory for which the available memory is not determined.
_FREE_BYTES = 2**26


def check_pillow() -> None:
    """Raise ConfigError if Pillow, which decodes images, is not installed."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            'data.format = images needs Pillow: install it with pip install "hpcembed[images]", '
            "or pip install pillow"
        ) from error


def parse_size(text: str) -> tuple[int, int] | None:
    """Return width and height of ``data.image_size``, None for "native".

    Raises
    ------
    ConfigError
        Another text.

    Examples
    --------
    >>> parse_size("32x24"), parse_size("native")
    ((32, 24), None)
    """
    if text == "native":
        return None
    words = text.lower().split("x")
    if len(words) == 2 and all(word.isdecimal() and len(word) < 6 for word in words):
        width, height = int(words[0]), int(words[1])
        if 1 <= width <= _LONGEST_SIDE and 1 <= height <= _LONGEST_SIDE:
            return width, height
    raise ConfigError(f"data.image_size = {text!r}: write WIDTHxHEIGHT, as 32x32, or native")


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes images to one size and mode.

    Attributes
    ----------
    size : tuple of int
        Width and height.
    mode : {"grey", "rgb"}
    resizes : bool
        Resize images of another size; else they are refused.
    converts : bool
        Convert colours to grey; else colour images are refused.
    """

    size: tuple[int, int]
    mode: Mode
    resizes: bool
    converts: bool = True

    @classmethod
    def like_first(
        cls, path: str, size: tuple[int, int] | None, mode: Literal["auto", "grey", "rgb"]
    ) -> Decoder:
        """Return the decoder of images that are like a first one.

        Parameters
        ----------
        path : str
            The first image: its size if `size` is None, and its mode if `mode` is auto, are those
            of all images.

        Raises
        ------
        InputError
            The file cannot be decoded.
        """
        with _opened(path) as image:
            grey = image.mode in _GREY_MODES
            found: Mode = mode if mode != "auto" else "grey" if grey else "rgb"
            return cls(size or image.size, found, size is not None, mode != "auto")

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of an image: height, width and, for colours, 3."""
        width, height = self.size
        return (height, width) if self.mode == "grey" else (height, width, 3)

    def decode(self, path: str) -> NDArray[np.uint8]:
        """Decode an image to an array of :attr:`row_shape`.

        Raises
        ------
        InputError
            The file is damaged, too large, or of another size or mode; the message names it.
        """
        with _opened(path) as image:
            if not self.converts and self.mode == "grey" and image.mode not in _GREY_MODES:
                raise InputError(
                    f"{path}: a colour image where the first image is grey: set data.image_mode = "
                    "rgb or grey"
                )
            if image.size != self.size and not self.resizes:
                width, height = image.size
                raise InputError(
                    f"{path}: {width} x {height} pixels where the first image has {self.size[0]} x "
                    f"{self.size[1]}: set data.image_size, as {self.size[0]}x{self.size[1]}, to "
                    "resize all images"
                )
            image = _eight_bits(image, path)
            image, wanted = _on_white(image), "L" if self.mode == "grey" else "RGB"
            if image.mode != wanted:
                image = image.convert(wanted)
            if image.size != self.size:
                from PIL import Image

                image = image.resize(self.size, Image.Resampling.BILINEAR)
            return np.asarray(image, dtype=np.uint8)


@cache
def _known_formats() -> list[str]:
    """Return the formats that this build of Pillow reads."""
    from PIL import Image

    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open and decode an image, upright; report all errors with its name."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    most = limit_of(MAX_PIXELS, 0)
    if most:
        Image.MAX_IMAGE_PIXELS = most
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata do not matter
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Lengths of chunks in a file are not to be believed.
            with (
                open_plain(Path(path)) as file,
                Image.open(file, formats=_known_formats()) as image,
            ):
                _check_memory(image, path)
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                yield image
    except HpcembedError:
        raise
    except MemoryError as error:
        raise memory_error(error, path) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{path}: more pixels than Pillow's limit of {Image.MAX_IMAGE_PIXELS:,}: make the "
            f"image smaller, or set the environment variable {MAX_PIXELS}"
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: not an image of a known format: remove it, or copy it again"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except _ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: damaged or truncated ({reason[:80]}): copy it again") from error


def _check_memory(image: Any, path: str) -> None:
    """Compare the memory for the pixels, which the header declares, with the available memory."""
    needed = image.width * image.height * _BYTES_PER_PIXEL
    if needed > _FREE_BYTES:
        check_fits(needed, available_here(), f"{path}: decoding", "make the image smaller")


def _eight_bits(image: Any, path: str) -> Any:
    """Return greys of more than 8 bits as 8 bits."""
    from PIL import Image

    if image.mode not in _GREY_MODES[4:]:
        return image
    values = np.asarray(image)
    if values.size and not (values.min() >= 0 and values.max() <= 65535):
        raise InputError(
            f"{path}: greys from {values.min():g} to {values.max():g}, beyond 16 bits: convert it "
            "to 8 bits"
        )
    grey = np.empty(values.shape, dtype=np.uint8)
    step = max(1, _BLOCK_PIXELS // max(1, image.width))
    for first in range(0, image.height, step):  # quotients are double numbers
        grey[first : first + step] = np.round(values[first : first + step] / 257.0)
    return Image.fromarray(grey)


def _on_white(image: Any) -> Any:
    """Blend transparent pixels with white."""
    from PIL import Image

    if image.mode not in _ALPHA_MODES and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer)
