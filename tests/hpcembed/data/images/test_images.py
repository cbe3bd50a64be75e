"""Folders of images: decoding, classes, sizes, damaged files."""

from __future__ import annotations

import contextlib
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpcembed.data.formats import format_of
from hpcembed.data.images.decoding import Decoder, parse_size
from hpcembed.data.images.image_files import list_images
from hpcembed.data.reading import describe_dataset, read_dataset, read_tables
from hpcembed.data.settings import DataSettings
from hpcembed.runtime.errors import ConfigError, InputError

SIDE = 6


def picture(seed: int, shape=(SIDE, SIDE, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def write_folder(root: Path, n: int = 5, shape=(SIDE, SIDE, 3)) -> np.ndarray:
    """Two classes of n images; return the pixels in the order of the files."""
    pixels = []
    for i, kind in enumerate(("cat", "dog")):
        for j in range(n):
            pixels.append(picture(10 * i + j, shape))
            save(root / kind / f"{j:02}.png", pixels[-1])
    return np.array(pixels)


def job(**keys) -> DataSettings:
    return DataSettings(train=("pets",), **keys)


@pytest.mark.mpi
@pytest.mark.parametrize("shape", [(SIDE, SIDE, 3), (SIDE, 4)])
def test_a_folder_on_any_number_of_ranks(shared_tmp, comm, shape):
    pixels = np.array(0)
    if comm.rank == 0:
        pixels = write_folder(shared_tmp / "pets", shape=shape)
        (shared_tmp / "pets" / "cat" / ".hidden.png").write_bytes(b"")
        (shared_tmp / "pets" / "cat" / "Thumbs.db").write_bytes(b"no image")
    pixels = comm.bcast(pixels)
    assert format_of(job(), shared_tmp) == "images"
    about = describe_dataset(job(), shared_tmp, comm)
    assert (about.n_rows, about.n_features, about.dtype) == ((8, 2), np.prod(shape), "uint8")
    (table,) = read_tables(job(), shared_tmp, comm)
    np.testing.assert_array_equal(
        np.concatenate(comm.allgather(table.rows)), pixels.reshape(10, -1)
    )
    names = [table.labels.values[code] for code in table.labels.codes]
    assert [one for part in comm.allgather(names) for one in part] == ["cat"] * 5 + ["dog"] * 5
    files = [one for part in comm.allgather(table.row_names) for one in part]
    assert files[4:7] == ["cat/04.png", "dog/00.png", "dog/01.png"]
    mode = "rgb" if len(shape) == 3 else "grey"
    assert table.reading == {
        "image_size": "native", "image_mode": mode, "row_shape": list(shape),
    }  # fmt: skip


@pytest.mark.mpi
def test_a_damaged_image_is_named_on_all_ranks(shared_tmp, comm):
    if comm.rank == 0:
        write_folder(shared_tmp / "pets")
        path = shared_tmp / "pets" / "dog" / "03.png"
        path.write_bytes(path.read_bytes()[:60])
    comm.Barrier()
    with pytest.raises(InputError, match=r"dog/03\.png: damaged or truncated .*: copy it again"):
        read_dataset(job(), shared_tmp, comm)


def test_training_and_test_folders(tmp_path, comm):
    write_folder(tmp_path / "pets" / "train", 4)
    write_folder(tmp_path / "pets" / "Test", 2)
    for keys in ({}, {"split": "own"}):
        data = read_dataset(job(**keys), tmp_path, comm)
        assert (data.train.n_rows, data.test.n_rows) == (8, 4)
        assert data.train.class_names == ("cat", "dog")
    named = DataSettings(train=("pets/train",), test=("pets/Test",))
    assert read_dataset(named, tmp_path, comm).test.n_rows == 4
    for path in (tmp_path / "pets" / "Test").rglob("*.png"):
        save(path, picture(1, (SIDE, SIDE + 1, 3)))
    with pytest.raises(InputError, match=r"Test: 126 features where the training rows .* 108"):
        read_dataset(job(), tmp_path, comm)


def test_test_images_have_the_mode_of_the_training_images(tmp_path, comm):
    write_folder(tmp_path / "pets" / "train", 4)
    write_folder(tmp_path / "pets" / "test", 2, (SIDE, SIDE))
    data = read_dataset(job(), tmp_path, comm)
    pixels = data.test.rows.reshape(4, SIDE, SIDE, 3)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (
            "{0}/00.png,x\n{0}/01.png,y\n{1}/02.png,x\n{1}/00.png,x\n{1}/03.png,y\n{0}/04.png,y\n",
            {},
        ),
        ("image_id;kind;note\n01;y;a\n00;x;b\n03;y;c\n02;x;d\n", {"label_column": "kind"}),
        ("kind,file\ny,01.png\nx,00.png\ny,03.png\nx,02.png\n", {"label_column": "kind"}),
    ],
)
def test_labels_in_a_csv_file(tmp_path, comm, text, keys):
    pixels = write_folder(tmp_path / "pets")
    folders = text.startswith("{0}")
    if not folders:
        for i in range(5):
            (tmp_path / "pets" / "cat" / f"{i:02}.png").rename(tmp_path / "pets" / f"{i:02}.png")
        for path in (tmp_path / "pets" / "dog").iterdir():
            path.unlink()
    (tmp_path / "labels.csv").write_text(text.format("cat", "dog"))
    (table,) = read_tables(job(train_labels="labels.csv", **keys), tmp_path, comm)
    own = [0, 1, 4, 5, 7, 8] if folders else [0, 1, 2, 3]
    np.testing.assert_array_equal(table.rows, pixels.reshape(10, -1)[own])
    labels = [table.labels.values[code] for code in table.labels.codes]
    assert labels == (list("xyyxxy") if folders else list("xyxy"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat/00.png,x\ncat/09.png,y\n", r"line 2: no image 'cat/09.png' in the folder"),
        ("cat/00.png,x\ncat/00.png,y\n", r"line 2: 'cat/00.png' has another label in line 1"),
        ("cat/00.png,x\ncat/01.png\n", r"line 2: 1 columns where a file name and a label"),
        ("cat/00.png,x\ncat/01.png,\n", r"line 2: the label is empty"),
        ("00.png,x\ncat/01.png,y\n", r"'00.png' stands for .*cat/00.png and .*dog/00.png"),
        ("", r"the file is empty"),
        ("\n", r"no line with a file name"),
    ],
)
def test_bad_lines_of_labels_are_named(tmp_path, comm, text, words):
    write_folder(tmp_path / "pets")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=rf"labels\.csv: .*{words}|labels\.csv: {words}"):
        read_dataset(job(train_labels="labels.csv"), tmp_path, comm)


def test_an_odd_size_is_refused_or_resized(tmp_path, comm):
    write_folder(tmp_path / "pets")
    save(tmp_path / "pets" / "dog" / "02.png", np.full((12, 9, 3), 77, np.uint8))
    with pytest.raises(InputError, match=r"dog/02\.png: 9 x 12 pixels .* 6 x 6: set data.image_si"):
        read_dataset(job(), tmp_path, comm)
    (table,) = read_tables(job(image_size="3x2"), tmp_path, comm)
    assert table.reading["row_shape"] == [2, 3, 3]
    np.testing.assert_array_equal(table.rows[7], np.full(18, 77))
    with pytest.raises(ConfigError, match="write WIDTHxHEIGHT"):
        read_dataset(job(image_size="3"), tmp_path, comm)


def test_images_outside_of_folders_have_no_class(tmp_path, comm):
    write_folder(tmp_path / "pets")
    save(tmp_path / "pets" / "lost.png", picture(1))
    with pytest.raises(InputError, match=r"lost\.png: is in no sub-folder"):
        read_dataset(job(), tmp_path, comm)


def test_colours_where_the_first_image_is_grey(tmp_path, comm):
    write_folder(tmp_path / "pets", shape=(SIDE, SIDE))
    save(tmp_path / "pets" / "dog" / "01.png", picture(1))
    with pytest.raises(InputError, match=r"dog/01\.png: a colour image where the first image is g"):
        read_dataset(job(), tmp_path, comm)
    (table,) = read_tables(job(image_mode="grey"), tmp_path, comm)
    red, green, blue = picture(1)[0, 0].tolist()
    assert abs(int(table.rows[6, 0]) - (0.299 * red + 0.587 * green + 0.114 * blue)) < 1
    assert read_tables(job(image_mode="rgb"), tmp_path, comm)[0].rows.shape == (10, 108)


def decoded(path: Path, mode="rgb") -> np.ndarray:
    return Decoder.like_first(str(path), None, mode).decode(str(path))


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "tif", "webp", "ppm"])
def test_lossless_formats(tmp_path, ending):
    pixels = np.repeat(picture(3, (SIDE, SIDE, 1)) // 64 * 64, 3, axis=2)
    options = {"lossless": True} if ending == "webp" else {}
    save(tmp_path / f"a.{ending}", pixels, **options)
    np.testing.assert_array_equal(decoded(tmp_path / f"a.{ending}"), pixels)


def test_jpeg_is_close(tmp_path):
    pixels = np.full((SIDE, SIDE, 3), (200, 100, 50), np.uint8)
    save(tmp_path / "a.jpg", pixels, quality=95)
    assert np.abs(decoded(tmp_path / "a.jpg").astype(int) - pixels).max() <= 4


def test_the_first_frame_of_a_moving_image(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), level, np.uint8)) for level in (0, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decoded(tmp_path / "a.gif", "grey").max() == 0


def test_transparent_pixels_are_white(tmp_path):
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = [0, 255, 51]
    save(tmp_path / "a.png", pixels)
    assert decoded(tmp_path / "a.png")[0, :, 0].tolist() == [255, 0, 204]
    grey = np.zeros((1, 2, 2), np.uint8)
    grey[0, 0, 1] = 255
    save(tmp_path / "b.png", grey)
    assert decoded(tmp_path / "b.png", "auto").tolist() == [[0, 255]]


def test_greys_of_16_bits_and_beyond(tmp_path):
    values = np.array([[0, 257, 128, 65535]], np.uint16)
    save(tmp_path / "a.png", values)
    assert decoded(tmp_path / "a.png", "auto").tolist() == [[0, 1, 0, 255]]
    save(tmp_path / "a.tif", values.astype(np.int32) * 2)
    with pytest.raises(InputError, match=r"a\.tif: greys from 0 to 131070, beyond 16 bits"):
        decoded(tmp_path / "a.tif", "auto")


def test_exif_turns_an_image_upright(tmp_path):
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    save(tmp_path / "a.png", pixels, exif=exif)
    upright = decoded(tmp_path / "a.png")
    assert upright.shape == (8, 4, 3)
    assert (upright[:4] == 255).all()
    assert (upright[4:] == 0).all()


def test_decompression_bombs_are_refused(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    for side in (10_000, 30_000):
        head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        data = zlib.compress(b"\0" * 10_000)
        parts = [chunk(b"IHDR", head), chunk(b"IDAT", data), chunk(b"IEND", b"")]
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
        with pytest.raises(InputError, match=r"a\.png: more pixels than Pillow's limit"):
            decoded(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"GIF89a\1\0"])
def test_files_that_are_no_images(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: .*: (remove it, or )?copy it again$"):
        decoded(tmp_path / "a.png")


def test_sizes():
    assert parse_size("640X480") == (640, 480)
    for wrong in ("", "0x3", "3x", "3x3x3", "-1x2", "999999x1"):
        with pytest.raises(ConfigError):
            parse_size(wrong)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "pets").mkdir()
    with pytest.raises(InputError, match="no image files in it"):
        list_images([tmp_path / "pets"])
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        list_images([tmp_path / "nowhere"])


def test_without_pillow(tmp_path, comm, monkeypatch):
    write_folder(tmp_path / "pets")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError, match=r"needs Pillow: install it with pip install"):
        read_dataset(job(), tmp_path, comm)


def test_names_of_folders_are_classes_and_numbers_of_a_file_are_targets(tmp_path, comm):
    lines = ["file,age"]
    for number in range(100):
        folder = f"{number % 25 + 0.5}"
        save(tmp_path / "faces" / folder / f"{number}.png", picture(number))
        lines.append(f"{number}.png,{20 + number / 4}")
    (tmp_path / "ages.csv").write_text("\n".join(lines) + "\n")
    config = DataSettings(format="images", train=("faces",))
    assert read_dataset(config, tmp_path, comm).task == "classification"
    config = DataSettings(format="images", train=("faces",), train_labels="ages.csv")
    assert read_dataset(config, tmp_path, comm).task == "regression"


def test_greys_of_16_bits_are_rounded_in_blocks(tmp_path):
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    for block in (2**20, 1000, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hpcembed.data.images.decoding._BLOCK_PIXELS", block)
            found = Decoder.like_first(path, None, "auto").decode(path)
        np.testing.assert_array_equal(found, np.round(values / 257.0))


def test_a_chunk_that_declares_any_length(tmp_path):
    path = tmp_path / "a.png"
    save(path, picture(0))
    content = path.read_bytes()
    for name in (b"IDAT", b"IEND"):
        place = content.index(name)
        path.write_bytes(content[: place - 4] + struct.pack(">I", 2**31 - 1) + content[place:])
        tracemalloc.start()
        with contextlib.suppress(InputError):
            Decoder.like_first(str(path), None, "auto").decode(str(path))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**27
