"""
Topics of docstrings
====================

The docstrings of scikit-learn's functions are texts that every installation has. Singular vectors
of their TF-IDF weights, by :class:`hpcembed.TruncatedSVD`, group them by subject. The matrix of
documents and terms stays sparse.
"""

import importlib
import inspect

import matplotlib.pyplot as plt
from sklearn.feature_extraction.text import TfidfVectorizer

from hpcembed import TruncatedSVD

subjects = ["cluster", "datasets", "linear_model", "metrics"]
texts, labels = [], []
for subject in subjects:
    module = importlib.import_module(f"sklearn.{subject}")
    for name in module.__all__:
        texts.append(inspect.getdoc(getattr(module, name)) or "")
        labels.append(subject)
vectoriser = TfidfVectorizer(stop_words="english", min_df=3)
terms = vectoriser.fit_transform(texts)
print(f"{terms.shape[0]} documents, {terms.shape[1]} terms, {terms.nnz} entries that are not zero")

# %%
# The first singular vector is close to the mean document. The second and the third show subjects.

svd = TruncatedSVD(3).fit(terms)
words = vectoriser.get_feature_names_out()
for number in (1, 2):
    order = svd.components_[number].argsort()
    print(f"vector {number + 1}, high:", ", ".join(words[order[:-7:-1]]))
    print(f"vector {number + 1}, low: ", ", ".join(words[order[:6]]))

# %%
# Each point is one docstring.

coordinates = svd.transform(terms)
figure, axis = plt.subplots(figsize=(6, 4))
for subject in subjects:
    chosen = [label == subject for label in labels]
    axis.scatter(*coordinates[chosen, 1:].T, s=12, label=subject)
axis.set(xlabel="second coordinate", ylabel="third coordinate")
axis.legend()
figure.tight_layout()
plt.show()
