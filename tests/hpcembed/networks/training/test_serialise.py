"""A network survives its file, and a file that is none is refused."""

import numpy as np
import pytest

from hpcembed.networks.training.evaluation import predict_logits
from hpcembed.networks.training.gathered_training import train_classifier
from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.samples import Samples
from hpcembed.networks.training.serialise import load_classifier, save_classifier
from hpcembed.runtime.errors import InputError


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    inputs = (rng.standard_normal((90, 4)) + labels[:, None]).astype(np.float32)
    samples = Samples(inputs, labels)
    recipe = Recipe(epochs=2, learning_rate=3e-3, dropout=(0.2,))
    return train_classifier(samples, samples, 3, (6, 5), recipe, input_name="full", threads=1)


def test_round_trip_gives_identical_logits(trained, tmp_path):
    path = tmp_path / "network.safetensors"
    save_classifier(path, trained, class_names=("a", "b", "ü"), extra={"note": "x"})
    loaded = load_classifier(path)
    inputs = np.random.default_rng(1).standard_normal((17, 4))
    np.testing.assert_array_equal(
        predict_logits(loaded.model, inputs), predict_logits(trained.model, inputs)
    )
    assert tuple(loaded.class_names) == ("a", "b", "ü")


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 64, b"\xff" * 9])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "network.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"network\.safetensors"):
        load_classifier(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.safetensors"):
        load_classifier(tmp_path / "none.safetensors")
