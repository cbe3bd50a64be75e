"""Random maps into the parameters: columns, transposes, transforms, reproducibility."""

import numpy as np
import pytest
import scipy.linalg
import torch

from hpcembed.networks.random_subspaces import PROJECTIONS, make_projection
from hpcembed.networks.random_subspaces.projections import walsh_hadamard
from hpcembed.runtime.errors import ConfigError, MemoryLimitError


@pytest.mark.parametrize("order", [1, 2, 64, 128, 1024])
def test_the_transform_is_the_product_with_the_hadamard_matrix(order):
    values = torch.randn(3, order, dtype=torch.float64)
    expected = values.numpy() @ scipy.linalg.hadamard(order)
    np.testing.assert_allclose(walsh_hadamard(values), expected, atol=1e-11)
    np.testing.assert_allclose(walsh_hadamard(values[0]), expected[0], atol=1e-11)


@pytest.mark.parametrize("kind", PROJECTIONS)
@pytest.mark.parametrize(("D", "d"), [(1000, 60), (1024, 64), (70, 70), (300, 1)])
def test_columns(kind, D, d):
    projection = make_projection(D, d, kind, seed=3)
    P = projection.matrix().double()
    assert P.shape == (D, d) == (projection.n_parameters, projection.dimension)
    lengths = P.norm(dim=0)
    # the last block of fastfood is cut, unless its order divides D
    exact = kind != "fastfood" or (D, d) in ((1024, 64), (300, 1))
    torch.testing.assert_close(
        lengths, torch.ones_like(lengths), atol=1e-5 if exact else 0.3, rtol=0
    )
    cosines = P.T @ P - torch.diag(lengths**2)
    if D >= 1000:
        assert cosines.square().sum().sqrt() / d < 0.1  # nearly orthogonal
    x = torch.randn(d)
    torch.testing.assert_close(projection(x).double(), P @ x.double(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_the_derivative_is_the_transpose(kind):
    projection = make_projection(333, 20, kind)
    x, g = torch.zeros(20, requires_grad=True), torch.randn(333)
    (projection(x) @ g).backward()
    torch.testing.assert_close(x.grad, projection.matrix().T @ g, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["srht", "fastfood"])
@pytest.mark.parametrize(("D", "d"), [(64, 64), (100, 9), (4200, 3)])
def test_derivatives_in_double_precision(kind, D, d):
    projection = make_projection(D, d, kind)
    x = torch.randn(d, dtype=torch.float64, requires_grad=True)
    assert projection(x).dtype == torch.float64
    assert torch.autograd.gradcheck(projection, x, fast_mode=True)
    # the derivative of the transpose is the map itself
    g = torch.randn(D, dtype=torch.float64, requires_grad=True)
    (transposed,) = torch.autograd.grad(projection(x), x, g, create_graph=True)
    (again,) = torch.autograd.grad(transposed @ x.detach(), g)
    torch.testing.assert_close(again, projection(x).detach())
    with torch.no_grad():
        assert not projection(x).requires_grad


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_a_function_of_the_seed(kind):
    P = make_projection(100, 9, kind, seed=1).matrix()
    assert torch.equal(P, make_projection(100, 9, kind, seed=1).matrix())
    other = make_projection(100, 9, kind, seed=2).matrix()
    assert (P - other).abs().max() > 0.1
    # for srht, other columns of the Hadamard matrix, and not other signs alone
    assert (P * other).std(dim=1).max() > 1e-3


def test_errors():
    with pytest.raises(ConfigError, match="projection = 'pca' is not one of"):
        make_projection(10, 2, "pca")
    with pytest.raises(ConfigError, match="dimension = 11 exceeds the 10 parameters"):
        make_projection(10, 11)
    with pytest.raises(ConfigError, match="dimension must be a positive integer"):
        make_projection(10, 0)
    with pytest.raises(MemoryLimitError, match='use projection="srht"'):
        make_projection(10**9, 10**6, "dense")
