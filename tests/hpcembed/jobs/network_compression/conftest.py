import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hpcembed.networks.compression import compress_model

SOURCE = Path(__file__).with_name("example_networks.py")


@pytest.fixture(scope="session")
def networks():
    """The module of the networks that are compressed."""
    spec = importlib.util.spec_from_file_location("example_networks", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["example_networks"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["example_networks"]


@pytest.fixture(scope="session")
def convolutions(networks):
    """Compressed ConvNet, its report, and images."""
    torch.manual_seed(1)
    model = networks.ConvNet()
    images = torch.randn(240, 1, 8, 8).cumsum(-1)
    with torch.no_grad():
        model.train()
        for _ in range(3):
            model(images)
    labels = model.eval()(images).argmax(1)
    small, report = compress_model(
        model, images.split(80), ranks={"wide": 6, "grouped": 5, "head": 7},
        validation=[(images, labels)], test=[(images[:100], labels[:100])], objective="output",
        sensitivity=False, side="output", seed=3,
    )  # fmt: skip
    return small, report, images


@pytest.fixture(scope="session")
def attention(networks):
    """Compressed TokenNet with one reduction for q, k and v, its report, and tokens."""
    torch.manual_seed(2)
    model = networks.TokenNet()
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.zipf(1.6, size=(160, 12)) % 40)
    small, report = compress_model(
        model, ids.split(40), budget={"parameters": 0.72}, side="input", objective="output",
        sensitivity=False, metric="divergence",
    )  # fmt: skip
    assert small.get_submodule("q")[0] is small.get_submodule("v")[0]
    return small, report, ids
