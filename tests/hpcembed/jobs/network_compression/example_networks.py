"""Networks of plain torch that the tests compress; also imported where hpcembed is absent."""

import torch
from torch import nn


class ConvNet(nn.Module):
    """Convolutions, a grouped one among them, and normalisations that can be folded, but for one.

    The first convolution has no bias and is too small to be cut: folding gives it one.
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.wide = nn.Conv2d(8, 32, 3, padding="same")
        self.norm_wide = nn.BatchNorm2d(32)
        self.grouped = nn.Conv2d(32, 32, (3, 1), stride=2, padding=(1, 0), groups=2, bias=False)
        self.norm_grouped = nn.BatchNorm2d(32)
        self.norm_alone = nn.BatchNorm2d(32)
        self.head = nn.Linear(32 * 16, 10)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.norm_wide(self.wide(x)))
        x = torch.relu(self.norm_grouped(self.grouped(x)))
        return self.head(self.norm_alone(x).flatten(1))


class TokenNet(nn.Module):
    """One attention block whose q, k and v read the same tensor; the head's weight is tied."""

    def __init__(self, width=24, words=40):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.norm = nn.LayerNorm(width)
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.out = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight
        self.register_buffer("slopes", torch.linspace(0.5, 1.5, width), persistent=False)

    def forward(self, ids):
        x = self.norm(self.words(ids)) * self.slopes
        scores = self.q(x) @ self.k(x).transpose(1, 2) / x.shape[-1] ** 0.5
        return self.head(x + self.out(scores.softmax(-1) @ self.v(x)))


class BranchingNet(nn.Module):
    """A network whose graph depends on the values of its input: no exporter takes it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 32)
        self.second = nn.Linear(32, 32)
        self.third = nn.Linear(32, 4)

    def forward(self, x):
        y = torch.relu(self.first(x))
        if float(y.sum()) > 0:
            y = torch.relu(self.second(y))
        return self.third(y)
