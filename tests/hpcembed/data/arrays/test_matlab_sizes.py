"""MATLAB files that declare more than they contain, or something else."""

import io
import struct
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from hpcembed.data.arrays.matlab import matlab_names, open_matlab_labels, open_matlab_rows
from hpcembed.data.arrays.matlab_sizes import check_sizes
from hpcembed.runtime.errors import InputError

ROWS = np.arange(12.0).reshape(4, 3)


def stored(**arrays) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, arrays)
    return stream.getvalue()


def packed(content: bytes) -> bytes:
    body = zlib.compress(content[128:])
    return content[:128] + struct.pack("<2I", 15, len(body)) + body


@pytest.fixture
def check(tmp_path):
    """Write a file and check its sizes, with little memory."""

    def run(content: bytes) -> None:
        path = tmp_path / "a.mat"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            check_sizes(path)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 2**24

    return run


KINDS = {
    "rows": {"x": ROWS}, "integers": {"x": ROWS.astype("u1")}, "complex": {"x": ROWS + 1j},
    "text": {"x": ["ab", "cd"]}, "no text": {"x": ""}, "empty": {"x": np.zeros((0, 3))},
    "sparse": {"x": scipy.sparse.csc_matrix((10**6, 10**6))}, "struct": {"x": {"a": 1, "b": "c"}},
    "cells": {"x": np.array([[1.0], ["x"], [np.array([1, 2])]], dtype=object)},
    "many": {"x": ROWS, "y": [1, 2], "z": "text"}, "large": {"x": np.zeros((2**18, 8))},
}  # fmt: skip


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_scipy_pass(check, kind, compress):
    stream = io.BytesIO()
    scipy.io.savemat(stream, KINDS[kind], do_compression=compress)
    check(stream.getvalue())


def test_files_of_version_4_pass(check):
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"x": ROWS, "y": ROWS + 1j, "z": "text"}, format="4")
    check(stream.getvalue())


@pytest.mark.parametrize("pack", [bytes, packed], ids=["plain", "compressed"])
@pytest.mark.parametrize(
    ("place", "number", "words"),
    [
        (4, 2**31, "an element declares|a compressed element declares"),  # the matrix
        (32, -5, "declares the shape"),  # its first dimension
        (32, 2**31 - 1, "declares the shape"),
        (28, 2**30, "flags or sizes of an array have 1073741824 bytes"),
        (52, 2**31, "an element declares 2147483648 bytes"),  # its data
    ],
)
def test_sizes_beyond_the_file_are_refused(check, place, number, words, pack):
    content = bytearray(stored(x=ROWS))
    content[128 + place : 132 + place] = struct.pack("<i" if number < 0 else "<I", number)
    with pytest.raises(InputError, match=f"a.mat: .*({words})"):
        check(pack(bytes(content)))


def test_cells_and_characters_without_contents_are_refused(check):
    """scipy makes as many as the dimensions say."""
    for arrays in ({"x": np.array([["a"], ["b"]], dtype=object)}, {"x": "ab"}):
        content = bytearray(stored(**arrays))
        content[128 + 32 : 128 + 36] = struct.pack("<I", 2**30)
        content[128 + 36 : 128 + 40] = struct.pack("<I", 2**30)
        with pytest.raises(InputError, match="declares the shape"):
            check(bytes(content))


@pytest.mark.parametrize("place", [4, 8, 16])
def test_version_4_beyond_the_file_is_refused(check, place):
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"x": ROWS}, format="4")
    content = bytearray(stream.getvalue())
    for number in (2**30, -3):
        content[place : place + 4] = struct.pack("<i", number)
        with pytest.raises(InputError, match=r"a variable of .* bytes are left"):
            check(bytes(content))


def test_cells_in_cells_without_end_are_refused(check):
    cell = np.zeros((1, 1), dtype=object)
    for _ in range(60):
        cell, inner = np.zeros((1, 1), dtype=object), cell
        cell[0, 0] = inner
    with pytest.raises(InputError, match="nested more than 50 deep"):
        check(stored(x=cell))


def test_damaged_files_are_errors_of_one_line(tmp_path):
    path = tmp_path / "a.mat"
    content = packed(stored(x=ROWS))
    for damaged in (content[:-20], content[:140] + b"\xff" * 8 + content[148:], bytes(200)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.mat"):
            matlab_names(path)


def test_unknown_types_of_elements_are_refused(tmp_path):
    """scipy 1.17 reads such an element beyond its memory."""
    path = tmp_path / "a.mat"
    matrix = scipy.sparse.csc_array(np.arange(1.0, 13).reshape(4, 3))
    content = bytearray(stored(x=matrix))
    place = content.index(struct.pack("<2I", 5, 48))  # 12 indices of rows
    content[place : place + 8] = struct.pack("<2I", 5, 32)
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"a\.mat: damaged: an element has the unknown type 0"):
        matlab_names(path)


def hdf5(tmp_path, fill):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def test_a_link_that_leads_nowhere_is_no_variable(tmp_path):
    def fill(file):
        file["x"], file["y"] = ROWS, h5py.SoftLink("/gone")

    assert matlab_names(hdf5(tmp_path, fill)) == ("x",)


@pytest.mark.parametrize(
    ("n_rows", "pointers"), [(3, 1), ("x", [0, 1]), ([1, 2], [0, 1]), (-1, [0, 0])]
)
def test_damaged_sparse_matrix(tmp_path, n_rows, pointers):
    def fill(file):
        file.create_group("x").attrs["MATLAB_sparse"] = n_rows
        file["x/jc"] = pointers

    with pytest.raises(InputError, match="x: a damaged sparse matrix"):
        open_matlab_rows(hdf5(tmp_path, fill), "x")


def test_labels_without_elements(tmp_path):
    path = hdf5(tmp_path, lambda file: file.create_dataset("y", data=h5py.Empty("f8")))
    with pytest.raises(InputError, match="y: an array without elements"):
        open_matlab_labels(path, "y")


@pytest.mark.parametrize("texts", [["a", "b"], b"bytes", 1.5])
def test_characters_that_are_no_codes_are_refused(tmp_path, texts):
    def fill(file):
        file["y"] = texts
        file["y"].attrs["MATLAB_class"] = np.bytes_("char")

    with pytest.raises(InputError, match=r"a\.mat:y: characters of type"):
        open_matlab_labels(hdf5(tmp_path, fill), "y")


def test_a_cell_of_bytes_is_an_empty_text(tmp_path):
    def fill(file):
        file["#refs#/a"] = b"bytes"
        file.create_dataset("y", (1, 1), h5py.ref_dtype)
        file["y"][0, 0] = file["#refs#/a"].ref
        file["y"].attrs["MATLAB_class"] = np.bytes_("cell")

    labels = open_matlab_labels(hdf5(tmp_path, fill), "y")
    assert [block.tolist() for block in labels.blocks(0, 1)] == [[[""]]]


@pytest.mark.parametrize("kind", ["group", "bomb", "empty"])
def test_cells_that_hold_no_text(tmp_path, kind):
    def fill(file):
        if kind == "group":
            target = file.create_group("#refs#/a")
        elif kind == "bomb":
            target = file.create_dataset("#refs#/a", (2**40,), "u2", chunks=(2**16,))
        else:
            target = file.create_dataset("#refs#/a", data=h5py.Empty("u2"))
        file.create_dataset("y", (1, 1), h5py.ref_dtype)
        file["y"][0, 0] = target.ref
        file["y"].attrs["MATLAB_class"] = np.bytes_("cell")

    with pytest.raises(InputError, match=r"a\.mat:y: (a cell that holds no text|its header)"):
        open_matlab_labels(hdf5(tmp_path, fill), "y")
