"""A training that is stopped after any epoch and continued ends with the same bits."""

import numpy as np
import pytest
import torch

from hpcembed.networks.training.batched_training import Member, train_batch
from hpcembed.networks.training.data_parallel.training import train_data_parallel
from hpcembed.networks.training.epochs import TrainingError
from hpcembed.networks.training.gathered_training import train_classifier
from hpcembed.networks.training.optimiser import ScheduledOptimiser
from hpcembed.networks.training.recipe import RECIPES, Recipe
from hpcembed.networks.training.samples import Samples
from hpcembed.runtime.ranks import ownership_range


class StoppedHereError(Exception):
    pass


class Memory:
    """Keeps the states in memory; stops after some epochs of this process."""

    def __init__(self, stop_after=None, states=None, name=""):
        self.states = {} if states is None else states
        self.stop_after, self.name = stop_after, name

    def restore(self, into):
        if self.name in self.states:
            into(self.states[self.name])
        return self.name in self.states

    def epoch_done(self, state, *, ended):
        # as in files: no memory is shared with the training
        self.states[self.name] = {name: np.array(array) for name, array in state().items()}
        if self.stop_after is not None:
            self.stop_after -= 1
            if self.stop_after == 0 and not ended:
                raise StoppedHereError

    def part(self, name):
        return Memory(self.stop_after, self.states, f"{self.name}.{name}")


def rows(n=300, d=5, regression=False):
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((n, d))
    labels = inputs[:, 0] * 3.0 + inputs[:, 1] if regression else np.arange(n) % 3
    return Samples(inputs + (0 if regression else labels[:, None]), labels)


def resumed(train, stop_after):
    """Train with a stop after every few epochs; return the result and the number of stops."""
    states, stops = {}, 0
    while True:
        torch.manual_seed(stops)  # the state of the process makes no difference
        try:
            return train(Memory(stop_after, states)), stops
        except StoppedHereError:
            stops += 1


def same_report(one, other):
    for name in ("validation_score", "test_score", "best_epoch", "test_confusion", "test_rmse"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert [(e.epoch, e.train_loss, e.validation_score, e.learning_rate) for e in one.history] == [
        (e.epoch, e.train_loss, e.validation_score, e.learning_rate) for e in other.history
    ]


def same_model(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


DROPOUT = Recipe(epochs=7, batch_size=32, dropout=(0.3,))
PATIENT = Recipe(epochs=40, batch_size=64, patience=2, learning_rate=0.05)


@pytest.mark.parametrize("recipe", [DROPOUT, PATIENT])
@pytest.mark.parametrize("regression", [False, True])
def test_training_of_one_process(recipe, regression):
    data = rows(regression=regression)

    def train(checkpoint):
        return train_classifier(
            data, data, 0 if regression else 3, (8, 6), recipe, input_name="full", threads=1,
            checkpoint=checkpoint,
        )  # fmt: skip

    whole = train(None)
    for stop_after in (1, 3):
        again, stops = resumed(train, stop_after)
        assert stops >= 1
        same_report(whole.report, again.report)
        same_model(whole.model, again.model)


@pytest.mark.parametrize(
    "recipe",
    [
        DROPOUT,
        PATIENT,
        Recipe(epochs=5, batch_size=32, keep="last", refit=True, dropout=(0.2,)),
        RECIPES["published"].for_rows(300, 3),
    ],
)
@pytest.mark.parametrize("seeds", [(0, 0), (4, 5)])
def test_training_of_batches(recipe, seeds):
    data = rows()
    members = [Member(seed, 3 + i) for i, seed in enumerate(seeds)]

    def train(checkpoint):
        return train_batch(
            data, data, 3, (8,), recipe, members, input_name="embedded", threads=1,
            checkpoint=checkpoint,
        )  # fmt: skip

    whole = train(None)
    again, stops = resumed(train, 2)
    assert stops >= 1
    for position, (one, other) in enumerate(zip(whole.results, again.results, strict=True)):
        assert one.train_loss == other.train_loss
        same_report(one, other)
        same_model(whole.classifier(position).model, again.classifier(position).model)


def test_an_ended_training_takes_no_step_again():
    data, states, epochs = rows(), {}, []

    def train():
        return train_classifier(
            data, data, 3, (8,), DROPOUT, input_name="full", threads=1,
            on_epoch=epochs.append, checkpoint=Memory(None, states),
        )  # fmt: skip

    first, second = train(), train()
    assert len(epochs) == DROPOUT.epochs
    same_report(first.report, second.report)
    assert second.report.train_seconds > 0


class OnlyFinite(Memory):
    """Asserts that every state has finite weights."""

    n_stored = 0

    def epoch_done(self, state, *, ended):
        super().epoch_done(state, ended=ended)
        OnlyFinite.n_stored += 1
        weights = [
            array
            for name, array in self.states[self.name].items()
            if name == "flat" or name.startswith("model.layers")
        ]
        assert weights
        assert all(np.isfinite(array).all() for array in weights)

    def part(self, name):
        return OnlyFinite(self.stop_after, self.states, f"{self.name}.{name}")


@pytest.mark.parametrize("batch", [False, True])
def test_weights_that_are_not_finite_are_not_stored(monkeypatch, batch):
    """They are lost in the last step of an epoch, whose loss is finite."""
    data, usual, n_steps = rows(), ScheduledOptimiser.step, [0]
    per_epoch = 9  # of 270 rows without those held out, by 32

    def step(self):
        usual(self)
        n_steps[0] += 1
        if n_steps[0] == 2 * per_epoch:
            with torch.no_grad():
                self._parameters[0].fill_(float("nan"))

    monkeypatch.setattr(ScheduledOptimiser, "step", step)
    monkeypatch.setattr(OnlyFinite, "n_stored", 0)
    arguments = (data, data, 3, (8,), Recipe(epochs=5, batch_size=32))
    settings = {"threads": 1, "checkpoint": OnlyFinite()}
    with pytest.raises(TrainingError, match="became nan in epoch 3 of 5"):
        if batch:
            train_batch(*arguments, [Member(0, 5)], input_name="embedded", **settings)
        else:
            train_classifier(*arguments, input_name="full", **settings)
    assert OnlyFinite.n_stored == 1


@pytest.mark.mpi
def test_training_of_all_ranks(comm):
    data = rows()
    first, last = ownership_range(300, comm)
    mine = Samples(data.inputs[first:last], data.labels[first:last])

    def train(checkpoint):
        return train_data_parallel(
            mine, mine, 3, (8, 6), DROPOUT, comm, input_name="full", threads=1,
            checkpoint=checkpoint,
        )  # fmt: skip

    whole = train(None)
    again, stops = resumed(train, 3)
    assert stops == 2
    same_report(whole.report, again.report)
    same_model(whole.model, again.model)
