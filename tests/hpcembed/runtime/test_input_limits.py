"""Limits on input files and the environment variables that raise them."""

import gzip

import pytest
from PIL import Image

from hpcembed.data import file_validation
from hpcembed.data.file_validation import open_stream
from hpcembed.data.images import decoding
from hpcembed.data.images.decoding import Decoder
from hpcembed.data.line_ranges import TextFile, line_blocks
from hpcembed.runtime.errors import ConfigError, InputError, MemoryLimitError
from hpcembed.runtime.input_limits import MAX_EXPANSION, MAX_LINE_MIB, MAX_PIXELS, limit_of


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "1" * 30, "\u0661"])
def test_values_that_are_no_limit(monkeypatch, text):
    monkeypatch.setenv(MAX_PIXELS, text)
    with pytest.raises(ConfigError, match=MAX_PIXELS):
        limit_of(MAX_PIXELS, 1)


def test_values(monkeypatch):
    assert limit_of(MAX_PIXELS, 7) == 7
    monkeypatch.setenv(MAX_PIXELS, "12")
    assert limit_of(MAX_PIXELS, 7) == 12


def test_expansion(monkeypatch, tmp_path):
    monkeypatch.setattr(file_validation, "_FREE_EXPANSION", 2**10)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(2**20)))
    with pytest.raises(InputError, match=MAX_EXPANSION), open_stream(path) as stream:
        stream.read()
    monkeypatch.setenv(MAX_EXPANSION, "2000")
    with open_stream(path) as stream:
        assert len(stream.read()) == 2**20


def test_lines(monkeypatch, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * (3 * 2**20))
    read = lambda: b"".join(line_blocks(TextFile(path), 0, 3 * 2**20, 2**10))  # noqa: E731
    assert len(read()) == 3 * 2**20
    monkeypatch.setenv(MAX_LINE_MIB, "1")
    with pytest.raises(InputError, match=f"a line of more than 1 MiB.*{MAX_LINE_MIB}"):
        read()


def test_pixels(monkeypatch, tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    path = str(tmp_path / "a.png")
    Image.new("L", (3000, 2000)).save(path)
    try:
        monkeypatch.setenv(MAX_PIXELS, "1000000")
        with pytest.raises(InputError, match=f"more pixels than .*{MAX_PIXELS}"):
            Decoder.like_first(path, None, "auto")
        monkeypatch.setenv(MAX_PIXELS, "6000000")
        assert Decoder.like_first(path, None, "auto").size == (3000, 2000)
        # 20 bytes of each pixel are compared with the memory
        monkeypatch.setattr(decoding, "available_here", lambda: 119_000_000)
        with pytest.raises(MemoryLimitError, match=r"a\.png: decoding needs 114.4 MiB"):
            Decoder.like_first(path, None, "auto")
    finally:
        Image.MAX_IMAGE_PIXELS = before
