"""Products with the Hessian and the Gauss-Newton matrix, compared with dense matrices."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from hpcembed.networks.curvature import CurvatureProducts
from hpcembed.runtime.errors import ConfigError, InputError


def small_problem(n=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (n,), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return model, rows, labels


def flat_outputs(model, rows):
    """A function of all parameters in one vector, and that vector."""
    named = {name: one.detach() for name, one in model.named_parameters()}

    def outputs(theta):
        parts = theta.split([one.numel() for one in named.values()])
        shaped = zip(named, parts, named.values(), strict=True)
        parameters = {name: part.view_as(one) for name, part, one in shaped}
        return functional_call(model, parameters, (rows,))

    return outputs, torch.cat([one.reshape(-1) for one in named.values()])


def dense_hessian(model, loss, rows, labels):
    outputs, theta = flat_outputs(model, rows)
    found = torch.autograd.functional.hessian(lambda v: loss(outputs(v), labels), theta)
    return found.numpy()


def dense_gauss_newton(model, loss, rows, labels):
    outputs, theta = flat_outputs(model, rows)
    J = torch.autograd.functional.jacobian(outputs, theta).flatten(0, 1)
    z = outputs(theta)
    inner = torch.autograd.functional.hessian(lambda v: loss(v, labels), z)
    return (J.T @ inner.reshape(z.numel(), z.numel()) @ J).numpy()


DENSE = {"hessian": dense_hessian, "gauss_newton": dense_gauss_newton}


@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("block_rows", [None, 7])
def test_equal_to_the_dense_matrix(matrix, block_rows):
    model, rows, labels = small_problem()
    products = CurvatureProducts(
        model, functional.cross_entropy, rows, labels, matrix=matrix, block_rows=block_rows
    )
    expected = DENSE[matrix](model, functional.cross_entropy, rows, labels)
    assert products.n_parameters == len(expected) == 43
    found = products.multiply(np.eye(43))
    np.testing.assert_allclose(found, expected, atol=1e-13)
    np.testing.assert_allclose(found, found.T, atol=1e-14)
    one = products.multiply(np.arange(43.0)[:, None])
    np.testing.assert_allclose(one[:, 0], expected @ np.arange(43.0), atol=1e-11)


def test_the_gauss_newton_matrix_is_positive_semidefinite_and_differs():
    model, rows, labels = small_problem()
    arguments = model, functional.cross_entropy, rows, labels
    G = CurvatureProducts(*arguments, matrix="gauss_newton").multiply(np.eye(43))
    H = CurvatureProducts(*arguments).multiply(np.eye(43))
    assert np.linalg.eigvalsh(G)[0] > -1e-14
    assert np.linalg.eigvalsh(H)[0] < -1e-4
    assert np.abs(G - H).max() > 1e-3


def test_both_matrices_are_equal_for_linear_models():
    _, rows, labels = small_problem()
    model = nn.Linear(4, 3).double()
    arguments = model, functional.cross_entropy, rows, labels
    G = CurvatureProducts(*arguments, matrix="gauss_newton").multiply(np.eye(15))
    H = CurvatureProducts(*arguments).multiply(np.eye(15))
    np.testing.assert_allclose(G, H, atol=1e-14)
    assert np.abs(G).max() > 0.01


def test_gradient_and_loss():
    model, rows, labels = small_problem()
    products = CurvatureProducts(model, functional.cross_entropy, rows, labels, block_rows=11)
    value = functional.cross_entropy(model(rows), labels)
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, model.parameters())])
    loss, found = products.loss_and_gradient()
    assert loss == pytest.approx(value.item(), rel=1e-14)
    np.testing.assert_allclose(found, gradient.numpy(), atol=1e-15)


def test_single_precision_is_close_and_not_equal():
    model, rows, labels = small_problem()
    arguments = model, functional.cross_entropy, rows, labels
    exact = CurvatureProducts(*arguments).multiply(np.eye(43))
    found = CurvatureProducts(*arguments, dtype="float32").multiply(np.eye(43))
    assert found.dtype == np.float64
    assert 1e-10 < np.abs(found - exact).max() < 1e-6


def test_the_model_is_unchanged_and_in_evaluation_mode():
    _, rows, labels = small_problem()
    layers = [nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.ReLU(), nn.Linear(5, 3)]
    model = nn.Sequential(*layers)
    model(torch.randn(20, 4)).sum().backward()
    state = copy.deepcopy(model.state_dict())
    gradients = [one.grad.clone() for one in model.parameters()]
    random_state = torch.random.get_rng_state()
    products = CurvatureProducts(model, functional.cross_entropy, rows, labels)
    V = np.random.default_rng(0).standard_normal((products.n_parameters, 2))
    first = products.multiply(V)
    assert np.array_equal(first, products.multiply(V))  # no dropout, no running statistics
    assert model.training
    assert all(one.dtype == torch.float32 for one in model.parameters())
    assert all(torch.equal(one, state[name]) for name, one in model.state_dict().items())
    for one, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.equal(one.grad, gradient)
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_fixed_unused_and_tied_parameters():
    _, rows, _ = small_problem()
    labels = torch.arange(30) % 4
    for matrix in ("hessian", "gauss_newton"):
        products = CurvatureProducts(_Tied(), functional.cross_entropy, rows, labels, matrix=matrix)
        assert products.names == ("unused", "a.weight", "a.bias")
        expected = DENSE[matrix](_Tied(fixed=False), functional.cross_entropy, rows, labels)
        kept = np.r_[0:22]
        np.testing.assert_allclose(
            products.multiply(np.eye(22)), expected[np.ix_(kept, kept)], atol=1e-13
        )
        assert not products.multiply(np.eye(22))[:2].any()


class _Tied(nn.Module):
    def __init__(self, *, fixed=True):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
            self.a, self.b = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
        self.b.weight = self.a.weight
        self.b.bias.requires_grad_(not fixed)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


def test_regression_and_integer_rows():
    model = nn.Sequential(nn.Embedding(6, 3), nn.Flatten(), nn.Linear(6, 1)).double()
    rows = torch.tensor([[0, 1], [2, 3], [4, 5], [1, 1]])
    labels = np.arange(4.0)[:, None]
    products = CurvatureProducts(model, functional.mse_loss, rows, labels)
    expected = dense_hessian(model, functional.mse_loss, rows, torch.from_numpy(labels))
    np.testing.assert_allclose(products.multiply(np.eye(len(expected))), expected, atol=1e-13)


def test_read_only_rows_and_convolutions():
    rows = np.random.default_rng(0).standard_normal((20, 1, 6, 6))
    labels = np.arange(20) % 3
    rows.flags.writeable = labels.flags.writeable = False
    layers = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)]
    model = nn.Sequential(*layers).double()
    for matrix in ("hessian", "gauss_newton"):
        arguments = functional.cross_entropy, rows, labels
        products = CurvatureProducts(model, *arguments, matrix=matrix)
        copied = (torch.tensor(one) for one in (rows, labels))
        expected = DENSE[matrix](model, functional.cross_entropy, *copied)
        np.testing.assert_allclose(products.multiply(np.eye(len(expected))), expected, atol=1e-13)


def test_one_block_computes_its_graph_once():
    model, rows, labels = small_problem()
    calls = []

    def loss(outputs, y):
        calls.append(len(y))
        return functional.cross_entropy(outputs, y)

    for matrix in ("hessian", "gauss_newton"):
        whole = CurvatureProducts(model, loss, rows, labels, matrix=matrix)
        parts = CurvatureProducts(model, loss, rows, labels, matrix=matrix, block_rows=20)
        calls.clear()
        first, second = (whole.multiply(np.eye(43)) for _ in range(2))
        assert calls == [30]
        assert np.array_equal(first, second)
        for _ in range(2):
            parts.multiply(np.eye(43))
        assert calls == [30, 20, 10, 20, 10]


def test_wide_layers_have_small_blocks(monkeypatch):
    _, rows, labels = small_problem()
    monkeypatch.setattr("hpcembed.networks.curvature.products._BLOCK_VALUES", 150)
    calls = []

    def loss(outputs, y):
        calls.append(len(y))
        return functional.cross_entropy(outputs, y)

    model = nn.Sequential(nn.Linear(4, 17), nn.Tanh(), nn.Linear(17, 3)).double()
    products = CurvatureProducts(model, loss, rows, labels)
    calls.clear()
    products.multiply(np.eye(products.n_parameters, 1))
    assert calls == [3] * 10  # 17 + 17 + 3 values of the layers and 3 of the whole model for a row


def test_a_loss_that_is_linear_in_the_parameters_has_no_curvature():
    model, rows = nn.Linear(4, 1).double(), small_problem()[1]
    products = CurvatureProducts(model, lambda z, y: (z[:, 0] * y).mean(), rows, np.ones(30))
    assert not products.multiply(np.eye(5)).any()


def test_errors():
    model, rows, labels = small_problem()
    loss = functional.cross_entropy
    with pytest.raises(InputError, match="30 rows and 29 labels"):
        CurvatureProducts(model, loss, rows, labels[:29])
    with pytest.raises(InputError, match=r"the model or the loss failed.*shapes"):
        CurvatureProducts(model, loss, rows[:, :3], labels)
    with pytest.raises(InputError, match="failed for the hessian matrix: KeyError: 'y'"):
        CurvatureProducts(model, lambda z, y: {}["y"], rows, labels)
    with pytest.raises(InputError, match="a mean over rows without weights"):
        CurvatureProducts(model, lambda z, y: loss(z, y, reduction="sum"), rows, labels)
    with pytest.raises(InputError, match=r"the loss has the shape \(30,\)"):
        CurvatureProducts(model, lambda z, y: loss(z, y, reduction="none"), rows, labels)
    with pytest.raises(InputError, match="is nan: check"):
        CurvatureProducts(model, loss, rows * np.nan, labels)
    with pytest.raises(InputError, match="the model returns tuple"):
        CurvatureProducts(nn.LSTM(4, 3), loss, rows, labels)
    with pytest.raises(ConfigError, match="matrix = 'fisher' is not one of"):
        CurvatureProducts(model, loss, rows, labels, matrix="fisher")
    with pytest.raises(ConfigError, match="dtype = 'float16'"):
        CurvatureProducts(model, loss, rows, labels, dtype="float16")
    with pytest.raises(ConfigError, match="block_rows"):
        CurvatureProducts(model, loss, rows, labels, block_rows=0)
    with pytest.raises(ConfigError, match="no parameter of the model has requires_grad"):
        CurvatureProducts(nn.ReLU(), loss, rows, labels)


@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_of_the_caller_have_no_effect(matrix, mode):
    model, rows, labels = small_problem()
    arguments = functional.cross_entropy, rows, labels
    expected = CurvatureProducts(model, *arguments, matrix=matrix)
    with mode():
        found = CurvatureProducts(model, *arguments[:1], rows * 1, labels * 1, matrix=matrix)
        product, (_, gradient) = found.multiply(np.eye(43)), found.loss_and_gradient()
    assert np.abs(product).max() > 0.01
    np.testing.assert_array_equal(product, expected.multiply(np.eye(43)))
    np.testing.assert_array_equal(gradient, expected.loss_and_gradient()[1])


class _Attention(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.attention = nn.MultiheadAttention(2, 1, batch_first=True)
            self.last = nn.Linear(4, 3)

    def forward(self, x):
        x = x.reshape(-1, 2, 2)
        return self.last(self.attention(x, x, x, need_weights=False)[0].flatten(1))


@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
def test_attention_has_second_derivatives(matrix):
    _, rows, labels = small_problem()
    model = _Attention().double()
    products = CurvatureProducts(model, functional.cross_entropy, rows, labels, matrix=matrix)
    found = products.multiply(np.eye(products.n_parameters))
    assert torch.backends.cuda.flash_sdp_enabled()
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    if matrix == "hessian":  # differences of gradients, which the fused kernel has
        named, step = dict(model.named_parameters()), 1e-5
        gradients = []
        for sign in (1, -1):
            with torch.no_grad():
                named["last.weight"][0, 0] += sign * step
            moved = CurvatureProducts(model, functional.cross_entropy, rows, labels)
            gradients.append(moved.loss_and_gradient()[1])
            with torch.no_grad():
                named["last.weight"][0, 0] -= sign * step
        place = sum(one.numel() for one in list(named.values())[:-2])
        column = (gradients[0] - gradients[1]) / (2 * step)
        np.testing.assert_allclose(found[:, place], column, atol=1e-8)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, weight):
        return 2 * weight * context.saved_tensors[0]


def test_missing_second_derivatives_are_errors_and_not_zeros():
    model, rows, labels = small_problem()

    def once(outputs, y):
        return functional.cross_entropy(_Once.apply(outputs), y)

    def detached(outputs, _y):
        return (outputs.detach() ** 2).mean()

    for matrix in ("hessian", "gauss_newton"):
        with pytest.raises(InputError, match="can be differentiated once only"):
            CurvatureProducts(model, once, rows, labels, matrix=matrix).multiply(np.eye(43))
        with pytest.raises(InputError, match="the loss has no derivative"):
            CurvatureProducts(model, detached, rows, labels, matrix=matrix).multiply(np.eye(43))


def test_weights_of_classes_are_found_in_sorted_labels():
    model, _, _ = small_problem()
    rows = torch.randn(150, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([80, 40, 30]))
    weights = torch.tensor([1.0, 5.0, 0.2], dtype=torch.float64)

    def weighted(outputs, y):
        return functional.cross_entropy(outputs, y, weight=weights)

    with pytest.raises(InputError, match="a loss that is a mean over rows without weights"):
        CurvatureProducts(model, weighted, rows, labels, block_rows=32)


def test_losses_and_rows_of_other_types():
    model, rows, labels = small_problem()
    with pytest.raises(InputError, match=r"the loss has the type float: it must be one number"):
        CurvatureProducts(model, lambda _outputs, _y: 0.0, rows, labels)
    with pytest.raises(InputError, match=r"rows: list: give a Tensor or an ndarray"):
        CurvatureProducts(model, functional.cross_entropy, rows.tolist(), labels)
    with pytest.raises(InputError, match="check the shapes and types of rows and labels"):
        names = np.array(["a"] * 30)
        CurvatureProducts(model, functional.cross_entropy, rows, names)
