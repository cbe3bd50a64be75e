"""Checkpoints are written in parallel, found again, and never taken half."""

import errno
import logging
import os
import shutil

import numpy as np
import pytest

from miramns.checkpointing import (
    CheckpointError,
    CheckpointMismatchError,
    CheckpointStore,
    Snapshot,
    StoppedAtCheckpointError,
    stored_identity,
)

pytestmark = pytest.mark.mpi

N, M = 1001, 7
WHOLE = np.random.default_rng(0).standard_normal((N, M))


def rows_of(comm):
    bounds = np.linspace(0, N, comm.size + 1).astype(int)
    return int(bounds[comm.rank]), int(bounds[comm.rank + 1])


@pytest.fixture
def open_store(comm, shared_tmp):
    opened = []

    def make(identity=None, **settings):
        store = CheckpointStore(shared_tmp / "store", identity or {"k": 5}, comm, **settings)
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


def save(store, comm, turn):
    first, last = rows_of(comm)
    basis = np.asfortranarray(WHOLE[first:last] + turn)
    return store.save(
        "solver", {"basis": basis}, shared={"H": np.arange(turn + 3.0)}, state={"turn": turn}
    )


def check(saved, comm, turn):
    first, last = rows_of(comm)
    assert saved.state == {"turn": turn}
    assert saved.n_ranks == comm.size
    assert saved.shapes == {"basis": (N, M), "H": (turn + 3,)}
    np.testing.assert_array_equal(saved.rows("basis", first, last), WHOLE[first:last] + turn)
    np.testing.assert_array_equal(saved.shared("H"), np.arange(turn + 3.0))


def test_the_newest_comes_back_bit_for_bit(comm, open_store):
    with open_store() as store:
        assert store.newest("solver") is None
        for turn in range(4):
            path = save(store, comm, turn)
        comm.Barrier()
        assert sorted(os.listdir(path.parent)) == ["000003", "000004"]
    comm.Barrier()
    with open_store() as store:
        saved = store.newest("solver")
        check(saved, comm, 3)
        assert saved.path == path
        # as another number of ranks would read them
        whole = saved.rows("basis", 0, N)
        np.testing.assert_array_equal(whole, WHOLE + 3)
        assert saved.rows("basis", 5, 5).shape == (0, M)
        with pytest.raises(CheckpointError, match=r"not the rows 1001\.\.1002"):
            saved.rows("basis", N, N + 1)
        column_major = np.empty((10, M), order="F")
        saved.read_into("basis", 20, column_major)
        np.testing.assert_array_equal(column_major, WHOLE[20:30] + 3)
        with pytest.raises(CheckpointError, match="no array nothing"):
            saved.shared("nothing")


def test_files_are_numpy_files(comm, open_store):
    path = save(open_store(), comm, 0)
    np.testing.assert_array_equal(np.load(path / "basis.npy"), WHOLE)
    np.testing.assert_array_equal(np.load(path / "H.npy"), np.arange(3.0))


@pytest.mark.parametrize(
    "array",
    [np.float64(2.5), np.zeros((0, 4)), np.arange(5, dtype=np.int32), np.array([True, False]),
     np.array([[1 + 2j]]), np.array([np.nan, np.inf, -0.0]), np.arange(6.0)[::-2]],
)  # fmt: skip
def test_kinds_of_arrays(comm, open_store, array):
    array = np.asarray(array)
    store = open_store()
    store.save("x", shared={"a": array})
    again = store.newest("x").shared("a")
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()


def test_large_arrays_are_written_in_panels(comm, open_store, monkeypatch):
    monkeypatch.setattr("miramns.checkpointing.array_files._PANEL_BYTES", 1000)
    store = open_store()
    save(store, comm, 1)
    check(store.newest("solver"), comm, 1)


def test_states_keep_their_bits(comm, open_store):
    state = {"a": [0.1 + 0.2, 5e-324, float("inf")], "b": None, "text": "\x1b[31m<b>", "n": 2**70}
    store = open_store()
    store.save("x", state=state)
    assert store.newest("x").state == state
    with pytest.raises(CheckpointError, match="must be a JSON value"):
        store.save("x", state={"a": {1, 2}})
    assert store.newest("x").state == state


def test_another_identity_is_refused_with_the_differences(comm, open_store, shared_tmp):
    with open_store({"tol": 1e-8, "data": {"size": 7, "gone": 1}, "same": [1, 2]}) as store:
        save(store, comm, 0)
    comm.Barrier()
    with pytest.raises(CheckpointMismatchError) as caught:
        open_store({"tol": 1e-6, "data": {"size": 8}, "same": (1, 2), "new": "\x1b[1m"})
    assert caught.value.differences == {
        "tol": (1e-8, 1e-6), "data.size": (7, 8), "data.gone": (1, None), "new": (None, "\x1b[1m"),
    }  # fmt: skip
    text = str(caught.value)
    assert "tol was 1e-08, is 1e-06" in text
    assert "data.gone was 1, is missing" in text
    assert "\n" not in text
    assert "\x1b" not in text
    if comm.rank == 0:
        assert stored_identity(shared_tmp / "store")["tol"] == 1e-8
        assert stored_identity(shared_tmp / "nothing") is None
    comm.Barrier()
    # the refused one left no lock
    open_store({"tol": 1e-8, "data": {"size": 7, "gone": 1}, "same": [1, 2]})


def test_a_name_has_an_identity_of_its_own(comm, open_store):
    store = open_store()
    store.save("x", state=1, identity={"norm": 2.0})
    store.save("y", state=2)
    assert store.newest("x", identity={"norm": 2.0}).state == 1
    with pytest.raises(CheckpointMismatchError, match=r"norm was 2\.0, is 3\.0"):
        store.newest("x", identity={"norm": 3.0})
    assert store.newest("y").state == 2


def test_parts_and_dropped_names(comm, open_store):
    store = open_store()
    part = store.within("pca").within("fold-1")
    part.save("solver", state=1)
    store.save("solver", state=2)
    assert store.newest("pca.fold-1.solver").state == 1
    part.drop("solver")
    comm.Barrier()
    assert part.newest("solver") is None
    assert store.newest("solver").state == 2
    part.drop("solver")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a\n", "x" * 200, "é"])
def test_names_cannot_leave_the_folder(comm, open_store, name):
    store = open_store()
    with pytest.raises(CheckpointError, match="is no name"):
        store.save(name)
    with pytest.raises(CheckpointError, match="is no name"):
        store.save("x", shared={name: np.zeros(2)})
    with pytest.raises(CheckpointError, match="is no name"):
        store.within(name)


def test_arrays_that_do_not_fit_together(comm, open_store):
    store = open_store()
    with pytest.raises(CheckpointError, match="not numbers"):
        store.save("x", shared={"a": np.array(["text"])})
    with pytest.raises(CheckpointError, match="both distributed and shared"):
        store.save("x", {"a": np.zeros(2)}, shared={"a": np.zeros(2)})
    with pytest.raises(CheckpointError, match="no rows"):
        store.save("x", {"a": np.zeros(())})
    if comm.size > 1:
        last = comm.rank == comm.size - 1
        with pytest.raises(CheckpointError, match=r"differs? between ranks"):
            store.save("x", {"a": np.zeros((2, 3 + last))})
        with pytest.raises(CheckpointError, match=r"differs? between ranks"):
            store.save("x", {"a": np.zeros(2)} | ({"b": np.zeros(2)} if last else {}))
    assert store.newest("x") is None


def damage(path, position, how):
    size = path.stat().st_size
    with path.open("r+b") as file:
        if how == "truncate":
            file.truncate(position)
        elif how == "extend":
            file.seek(size)
            file.write(b"x")
        else:
            file.seek(position)
            byte = file.read(1)
            file.seek(position)
            file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("how", ["truncate", "flip", "extend", "remove", "link", "folder"])
@pytest.mark.parametrize("name", ["basis.npy", "H.npy", "manifest.json"])
def test_a_damaged_checkpoint_is_left_out(comm, open_store, caplog, name, how):
    with open_store() as store:
        paths = [save(store, comm, turn) for turn in range(2)]
    if comm.rank == 0:
        file = paths[1] / name
        size = file.stat().st_size
        if how in ("remove", "link", "folder"):
            file.unlink()
            if how == "link":
                file.symlink_to(paths[0] / name)
            elif how == "folder":
                file.mkdir()
        else:
            damage(file, size // 2, how)
    comm.Barrier()
    store = open_store()
    with caplog.at_level(logging.WARNING):
        check(store.newest("solver"), comm, 0)
    if comm.rank == 0:
        assert "damaged checkpoint left out" in caplog.text
        assert name in caplog.text
    # the damaged one does not take the place of a whole one
    path = save(store, comm, 2)
    comm.Barrier()
    assert sorted(os.listdir(path.parent)) == ["000001", "000003"]
    check(store.newest("solver"), comm, 2)


def test_every_flipped_byte_is_found(comm, shared_tmp):
    if comm.size > 1:
        return
    with CheckpointStore(shared_tmp / "store", {"k": 5}, comm) as store:
        paths = [save(store, comm, turn) for turn in range(2)]
    for file in sorted(paths[1].iterdir()):
        content = file.read_bytes()
        positions = np.unique(np.linspace(0, len(content) - 1, 40).astype(int))
        for position in positions:
            for how in ("flip", "truncate"):
                damage(file, int(position), how)
                with CheckpointStore(shared_tmp / "store", {"k": 5}, comm) as store:
                    # a changed blank between two values of the manifest changes nothing
                    turn = store.newest("solver").state["turn"]
                    assert turn == 0 or (file.suffix == ".json" and how == "flip")
                file.write_bytes(content)


def test_all_damaged(comm, open_store):
    store = open_store()
    path = save(store, comm, 0)
    if comm.rank == 0:
        shutil.rmtree(path)
        path.mkdir()
    comm.Barrier()
    assert store.newest("solver") is None
    with pytest.raises(CheckpointError, match="no whole checkpoint to continue from"):
        store.newest("solver", required=True)


@pytest.mark.parametrize("rank", [0, -1])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_on_one_rank(comm, open_store, monkeypatch, rank, code):
    store = open_store()
    save(store, comm, 0)
    fails = comm.rank == rank % comm.size

    def full(*args):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        if fails:
            patch.setattr(os, "pwrite", full)
        with pytest.raises(CheckpointError) as caught:
            save(store, comm, 1)
    text = str(caught.value)
    assert str(store.folder) in text
    assert f"({8 * (N * M + 4)} bytes needed): {os.strerror(code)}" in text
    assert ("free space" in text) == (code != errno.EIO)
    assert ("[rank" in text) == (rank == -1 and comm.size > 1 and not fails)
    comm.Barrier()
    assert os.listdir(store.folder / "solver") == ["000001"]
    check(store.newest("solver"), comm, 0)
    save(store, comm, 1)
    check(store.newest("solver"), comm, 1)


def test_a_folder_that_vanishes(comm, open_store):
    store = open_store()
    save(store, comm, 0)
    if comm.rank == 0:
        shutil.rmtree(store.folder)
    comm.Barrier()
    with pytest.raises(CheckpointError, match="the folder must exist"):
        save(store, comm, 1)
    comm.Barrier()
    assert not store.folder.exists()
    assert store.newest("solver") is None


def test_a_file_in_place_of_the_folder(comm, shared_tmp):
    if comm.rank == 0:
        (shared_tmp / "file").touch()
    comm.Barrier()
    with pytest.raises(CheckpointError, match="cannot open the checkpoints"):
        CheckpointStore(shared_tmp / "file", {}, comm)


def test_a_linked_name_is_refused(comm, open_store, shared_tmp):
    store = open_store()
    if comm.rank == 0:
        (shared_tmp / "elsewhere").mkdir()
        (store.folder / "solver").symlink_to(shared_tmp / "elsewhere")
    comm.Barrier()
    with pytest.raises(CheckpointError, match="is a link"):
        save(store, comm, 0)
    assert os.listdir(shared_tmp / "elsewhere") == []


def test_offers(comm, open_store):
    store = open_store(every=3600)
    made = []

    def snapshot():
        made.append(1)
        return Snapshot(state=len(made))

    assert not store.offer("x", snapshot)
    assert made == []
    # one rank is asked to stop: all save, and stop
    store.stop = lambda: comm.rank == comm.size - 1
    with pytest.raises(StoppedAtCheckpointError, match="stopped as asked"):
        store.within("part").offer("x", snapshot)
    assert store.newest("part.x").state == 1
    store.stop = None
    store.clock.every = 0
    assert store.offer("x", snapshot)
    assert store.newest("x").state == 2
    assert store.clock.n_written == 2
    assert 0 < store.clock.seconds < 60


def test_an_offer_without_content(comm, open_store):
    """Earlier checkpoints stay, and a request to stop is met."""
    stop = [False]
    store = open_store(every=0, stop=lambda: stop[0] and comm.rank == comm.size - 1)
    assert store.offer("x", lambda: Snapshot(state={"turn": 1}))
    assert not store.offer("x", lambda: None)
    stop[0] = True
    with pytest.raises(StoppedAtCheckpointError, match="without another checkpoint"):
        store.offer("x", lambda: None)
    assert store.newest("x").state == {"turn": 1}
