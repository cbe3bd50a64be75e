"""
How many landmarks a kernel needs
=================================

:class:`hpcembed.Nystroem` projects on the span of a few rows, the landmarks. With more landmarks
its eigenvalues approach those of exact :class:`hpcembed.KernelPCA`; with all rows they are equal.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from hpcembed import KernelPCA, Nystroem

rows = load_digits().data[:1000] / 16
exact = KernelPCA(10, kernel="rbf", gamma=0.05).fit(rows)
counts = [20, 50, 100, 200, 500, 1000]
errors = []
for count in counts:
    found = Nystroem(10, kernel="rbf", gamma=0.05, n_landmarks=count).fit(rows)
    errors.append(np.abs(found.eigenvalues_ / exact.eigenvalues_ - 1).max())
    print(f"{count:4d} landmarks: largest relative error of 10 eigenvalues {errors[-1]:.1e}")

# %%
# With all 1,000 rows as landmarks the error is the rounding.

figure, axis = plt.subplots(figsize=(6, 3.5))
axis.loglog(counts[:-1], errors[:-1], marker="o")
axis.set(xlabel="number of landmarks", ylabel="largest relative error")
axis.set_xticks(counts[:-1], [str(count) for count in counts[:-1]])
axis.minorticks_off()
figure.tight_layout()
plt.show()
