"""Autoencoder: error below that of principal components, early end, ranks, bad input."""

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

from hpcembed import PCA, Autoencoder, DataMatrix
from hpcembed.networks.training.autoencoder.fit import PATIENCE
from hpcembed.runtime.errors import ConfigError, InputError, MemoryLimitError
from hpcembed.runtime.ranks import ownership_range

DIGITS = load_digits().data / 16
TRAIN, TEST = DIGITS[:1000], DIGITS[1000:]


@parametrize_with_checks([Autoencoder(1, hidden=4, epochs=1)])
@pytest.mark.filterwarnings("default")
def test_estimator_checks(estimator, check):
    check(estimator)


def error(model):
    """Mean squared error on test rows, relative to the variance of the training rows."""
    restored = model.inverse_transform(model.transform(TEST))
    return np.mean((restored - TEST) ** 2) / np.mean((TRAIN - TRAIN.mean(axis=0)) ** 2)


@pytest.mark.parametrize("encoder", ["hidden", "linear"])
def test_the_error_is_less_than_that_of_principal_components(encoder):
    model = Autoencoder(6, encoder=encoder).fit(TRAIN)
    assert error(model) < 0.85 * error(PCA(6).fit(TRAIN))
    assert model.transform(TEST).shape == (len(TEST), 6)
    assert model.n_components_ == 6
    assert model.losses_[model.best_epoch_ - 1] == min(model.losses_)
    if encoder == "linear":
        linear = model.linear_map_
        mapped = (TEST - linear.mean) @ linear.components.T
        constant = model.transform(TEST) - mapped
        np.testing.assert_allclose(
            constant, np.broadcast_to(constant[0], constant.shape), atol=1e-9
        )
    else:
        assert model.linear_map_ is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_of_the_caller_do_not_change_the_fit(mode):
    expected = Autoencoder(3, hidden=8, epochs=2).fit(TRAIN).losses_
    with mode():
        assert Autoencoder(3, hidden=8, epochs=2).fit(TRAIN).losses_ == expected


def test_encoder_and_decoder_are_those_of_torch():
    model = Autoencoder(3, hidden=16, epochs=2, random_state=5).fit(TRAIN)
    rows = torch.from_numpy((TEST - model.mean_) * model.scale_)

    def layers(parts):
        for position, (weights, bias) in enumerate(parts):
            yield torch.relu if position else torch.nn.Identity()
            yield lambda x, w=weights, b=bias: x @ torch.from_numpy(w).double().T + b

    for step in layers(model.encoder_):
        rows = step(rows)
    np.testing.assert_allclose(model.transform(TEST), rows.numpy(), atol=1e-10)
    coordinates = rows.numpy()
    for step in layers(model.decoder_):
        rows = step(rows)
    restored = rows.numpy() / model.scale_ + model.mean_
    np.testing.assert_allclose(model.inverse_transform(coordinates), restored, atol=1e-10)
    assert model.mean_ == pytest.approx(TRAIN.mean(axis=0))
    assert 1 / model.scale_**2 == pytest.approx(TRAIN.var(axis=0).mean())
    assert [weights.shape for weights, _ in model.encoder_] == [(16, 64), (3, 16)]
    assert [weights.shape for weights, _ in model.decoder_] == [(16, 3), (64, 16)]


def test_the_training_ends_when_the_loss_no_longer_falls():
    noise = np.random.default_rng(0).standard_normal((120, 30))
    model = Autoencoder(20, epochs=400).fit(noise)
    assert len(model.losses_) == model.best_epoch_ + PATIENCE < 400


def test_seeds_and_types():
    first, second, other = (
        Autoencoder(2, hidden=8, epochs=1, random_state=seed).fit(TRAIN) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.transform(TEST), second.transform(TEST))
    assert np.abs(first.transform(TEST) - other.transform(TEST)).max() > 1e-3
    single = first.transform(TEST.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, first.transform(TEST), atol=1e-5)
    sparse = Autoencoder(2, hidden=8, epochs=1).fit(scipy.sparse.csr_array(TRAIN))
    np.testing.assert_allclose(sparse.transform(TEST), first.transform(TEST), atol=1e-6)
    constant = Autoencoder(1, hidden=2, epochs=1).fit(np.ones((9, 2)))
    assert np.isfinite(constant.transform(np.ones((3, 2)))).all()


def test_bad_input_is_one_line():
    cases = [
        (Autoencoder(65), InputError, "n_components <= features"),
        (Autoencoder(2, hidden=0), ConfigError, "hidden must be a positive integer"),
        (Autoencoder(2, encoder="deep"), ConfigError, "hidden, linear"),
        (Autoencoder(2, epochs=-1), ConfigError, "epochs must be an integer"),
        (Autoencoder(2, memory_limit=9), MemoryLimitError, "rows of all ranks on rank 0"),
        (Autoencoder(2, device="gpu"), ConfigError, "auto, cpu, cuda"),
    ]
    for estimator, kind, text in cases:
        with pytest.raises(kind, match=text):
            estimator.fit(TRAIN)
    model = Autoencoder(2, hidden=4, epochs=1).fit(TRAIN)
    with pytest.raises(InputError, match=r"give \(rows, 2\)"):
        model.inverse_transform(np.zeros((3, 5)))


@pytest.mark.mpi
def test_the_same_on_any_number_of_ranks(comm):
    first, last = ownership_range(len(TRAIN), comm)
    alone = Autoencoder(3, hidden=8, epochs=2, n_threads=1).fit(TRAIN)
    shared = Autoencoder(3, hidden=8, epochs=2, n_threads=1).fit(TRAIN[first:last], comm=comm)
    np.testing.assert_array_equal(shared.transform(TEST), alone.transform(TEST))
    assert shared.losses_ == alone.losses_
    assert shared.best_epoch_ == alone.best_epoch_
    X = DataMatrix(TRAIN[first:last], np.zeros(last - first, np.int64), comm)
    same = Autoencoder(3, hidden=8, epochs=2, n_threads=1).fit(X)
    np.testing.assert_array_equal(same.transform(TEST), alone.transform(TEST))
    X.destroy()
    with pytest.raises(MemoryLimitError, match="on rank 0"):
        Autoencoder(3, memory_limit=100).fit(TRAIN[first:last], comm=comm)
