"""Products of vectors with the Hessian and the Gauss-Newton matrix of a loss over rows.

For the mean loss L of a model with parameters theta, the product of the Hessian is the derivative
of the gradient in a direction, by a second backward pass (Pearlmutter, "Fast exact multiplication
by the Hessian", Neural Computation 6 (1994)). The Gauss-Newton matrix is the mean of
``J' H_out J`` over rows: J is the Jacobian of the outputs by the parameters, and H_out the Hessian
of the loss by the outputs. Its product takes J v by forward mode, the small product by a second
backward pass, and the product with J' by a backward pass (Schraudolph, "Fast curvature
matrix-vector products for second-order gradient descent", Neural Computation 14 (2002)).

Rows are visited in blocks. Several vectors share the forward pass and the first backward pass of
each block; if there is one block, so do all products. The model is copied and evaluated in
evaluation mode: no dropout, no update of running statistics, so that every product has the same
operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, jvp

from hpcembed.networks.curvature.derivatives import (
    check_graph,
    copied_model,
    derivative,
    differentiable,
    flat,
    readable_failures,
    returned_values,
)
from hpcembed.runtime.arguments import check_choice, check_count
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["CurvatureProducts", "Loss", "Matrix", "Precision"]

#: Mean loss of outputs (rows first) and labels.
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Matrix = Literal["hessian", "gauss_newton"]
Precision = Literal["float64", "float32"]

#: Values that the layers return for one block; a product holds several times as many.
_BLOCK_VALUES = 2**24
_LARGEST_BLOCK = 4096

#: Rows on which the loss is tested, and largest relative difference of its value from the mean of
#: two halves. They are evenly spaced: so weights of classes show in rows that are sorted by class.
_TEST_ROWS = 64
_MEAN_TOLERANCE = {"float64": 1e-8, "float32": 1e-3}


class CurvatureProducts:
    """Products of vectors with a curvature matrix over the rows of this process.

    Parameters
    ----------
    model : nn.Module
        Rows in, outputs out: one tensor, rows first. It is copied.
    loss : callable
        ``loss(outputs, labels)`` is the mean over rows, for example
        ``torch.nn.functional.cross_entropy``.
    rows : Tensor or ndarray of shape (n, ...)
        Floating-point rows are converted to `dtype`; integer rows, such as tokens, are kept.
    labels : Tensor or ndarray of shape (n, ...)
        Integers become int64, floating-point numbers `dtype`.
    matrix : {"hessian", "gauss_newton"}
    dtype : {"float64", "float32"}
        Precision of the products.
    block_rows : int, optional
        Rows of a block. Default: chosen from the number of values that the layers return for a
        row, at most 4,096.

    Attributes
    ----------
    n_parameters : int
        Number of parameters with ``requires_grad``: the dimension of the matrix.
    n_rows : int
    names : tuple of str
    shapes : tuple of tuple of int
        Names and shapes of the parameters, in the order of ``model.named_parameters()``.

    Raises
    ------
    InputError
        The model cannot be copied or does not take the rows, numbers of rows and labels differ, or
        the loss is not a mean over rows.
    ConfigError
        `matrix`, `dtype` or `block_rows` is out of range, or no parameter has ``requires_grad``.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from hpcembed.networks.curvature import CurvatureProducts
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> rows, labels = np.array([[1.0, 0.0], [0.0, 3.0]]), np.zeros((2, 1))
    >>> products = CurvatureProducts(model, torch.nn.functional.mse_loss, rows, labels)
    >>> products.multiply(np.eye(2))  # the mean of 2 x x'
    array([[1., 0.],
           [0., 9.]])
    """

    @differentiable()
    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        rows: Tensor | NDArray[Any],
        labels: Tensor | NDArray[Any],
        *,
        matrix: Matrix = "hessian",
        dtype: Precision = "float64",
        block_rows: int | None = None,
    ) -> None:
        check_choice("matrix", matrix, ("hessian", "gauss_newton"))
        check_choice("dtype", dtype, ("float64", "float32"))
        check_count("block_rows", block_rows, optional=True)
        self.matrix, self.dtype = matrix, dtype
        self._type = torch.float64 if dtype == "float64" else torch.float32
        self._model = copied_model(model, self._type)
        named = {name: one for name, one in self._model.named_parameters() if one.requires_grad}
        if not named:
            raise ConfigError("no parameter of the model has requires_grad: set it for some")
        self._named, self._parameters = named, list(named.values())
        self.names = tuple(named)
        self.shapes = tuple(tuple(one.shape) for one in self._parameters)
        self.n_parameters = sum(one.numel() for one in self._parameters)
        self._loss = loss
        self._rows, self._labels = rows, labels
        for name, one in (("rows", rows), ("labels", labels)):
            if not hasattr(one, "ndim"):
                raise InputError(f"{name}: {type(one).__name__}: give a Tensor or an ndarray")
        counts = [one.shape[0] if one.ndim else 0 for one in (rows, labels)]
        if counts[0] != counts[1]:
            raise InputError(
                f"{counts[0]} rows and {counts[1]} labels: give one label for each row"
            )
        self.n_rows = counts[0]
        self._block = block_rows or _LARGEST_BLOCK
        if self.n_rows:
            width = self._check_loss()
            self._block = block_rows or max(1, min(_LARGEST_BLOCK, int(_BLOCK_VALUES / width)))
        self._graph: list[Tensor] = []

    @differentiable()
    def multiply(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the matrix times the columns of V.

        Parameters
        ----------
        V : ndarray of shape (n_parameters, b)

        Returns
        -------
        ndarray of shape (n_parameters, b)
            Of the mean loss of the rows of this process; zeros without rows.

        Raises
        ------
        InputError
            An operation of the model has no derivative of the needed kind.
        """
        columns = [self._split(column) for column in torch.as_tensor(V).to(self._type).T]
        total = torch.zeros((self.n_parameters, len(columns)), dtype=torch.float64)
        products = self._of_hessian if self.matrix == "hessian" else self._of_gauss_newton
        for rows, labels, share in self._blocks():
            with readable_failures(self.matrix):
                for j, product in enumerate(products(rows, labels, columns)):
                    total[:, j] += share * flat(product).double()
        return total.numpy()

    @differentiable()
    def loss_and_gradient(self) -> tuple[float, NDArray[np.float64]]:
        """Return the mean loss of the rows, and its gradient, shape (n_parameters,)."""
        loss, total = 0.0, torch.zeros(self.n_parameters, dtype=torch.float64)
        for rows, labels, share in self._blocks():
            with readable_failures(self.matrix):
                value = self._loss(self._outputs(rows), labels)
                parts = self._gradients(value)
            loss += share * float(value.detach())
            total += share * flat(parts).double()
        return loss, total.numpy()

    def parameters(self) -> NDArray[np.float64]:
        """Return the parameters, shape (n_parameters,)."""
        return flat([one.detach() for one in self._parameters]).double().numpy()

    def _of_hessian(
        self, rows: Tensor, labels: Tensor, columns: list[list[Tensor]]
    ) -> Iterator[list[Tensor]]:
        """Yield the products of the Hessian of a block: derivatives of its gradient."""

        def graph() -> list[Tensor]:
            gradients = self._gradients(self._loss(self._outputs(rows), labels), create_graph=True)
            check_graph(gradients)
            return gradients

        gradients = self._kept(graph)
        for column in columns:
            yield derivative(gradients, self._parameters, column)

    def _of_gauss_newton(
        self, rows: Tensor, labels: Tensor, columns: list[list[Tensor]]
    ) -> Iterator[list[Tensor]]:
        """Yield the products ``J' H_out J v`` of a block."""

        def graph() -> list[Tensor]:
            outputs = self._outputs(rows)
            leaf = outputs.detach().requires_grad_()
            value = self._loss(leaf, labels)
            _check_derivative(value)
            slope = torch.autograd.grad(value, leaf, create_graph=True)
            check_graph(list(slope))
            return [outputs, leaf, *slope]

        outputs, leaf, slope = self._kept(graph)
        fixed = {name: one.detach() for name, one in self._named.items()}

        def of_parameters(named: dict[str, Tensor]) -> Tensor:
            return functional_call(self._model, named, (rows,))

        for column in columns:
            direction = dict(zip(self.names, column, strict=True))
            moved = jvp(of_parameters, (fixed,), (direction,))[1]
            (bent,) = derivative([slope], [leaf], [moved])
            yield derivative([outputs], self._parameters, [bent])

    def _kept(self, compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Return tensors with their graphs; if there is one block, they are computed once."""
        if self.n_rows > self._block:
            return compute()
        self._graph = self._graph or compute()
        return self._graph

    def _outputs(self, rows: Tensor) -> Tensor:
        outputs = self._model(rows)
        if not isinstance(outputs, Tensor):
            raise InputError(
                f"the model returns {type(outputs).__name__}: wrap it so that it returns one tensor"
            )
        return outputs

    def _gradients(self, value: Tensor, *, create_graph: bool = False) -> list[Tensor]:
        _check_derivative(value)
        return list(
            torch.autograd.grad(
                value, self._parameters, create_graph=create_graph, materialize_grads=True
            )
        )

    def _blocks(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Yield rows, labels and the share of all rows."""
        for first in range(0, self.n_rows, self._block):
            rows, labels = self._part(slice(first, first + self._block))
            yield rows, labels, rows.shape[0] / self.n_rows

    def _part(self, places: slice | NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return some rows and labels on the CPU, in the precision of the products."""
        rows, labels = (
            part.detach().cpu() if isinstance(part, Tensor) else torch.tensor(np.asarray(part))
            for part in (self._rows[places], self._labels[places])
        )
        # tensors of inference_mode enter no graph
        rows, labels = (one.clone() if one.is_inference() else one for one in (rows, labels))
        rows = rows.to(self._type) if rows.is_floating_point() else rows
        labels = labels.to(self._type) if labels.is_floating_point() else labels.to(torch.int64)
        return rows, labels

    def _split(self, column: Tensor) -> list[Tensor]:
        parts = column.split([one.numel() for one in self._parameters])
        return [part.reshape(one.shape) for part, one in zip(parts, self._parameters, strict=True)]

    def sample(self, count: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Return `count` rows and their labels, or all if there are fewer; None without rows."""
        if not self.n_rows:
            return None
        with readable_failures(self.matrix):
            rows, labels = self._part(self._spaced(count))
        return rows.numpy(), labels.numpy()

    def check_mean(self, samples: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> None:
        """Raise InputError if the loss of rows of several ranks is no mean over rows."""
        with readable_failures(self.matrix), torch.no_grad():
            rows, labels = (
                torch.from_numpy(np.concatenate(one)) for one in zip(*samples, strict=True)
            )
            outputs = self._outputs(rows)
            value = self._loss(outputs, labels)
        self._check_mean(outputs, labels, float(value))

    def _spaced(self, count: int) -> NDArray[np.int64]:
        """Return the places of at most `count` evenly spaced rows."""
        m = min(self.n_rows, count)
        return np.arange(m, dtype=np.int64) * self.n_rows // m

    @torch.no_grad()
    def _check_loss(self) -> float:
        """Refuse a loss that is no mean over rows, and rows that the model does not take.

        Returns
        -------
        float
            Number of values that the layers return for a row, at least 1.
        """
        with readable_failures(self.matrix), returned_values(self._model) as counts:
            rows, labels = self._part(self._spaced(_TEST_ROWS))
            outputs = self._outputs(rows)
            value = self._loss(outputs, labels)
        if not isinstance(value, Tensor) or value.numel() != 1:
            kind = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else "type"
            kind += "" if isinstance(value, Tensor) else f" {type(value).__name__}"
            raise InputError(
                f"the loss has the {kind}: it must be one number in a tensor, the mean over rows"
            )
        if not torch.isfinite(value):
            raise InputError(
                f"the loss of {len(rows)} rows is {float(value)}: check rows, labels and "
                "parameters for NaN or Inf"
            )
        self._check_mean(outputs, labels, float(value))
        return max(1.0, sum(counts) / len(rows))

    def _check_mean(self, outputs: Tensor, labels: Tensor, value: float) -> None:
        """Raise InputError if the loss of all rows is not the mean of the losses of two halves."""
        n, half = len(outputs), len(outputs) // 2
        if not half:
            return
        parts = [(outputs[:half], labels[:half]), (outputs[half:], labels[half:])]
        with readable_failures(self.matrix), torch.no_grad():
            mean = sum(float(self._loss(*part)) * len(part[0]) for part in parts) / n
        if not abs(mean - value) <= _MEAN_TOLERANCE[self.dtype] * max(abs(mean), 1e-6):
            raise InputError(
                f"the loss of {n} rows is {value:.6g}, and the mean over its rows {mean:.6g}: give "
                "a loss that is a mean over rows without weights"
            )


def _check_derivative(value: Tensor) -> None:
    """Raise InputError if a loss is a constant for PyTorch."""
    if not value.requires_grad:
        raise InputError(
            "the loss has no derivative: compute it from the outputs by operations of PyTorch, "
            "without detach"
        )
