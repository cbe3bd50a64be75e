"""States of trainings in stores: whole, or an error of one line."""

import numpy as np
import pytest

from hpcembed.jobs.checkpoints.stored_training import StoredTraining
from hpcembed.runtime.errors import OutputError
from miramns.checkpointing import CheckpointStore

pytestmark = pytest.mark.mpi

STATE = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(4, np.int64), "c": np.ones(2)}


def place(comm, folder):
    return StoredTraining(CheckpointStore(folder, {}, comm), "network", comm)


def test_the_state_that_was_stored(comm, shared_tmp):
    restored, epochs = {}, []
    stored = place(comm, shared_tmp / "store")
    assert not stored.restore(restored.update)
    stored.epoch_done(lambda: STATE, ended=True)
    stored._store.close()
    with CheckpointStore(shared_tmp / "store", {}, comm) as store:
        again = StoredTraining(store, "network", comm, epochs.append)
        assert again.restore(restored.update)
    assert epochs == [1]
    assert restored.keys() == STATE.keys()
    for name, array in STATE.items():
        np.testing.assert_array_equal(restored[name], array)
        assert restored[name].dtype == array.dtype


def test_a_state_of_another_form(comm, shared_tmp):
    stored = place(comm, shared_tmp / "store")
    stored.epoch_done(lambda: STATE, ended=True)
    for into in (lambda arrays: arrays["d"], lambda arrays: arrays["a"].reshape(7)):
        with pytest.raises(OutputError, match="another form than this program writes") as caught:
            stored.restore(into)
        assert str(shared_tmp / "store") in str(caught.value)
        assert "\n" not in str(caught.value)
    stored._store.close()
