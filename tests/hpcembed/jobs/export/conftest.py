import itertools

import numpy as np
import pytest

from hpcembed.jobs.export.layer_folding import FeatureScaling, Projection, TrainedLayers


@pytest.fixture
def parts():
    """Scaling, projection and network with random numbers, and what they compute, in double."""

    def make(d=30, k=5, widths=(8, 6, 3), seed=0, offset=0.0):
        rng = np.random.default_rng(seed)
        scaling = FeatureScaling(rng.standard_normal(d) + offset, rng.uniform(0.1, 3, d))
        V, _ = np.linalg.qr(rng.standard_normal((d, k)))
        mean = rng.standard_normal(d)
        sizes = (k, *widths)
        layers = tuple(
            (rng.standard_normal((n_in, n_out)) / np.sqrt(n_in), rng.standard_normal(n_out))
            for n_in, n_out in itertools.pairwise(sizes)
        )
        trained = TrainedLayers(rng.standard_normal(k) / 10, rng.uniform(0.5, 2, k), layers)

        def reference(X):
            values = ((X - scaling.shift) * scaling.factor - mean) @ V
            values = (values - trained.shift) * trained.scale
            for i, (weight, bias) in enumerate(layers):
                values = values @ weight + bias
                if i < len(layers) - 1:
                    values = np.maximum(values, 0)
            return values

        return scaling, Projection(V.T.copy(), mean), trained, reference

    return make
