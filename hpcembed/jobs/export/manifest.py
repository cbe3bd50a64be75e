"""Manifest of a model folder: the SHA-256 digest of every file, checked when a model is loaded.

A folder whose files are not those of one model (a copy that was interrupted, files of two exports)
is refused. The card can be edited, and files that only other programs need (``model.onnx``) can be
removed. The manifest protects against mistakes; it is not a signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcembed.runtime.errors import InputError

__all__ = ["MANIFEST", "check_manifest", "manifest_bytes"]

MANIFEST = "manifest.json"


def manifest_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return the manifest of files.

    Parameters
    ----------
    files : mapping of str to bytes
        Name and content of each file.

    Examples
    --------
    >>> print(manifest_bytes({"a.txt": b"x"}).decode()[:38])
    {
      "sha256": {
        "a.txt": "2d711642
    """
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return (json.dumps({"sha256": dict(sorted(digests.items()))}, indent=2) + "\n").encode()


def check_manifest(folder: Path, *, needed: Sequence[str], skipped: Sequence[str]) -> None:
    """Compare the files of a folder with its manifest.

    Parameters
    ----------
    needed : sequence of str
        Files that must exist and be listed.
    skipped : sequence of str
        Files that are not compared: they can be edited, or are compared elsewhere.

    Raises
    ------
    InputError
        The manifest is missing or damaged, or a file is not the one that it lists.
    """
    path = folder / MANIFEST
    try:
        digests = json.loads(path.read_text(encoding="utf-8"))["sha256"]
        listed = {str(name): str(digest) for name, digest in digests.items()}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}: export the model again") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a manifest: export the model again") from error
    for name in needed:
        if name not in listed:
            raise InputError(f"{path}: does not list {name}: export the model again")
    for name, digest in listed.items():
        file = folder / name
        if name in skipped or Path(name).name != name:
            continue
        try:
            found = _sha256(file)
        except FileNotFoundError as error:
            if name not in needed:
                continue
            raise InputError(f"{file}: no such file: export the model again") from error
        except OSError as error:
            raise InputError(f"{file}: {error.strerror or error}") from error
        if found != digest:
            raise InputError(f"{file}: not the file listed in {MANIFEST}: export the model again")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
