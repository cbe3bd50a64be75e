"""
A trained network made smaller
==============================

:class:`hpcembed.ModelCompression` replaces layers of a trained network by low-rank ones, without
labels and without training. The eigenproblems are solved once, for all sizes.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from hpcembed import ModelCompression
from hpcembed.networks.compression import Request

torch.manual_seed(0)
rows, labels = load_digits(return_X_y=True)
split = train_test_split(rows / 16, labels, test_size=0.3, random_state=0)
train, test = (torch.tensor(part, dtype=torch.float32) for part in split[:2])
train_labels, test_labels = (torch.tensor(part) for part in split[2:])

# %%
# The network to compress: two hidden layers of 256 units.

model = nn.Sequential(
    nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
)
optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(100):
    optimiser.zero_grad()
    nn.functional.cross_entropy(model(train), train_labels).backward()
    optimiser.step()


def accuracy(network):
    """Return the percentage of test rows that a network classifies correctly."""
    with torch.no_grad():
        return 100 * (network(test).argmax(dim=1) == test_labels).double().mean().item()


def size(network):
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


# %%
# Each share of the parameters is one request. The rows of ``train`` have no labels here.

compression = ModelCompression(model, train.split(128))
sizes, accuracies = [size(model)], [accuracy(model)]
for share in (0.6, 0.4, 0.2, 0.1, 0.05):
    small, _ = compression.compress(Request(budget={"parameters": share}))
    sizes.append(size(small))
    accuracies.append(accuracy(small))
for number, percent in zip(sizes, accuracies, strict=True):
    print(f"{number:6d} parameters: {percent:.1f} % of the test rows")

# %%
# The first point on the right is the network itself.

figure, axis = plt.subplots(figsize=(6, 3.5))
axis.semilogx(sizes, accuracies, marker="o")
axis.set(xlabel="parameters", ylabel="test accuracy, %")
axis.set_xticks(sizes, [f"{number:,}" for number in sizes])
axis.minorticks_off()
axis.tick_params(axis="x", rotation=30)
figure.tight_layout()
plt.show()
