"""Documents that are files: in folders, or in tar archives, plain or gzipped.

The class of a document is the name of the folder it lies in. Names that begin with a dot are left
out (``.DS_Store``, ``._49960``). Files of a folder are taken in the order of their sorted paths,
those of an archive in the archive's order. Nothing is ever unpacked to disk, so names such as
``/etc/x`` or ``../x`` do no harm; links, devices and sparse members are skipped, which is said.

Rank 0 alone lists the files and gives every rank its share: a thousand ranks that walk through one
folder would keep a parallel file system busy. A rank then reads its own. In a plain archive it goes
straight to its members. A gzipped one can only be read from its beginning: rank 0 unpacks it once
to list it, then every rank unpacks it up to its last member and decodes its own only. Where that
counts, store the archive without gzip.
"""

from __future__ import annotations

import logging
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from mpi4py import MPI

from hpcembed.data.files import check_compression, file_size, named_errors, open_stream
from hpcembed.data.labels import LocalLabels, labels_from_text
from hpcembed.data.text.cleaning import Cleaner
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import agreement

__all__ = ["TextFiles", "folder_size", "open_folders", "open_tars"]

_log = logging.getLogger(__name__)

_TAR_BLOCK = 512


@dataclass(frozen=True, slots=True)
class _File:
    """One document: where it is, how long, and in which folder.

    ``place`` is the number of the folder or archive, ``offset`` the first byte in the archive.
    """

    name: str
    folder: str
    size: int
    place: int
    offset: int = 0


class _Store(Protocol):
    """Folders or archives: what lists documents and reads them."""

    paths: tuple[Path, ...]

    def listed(self) -> tuple[list[_File], int]:
        """All documents, and how many members were skipped. Not collective."""

    def contents(self, files: Sequence[_File]) -> Iterator[bytes]:
        """The bytes of some documents, in their order. Not collective."""


class TextFiles:
    """Files as documents.

    Parameters
    ----------
    store : folders or archives
    labelled : bool or None
        Whether the folder is a document's class; None: it may be, and may be missing.
    """

    def __init__(self, store: _Store, *, labelled: bool | None) -> None:
        self._store, self._labelled = store, labelled
        self._files: list[_File] = []
        self._first = 0

    def n_rows_expected(self) -> tuple[int | None, bool]:
        """Nothing: only listing the files would tell. Not collective."""
        return None, True

    def share(self, comm: MPI.Comm) -> int:
        """Find out which documents this rank reads; their bytes. Collective: rank 0 lists them.

        Raises
        ------
        InputError
            No documents, or one that is in no folder.
        """
        shares: list[tuple[int, list[_File]]] = []
        with agreement(comm):
            if comm.rank == 0:
                files, n_skipped = self._store.listed()
                self._check(files)
                shares = _shares(files, comm)
                if n_skipped:
                    _log.warning(
                        "%s: %d links, devices or sparse members were skipped",
                        self._name(), n_skipped,
                    )  # fmt: skip
        self._first, self._files = comm.scatter(shares)
        return sum(file.size + 512 for file in self._files)

    def read(self, cleaner: Cleaner) -> tuple[list[str], LocalLabels]:
        """This rank's texts and labels; call :meth:`share` first. Not collective."""
        texts = []
        for file, raw in zip(self._files, self._store.contents(self._files), strict=True):
            texts.append(cleaner.clean(cleaner.decode(raw, file.name)))
        folders = [file.folder for file in self._files]
        if self._labelled:
            return texts, labels_from_text(folders, f"{self._name()}, folders", self._first)
        names = {name: code for code, name in enumerate(dict.fromkeys(folders))}
        if self._labelled is None and names:
            codes = np.array([names[folder] for folder in folders], dtype=np.int64)
            return texts, LocalLabels(codes, tuple(names), "folders")
        return texts, LocalLabels(np.zeros(len(texts), dtype=np.int64), ("",), "no labels")

    def _check(self, files: Sequence[_File]) -> None:
        if not files:
            raise InputError(f"{self._name()}: no documents in it")
        if not self._labelled:
            return
        for file in files:
            if not _is_text(file.folder):
                raise InputError(
                    f"{_shown(file.name)}: the name of its folder, which is its class, is not "
                    "UTF-8 text: rename the folder"
                )
            if file.folder.strip() in ("", "..", "/"):
                raise InputError(
                    f"{file.name}: lies in no folder that would be its class: put the documents "
                    "of each class into a folder of their own"
                )

    def _name(self) -> str:
        return ", ".join(map(str, self._store.paths))


def _is_text(name: str) -> bool:
    """Whether a name of the file system or of an archive can be written down. Not collective."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    """The same name with escapes in place of bytes that are no text. Not collective."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _shares(files: Sequence[_File], comm: MPI.Comm) -> list[tuple[int, list[_File]]]:
    """Consecutive files for each rank, with about the same number of bytes."""
    begins = np.concatenate([[0], np.cumsum([file.size + 1 for file in files])])
    share, rest = divmod(int(begins[-1]), comm.size)
    bounds = [share * rank + min(rank, rest) for rank in range(comm.size + 1)]
    cuts = np.searchsorted(begins[:-1], bounds).tolist()
    return [(first, list(files[first:last])) for first, last in pairwise(cuts)]


def open_folders(paths: Sequence[Path], *, labelled: bool | None) -> TextFiles:
    """Folders of documents. Not collective.

    Raises
    ------
    InputError
        A path that is no folder.
    """
    for path in paths:
        if not path.is_dir():
            what = "is a file, not a folder" if path.exists() else "no such folder"
            raise InputError(f"{path}: {what}: those in [data] of a job are relative to --data-dir")
    return TextFiles(_Folders(tuple(paths)), labelled=labelled)


def open_tars(paths: Sequence[Path], *, labelled: bool | None) -> TextFiles:
    """Archives of documents. Not collective.

    Raises
    ------
    InputError
        A file that is missing, empty, or compressed in a way other than gzip.
    """
    for path in paths:
        file_size(path)
        check_compression(path)
    return TextFiles(_Archives(tuple(paths)), labelled=labelled)


def folder_size(path: Path) -> int:
    """Bytes of the documents in a folder. Not collective."""
    return sum(file.size for file in _Folders((path,)).listed()[0])


class _Folders:
    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths

    def listed(self) -> tuple[list[_File], int]:
        files: list[_File] = []
        n_skipped = 0
        for place, root in enumerate(self.paths):
            found = []
            for folder, names, leaves in os.walk(root, onerror=_refuse):
                names[:] = [name for name in names if not name.startswith(".")]
                n_skipped += sum(os.path.islink(os.path.join(folder, name)) for name in names)
                inside = "" if Path(folder) == root else Path(folder).name
                for leaf in leaves:
                    path = Path(folder) / leaf
                    if leaf.startswith("."):
                        continue
                    if not path.is_file():
                        n_skipped += 1
                        continue
                    found.append(_File(str(path), inside, path.stat().st_size, place))
            files += sorted(found, key=lambda file: Path(file.name).parts)
        return files, n_skipped

    def contents(self, files: Sequence[_File]) -> Iterator[bytes]:
        for file in files:
            with named_errors(file.name):
                yield Path(file.name).read_bytes()


def _refuse(error: OSError) -> None:
    raise error


class _Archives:
    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths

    def listed(self) -> tuple[list[_File], int]:
        files: list[_File] = []
        n_skipped = 0
        for place, path in enumerate(self.paths):
            try:
                with (
                    named_errors(path),
                    open_stream(path) as stream,
                    tarfile.open(fileobj=stream, mode="r:") as archive,
                ):
                    for member in archive:
                        name = PurePosixPath(member.name)
                        if member.isdir() or name.name.startswith("."):
                            continue
                        if not member.isreg() or member.issparse():
                            n_skipped += 1
                            continue
                        label = f"{path}: {member.name}"
                        files.append(
                            _File(label, name.parent.name, member.size, place, member.offset_data)
                        )
                        archive.members = []  # type: ignore[attr-defined]  # or it would grow
                    stream.seek(archive.offset)
                    if stream.read(_TAR_BLOCK).strip(b"\0"):
                        raise tarfile.ReadError(f"no member at byte {archive.offset}")
            except tarfile.TarError as error:
                reason = " ".join(str(error).split())
                raise InputError(
                    f"{path}: not a whole tar archive, plain or gzipped ({reason}): pack or copy "
                    "it again"
                ) from error
        return files, n_skipped

    def contents(self, files: Sequence[_File]) -> Iterator[bytes]:
        for place, group in _grouped(files):
            path = self.paths[place]
            with named_errors(path), open_stream(path) as stream:
                for file in group:
                    stream.seek(file.offset)
                    raw = stream.read(file.size)
                    if len(raw) != file.size:
                        raise InputError(f"{file.name}: truncated: copy the archive again")
                    yield raw


def _grouped(files: Iterable[_File]) -> Iterator[tuple[int, list[_File]]]:
    """Runs of files of one archive."""
    group: list[_File] = []
    for file in files:
        if group and group[0].place != file.place:
            yield group[0].place, group
            group = []
        group.append(file)
    if group:
        yield group[0].place, group
