"""Random rows of any type that the compiled products read."""

import numpy as np


def sample(n, d, dtype, seed=0):
    """Normal numbers, or integers of the whole range of the type."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=(n, d)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, (n, d), dtype=dtype, endpoint=True)
