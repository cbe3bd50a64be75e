"""
Principal components beside random projections
==============================================

A random projection needs no eigenvectors. It needs more coordinates for the same accuracy.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from hpcembed import PCA, GaussianProjection, SparseProjection

rows, labels = load_digits(return_X_y=True)
dimensions = [2, 4, 8, 16, 32]


def accuracy(projection):
    """Return the accuracy of the nearest neighbours after a projection, over 5 folds."""
    model = make_pipeline(projection, KNeighborsClassifier(3))
    return cross_val_score(model, rows, labels, cv=5).mean()


methods = {
    "principal components": [[accuracy(PCA(k))] for k in dimensions],
    "Gaussian": [
        [accuracy(GaussianProjection(k, random_state=seed)) for seed in range(5)]
        for k in dimensions
    ],
    "sparse": [
        [accuracy(SparseProjection(k, random_state=seed)) for seed in range(5)] for k in dimensions
    ],
}

# %%
# The bars of the random projections are standard deviations over five seeds.

figure, axis = plt.subplots(figsize=(6, 3.5))
for name, values in methods.items():
    values = np.array(values)
    print(f"{name:21}", " ".join(f"{value:.3f}" for value in values.mean(axis=1)))
    axis.errorbar(dimensions, values.mean(axis=1), values.std(axis=1), marker="o", label=name)
axis.set(xscale="log", xlabel="number of coordinates k", ylabel="accuracy of 5 folds")
axis.set_xticks(dimensions, [str(k) for k in dimensions])
axis.minorticks_off()
axis.legend()
figure.tight_layout()
plt.show()
