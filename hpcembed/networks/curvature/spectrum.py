"""Dominant eigenpairs of the Hessian or the Gauss-Newton matrix of a loss, by MIRAMns.

The matrix is never formed: the solver takes its products. A product passes over all rows, so the
number of products decides the time. Restarts cost products, and short vectors of small networks
would restart early by default. Here the basis is as large as memory allows, and convergence is
tested every few columns, so that the iteration makes nearly the least number of products of any
Krylov method from this start vector. Afterwards one product for each pair gives its true residual.

Reference for the use of these vectors: Gur-Ari, Roberts, Dyer, "Gradient descent happens in a tiny
subspace", arXiv 1812.04754 (2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from torch import Tensor, nn

import miramns
from hpcembed.embedding._eigensolver import translated_errors
from hpcembed.networks.curvature.operator import CurvatureOperator
from hpcembed.networks.curvature.products import CurvatureProducts, Loss, Matrix, Precision
from hpcembed.operators.block_shell import block_shell
from hpcembed.runtime.agreement import agreement, same_on_all_ranks
from hpcembed.runtime.arguments import check_choice, check_count, check_flag, is_number
from hpcembed.runtime.errors import ConfigError, ConvergenceError
from hpcembed.runtime.machine.memory import available_per_rank
from hpcembed.runtime.ranks import allgather_rows, communicator

__all__ = ["CurvatureSpectrum", "Which", "hessian_eigenpairs"]

Which = Literal["LM", "LA", "SA"]

#: Largest relative residual by default: products in single precision have errors of their own.
_TOLERANCES = {"float64": 1e-6, "float32": 1e-4}

#: Largest subspace: this number of columns or this multiple of k, in this share of the memory.
_COLUMNS, _COLUMNS_PER_PAIR, _MEMORY_SHARE = 240, 12, 0.25


@dataclass(frozen=True, eq=False, repr=False)
class CurvatureSpectrum:
    """Eigenpairs of a curvature matrix with true residuals.

    Attributes
    ----------
    matrix : {"hessian", "gauss_newton"}
    eigenvalues : ndarray of shape (k,)
        Wanted ones first.
    eigenvectors : ndarray of shape (n_parameters, k)
        Orthonormal columns, the same on every rank; parameters in the order of `names`.
    residual_norms : ndarray of shape (k,)
        True residual norms ``||A v - lambda v||``, from products in double precision.
    tol : float
        Largest residual norm relative to the largest modulus of an eigenvalue.
    loss : float
        Mean loss of all rows.
    gradient : ndarray of shape (n_parameters,)
        Gradient of the mean loss, in the precision of the products.
    n_products, n_certificate_products : int
        Products that found the pairs, and that verified them. A product passes over all rows once.
    multiplicity_checked : bool
        Whether the complement was searched for further copies of multiple eigenvalues.
    converged : bool
        Whether all residuals are within the tolerance.
    seconds : float
        Wall time of the solver.
    solver : str
        The method and its subspace sizes.
    names : tuple of str
    shapes : tuple of tuple of int
        Names and shapes of the parameters.
    """

    matrix: Matrix
    eigenvalues: NDArray[np.float64]
    eigenvectors: NDArray[np.float64]
    residual_norms: NDArray[np.float64]
    tol: float
    loss: float
    gradient: NDArray[np.float64]
    n_products: int
    n_certificate_products: int
    multiplicity_checked: bool
    converged: bool
    seconds: float
    solver: str
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __repr__(self) -> str:
        return (
            f"<CurvatureSpectrum: {len(self.eigenvalues)} pairs of the {self.matrix} matrix, "
            f"values {self.eigenvalues[0]:.4g} to {self.eigenvalues[-1]:.4g}, largest relative "
            f"residual {self.relative_residuals.max():.1e}, {self.n_products} + "
            f"{self.n_certificate_products} products>"
        )

    @property
    def relative_residuals(self) -> NDArray[np.float64]:
        """Residual norms divided by the largest modulus of an eigenvalue, shape (k,)."""
        largest = float(np.abs(self.eigenvalues).max())
        return self.residual_norms / largest if largest > 0 else self.residual_norms

    def vector(self, index: int) -> dict[str, NDArray[np.float64]]:
        """Return an eigenvector as arrays with the names and shapes of the parameters."""
        sizes = [math.prod(shape) for shape in self.shapes]
        parts = np.split(self.eigenvectors[:, index], np.cumsum(sizes)[:-1])
        named = zip(self.names, self.shapes, parts, strict=True)
        return {name: part.reshape(shape) for name, shape, part in named}


def hessian_eigenpairs(
    model: nn.Module,
    loss: Loss,
    rows: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any],
    k: int,
    *,
    matrix: Matrix = "hessian",
    which: Which = "LM",
    tol: float | None = None,
    max_it: int = 100,
    ncv: int | None = None,
    dtype: Precision = "float64",
    block_rows: int | None = None,
    check_multiplicity: bool = False,
    seed: int = 0,
    comm: MPI.Comm | None = None,
) -> CurvatureSpectrum:
    """Find the k dominant eigenpairs of the Hessian of a mean loss by its parameters.

    Collective on `comm`.

    Parameters
    ----------
    model : nn.Module
        Rows in, one tensor of outputs out. A copy in evaluation mode is used: the model keeps its
        weights, its buffers, its mode and its gradients. Parameters without ``requires_grad`` are
        constants.
    loss : callable
        ``loss(outputs, labels)``, a mean over rows, for example
        ``torch.nn.functional.cross_entropy``.
    rows : Tensor or ndarray of shape (n_local, ...)
        This rank's rows, as the model takes them.
    labels : Tensor or ndarray of shape (n_local, ...)
    k : int
        Number of pairs.
    matrix : {"hessian", "gauss_newton"}
        The Gauss-Newton matrix is positive semidefinite for convex losses of the outputs.
    which : {"LM", "LA", "SA"}
        Largest modulus, largest or smallest value.
    tol : float, optional
        Largest true residual norm, relative to ||A||. Default: 1e-6, and 1e-4 for "float32".
    max_it : int
        Largest number of restarts.
    ncv : int, optional
        Largest subspace. Default: 240 or 12 k, whichever is more, within a quarter of the memory.
    dtype : {"float64", "float32"}
        Precision of the products that form the subspace. Residuals are always computed in double
        precision, from k products more.
    block_rows : int, optional
        Rows of a block. Default: chosen.
    check_multiplicity : bool
        Search for further copies of multiple eigenvalues, with at least 30 products more. Without
        it one vector of each eigenspace is certain.
    seed : int
        Of the start vector, which does not depend on the number of ranks.
    comm : MPI.Comm, optional
        The ranks among which the rows are distributed. Default: this rank alone.

    Returns
    -------
    CurvatureSpectrum
        The same on every rank.

    Raises
    ------
    InputError
        The model does not take the rows, the loss is no mean over rows, or a product is not finite.
    ConfigError
        An argument is out of range or differs between ranks, or the parameters do.
    ConvergenceError
        A pair misses the tolerance; the error has the result.

    Examples
    --------
    >>> import torch
    >>> from hpcembed.networks.curvature import hessian_eigenpairs
    >>> rows, labels = torch.eye(3) * torch.tensor([3.0, 2.0, 1.0]), torch.zeros(3, 1)
    >>> model = torch.nn.Linear(3, 1, bias=False)
    >>> found = hessian_eigenpairs(model, torch.nn.functional.mse_loss, rows, labels, k=2)
    >>> found.eigenvalues.round(6), found.converged  # of 2/3 diag(9, 4, 1)
    (array([6.      , 2.666667]), True)
    >>> found.vector(0)["weight"].round(6) + 0.0
    array([[1., 0., 0.]])
    """
    ranks = communicator(comm)
    tol = _TOLERANCES.get(dtype, 1e-6) if tol is None else tol
    same_on_all_ranks(
        ranks, k=k, matrix=matrix, which=which, tol=tol, max_it=max_it, ncv=ncv, dtype=dtype,
        check_multiplicity=check_multiplicity, seed=seed,
    )  # fmt: skip
    _check_arguments(k, which, tol, max_it, ncv, check_multiplicity)
    with agreement(ranks):
        made = _products(model, loss, rows, labels, matrix, dtype, block_rows)
    first, exact = made[0], made[-1] if len(made) > 1 else None
    if k > first.n_parameters:
        raise ConfigError(f"k = {k} exceeds the {first.n_parameters} parameters: reduce it")
    operator = CurvatureOperator(first, ranks)
    checked = None if exact is None else CurvatureOperator(exact, ranks)
    largest = max(min(ncv or _largest_subspace(k, operator, ranks), operator.layout[1]), k)
    options: dict[str, Any] = {
        "criterion": "norm",
        "nested_sizes": range(min(k + 1, largest), largest + 1),
        "multiplicity_check": "auto" if check_multiplicity else "never",
    }
    mean_loss, gradient = operator.loss_and_gradient()
    A = block_shell(operator)
    B = None if checked is None else block_shell(checked)
    try:
        with translated_errors():
            found = miramns.solve(
                A, k, which=which, hermitian=True, tol=tol, max_it=max_it, seed=seed,
                options=miramns.Options(exact=B, **options),
            )  # fmt: skip
    finally:
        A.destroy()
        if B is not None:
            B.destroy()
    vectors = allgather_rows(ranks, np.ascontiguousarray(found.eigenvectors))
    result = CurvatureSpectrum(
        matrix, np.asarray(found.eigenvalues), vectors, found.residual_norms, tol, mean_loss,
        gradient, found.n_matvec, found.n_certificate_matvec, found.multiplicity_checked,
        found.converged, found.seconds, found.solver, first.names, first.shapes,
    )  # fmt: skip
    if not result.converged:
        remedy = found.reason.remedy if exact is None else 'use dtype="float64" or raise tol'
        raise ConvergenceError(
            f"pairs {list(found.unconverged)} of the {matrix} matrix missed the tolerance {tol:g} "
            f"(largest relative residual {result.relative_residuals.max():.1e}): {remedy}",
            result,
        )
    return result


def _check_arguments(
    k: Any, which: Any, tol: Any, max_it: Any, ncv: Any, check_multiplicity: Any
) -> None:
    check_count("k", k)
    check_count("max_it", max_it)
    check_count("ncv", ncv, optional=True)
    check_choice("which", which, get_args(Which))
    check_flag("check_multiplicity", check_multiplicity)
    if not is_number(tol) or not 0 < tol < 1:
        raise ConfigError(f"tol must be a number between 0 and 1, got {tol!r}")


def _products(
    model: nn.Module, loss: Loss, rows: Any, labels: Any, matrix: Matrix, dtype: Precision,
    block_rows: int | None,
) -> list[CurvatureProducts]:  # fmt: skip
    """Return the products of this rank, and those in double precision where they differ."""
    kinds: tuple[Precision, ...] = ("float64",) if dtype == "float64" else (dtype, "float64")
    settings: dict[str, Any] = {"matrix": matrix, "block_rows": block_rows}
    return [CurvatureProducts(model, loss, rows, labels, dtype=one, **settings) for one in kinds]


def _largest_subspace(k: int, operator: CurvatureOperator, ranks: MPI.Comm) -> int:
    """Return the number of columns of the basis that pays and fits the memory. Collective."""
    _, n = operator.layout
    per_rank = -(-n // ranks.size)
    fits = int(_MEMORY_SHARE * available_per_rank(ranks)) // (8 * per_rank) - 1
    wanted = max(_COLUMNS, _COLUMNS_PER_PAIR * k)
    return min(max(min(wanted, fits), k + 2), n)
