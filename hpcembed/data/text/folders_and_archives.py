"""Documents that are files of a folder or members of a tar archive, plain or gzipped.

The class of a document is the name of the folder that contains it. Names that start with a dot are
skipped (``.DS_Store``, ``._49960``). Files of a folder are read in the order of their sorted paths,
members of an archive in the order of the archive. Archives are never unpacked to disk, so member
names such as ``/etc/x`` or ``../x`` are harmless. Links to folders, links to files outside the
folder, links in archives, devices and sparse members are skipped with a warning.

Rank 0 lists the files and scatters the list, so that only one rank loads the metadata server of a
parallel file system. Each rank then reads its own files. In a plain archive it seeks to its
members. A gzipped archive can only be read from its beginning: rank 0 decompresses it once to list
it, and each rank decompresses it up to its last member. Store large archives without gzip.
"""

from __future__ import annotations

import logging
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path, PurePosixPath

import numpy as np
from mpi4py import MPI

from hpcembed.data.file_validation import (
    MissingFileError,
    check_compression,
    file_size,
    named_errors,
    open_stream,
)
from hpcembed.data.labels import LocalLabels, RowLabels, as_classes, labels_from_text, no_labels
from hpcembed.data.text.cleaning import Cleaner
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError

__all__ = ["FolderDocuments", "TarDocuments", "folder_size"]

_log = logging.getLogger(__name__)

_TAR_BLOCK = 512


@dataclass(frozen=True, slots=True)
class _File:
    """One document: its name for messages, its folder and its size in bytes.

    ``root`` is the index of the folder or archive, ``offset`` the first byte in the archive.
    """

    name: str
    folder: str
    size: int
    root: int
    offset: int = 0


class _FileDocuments(ABC):
    """A document in every file.

    Parameters
    ----------
    paths : sequence of Path
    labelled : bool or None
        Whether the name of the folder is the label of a document. None: it is a label if it is the
        name of a class, which the caller checks; documents without a folder are allowed.
    """

    def __init__(self, paths: Sequence[Path], *, labelled: bool | None) -> None:
        self._paths, self._labelled = tuple(paths), labelled
        self._name = ", ".join(map(str, paths))
        self._files: list[_File] = []
        self._first = 0
        self._check_paths()

    @abstractmethod
    def _check_paths(self) -> None:
        """Raise InputError for a path that is not a folder, or not an archive."""

    @abstractmethod
    def files(self) -> tuple[list[_File], int]:
        """List all documents; count the members that were skipped. Not collective."""

    @abstractmethod
    def _contents(self) -> Iterator[bytes]:
        """Yield the bytes of this rank's files, in their order. Not collective."""

    def n_rows_expected(self) -> tuple[int | None, bool]:
        """Return None: the number of documents is unknown before the files are listed."""
        return None, True

    def share(self, comm: MPI.Comm) -> int:
        """Assign documents to ranks; return the bytes of this rank's.

        Collective: rank 0 lists the files.

        Raises
        ------
        InputError
            No documents, or a document without a usable folder.
        """
        shares: list[tuple[int, list[_File]]] = []
        with agreement(comm):
            if comm.rank == 0:
                files, n_skipped = self.files()
                self._check_folders(files, n_skipped)
                shares = _shares(files, comm)
                if n_skipped:
                    _log.warning(
                        "%s: %d links, devices or sparse members were skipped: copy the files "
                        "that links outside the folder lead to",
                        self._name, n_skipped,
                    )  # fmt: skip
        self._first, self._files = comm.scatter(shares)
        return sum(file.size + 512 for file in self._files)

    def read(self, cleaner: Cleaner) -> tuple[list[str], RowLabels]:
        """Read this rank's texts and labels, after :meth:`share`. Not collective."""
        texts = []
        for file, raw in zip(self._files, self._contents(), strict=True):
            texts.append(cleaner.clean(cleaner.decode(raw, file.name)))
        folders = [file.folder for file in self._files]
        if self._labelled:
            labels = labels_from_text(folders, f"{self._name}, folders", self._first)
            return texts, replace(as_classes(labels), are_classes=True)
        if self._labelled is None and folders:
            names = {name: code for code, name in enumerate(dict.fromkeys(folders))}
            codes = np.array([names[folder] for folder in folders], dtype=np.int64)
            return texts, LocalLabels(codes, tuple(names), "folders")
        return texts, no_labels(len(texts))

    def _check_folders(self, files: Sequence[_File], n_skipped: int) -> None:
        if not files:
            links = f", only {n_skipped} links, devices or sparse members" if n_skipped else ""
            raise InputError(f"{self._name}: no documents in it{links}")
        if not self._labelled:
            return
        for file in files:
            try:
                file.folder.encode("utf-8")
            except UnicodeEncodeError as error:
                name = file.name.encode("utf-8", "backslashreplace").decode("utf-8")
                raise InputError(
                    f"{name}: the name of its folder, which is its class, is not UTF-8 text: "
                    "rename the folder"
                ) from error
            if file.folder.strip() in ("", "..", "/"):
                raise InputError(
                    f"{file.name}: is in no folder, which would name its class: put the documents "
                    "of each class into a folder of their own"
                )


def _shares(files: Sequence[_File], comm: MPI.Comm) -> list[tuple[int, list[_File]]]:
    """Consecutive files for each rank, with about the same number of bytes."""
    begins = np.concatenate([[0], np.cumsum([file.size + 1 for file in files])])
    share, rest = divmod(int(begins[-1]), comm.size)
    bounds = [share * rank + min(rank, rest) for rank in range(comm.size + 1)]
    cuts = np.searchsorted(begins[:-1], bounds).tolist()
    return [(first, list(files[first:last])) for first, last in pairwise(cuts)]


class FolderDocuments(_FileDocuments):
    """The files in folders and their subfolders as documents.

    Raises
    ------
    InputError
        A path that is not a folder.
    """

    def _check_paths(self) -> None:
        for path in self._paths:
            if not path.is_dir():
                if path.exists():
                    raise InputError(f"{path}: is a file, not a folder")
                raise MissingFileError(f"{path}: no such folder")

    def files(self) -> tuple[list[_File], int]:
        """List all documents; count the links that were skipped. Not collective."""
        files: list[_File] = []
        n_skipped = 0
        for i, root in enumerate(self._paths):
            found = []
            for folder, names, leaves in os.walk(root, onerror=_raise):
                names[:] = [name for name in names if not name.startswith(".")]
                n_skipped += sum(os.path.islink(os.path.join(folder, name)) for name in names)
                inside = "" if Path(folder) == root else Path(folder).name
                for leaf in leaves:
                    path = Path(folder) / leaf
                    if leaf.startswith("."):
                        continue
                    if not path.is_file() or (path.is_symlink() and not _is_inside(path, root)):
                        n_skipped += 1
                        continue
                    found.append(_File(str(path), inside, path.stat().st_size, i))
            files += sorted(found, key=lambda file: Path(file.name).parts)
        return files, n_skipped

    def _contents(self) -> Iterator[bytes]:
        for file in self._files:
            with named_errors(file.name):
                yield Path(file.name).read_bytes()


def _is_inside(path: Path, root: Path) -> bool:
    """Return whether a link leads to a file below the folder of the documents."""
    return path.resolve().is_relative_to(root.resolve())


def _raise(error: OSError) -> None:
    raise error


def folder_size(path: Path) -> int:
    """Return the bytes of the documents in a folder. Not collective."""
    return sum(file.size for file in FolderDocuments((path,), labelled=False).files()[0])


class TarDocuments(_FileDocuments):
    """The members of tar archives as documents.

    Raises
    ------
    InputError
        A file that is missing, empty, or compressed with a program other than gzip.
    """

    def _check_paths(self) -> None:
        for path in self._paths:
            file_size(path)
            check_compression(path)

    def files(self) -> tuple[list[_File], int]:
        """List all documents; count the members that were skipped. Not collective.

        Raises
        ------
        InputError
            A file that is not a complete tar archive.
        """
        files: list[_File] = []
        n_skipped = 0
        for i, path in enumerate(self._paths):
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
                            _File(label, name.parent.name, member.size, i, member.offset_data)
                        )
                        archive.members = []  # type: ignore[attr-defined]  # or the list would grow
                    stream.seek(archive.offset)
                    if stream.read(_TAR_BLOCK).strip(b"\0"):
                        raise tarfile.ReadError(f"no member at byte {archive.offset}")
            except InputError:
                raise
            except (tarfile.TarError, ValueError, OverflowError) as error:  # sizes beyond 2^63
                reason = " ".join(str(error).split())
                raise InputError(
                    f"{path}: not a whole tar archive, plain or gzipped ({reason}): pack or copy "
                    "it again"
                ) from error
        return files, n_skipped

    def _contents(self) -> Iterator[bytes]:
        for root, files in groupby(self._files, key=attrgetter("root")):
            path = self._paths[root]
            with named_errors(path), open_stream(path) as stream:
                for file in files:
                    stream.seek(file.offset)
                    raw = stream.read(file.size)
                    if len(raw) != file.size:
                        raise InputError(f"{file.name}: truncated: copy the archive again")
                    yield raw
