"""Checkpoints: stores of arrays, and the states of a solve, a fitted embedding and a training.

The states are made by the program. Most mutations get digests that fit, so that the content
is reached: a digest proves that a checkpoint is whole, not who has written it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

import miramns
from fuzzing.formats import Files, Format, Rng, register
from fuzzing.mutations import json_text, mutate, mutate_value, pick
from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding import PCA
from hpcembed.jobs.checkpoints.errors import checkpoint_errors
from hpcembed.jobs.checkpoints.stored_embedding import restore_embedding, store_embedding
from hpcembed.jobs.checkpoints.stored_training import StoredTraining
from miramns.checkpointing import CheckpointStore, StoppedAtCheckpointError

_COMM = MPI.COMM_SELF
_STORE = "store"
_MANIFEST = "manifest.json"


def _files(make: Callable[[Path], None]) -> Files:
    """Return the files that a function writes into the folder of a store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / _STORE)
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "lock"
        }


def _reader(read: Callable[[CheckpointStore], Any], **identity: Any) -> Callable[[Path], Any]:
    """Return a reader of a store; it opens a copy, as a store writes its lock."""

    def opened(folder: Path) -> Any:
        place = folder / "out" / _STORE
        if (folder / _STORE).is_dir():
            shutil.copytree(folder / _STORE, place, symlinks=True)
        with checkpoint_errors(_COMM), CheckpointStore(place, identity, _COMM, every=1e9) as store:
            return read(store)

    return opened


# -------------------------------------------------------------------------------- digests that fit


def _sealed(content: Any) -> bytes:
    text = json.dumps(content, sort_keys=True).encode()
    return json.dumps({"manifest": content, "sha256": hashlib.sha256(text).hexdigest()}).encode()


def _reseal(files: Files) -> Files:
    """Return the files with digests that fit the changed arrays and manifests."""
    changed = dict(files)
    for name in files:
        if not name.endswith(_MANIFEST):
            continue
        try:
            content = json.loads(files[name])["manifest"]
            for entry in content["files"]:
                data = files[name.removesuffix(_MANIFEST) + f"{entry['name']}.npy"]
                begin, digests = 0, []
                for segment in entry["segments"]:
                    part = data[begin : begin + segment[1]]
                    segment[2] = hashlib.sha256(part).hexdigest()
                    begin += segment[1]
                    digests.append(segment[2])
                entry["sha256"] = hashlib.sha256("".join(digests).encode()).hexdigest()
            changed[name] = _sealed(content)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue
    return changed


def _hostile(valid: Callable[[Rng], tuple[Files, Any]]) -> Callable[[Rng], Files]:
    """Return a maker of stores whose manifest or arrays have another form, with their digests."""

    def made(rng: Rng) -> Files:
        files = valid(rng)[0]
        name = pick(rng, sorted(one for one in files if one.endswith(_MANIFEST)))
        content = json.loads(files[name])["manifest"]
        which = rng.random()
        if which < 0.5:
            state = content["state"]
            content["state"] = mutate_value(rng, state)
        elif which < 0.75:
            content = mutate_value(rng, content)
        else:
            array = pick(rng, sorted(one for one in files if one.endswith(".npy")))
            values = files[array][128:]
            junk = rng.bytes(len(values)) if rng.random() < 0.3 else mutate(rng, values)
            files[array] = files[array][:128] + junk[: len(values)].ljust(len(values), b"\xff")
        try:
            files[name] = _sealed(content)
        except (ValueError, TypeError, RecursionError):
            files[name] = json_text(content)
        return _reseal(files) if which >= 0.75 else files

    return made


# ------------------------------------------------------------------------------------------ stores


def _store(rng: Rng) -> tuple[Files, Any]:
    values = rng.standard_normal((int(rng.integers(1, 9)), 3))
    counts = rng.integers(-5, 5, 4)

    def make(folder: Path) -> None:
        with CheckpointStore(folder, {"run": 1}, _COMM) as store:
            store.save("state", {"values": values}, shared={"counts": counts}, state={"done": 3})

    return _files(make), {"values": values, "counts": counts}


def _read_store(store: CheckpointStore) -> Any:
    saved = store.newest("state", required=True)
    assert saved is not None
    return {name: saved.shared(name) for name in sorted(saved.shapes, reverse=True)}


# ----------------------------------------------------------------------------------------- a solve


def _operator() -> PETSc.Mat:
    n = 60
    A = PETSc.Mat().createAIJ((n, n), nnz=1, comm=PETSc.COMM_SELF)
    A.setUp()
    for i in range(n):
        A[i, i] = np.sqrt(i + 1.0)
    A.assemble()
    return A


_SOLVE: dict[str, Any] = {"hermitian": True, "ncv": 12, "max_it": 20}


@cache
def _stopped_solve() -> tuple[tuple[str, bytes], ...]:
    """Return the files of a solve that stopped at its fourth checkpoint."""

    def make(folder: Path) -> None:
        offers = iter(range(100))
        A = _operator()
        with CheckpointStore(
            folder, {"run": 1}, _COMM, every=0.0, stop=lambda: next(offers) == 3
        ) as store:
            try:
                miramns.solve(A, 3, checkpoint=store, **_SOLVE)
            except StoppedAtCheckpointError:
                return
            finally:
                A.destroy()
        raise AssertionError("the solve was not stopped")

    return tuple(_files(make).items())


def _solve(rng: Rng) -> tuple[Files, Any]:
    return dict(_stopped_solve()), [f"{value:.6g}" for value in np.sqrt([60, 59, 58])]


def _read_solve(store: CheckpointStore) -> Any:
    A = _operator()
    try:
        with np.errstate(all="ignore"):
            result = miramns.solve(A, 3, checkpoint=store, **_SOLVE)
        return [f"{value:.6g}" for value in np.real(result.eigenvalues[:3])]
    finally:
        A.destroy()


# ------------------------------------------------------------------------------------- an embedding


def _rows() -> DataMatrix:
    rows = np.random.default_rng(5).standard_normal((40, 6)) * np.arange(1.0, 7)
    return DataMatrix(rows, np.zeros(40, np.int64), _COMM, storage="shell")


@cache
def _fitted() -> tuple[tuple[str, bytes], ...]:
    def make(folder: Path) -> None:
        X = _rows()
        with CheckpointStore(folder, {"run": 1}, _COMM) as store:
            assert store_embedding(store, PCA(2).fit(X), X)
        X.destroy()

    return tuple(_files(make).items())


def _embedding(rng: Rng) -> tuple[Files, Any]:
    return dict(_fitted()), None


def _read_embedding(store: CheckpointStore) -> Any:
    X, embedding = _rows(), PCA(2)
    try:
        if restore_embedding(store, embedding, X):
            return None
        return embedding.fit(X) and None
    finally:
        X.destroy()


# --------------------------------------------------------------------------------------- a training


def _train(store: CheckpointStore, epochs: int) -> None:
    from hpcembed.networks.training.gathered_training import train_classifier
    from hpcembed.networks.training.recipe import Recipe
    from hpcembed.networks.training.samples import Samples

    rng = np.random.default_rng(2)
    labels = np.arange(24) % 2
    samples = Samples(rng.standard_normal((24, 3)) + labels[:, None], labels)
    recipe = Recipe(epochs=epochs, batch_size=8, patience=0)
    place = StoredTraining(store, "network", _COMM)
    settings: dict[str, Any] = {"input_name": "embedded", "threads": 1, "checkpoint": place}
    train_classifier(samples, samples, 2, (4,), recipe, **settings)


@cache
def _stopped_training() -> tuple[tuple[str, bytes], ...]:
    def make(folder: Path) -> None:
        offers = iter(range(100))
        with CheckpointStore(
            folder, {"run": 1}, _COMM, every=0.0, stop=lambda: next(offers) == 1
        ) as store:
            try:
                with checkpoint_errors(_COMM):
                    _train(store, 4)
            except StoppedAtCheckpointError:
                return
        raise AssertionError("the training was not stopped")

    return tuple(_files(make).items())


def _training(rng: Rng) -> tuple[Files, Any]:
    return dict(_stopped_training()), None


def _read_training(store: CheckpointStore) -> Any:
    return _train(store, 4)


# Weights may be finite and too large: training ends with its usual error.
_PLACES = ("the loss became",)

for _name, _valid, _read in (
    ("checkpoint", _store, _read_store),
    ("checkpoint of a solve", _solve, _read_solve),
    ("checkpoint of an embedding", _embedding, _read_embedding),
    ("checkpoint of a training", _training, _read_training),
):
    register(
        Format(_name, _valid, _reader(_read, run=1), _hostile(_valid), _reseal, places=_PLACES)
    )
