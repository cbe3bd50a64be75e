"""
Communities of a graph
======================

Three groups of people write to each other, mostly within their group. Eigenvectors of the graph,
by :class:`hpcembed.SpectralEmbedding`, give each person coordinates that show the groups.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from hpcembed import SpectralEmbedding

random = np.random.default_rng(0)
groups = np.repeat([0, 1, 2], 100)
probability = np.where(groups[:, None] == groups, 0.15, 0.02)
upper = np.triu(random.random((300, 300)) < probability, 1)
graph = csr_matrix((upper | upper.T).astype(float))

# %%
# The matrix of edges is the affinity. The coordinates of a person are entries of two eigenvectors.

embedding = SpectralEmbedding(2, affinity="precomputed").fit(graph)
found = KMeans(3, n_init=10, random_state=0).fit_predict(embedding.embedding_)
print(f"agreement with the true groups: {adjusted_rand_score(groups, found):.3f}")

# %%
# The colours are the true groups, which the method does not use.

figure, axis = plt.subplots(figsize=(5, 4))
for group in range(3):
    axis.scatter(*embedding.embedding_[groups == group].T, s=12, label=f"group {group + 1}")
axis.set(xlabel="first coordinate", ylabel="second coordinate")
axis.ticklabel_format(style="sci", scilimits=(0, 0))
axis.legend()
figure.tight_layout()
plt.show()
