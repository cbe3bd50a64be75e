"""Deep linear networks ``X = W_L ... W_1``: full, and compressed, trained by gradient descent.

The full network has L square orthogonal weights times a small scale. The compressed network (C-DLN,
Kwon et al., AISTATS 2024) has the outer weights ``eps V'`` and ``eps U``, with the dominant
singular vectors of the surrogate, and L - 2 inner weights ``eps I`` of order r-hat. Its outer
weights learn at alpha times the learning rate.

Gradients are analytic. With ``left = W_L ... W_2`` and ``right = W_1'`` those of the compressed
network need ``G right`` and ``G' left`` only: its cost is that of two thin products, and rows may
be distributed.

Deviations from the released code: the loss is tested in every iteration, not every 50; networks
with two weights and inner order r-hat that is not a multiple of r are allowed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from hpcembed.networks.deep_linear.problems import Matrix, Problem
from hpcembed.networks.deep_linear.record import ConvergedReason, Recovery, ends, reason_at_limit
from hpcembed.networks.deep_linear.surrogate_spectrum import SpectralStart, spectral_start
from hpcembed.runtime.arguments import check_count, is_number
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["fit_compressed_network", "fit_full_network"]


def fit_full_network(
    problem: Problem,
    *,
    depth: int = 3,
    width: int | None = None,
    learning_rate: float = 10.0,
    scale: float = 1e-2,
    tol: float = 1e-12,
    max_iterations: int = 25_000,
    seed: int = 0,
) -> Recovery:
    """Train the full deep linear network by gradient descent.

    For problems on one rank.

    Parameters
    ----------
    problem : Factorisation, Completion or Sensing
    depth : int
        Number of weights L, at least 2.
    width : int, optional
        Inner dimension. Default: the larger one of the matrix.
    learning_rate : float
        Fits matrices with entries of variance about 1; see the notes.
    scale : float
        Factor of the orthogonal weights at the start.
    tol : float
        The iteration ends when the loss is at most `tol`.
    max_iterations : int
    seed : int

    Returns
    -------
    Recovery
        ``left = W_L``, ``right = (W_{L-1} ... W_1)'``.

    Raises
    ------
    ConfigError
        An argument is out of range, or the problem is distributed.

    Notes
    -----
    The default rate and scale are the published ones, for an m x n matrix whose largest singular
    value sigma is about ``sqrt(m) + sqrt(n)``, as of a matrix with entries of variance 1. For
    factorisation and completion:

    * steps are stable for a learning rate up to about ``2 m n / (depth sigma^(2 - 2/depth))``;
      beyond it the reason is ``DIVERGED``;
    * for depth 3, sigma is learned after about ``m n / (learning_rate sigma scale)`` iterations;
      long before, the reason is ``NO_PROGRESS``.

    Divide a matrix of another scale by a number, and multiply `left` by it; or give a learning rate
    between both bounds.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcembed.networks.deep_linear import Factorisation, fit_full_network
    >>> target = np.outer([1.0, 2.0, 2.0], [2.0, 0.0, 0.0])
    >>> found = fit_full_network(Factorisation(target), learning_rate=0.5)
    >>> found.converged, bool(found.recovery_error < 1e-5)
    (True, True)
    """
    _check(depth, learning_rate, scale, tol, max_iterations)
    check_count("width", width, optional=True)
    if problem.comm.size > 1:
        raise ConfigError("the full network is for one rank: use fit_compressed_network")
    began = time.perf_counter()
    m, n = problem.shape
    width = width or max(m, n)
    sizes = [n, *[width] * (depth - 1), m]
    rng = np.random.default_rng(seed)
    weights = [
        scale * _orthogonal(rng, rows, columns)
        for rows, columns in zip(sizes[1:], sizes[:-1], strict=True)
    ]
    started = time.perf_counter()
    history: list[float] = []
    reason = ConvergedReason.ITERATIONS
    for _ in range(max_iterations + 1):
        # below[j] = W_j ... W_1; above[j] = W_L ... W_{j+1}
        below = _products(weights)
        loss, G = problem.loss_and_gradient(below[-1])
        history.append(loss)
        ended = ends(loss, history[0], tol)
        if ended or len(history) > max_iterations:
            reason = ended or reason_at_limit(history)
            break
        gradients = []
        above_G = G
        for j in range(depth - 1, 0, -1):
            gradients.append(above_G @ below[j - 1].T)
            above_G = weights[j].T @ above_G
        gradients.append(above_G)
        for weight, gradient in zip(weights, reversed(gradients), strict=True):
            gradient *= learning_rate
            weight -= gradient
    left, right = weights[-1], _products(weights[:-1])[-1].T
    return _recovery("full network", problem, left, right, history, reason, weights, None,
                     (began, started))  # fmt: skip


def fit_compressed_network(
    problem: Problem,
    rank: int | None = None,
    *,
    inner: int | None = None,
    depth: int = 3,
    learning_rate: float = 10.0,
    alpha: float = 5.0,
    scale: float = 1e-2,
    tol: float = 1e-12,
    max_iterations: int = 25_000,
    start: SpectralStart | None = None,
    seed: int = 0,
) -> Recovery:
    """Train the compressed deep linear network (C-DLN) by gradient descent.

    Collective on the problem's communicator.

    Parameters
    ----------
    problem : Factorisation, Completion or Sensing
    rank : int, optional
        Rank r of the matrix. Default: by the spectrum of the surrogate.
    inner : int, optional
        Order r-hat of the inner weights. Default: ``2 * rank``, at most the smaller dimension.
    depth : int
        Number of weights L, at least 2.
    learning_rate : float
        Fits matrices with entries of variance about 1; see the notes.
    alpha : float
        The outer weights learn at ``alpha * learning_rate``.
    scale, tol, max_iterations
        As for :func:`fit_full_network`.
    start : SpectralStart, optional
        At least `inner` singular triplets of the surrogate, if they are known.
    seed : int
        Of the solver of the spectral start.

    Returns
    -------
    Recovery
        ``left = W_L ... W_2``, ``right = W_1'``.

    Raises
    ------
    ConfigError
        An argument is out of range.
    ConvergenceError
        A singular vector of the surrogate misses its tolerance.

    Notes
    -----
    The default rates and scale are the published ones, for matrices of the scale that the notes of
    :func:`fit_full_network` state. Steps are stable for a learning rate up to about
    ``2 m n / ((2 alpha + depth - 2) sigma^(2 - 2/depth))``.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcembed.networks.deep_linear import Factorisation, fit_compressed_network
    >>> target = np.outer([1.0, 2.0, 2.0], [2.0, 0.0, 0.0])
    >>> found = fit_compressed_network(Factorisation(target), 1, learning_rate=0.5, alpha=1.0)
    >>> found.converged, [w.shape for w in found.weights]
    (True, [(2, 3), (2, 2), (3, 2)])
    """
    _check(depth, learning_rate, scale, tol, max_iterations)
    check_count("rank", rank, optional=True)
    check_count("inner", inner, optional=True)
    if not is_number(alpha) or alpha <= 0:
        raise ConfigError(f"alpha must be a positive number, got {alpha!r}")
    began = time.perf_counter()
    if start is None:
        if inner is None and rank is None:
            rank = len(spectral_start(problem, seed=seed).values)
        start = spectral_start(problem, inner or min(2 * (rank or 1), *problem.shape), seed=seed)
    k = inner or (min(2 * rank, *problem.shape) if rank else len(start.values))
    start.check_count(k)
    weights = [scale * start.right[:, :k].T]
    weights += [scale * np.eye(k) for _ in range(depth - 2)]
    weights.append(scale * start.left[:, :k])
    started = time.perf_counter()
    history: list[float] = []
    reason = ConvergedReason.ITERATIONS
    while True:
        inner_product = _products(weights[1:-1])[-1] if depth > 2 else np.eye(k)
        left, right = weights[-1] @ inner_product, weights[0].T
        loss, left_product, right_product = problem.loss_and_products(left, right)
        history.append(loss)
        ended = ends(loss, history[0], tol)
        if ended or len(history) > max_iterations:
            reason = ended or reason_at_limit(history)
            break
        gradients = _compressed_gradients(problem, weights, inner_product, left_product)
        weights[0] -= alpha * learning_rate * right_product.T
        for weight, gradient in zip(weights[1:-1], gradients[:-1], strict=True):
            weight -= learning_rate * gradient
        weights[-1] -= alpha * learning_rate * gradients[-1]
    return _recovery("compressed network", problem, left, right, history, reason, weights, start,
                     (began, started))  # fmt: skip


def _compressed_gradients(
    problem: Problem, weights: Sequence[Matrix], inner_product: Matrix, left_product: Matrix
) -> list[Matrix]:
    """Return the gradients of the weights 2 to L from ``G @ W_1'``. Collective."""
    outer = left_product @ inner_product.T
    if len(weights) == 2:
        return [outer]
    # S = W_L' G W_1'; the gradient of W_j is (W_{L-1} ... W_{j+1})' S (W_{j-1} ... W_2)'
    S = sum_over_ranks(problem.comm, np.ascontiguousarray(weights[-1].T @ left_product))
    below = [np.eye(len(S)), *_products(weights[1:-1])]
    found = []
    for j in range(len(weights) - 2, 0, -1):
        found.append(S @ below[j - 1].T)
        S = weights[j].T @ S
    return [*reversed(found), outer]


def _products(weights: Sequence[Matrix]) -> list[Matrix]:
    """Return ``W_1``, ``W_2 W_1``, ..., input first."""
    found = [weights[0]]
    for weight in weights[1:]:
        found.append(weight @ found[-1])
    return found


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> Matrix:
    """Return a random matrix with orthonormal rows or columns, uniformly distributed."""
    Q, R = np.linalg.qr(rng.standard_normal((max(rows, columns),) * 2))
    return np.ascontiguousarray((Q * np.sign(np.diag(R)))[:rows, :columns])


def _recovery(
    algorithm: str,
    problem: Problem,
    left: Matrix,
    right: Matrix,
    history: list[float],
    reason: ConvergedReason,
    weights: list[Matrix],
    start: SpectralStart | None,
    clock: tuple[float, float],
) -> Recovery:
    """Collective."""
    seconds = {"start": clock[1] - clock[0], "iterations": time.perf_counter() - clock[1]}
    own_rows = weights[-1].size if len(weights) else 0
    parameters = int(problem.comm.allreduce(own_rows)) + sum(w.size for w in weights[:-1])
    return Recovery(
        algorithm, problem.name, left, np.ascontiguousarray(right), len(history) - 1,
        np.array(history), problem.recovery_error(left, right), seconds, parameters, reason, start,
        tuple(weights),
    )  # fmt: skip


def _check(depth: int, learning_rate: float, scale: float, tol: float, max_iterations: int) -> None:
    check_count("depth", depth)
    check_count("max_iterations", max_iterations)
    if depth < 2:
        raise ConfigError(f"depth must be at least 2, got {depth}")
    for name, value in (("learning_rate", learning_rate), ("scale", scale), ("tol", tol)):
        if not is_number(value) or value < 0 or (value == 0 and name != "tol"):
            raise ConfigError(f"{name} must be a positive number, got {value!r}")
