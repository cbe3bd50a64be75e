"""
Number of components for a classifier
=====================================

The accuracy of a classifier on k components rises quickly with k at first, and slowly later. This
example measures it by cross-validation, with the tools of scikit-learn.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from hpcembed import PCA

rows, labels = load_digits(return_X_y=True)
rows = rows / 16
dimensions = [2, 4, 8, 16, 32]
classifier = LogisticRegression(max_iter=2000)

# %%
# The components are part of the pipeline, so they are learned from the training rows of each fold.

scores = np.array(
    [cross_val_score(make_pipeline(PCA(k), classifier), rows, labels, cv=5) for k in dimensions]
)
everything = cross_val_score(classifier, rows, labels, cv=5)
for k, of_folds in zip(dimensions, scores, strict=True):
    print(f"k = {k:2d}: {of_folds.mean():.3f} (standard deviation of folds {of_folds.std():.3f})")
print(f"all 64 features: {everything.mean():.3f}")

# %%
# The line of all features is the accuracy to reach.

figure, axis = plt.subplots(figsize=(6, 3.5))
axis.errorbar(dimensions, scores.mean(axis=1), scores.std(axis=1), marker="o", capsize=3)
axis.axhline(everything.mean(), color="black", linestyle="--", label="all 64 features")
axis.set(xscale="log", xlabel="number of components k", ylabel="accuracy of 5 folds")
axis.set_xticks(dimensions, [str(k) for k in dimensions])
axis.minorticks_off()
axis.legend()
figure.tight_layout()
plt.show()
