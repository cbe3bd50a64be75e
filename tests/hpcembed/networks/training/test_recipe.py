"""Keys of a recipe that follow from the data, and the end of a training without improvement."""

import json

import msgspec
import numpy as np
import pytest
from mpi4py import MPI
from msgspec.structs import replace

from hpcembed.networks.training.batched_training import Member, train_batch
from hpcembed.networks.training.data_parallel.training import train_data_parallel
from hpcembed.networks.training.gathered_training import train_classifier
from hpcembed.networks.training.recipe import RECIPES, Recipe
from hpcembed.networks.training.samples import Samples

#: The default recipe of finished trials on large data, whose digests contain it.
LARGE = json.loads("""{"epochs": 30, "batch_size": 256, "learning_rate": 0.0,
"schedule": "onecycle", "dropout": [0.0], "wide_dropout": 0.0, "weight_decay": 0.1,
"label_smoothing": 0.05, "input_scaling": "auto", "validation_fraction": 0.1, "keep": "best",
"patience": 0, "refit": false, "initial": "torch", "centred": true}""")


@pytest.mark.parametrize("n_rows", [10_000, 50_000, 60_000, 10**7])
def test_large_data_keep_their_recipe_and_their_digests(n_rows):
    assert json.loads(msgspec.json.encode(Recipe().for_rows(n_rows, 10))) == LARGE


@pytest.mark.parametrize("n_rows", [40, 240, 1700, 60_000])
def test_the_published_recipe_is_complete(n_rows):
    published = RECIPES["published"]
    assert published.for_rows(n_rows, 10) == published
    assert (published.epochs, published.batch_size, published.patience) == (30, 128, 0)


@pytest.mark.parametrize("n_rows", [10, 40, 120, 240, 455, 1700, 2047, 2048, 5000, 9400])
@pytest.mark.parametrize("n_classes", [2, 10, 100])
def test_small_data_have_steps(n_rows, n_classes):
    recipe = Recipe().for_rows(n_rows, n_classes)
    assert max(8, n_classes) <= recipe.batch_size <= 256
    assert recipe.batch_size <= max(8, n_classes, n_rows / 8)
    steps = recipe.epochs * -(-(n_rows - round(0.1 * n_rows)) // recipe.batch_size)
    assert steps >= 1000
    assert (recipe.patience > 0) == (recipe.epochs > 30)
    assert recipe.patience < recipe.epochs
    assert (recipe.learning_rate == 3e-3) == (recipe.batch_size < 256)
    assert recipe.for_rows(n_rows, n_classes) == recipe


def test_given_keys_win():
    given = Recipe(epochs=7, batch_size=200, learning_rate=0.5, patience=2)
    assert given.for_rows(100, 3) == given
    assert Recipe(epochs=40).for_rows(100, 3).patience == 0
    assert Recipe(patience=0).for_rows(100, 3).patience == 0
    assert Recipe(keep="last").for_rows(100, 3).patience == 0
    assert Recipe(batch_size=64).for_rows(100, 3).learning_rate == 0.0
    assert Recipe(batch_size=64).for_rows(100, 3).epochs == 500


def blobs(n, seed, distance=3.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    inputs = rng.standard_normal((n, 4)) + distance * np.eye(4)[labels]
    return Samples(inputs, labels)


def trained(path, recipe, data, test):
    settings = {"input_name": "embedded", "threads": 1, "device": "cpu"}
    if path == "gathered":
        return train_classifier(data, test, 3, (8,), recipe, **settings).report
    if path == "data_parallel":
        return train_data_parallel(data, test, 3, (8,), recipe, MPI.COMM_SELF, **settings).report
    return train_batch(data, test, 3, (8,), recipe, [Member(0, 4)], **settings).results[0]


PATHS = ("gathered", "data_parallel", "stacked")


@pytest.mark.parametrize("path", PATHS)
def test_few_rows_are_learnt_with_the_defaults(path):
    report = trained(path, Recipe(), blobs(60, 0), blobs(300, 1))
    few = trained(path, Recipe(epochs=30, batch_size=256), blobs(60, 0), blobs(300, 1))
    assert report.test_accuracy > 0.9
    assert report.test_accuracy > few.test_accuracy


@pytest.mark.parametrize("path", PATHS)
def test_a_training_without_improvement_ends(path):
    # The labels are random and the weights explode: a later epoch is hardly the best one.
    data = blobs(90, 0, 0.0)
    recipe = Recipe(epochs=200, batch_size=16, learning_rate=0.05, schedule="constant")
    steps = []
    ended = replace(recipe, patience=5)
    if path == "stacked":
        train_batch(
            data, data, 3, (8,), ended, [Member(0, 4)],
            input_name="embedded", threads=1, on_epoch=steps.append,
        )  # fmt: skip
        n_epochs = len(steps)
    else:
        n_epochs = len(trained(path, ended, data, data).history)
    report = trained(path, ended, data, data)
    assert n_epochs == report.best_epoch + 5 < 200
    if path != "stacked":
        assert len(trained(path, recipe, data, data).history) == 200


@pytest.mark.mpi
def test_all_ranks_end_at_the_same_epoch():
    comm, data = MPI.COMM_WORLD, blobs(240, 0, 1.0)
    rows = np.array_split(np.arange(240), comm.size)[comm.rank]
    mine = Samples(data.inputs[rows], data.labels[rows])
    report = train_data_parallel(
        mine, mine, 3, (8,), Recipe(), comm, input_name="embedded", threads=1, device="cpu"
    ).report
    alone = train_data_parallel(
        data, data, 3, (8,), Recipe(), MPI.COMM_SELF,
        input_name="embedded", threads=1, device="cpu",
    ).report  # fmt: skip
    assert len(report.history) < Recipe().for_rows(240, 3).epochs
    assert len(report.history) == report.best_epoch + Recipe().for_rows(240, 3).patience
    assert comm.allgather(report.best_epoch) == [report.best_epoch] * comm.size
    assert report.best_epoch == alone.best_epoch
    assert report.test_accuracy == pytest.approx(alone.test_accuracy)
