"""Coordinates of rivals in a checkpoint: on other numbers of ranks, other settings, damage."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI

from hpcembed.jobs.checkpoints.stored_coordinates import StoredCoordinates
from hpcembed.runtime.ranks import ownership_range

pytestmark = pytest.mark.mpi
ROWS = [np.random.default_rng(0).random((n, 3)).astype(np.float32) for n in (11, 4)]


def place_of(folder, comm, **identity):
    job = SimpleNamespace(comm=comm, out=folder)
    parts = [SimpleNamespace(row_range=ownership_range(len(rows), comm)) for rows in ROWS]
    return StoredCoordinates(job, *parts, {"seed": 1, "sizes": (2, 3), **identity}), parts


@pytest.fixture
def stored(comm, shared_tmp):
    place, parts = place_of(shared_tmp, comm)
    assert place.restore() is None
    place.store([rows[slice(*part.row_range)] for rows, part in zip(ROWS, parts, strict=True)], 2.5)
    return shared_tmp


def test_rows_are_those_of_each_rank(comm, stored):
    place, parts = place_of(stored, comm)
    local, seconds = place.restore()
    assert seconds == 2.5
    for found, rows, part in zip(local, ROWS, parts, strict=True):
        np.testing.assert_array_equal(found, rows[slice(*part.row_range)])
        assert found.dtype == np.float32
    comm.barrier()
    if comm.rank == 0:  # another number of ranks
        local, _ = place_of(stored, MPI.COMM_SELF)[0].restore()
        for found, rows in zip(local, ROWS, strict=True):
            np.testing.assert_array_equal(found, rows)
    comm.barrier()


def test_other_settings_find_nothing(comm, stored):
    assert place_of(stored, comm, seed=2)[0].restore() is None
    assert place_of(stored, comm, device="cuda")[0].restore() is None
    assert place_of(stored, comm)[0].restore() is not None


def test_damaged_files_are_left_out(comm, stored, caplog):
    if comm.rank == 0:
        (file,) = stored.rglob("train.npy")
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    comm.barrier()
    with caplog.at_level(logging.WARNING):
        assert place_of(stored, comm)[0].restore() is None
    assert comm.rank != 0 or "damaged checkpoint left out" in caplog.text
