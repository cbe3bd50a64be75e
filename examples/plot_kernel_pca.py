"""
Kernel components of two circles
================================

No line separates two circles around one centre. Components in the space of a kernel do:
:class:`hpcembed.KernelPCA` is exact, and :class:`hpcembed.Nystroem` approximates it by landmarks.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import make_circles

from hpcembed import PCA, KernelPCA, Nystroem

rows, labels = make_circles(400, factor=0.3, noise=0.05, random_state=0)
methods = {
    "PCA": PCA(2),
    "KernelPCA": KernelPCA(2, kernel="rbf", gamma=5),
    "Nystroem, 40 landmarks": Nystroem(2, kernel="rbf", gamma=5, n_landmarks=40),
}

# %%
# Each method has its own axes.

figure, axes = plt.subplots(1, 3, figsize=(8.5, 3))
for axis, (name, method) in zip(axes, methods.items(), strict=True):
    coordinates = method.fit_transform(rows)
    axis.scatter(*coordinates.T, c=labels, s=8, cmap="coolwarm")
    axis.set(title=name, xticks=[], yticks=[], xlabel="first", ylabel="second")
figure.tight_layout()
plt.show()
