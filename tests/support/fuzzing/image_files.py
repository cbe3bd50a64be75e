"""Images in folders: PNG, JPEG, BMP, GIF, TIFF."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fuzzing.formats import Files, Format, Rng, register
from fuzzing.mutations import HOSTILE_INTEGERS, mutate, pick
from fuzzing.reading import read_as_job

_MODES = {"png": ("L", "RGB", "RGBA", "P", "1", "LA", "I;16"), "jpeg": ("L", "RGB", "CMYK"),
          "bmp": ("L", "RGB", "P", "1"), "gif": ("L", "P", "RGB"),
          "tiff": ("L", "RGB", "RGBA", "P", "I;16", "F", "1", "CMYK")}  # fmt: skip


def _encoded(rng: Rng, kind: str, mode: str, pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype("u2") * 257)
    elif mode != image.mode:
        image = image.convert(mode)
    options: dict[str, Any] = {}
    if kind == "tiff":
        options["compression"] = pick(rng, (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"))
    if kind == "png" and image.width == image.height and rng.random() < 0.2:
        options["exif"] = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    image.save(stream, kind, **options)
    return stream.getvalue()


def _images(kind: str, rng: Rng) -> tuple[Files, Any]:
    n, size = 5, (int(rng.integers(2, 9)), int(rng.integers(2, 9)))
    pixels = rng.integers(0, 256, (n, *size, 3)).astype(np.uint8)
    files = {f"a/{'xy'[i % 2]}/{i}.{kind}": _encoded(rng, kind, "RGB", pixels[i]) for i in range(n)}
    order = sorted(range(n), key=lambda i: (i % 2, i))
    labels = ["xy"[i % 2] for i in order]
    lossless = kind in ("bmp", "tiff") or (kind == "png" and size[0] != size[1])
    rows = pixels[order].reshape(n, -1).astype(np.float64)
    return files, (rows, labels) if lossless else None


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content) & 0xFFFFFFFF
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def _hostile_png(rng: Rng) -> bytes:
    """Return a PNG with right check sums and a wrong header, chunk or amount of data."""
    sizes = (1, 8, 9, 1000, 9000, 2**16, 2**31 - 1, 0, *HOSTILE_INTEGERS)
    width, height = pick(rng, sizes) % 2**32, pick(rng, sizes) % 2**32
    depth, colour = pick(rng, (1, 2, 4, 8, 16, 3, 0)), pick(rng, (0, 2, 3, 4, 6, 1, 255))
    interlace = pick(rng, (0, 0, 1, 9))
    head = struct.pack(">2I5B", width, height, depth, colour, 0, 0, interlace)
    data = zlib.compress(bytes(int(pick(rng, (0, 100, 2**17, 2**23)))), 1)
    extra = pick(
        rng,
        (
            b"",
            _chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**23), 1)),
            _chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2**23), 1)),
            _chunk(b"PLTE", b"\0" * int(pick(rng, (3, 4, 9000)))),
            _chunk(b"tRNS", bytes(int(pick(rng, (1, 300))))),
            _chunk(b"eXIf", rng.bytes(40)),
            _chunk(b"acTL", struct.pack(">2I", 2**31, 0)),
        ),
    )
    chunks = [_chunk(b"IHDR", head), extra, _chunk(b"IDAT", data), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _hostile(kind: str, rng: Rng) -> Files:
    files, _ = _images(kind, rng)
    name = pick(rng, list(files))
    which = int(rng.integers(6))
    if which < 2:
        files[name] = mutate(rng, files[name]) if kind != "png" else _hostile_png(rng)
    elif which == 2:
        size = int(rng.integers(1, 9))
        pixels = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
        mode = pick(rng, _MODES[kind])
        files = {key: _encoded(rng, kind, mode, pixels) for key in files}
    elif which == 3:  # many pixels of one colour
        side = int(pick(rng, (500, 2000, 4000)))
        image, stream = Image.new("L", (side, side)), io.BytesIO()
        image.save(stream, kind)
        files[name] = stream.getvalue()[: 2**22]
    elif which == 4:
        folder = pick(rng, ("\x1b[31m", "<b>", "=1", "a" * 200, "nan", "a\nb"))
        files[f"a/{folder}/1.{kind}"] = files.pop(name)
    else:
        files["outside/secret.txt"] = b"secret"
        files[f"a/x/link.{kind}"] = pick(
            rng, (b"link:../../outside/secret.txt", b"link:gone", b"link:/dev/zero", b"link:..")
        )
    return files


def _read(folder: Path) -> Any:
    return read_as_job(folder, train=("a",), format="images")


def _register(kind: str) -> None:
    register(
        Format(
            f"images {kind}",
            lambda rng: _images(kind, rng),
            _read,
            lambda rng: _hostile(kind, rng),
        )
    )


for one in _MODES:
    _register(one)
