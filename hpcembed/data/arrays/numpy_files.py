"""NumPy's files: NPY arrays and NPZ archives.

A rank reads its own rows only: at their offset in NPY files and in stored members of an archive, by
streaming through compressed members. The size in a member's header is compared with the size in the
archive's directory, and the latter with the best compression ratio, before memory is allocated.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from hpcembed.data.arrays.npy_header import read_npy_header
from hpcembed.data.arrays.stored_array import StoredArray
from hpcembed.data.file_validation import check_declared_size, file_size, is_gzip, named_errors
from hpcembed.runtime.errors import InputError

__all__ = ["npz_names", "open_npy", "open_npz"]

_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1


def open_npy(path: Path) -> StoredArray:
    """Read the header of an NPY file.

    Raises
    ------
    InputError
        The file is not an NPY file, needs pickle, or its declared size differs from its actual
        size.
    """
    size = file_size(path)
    with named_errors(path):
        if is_gzip(path):
            raise InputError(f"{path}: a compressed file: unpack it, or save it as .npz")
        with path.open("rb") as stream:
            header = read_npy_header(stream, str(path))
    check_declared_size(path, header.n_bytes, size, is_compressed=False)
    opener = partial(_open_plain, path)
    return StoredArray(
        str(path), opener, header.offset, header.shape, header.dtype, header.is_fortran
    )


def open_npz(path: Path, key: str) -> StoredArray:
    """Read the header of one array of an NPZ archive.

    Raises
    ------
    InputError
        The file is not an archive, lacks the array (the message lists its arrays), needs pickle, or
        its declared size differs from its actual size.
    """
    size = file_size(path)
    name = f"{path}:{key}"
    with named_errors(path):
        member = _find_member(path, key)
        is_stored = member.compress_type == zipfile.ZIP_STORED
        # The directory may be damaged as well: compare it with the size of the whole file.
        if member.compress_size > size:
            raise InputError(f"{name}: larger than its archive: the file is damaged")
        check_declared_size(
            name, member.file_size, member.compress_size, is_compressed=not is_stored
        )
        with _open_member(path, member) as stream:
            header = read_npy_header(stream, name)
        check_declared_size(name, header.n_bytes, member.file_size, is_compressed=False)
        if is_stored:
            opener: Callable[[], BinaryIO] = partial(_open_plain, path)
            before = _data_offset(path, member)
            if before + member.file_size > size:
                raise InputError(f"{name}: truncated: copy or download the file again")
        else:
            opener, before = partial(_open_member, path, member), 0
    return StoredArray(
        name,
        opener,
        before + header.offset,
        header.shape,
        header.dtype,
        header.is_fortran,
        is_compressed=not is_stored,
    )


def npz_names(path: Path) -> tuple[str, ...]:
    """Return the names of the arrays of an archive.

    Raises
    ------
    InputError
        The file is not an archive.
    """
    file_size(path)
    with named_errors(path), _open_archive(path) as archive:
        return tuple(name.removesuffix(".npy") for name in archive.namelist())


def _open_plain(path: Path) -> BinaryIO:
    return path.open("rb")


def _find_member(path: Path, key: str) -> zipfile.ZipInfo:
    with _open_archive(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
    member = members.get(f"{key}.npy") or members.get(key)
    if member is None:
        listed = ", ".join(sorted(name.removesuffix(".npy") for name in members)[:20]) or "none"
        raise InputError(
            f"{path}: no array {key!r}; it has {listed}: set data.features_key and data.labels_key"
        )
    if member.flag_bits & _ENCRYPTED:
        raise InputError(f"{path}: the archive is encrypted: save it without a password")
    return member


def _open_archive(path: Path) -> zipfile.ZipFile:
    # The parser of the standard library raises any of these for damaged directories.
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, IndexError) as error:
        raise InputError(f"{path}: not an NPZ archive ({error}): check the file") from error


def _open_member(path: Path, member: zipfile.ZipInfo) -> BinaryIO:
    try:
        with _open_archive(path) as archive:
            # The member keeps the file open after the archive is closed.
            return cast(BinaryIO, archive.open(member))
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: {member.filename} cannot be unpacked: {error}") from error


def _data_offset(path: Path, member: zipfile.ZipInfo) -> int:
    # The local header repeats the name; its extra field may differ from the directory's.
    with path.open("rb") as stream:
        stream.seek(member.header_offset)
        local = stream.read(_LOCAL_HEADER_BYTES)
    name_length = int.from_bytes(local[26:28], "little")
    extra_length = int.from_bytes(local[28:30], "little")
    return member.header_offset + _LOCAL_HEADER_BYTES + name_length + extra_length
