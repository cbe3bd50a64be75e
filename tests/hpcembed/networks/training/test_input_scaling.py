"""Which columns float32 holds."""

import numpy as np
import pytest

from hpcembed.networks.training.input_scaling import network_type


@pytest.mark.parametrize(
    ("mean", "deviation", "expected"),
    [
        ([0.0, 255.0], [1.0, 0.0], np.float32),
        ([1e3, 1.0], [1.0, 1.0], np.float32),
        ([1e8, 0.0], [1.0, 1.0], np.float64),
        ([1e8, 0.1], [1e7, 1e-17], np.float32),
        ([0.0, 0.0], [1.0, 1e-40], np.float64),
        ([0.0, 0.0], [1.0, 1e38], np.float64),
        ([1e35, 0.0], [0.0, 1.0], np.float64),
        ([], [], np.float32),
    ],
)
def test_float32_unless_it_loses_what_tells_rows_apart(mean, deviation, expected):
    assert network_type(np.array(mean), np.array(deviation)) is expected
