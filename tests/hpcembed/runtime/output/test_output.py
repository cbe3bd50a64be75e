"""Output files and folders: complete or absent, and never over existing results."""

import errno
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from hpcembed.runtime.errors import OutputExistsError
from hpcembed.runtime.output.files import check_free, ordered_safetensors, output_error, whole_file
from hpcembed.runtime.output.whole_folder import whole_folder


def test_an_occupied_path_is_refused_with_a_remedy_for_python_and_the_command_line(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    check_free(tmp_path / "new")
    for use in (check_free, lambda path: whole_folder(path).__enter__()):
        with pytest.raises(OutputExistsError) as caught:
            use(tmp_path / "full")
        remedy = "not empty; choose another folder or remove it"
        assert str(caught.value) == f"{tmp_path / 'full'}: {remedy}"
        with pytest.raises(OutputExistsError) as caught:
            use(tmp_path / "full" / "file")
        remedy = "is a file; choose another path or remove it"
        assert str(caught.value) == f"{tmp_path / 'full' / 'file'}: {remedy}"


def test_an_error_of_the_system_names_the_path_and_a_remedy(tmp_path):
    error = output_error(tmp_path, OSError(errno.EACCES, "Permission denied"))
    assert str(error) == f"{tmp_path}: cannot write: Permission denied; choose another path"
    error = output_error(tmp_path, OSError(errno.ENOSPC, "No space left on device"))
    assert str(error).endswith("device; free space there or choose another path")


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_files_have_the_permissions_of_new_ones(tmp_path, mask, mode):
    """Also those of libraries that let the owner alone read their files, as safetensors."""
    before = os.umask(mask)
    try:
        with whole_folder(tmp_path / "folder") as partial:
            (partial / "inner").mkdir()
            (partial / "inner" / "private").touch(0o600)
        with whole_file(tmp_path / "file") as partial:
            partial.touch(0o600)
    finally:
        os.umask(before)
    for path in (tmp_path / "folder" / "inner" / "private", tmp_path / "file"):
        assert stat.S_IMODE(path.stat().st_mode) == mode


SAVE = """
import hashlib, sys, numpy as np, safetensors.numpy
from hpcembed.runtime.output.files import ordered_safetensors
arrays = {name: np.arange(4.0) for name in sys.argv[1:]}
metadata = {name: name for name in sys.argv[1:]}
print(hashlib.sha256(ordered_safetensors(safetensors.numpy.save(arrays, metadata))).hexdigest())
"""


def test_equal_arrays_and_metadata_give_equal_files_in_every_process():
    names = [f"name{i}" for i in range(12)]
    found = {
        subprocess.run(
            [sys.executable, "-c", SAVE, *order], capture_output=True, text=True, check=True
        ).stdout
        for order in (names, names[::-1], names[3:] + names[:3])
    }
    assert len(found) == 1


def test_ordered_files_are_read_back(tmp_path):
    arrays = {
        "b": np.arange(3, dtype=np.float32), "a": np.ones((2, 2)), "\u03b2": np.zeros(0)
    }  # fmt: skip
    metadata = {"text": 'a "quoted" \u00e9', "b": ""}
    (tmp_path / "x").write_bytes(ordered_safetensors(safetensors.numpy.save(arrays, metadata)))
    with safetensors.safe_open(tmp_path / "x", framework="np") as file:
        assert file.metadata() == metadata
        assert set(file.keys()) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
    plain = ordered_safetensors(safetensors.numpy.save(arrays))
    assert safetensors.numpy.load(plain).keys() == arrays.keys()
