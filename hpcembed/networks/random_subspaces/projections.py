"""Random maps from d coordinates to the D parameters of a network, with columns of unit length.

``theta = theta_0 + P theta_d``. P is random, fixed and never learned.

* dense: independent normal entries; the columns are divided by their lengths. P is stored, and a
  product takes D d multiplications.
* srht: ``P = S H R' / sqrt(D)``. R' places the coordinates at d random positions of a vector whose
  length N is the next power of two, H is the Hadamard matrix of order N, and S changes signs and
  keeps the first D entries. All entries are ``1 / sqrt(D)`` or its negative. O(N log N).
* fastfood: blocks ``H G Pi H B`` below each other, of the order L of the next power of two of d: B
  changes signs, Pi permutes, G is diagonal and normal. They are divided by a common number, which
  makes columns of unit length if L divides D. O(D log L).

Products with H are products with small Hadamard matrices of which H is the Kronecker product. H is
symmetric, so the derivative of its product is the same product, and P' is made of the same parts.

References: Li, Farkhoor, Liu, Yosinski, "Measuring the intrinsic dimension of objective
landscapes", ICLR 2018 (arXiv 1804.08838); Le, Sarlos, Smola, "Fastfood", ICML 2013; Ailon,
Chazelle, "The fast Johnson-Lindenstrauss transform", SIAM J. Comput. 39 (2009).

Deviations: Le et al. scale the rows of each block once more, so that their lengths are those of
normal vectors; here, as in Li et al., lengths of columns matter.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from hpcembed.runtime.arguments import check_choice, check_count
from hpcembed.runtime.counter_random import permuted, row_keys, uniform
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.machine.memory import available_here, check_fits

__all__ = ["PROJECTIONS", "Kind", "SubspaceProjection", "make_projection", "walsh_hadamard"]

Kind = Literal["srht", "fastfood", "dense"]
PROJECTIONS: tuple[Kind, ...] = ("srht", "fastfood", "dense")

#: Order of the largest small Hadamard matrix, as a power of two.
_RADIX_BITS = 6

#: Streams of random numbers.
_SIGNS, _POSITIONS, _NORMALS = 0x7369676E, 0x706F7369, 0x6E6F726D

#: Entries of a dense matrix that are generated at once.
_PANEL_ENTRIES = 2**22

_Map: TypeAlias = "Callable[[Tensor], Tensor]"


class SubspaceProjection(ABC):
    """A random linear map from d coordinates to D parameters; ``projection(theta_d)``.

    Attributes
    ----------
    dimension : int
        Number of coordinates d.
    n_parameters : int
        Number of parameters D.
    """

    def __init__(self, n_parameters: int, dimension: int) -> None:
        self.n_parameters, self.dimension = n_parameters, dimension

    def __call__(self, coordinates: Tensor) -> Tensor:
        """Return ``P x`` of shape (D,) for coordinates of shape (d,); differentiable."""
        return _linear(coordinates, self._product, self._transposed)

    def transposed(self, values: Tensor) -> Tensor:
        """Return ``P' y`` of shape (d,) for values of shape (D,); differentiable."""
        return _linear(values, self._transposed, self._product)

    @abstractmethod
    def _product(self, coordinates: Tensor) -> Tensor: ...

    @abstractmethod
    def _transposed(self, values: Tensor) -> Tensor: ...

    def matrix(self) -> Tensor:
        """Return P, shape (D, d), for tests and small problems."""
        return torch.stack([self(one) for one in torch.eye(self.dimension)], dim=1)


def make_projection(
    n_parameters: int, dimension: int, kind: Kind = "srht", seed: int = 0
) -> SubspaceProjection:
    """Return a random map from `dimension` coordinates to `n_parameters` parameters.

    Parameters
    ----------
    n_parameters, dimension : int
        1 <= dimension <= n_parameters.
    kind : {"srht", "fastfood", "dense"}
        "dense" stores 4 D d bytes.
    seed : int
        The map is a function of the seed and the sizes.

    Raises
    ------
    ConfigError
        An argument is out of range.
    MemoryLimitError
        A dense matrix does not fit.

    Examples
    --------
    >>> import torch
    >>> P = make_projection(300, 10, "srht").matrix()
    >>> P.shape, bool(torch.allclose(P.norm(dim=0), torch.ones(10)))
    (torch.Size([300, 10]), True)
    """
    check_choice("projection", kind, PROJECTIONS)
    check_count("n_parameters", n_parameters)
    check_count("dimension", dimension)
    if dimension > n_parameters:
        raise ConfigError(
            f"dimension = {dimension} exceeds the {n_parameters} parameters: reduce it"
        )
    if kind == "dense":
        return _DenseProjection(n_parameters, dimension, seed)
    if kind == "fastfood":
        return _Fastfood(n_parameters, dimension, seed)
    return _HadamardProjection(n_parameters, dimension, seed)


class _DenseProjection(SubspaceProjection):
    def __init__(self, n_parameters: int, dimension: int, seed: int) -> None:
        super().__init__(n_parameters, dimension)
        check_fits(
            4 * n_parameters * dimension, available_here(), "the dense projection",
            'use projection="srht"',
        )  # fmt: skip
        self._P = torch.empty(n_parameters, dimension)
        generator = torch.Generator().manual_seed(seed)
        step = max(1, _PANEL_ENTRIES // dimension)
        for first in range(0, n_parameters, step):
            self._P[first : first + step].normal_(generator=generator)
        self._P /= self._P.double().norm(dim=0).float()

    def _product(self, coordinates: Tensor) -> Tensor:
        return self._P @ coordinates

    def _transposed(self, values: Tensor) -> Tensor:
        return self._P.t() @ values


class _HadamardProjection(SubspaceProjection):
    def __init__(self, n_parameters: int, dimension: int, seed: int) -> None:
        super().__init__(n_parameters, dimension)
        self._order = _next_power(n_parameters)
        places = permuted(seed ^ _POSITIONS, self._order, np.arange(dimension))
        self._places = torch.from_numpy(places)
        self._scales = _signs(seed, n_parameters) / math.sqrt(n_parameters)

    def _product(self, coordinates: Tensor) -> Tensor:
        spread = coordinates.new_zeros(self._order).index_copy_(0, self._places, coordinates)
        return _transform(spread)[: self.n_parameters] * self._scales

    def _transposed(self, values: Tensor) -> Tensor:
        padded = _padded(values * self._scales, self._order)
        return _transform(padded).index_select(0, self._places)


class _Fastfood(SubspaceProjection):
    def __init__(self, n_parameters: int, dimension: int, seed: int) -> None:
        super().__init__(n_parameters, dimension)
        order = self._order = _next_power(dimension)
        count = -(-n_parameters // order)
        self._flips = _signs(seed, count * order).view(count, order)
        turns = [
            permuted((seed ^ _POSITIONS) + 1 + i, order, np.arange(order)) for i in range(count)
        ]
        places = np.concatenate([i * order + turn for i, turn in enumerate(turns)])
        self._turns = torch.from_numpy(places)
        self._returns = torch.argsort(self._turns)  # the inverse permutation
        self._weights = _normals(seed, count * order).view(count, order)
        # a column of a block has the squared length order * sum(weights ** 2); of the last block
        # only some rows are kept
        kept = torch.full((count,), float(order), dtype=torch.float64)
        kept[-1] = n_parameters - (count - 1) * order
        squared = (kept * self._weights.double().square().sum(dim=1)).sum()
        self._weights /= squared.sqrt().float()

    def _product(self, coordinates: Tensor) -> Tensor:
        padded = _padded(coordinates, self._order)
        mixed = _transform(self._flips * padded).view(-1).index_select(0, self._turns)
        mixed = mixed.view_as(self._weights) * self._weights
        return _transform(mixed).view(-1)[: self.n_parameters]

    def _transposed(self, values: Tensor) -> Tensor:
        padded = _padded(values, self._weights.numel()).view_as(self._weights)
        mixed = (_transform(padded) * self._weights).view(-1).index_select(0, self._returns)
        mixed = _transform(mixed.view_as(self._weights)) * self._flips
        return mixed.sum(dim=0)[: self.dimension]


def walsh_hadamard(values: Tensor) -> Tensor:
    """Return the Walsh-Hadamard transform along the last axis, without a scale; differentiable.

    Parameters
    ----------
    values : Tensor of shape (..., N)
        N is a power of two.

    Examples
    --------
    >>> import torch
    >>> walsh_hadamard(torch.tensor([1.0, 0.0, 2.0, 0.0]))
    tensor([ 3.,  3., -1., -1.])
    """
    return _linear(values, _transform, _transform)


class _Linear(torch.autograd.Function):
    """A linear map as one node of the graph; its derivative is the transpose, another such node.

    A node for each operation within the map takes longer than a small product.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, product: _Map, transposed: _Map) -> Tensor:
        ctx.maps = product, transposed
        return product(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        product, transposed = ctx.maps
        return _linear(gradient, transposed, product), None, None


def _linear(values: Tensor, product: _Map, transposed: _Map) -> Tensor:
    """Return ``product(values)``, whose derivative is `transposed`."""
    if torch.is_grad_enabled() and values.requires_grad:
        found: Tensor = _Linear.apply(values, product, transposed)
        return found
    return product(values)


def _transform(values: Tensor) -> Tensor:
    shape, order = values.shape, values.shape[-1]
    last, *others = _factors(order, values.dtype)
    # products of two matrices; the factors are symmetric
    values, inner = torch.mm(values.reshape(-1, len(last)), last), len(last)
    for factor in others:
        size = len(factor)
        if inner * size == values.numel():
            values = torch.mm(factor, values.view(size, inner))
        else:
            values = factor @ values.view(-1, size, inner)
        inner *= size
    return values.view(shape)


@functools.lru_cache(maxsize=64)
def _factors(order: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return the small Hadamard matrices of which the one of an order is the Kronecker product."""
    bits = order.bit_length() - 1
    count = max(1, -(-bits // _RADIX_BITS))
    return tuple(
        torch.from_numpy(scipy.linalg.hadamard(1 << (bits // count + (i < bits % count)))).to(dtype)
        for i in range(count)
    )


def _padded(values: Tensor, length: int) -> Tensor:
    """Return a vector with zeros up to a length."""
    more = length - len(values)
    return torch.nn.functional.pad(values, (0, more)) if more else values


def _next_power(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _signs(seed: int, count: int) -> Tensor:
    keys = row_keys(seed ^ _SIGNS, np.arange(count)) >> np.uint64(63)
    return torch.from_numpy(1.0 - 2.0 * keys.astype(np.float32))


def _normals(seed: int, count: int) -> Tensor:
    """Return normal numbers by the transformation of Box and Muller."""
    numbers = uniform(row_keys(seed ^ _NORMALS, np.arange(2 * count))).reshape(2, -1)
    found = np.sqrt(-2.0 * np.log(numbers[0])) * np.cos(2.0 * np.pi * numbers[1])
    return torch.from_numpy(found.astype(np.float32))
