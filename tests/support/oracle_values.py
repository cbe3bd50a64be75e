"""Rows of the comparisons with scikit-dimension and ckatorch, and the values of these packages.

The values are stored in oracle_values.json, so that the comparisons run without the packages. With
the packages (`make oracles`), tests compute them again. This program writes the file:

    python tests/support/oracle_values.py
"""

import importlib.metadata
import json
import warnings
from pathlib import Path

import numpy as np
import sklearn.datasets

FILE = Path(__file__).with_suffix(".json")
#: Dimension and number of columns of the surfaces.
SURFACES = [(2, 6), (5, 40)]


def surface(n, dimension, columns, seed=1):
    """Return rows on a sphere in some of the columns, rotated."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, dimension + 1))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    rotation, _ = np.linalg.qr(rng.standard_normal((columns, columns)))
    return points @ rotation[: dimension + 1]


def signal_in_noise(n, d, variances, seed=0):
    rng = np.random.default_rng(seed)
    scale = np.ones(d)
    scale[: len(variances)] = variances
    return rng.standard_normal((n, d)) * np.sqrt(scale) + rng.random(d)


#: Rows with few large variances, or many.
SPECTRA = {
    "three of 20": signal_in_noise(300, 20, [20, 10, 4]),
    "iris": sklearn.datasets.load_iris().data,
    "wine": sklearn.datasets.load_wine().data,
    "digits": sklearn.datasets.load_digits().data,
    "noise": signal_in_noise(100, 8, []),
    "wide": signal_in_noise(60, 200, [90, 60, 40, 30]),
}


def related(n=400, p=7, q=5, noise=0.3, seed=0):
    """Two sets with a common part, offsets, and columns of different sizes."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, 4))
    x = common @ rng.standard_normal((4, p)) + noise * rng.standard_normal((n, p))
    y = np.tanh(common @ rng.standard_normal((4, q))) + noise * rng.standard_normal((n, q))
    return 10.0 + x * np.geomspace(1, 20, p), y * np.geomspace(3, 0.5, q) - 2.0


def surface_values(dimension, columns):
    """MLE (mean of the inverses, 20 neighbours) and TwoNN of a surface."""
    import skdim

    rows = surface(400, dimension, columns)
    mle = skdim.id.MLE().fit(rows, n_neighbors=20)
    return {"mle": float(mle.dimension_), "two_nn": float(skdim.id.TwoNN().fit(rows).dimension_)}


def size_values(name):
    """Suggested sizes and variances of the noise of some rows."""
    import skdim

    found = {}
    # Minka's evidence is not defined for fewer rows than columns.
    for version in ("MP", "GD") if name == "wide" else ("MP", "GD", "Minka"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of logarithms of zero
            one = skdim.id.lPCA(ver=version).fit(SPECTRA[name])
        found[version] = {"size": int(one.dimension_)}
        if version != "Minka":
            found[version]["noise_variance"] = float(one.noise_var_)
    return found


def cka_value():
    """Linear CKA of two related sets."""
    import torch
    from ckatorch.core import cka_base

    x, y = map(torch.from_numpy, related())
    return float(cka_base(x, y, method="fro_norm"))


def stored():
    return json.loads(FILE.read_text(encoding="utf-8"))


def main():
    packages = ("scikit-dimension", "ckatorch", "torch", "numpy")
    content = {
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "surfaces": {f"{m} of {d}": surface_values(m, d) for m, d in SURFACES},
        "sizes": {name: size_values(name) for name in SPECTRA},
        "cka": cka_value(),
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
