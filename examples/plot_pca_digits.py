"""
Certified principal components of digits
========================================

:class:`hpcembed.PCA` takes the place of scikit-learn's PCA. In addition, it returns the true
residual of each component: the norm of ``C v - lambda v``, from a product for this purpose.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from hpcembed import PCA

rows = load_digits().data
pca = PCA(20).fit(rows)

# %%
# The estimator states whether every requested pair is within its tolerance. The residuals have the
# unit of the eigenvalues.

print("certified:", pca.certified_)
print(f"largest residual: {pca.residual_norms_.max() / pca.eigenvalues_[0]:.1e} of the largest")
print(f"share of the variance: {pca.explained_variance_ratio_.sum():.3f}")

# %%
# A component is a vector of 64 pixels, so it can be drawn as an image of 8 by 8 pixels.

figure, axes = plt.subplots(2, 5, figsize=(7, 3))
for number, axis in enumerate(axes.flat):
    axis.imshow(pca.components_[number].reshape(8, 8), cmap="coolwarm")
    axis.set_title(f"{pca.explained_variance_ratio_[number]:.1%}", fontsize=9)
    axis.axis("off")
figure.tight_layout()
plt.show()
