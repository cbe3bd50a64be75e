"""Networks trained on rows that stay on their ranks, beside those trained on gathered rows.

What one rank finds on its own (MPI.COMM_SELF) is compared with what all ranks find together.
"""

import dataclasses
import math
import os

import numpy as np
import pytest
import scipy.sparse
import torch
from mpi4py import MPI
from msgspec.structs import replace

from hpcembed.data.matrix import DataMatrix
from hpcembed.networks.training.batches import EpochOrder
from hpcembed.networks.training.data_parallel import process_group
from hpcembed.networks.training.data_parallel.process_group import ContactLostError, share_gpus
from hpcembed.networks.training.data_parallel.training import fit_local_scaling, train_data_parallel
from hpcembed.networks.training.epochs import TrainingError
from hpcembed.networks.training.gathered_training import train_classifier
from hpcembed.networks.training.input_scaling import fit_scaling
from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.samples import Samples
from hpcembed.networks.training.validation_split import local_holdout, stratified_holdout
from hpcembed.runtime.errors import ConfigError, InputError

FAST = Recipe(epochs=3, batch_size=32, learning_rate=1e-2)
#: Shares of the rows: uneven, and one rank without any.
SHARES = {1: (1.0,), 2: (0.7, 0.3), 3: (0.6, 0.0, 0.4)}


def blobs(n, seed, d=5, dtype=np.float32):
    """Three classes that overlap, the third one rare; sorted, so that ranks see different ones."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.choice(3, size=n, p=[0.6, 0.35, 0.05])).astype(np.int64)
    centres = np.random.default_rng(99).standard_normal((3, d)) * 2 + 20
    return Samples((centres[labels] + rng.standard_normal((n, d))).astype(dtype), labels)


def part(samples, comm):
    """This rank's consecutive share of the rows."""
    ends = np.round(np.cumsum(SHARES[comm.size]) * len(samples.labels)).astype(int)
    mine = slice(ends[comm.rank - 1] if comm.rank else 0, ends[comm.rank])
    return Samples(samples.inputs[mine], samples.labels[mine])


def everything(samples):
    return Samples(samples.inputs, samples.labels)


def train(comm, config=FAST, data=None, test=None, name="embedded", **more):
    data, test = data or part(blobs(601, 0), comm), test or part(blobs(300, 1), comm)
    return train_data_parallel(
        data,
        test,
        3,
        (16, 8),
        config,
        comm,
        input_name=name,
        threads=1,
        **{"device": "cpu", **more},
    )


def gathered(config=FAST, name="embedded"):
    data, test = blobs(601, 0), blobs(300, 1)
    return train_classifier(
        data, test, 3, (16, 8), config, input_name=name, threads=1, device="cpu"
    )


def weights(trained):
    return torch.cat([value.reshape(-1) for value in trained.model.state_dict().values()]).numpy()


@pytest.mark.mpi
@pytest.mark.parametrize("name", ["embedded", "full"])
def test_equal_batches_give_the_gathered_network(comm, name):
    # One batch of all rows: the orders differ, the batches do not.
    config = replace(FAST, batch_size=1000, epochs=6)
    expected, found = gathered(config, name), train(comm, config, name=name)
    first = expected.report.history[0].train_loss
    assert found.report.history[0].train_loss == pytest.approx(first, rel=1e-6)
    np.testing.assert_allclose(weights(found), weights(expected), rtol=1e-4, atol=1e-5)
    for field in ("input", "hidden", "parameters", "best_epoch", "device", "threads"):
        assert getattr(found.report, field) == getattr(expected.report, field)
    accuracies = [
        (one.report.validation_accuracy, one.report.test_accuracy) for one in (expected, found)
    ]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=1e-12)


@pytest.mark.mpi
def test_any_number_of_ranks_takes_the_same_steps(comm):
    seen = []
    found = train(comm, on_epoch=seen.append)
    data, test = blobs(601, 0), blobs(300, 1)
    alone = train(
        MPI.COMM_SELF,
        data=everything(data),
        test=everything(test),
    )
    np.testing.assert_allclose(weights(found), weights(alone), rtol=0, atol=1e-4)
    losses = [[epoch.train_loss for epoch in one.report.history] for one in (found, alone)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert list(found.report.history) == seen
    assert found.report.test_accuracy == alone.report.test_accuracy
    # All ranks hold the same bits.
    same = comm.bcast(weights(found))
    np.testing.assert_array_equal(weights(found), same)


@pytest.mark.mpi
def test_accuracy_is_that_of_gathered_training(comm):
    config = replace(FAST, epochs=8, dropout=(0.1,))
    found = train(comm, config).report
    expected = gathered(config).report
    assert found.test_accuracy == pytest.approx(expected.test_accuracy, abs=0.04)
    assert found.test_accuracy > 0.85
    again = train(comm, config).report
    assert [epoch.train_loss for epoch in again.history] == [
        epoch.train_loss for epoch in found.history
    ]


@pytest.mark.mpi
@pytest.mark.parametrize("storage", ["dense", "shell", "aij"])
def test_rows_of_a_matrix_are_converted_batch_by_batch(comm, storage):
    dtype = np.float64 if storage == "dense" else np.uint8
    whole = [blobs(201, 0, dtype=dtype), blobs(60, 1, dtype=dtype)]
    factor = np.linspace(0.5, 2.0, 5)
    shift = None if storage == "aij" else np.arange(5.0)
    held = []
    for samples in whole:
        mine = part(samples, comm)
        rows = scipy.sparse.csr_array(mine.inputs) if storage == "aij" else mine.inputs
        matrix = DataMatrix(rows, mine.labels, comm, shift=shift, factor=factor, storage=storage)
        held.append(Samples(matrix, mine.labels))
    plain = [
        part(Samples((one.inputs - (0 if shift is None else shift)) * factor, one.labels), comm)
        for one in whole
    ]
    found = train(comm, data=held[0], test=held[1], name="full")
    expected = train(comm, data=plain[0], test=plain[1], name="full")
    np.testing.assert_allclose(weights(found), weights(expected), rtol=1e-5, atol=1e-6)
    assert found.report.test_accuracy == expected.report.test_accuracy


@pytest.mark.mpi
def test_split_scaling_and_batches_are_those_of_all_rows(comm):
    data = blobs(601, 3)
    mine = part(data, comm)
    begin = comm.scan(len(mine.labels)) - len(mine.labels)
    kept, held = local_holdout(comm, mine.labels, 5, 0.1, 4)
    whole = stratified_holdout(data.labels, 0.1, 4)
    for local, expected in zip((kept, held), whole, strict=True):
        np.testing.assert_array_equal(np.concatenate(comm.allgather(local + begin)), expected)
    with pytest.raises(InputError, match="no class has two rows"):
        local_holdout(comm, np.arange(comm.rank == 0, dtype=np.int64), 3, 0.1, 0)

    for kind in ("none", "global", "standard", "sqrt"):
        found, expected = fit_local_scaling(comm, mine, kind), fit_scaling(data.inputs, kind)
        np.testing.assert_allclose(found.shift, expected.shift, rtol=1e-12)
        np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-10)

    order, alone = EpochOrder(comm, kept, 50, 9), EpochOrder(MPI.COMM_SELF, whole[0], 50, 9)
    assert order.n_batches == alone.n_batches == math.ceil(len(whole[0]) / 50)
    for epoch in (1, 2):
        all_rows = []
        for (rows, size), (expected, _) in zip(
            order.batches(epoch), alone.batches(epoch), strict=True
        ):
            batch = np.concatenate(comm.allgather(rows + begin))
            assert len(batch) == size
            np.testing.assert_array_equal(np.sort(batch), np.sort(expected))
            all_rows.extend(batch)
        np.testing.assert_array_equal(np.sort(all_rows), whole[0])
    first, second = (np.concatenate([b for b, _ in alone.batches(epoch)]) for epoch in (1, 2))
    assert (first != second).mean() > 0.9


@pytest.mark.mpi
def test_a_loss_that_is_not_finite_on_one_rank_stopseverything(comm):
    mine = part(blobs(601, 0), comm)
    config = replace(FAST, input_scaling="none")
    if comm.rank == 0:
        mine.inputs[0] = np.finfo(np.float32).max  # finite, what the network makes of it is not
    with pytest.raises(TrainingError, match=r"in epoch \d of 3: lower training.learning") as met:
        train(comm, config, data=mine)
    assert len(set(comm.allgather(str(met.value)))) == 1


@pytest.mark.mpi
def test_what_one_rank_meets_alone_is_raised_oneverything(comm):
    last = comm.size - 1

    def full_disk(epoch):
        if comm.rank == last:
            raise OSError(28, "No space left on device", "metrics.jsonl")

    with pytest.raises(InputError, match=r"metrics.jsonl: No space left") as met:
        train(comm, on_epoch=full_disk)
    assert (f"[rank {last}]" in str(met.value)) == (comm.size > 1)
    assert not torch.distributed.is_initialized()

    mine = part(blobs(601, 0), comm)
    if comm.rank == 0:
        mine.inputs[3] = np.nan
    with pytest.raises(InputError, match="training rows: row 3 contains NaN"):
        train(comm, data=mine)
    if comm.size > 1:
        wide = Samples(mine.inputs[:, : 5 - comm.rank], mine.labels)
        with pytest.raises(InputError, match="features on different ranks"):
            train(comm, data=dataclasses.replace(wide, inputs=np.nan_to_num(wide.inputs)))


@pytest.mark.mpi
def test_group_ends_also_when_the_reason_is_lost(comm):
    def leave():
        raise ContactLostError("gone")

    with pytest.raises(ContactLostError, match="gone"), process_group.process_group(comm):
        leave()
    with process_group.process_group(comm, "cpu") as group:
        assert group.sum(torch.ones(3)).tolist() == [comm.size] * 3
        assert group.broadcast(torch.tensor(group.rank)).item() == 0
        with pytest.raises(ConfigError, match="in use already"), process_group.process_group(comm):
            pass
    assert not torch.distributed.is_initialized()


@pytest.mark.mpi
def test_torch_without_gloo_and_too_few_gpus_are_one_line(comm, monkeypatch):
    with monkeypatch.context() as patch:
        if comm.rank == 0:
            patch.setattr(torch.distributed, "is_gloo_available", lambda: False)
        with pytest.raises(ConfigError, match="this PyTorch lacks gloo: install one"):
            train(comm)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="cuda with a network trained data-parallel"):
            train(comm, device="cuda")


def test_every_rank_gets_a_gpu_of_its_own():
    assert share_gpus([("a", "b"), ("a", "b")]) == [0, 1]
    assert share_gpus([("a",), ("b",)]) == [0, 0]
    assert share_gpus([("a", "b"), ("b", "a"), ("a", "b")]) == [0, 0, None]
    assert share_gpus([(), ()]) == [None, None]


def test_settings_are_left_as_they_were():
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    interface = os.environ.get("GLOO_SOCKET_IFNAME")
    train(MPI.COMM_SELF, data=everything(blobs(100, 0)))
    assert os.environ.get("GLOO_SOCKET_IFNAME") == interface  # named for the meeting only
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_no_test_rows_gives_nan():
    trained = train(MPI.COMM_SELF, data=everything(blobs(100, 0)), test=everything(blobs(0, 1)))
    assert math.isnan(trained.report.test_accuracy)
