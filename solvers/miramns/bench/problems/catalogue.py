"""Catalogue of the problems: generated operators, and matrices from files.

A generated problem is selected by its name, with parameters that differ from their defaults:
``random-graph``, ``random-graph:n=50000,degree=20``. A generator builds on each rank only the
rank's own rows, and depends on its parameters and the seed alone. A problem whose eigenvalues are
known supplies them; for others the benchmark computes a reference.
"""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.bench.harness.root_rank import BenchError
from miramns.bench.problems import matrix_free_operators as matrix_free
from miramns.bench.problems.grids import laplacian, laplacian_eigenvalues, random_walk
from miramns.bench.problems.matrix_files import is_symmetric, read_matrix
from miramns.bench.problems.random_graphs import (
    power_law_graph,
    random_graph,
    stochastic_block_graph,
)


@dataclass(frozen=True)
class Problem:
    """One operator and its known properties.

    Attributes
    ----------
    name, group : str
        Geometric means are taken over the problems of a group.
    hermitian : bool
    build : callable
        ``build(comm)`` creates the operator, which the caller destroys. Collective.
    eigenvalues : callable, optional
        Returns all eigenvalues, shape (n,), in no particular order.
    definite : bool
        Whether no eigenvalue is negative, so that the eigenvalues of largest modulus are the
        largest ones.
    """

    name: str
    group: str
    hermitian: bool
    build: Callable[[MPI.Comm], PETSc.Mat]
    eigenvalues: Callable[[], NDArray[np.float64]] | None = None
    definite: bool = False


def _laplacian(shape: tuple[int, ...]) -> Problem:
    dimensions = f"{len(shape)}-D"
    return Problem(
        name=f"laplacian {'x'.join(map(str, shape))}",
        group=f"Laplacian {dimensions}",
        hermitian=True,
        build=partial(laplacian, shape=shape),
        eigenvalues=partial(laplacian_eigenvalues, shape),
        definite=True,
    )


def _laplacian_1d(n: int = 2000) -> Problem:
    """1-D Laplacian, exact eigenvalues."""
    return _laplacian((n,))


def _laplacian_2d(nx: int = 70, ny: int = 60) -> Problem:
    """2-D Laplacian, exact eigenvalues (double ones where nx = ny)."""
    return _laplacian((nx, ny))


def _laplacian_3d(nx: int = 24, ny: int = 22, nz: int = 20) -> Problem:
    """3-D Laplacian, exact eigenvalues."""
    return _laplacian((nx, ny, nz))


def _random_graph(n: int = 20_000, degree: float = 10.0, seed: int = 1) -> Problem:
    """Adjacency of a graph of uniform pairs: one outlier, then the edge of a bulk."""
    build = partial(random_graph, n=n, degree=degree, seed=seed)
    return Problem(f"random graph {n}", "graph", True, build)


def _block_graph(
    n: int = 20_000, blocks: int = 12, inside: float = 20.0, outside: float = 4.0, seed: int = 1
) -> Problem:
    """Adjacency of a stochastic block model: as many outliers as blocks."""
    if blocks > n // 2:
        raise BenchError(f"block-graph: need blocks <= n / 2, got blocks={blocks}, n={n}")
    build = partial(
        stochastic_block_graph, n=n, blocks=blocks, inside=inside, outside=outside, seed=seed
    )
    return Problem(f"block graph {n}", "graph", True, build)


def _power_law_graph(
    n: int = 20_000, degree: float = 10.0, exponent: float = 2.5, seed: int = 1
) -> Problem:
    """Adjacency of a graph with power-law degrees (Chung and Lu)."""
    if exponent <= 2.0:
        raise BenchError(f"power-law-graph: need exponent > 2, got {exponent:g}")
    build = partial(power_law_graph, n=n, degree=degree, exponent=exponent, seed=seed)
    return Problem(f"power-law graph {n}", "graph", True, build)


def _random_walk(side: int = 60) -> Problem:
    """Random walk on a triangle of side (side + 1) / 2 states, nonsymmetric."""
    if side < 2:
        raise BenchError(f"random-walk: need side >= 2, got {side}")
    n = side * (side + 1) // 2
    return Problem(f"random walk {n}", "nonsymmetric", False, partial(random_walk, side=side))


def _hidden(name: str, group: str, values: NDArray[np.float64], seed: int) -> Problem:
    return Problem(
        name=f"{name} {len(values)}",
        group=group,
        hermitian=True,
        build=partial(matrix_free.hidden_diagonal, values=values, seed=seed),
        eigenvalues=lambda: values,
        definite=True,
    )


def _spiked(n: int = 20_000, spikes: int = 10, seed: int = 1) -> Problem:
    """Spiked covariance, matrix-free, exact eigenvalues."""
    return _hidden("spiked covariance", "covariance", matrix_free.spiked_values(n, spikes), seed)


def _power_law(n: int = 20_000, decay: float = 1.0, seed: int = 1) -> Problem:
    """Covariance with eigenvalues j^-decay, matrix-free, exact eigenvalues."""
    values = matrix_free.power_law_values(n, decay)
    return _hidden(f"power-law covariance {decay:g}", "covariance", values, seed)


def _clustered(n: int = 20_000, width: float = 1e-5, seed: int = 1) -> Problem:
    """Ten clusters of four eigenvalues, matrix-free, exact eigenvalues."""
    values = matrix_free.clustered_values(n, width)
    return _hidden(f"clustered {width:g}", "clustered", values, seed)


def _multiple(n: int = 20_000, multiplicity: int = 3, seed: int = 1) -> Problem:
    """Multiple eigenvalues, matrix-free, exact: single vectors may miss copies."""
    values = matrix_free.multiple_values(n, multiplicity)
    return _hidden(f"multiple {multiplicity}", "clustered", values, seed)


def _sparse_covariance(
    rows: int = 20_000, columns: int = 5_000, per_row: int = 20, decay: float = 1.0, seed: int = 1
) -> Problem:
    """X'X/n of sparse rows with power-law column frequencies, matrix-free."""
    build = partial(
        matrix_free.sparse_covariance,
        rows=rows, columns=columns, per_row=per_row, decay=decay, seed=seed,
    )  # fmt: skip
    name = f"sparse covariance {rows}x{columns}"
    return Problem(name, "covariance", True, build, definite=True)


GENERATORS: Mapping[str, Callable[..., Problem]] = {
    generator.__name__[1:].replace("_", "-"): generator
    for generator in (
        _laplacian_1d, _laplacian_2d, _laplacian_3d, _random_graph, _block_graph, _power_law_graph,
        _random_walk, _spiked, _power_law, _clustered, _multiple, _sparse_covariance,
    )
}  # fmt: skip

#: Sets of problems under one name.
PRESETS: Mapping[str, tuple[str, ...]] = {
    "usual": tuple(GENERATORS),
    "quick": (
        "laplacian-2d:nx=24,ny=20", "random-graph:n=2000", "random-walk:side=20", "spiked:n=2000",
        "multiple:n=1000", "sparse-covariance:rows=2000,columns=500",
    ),
    "big": (
        "random-graph:n=300000", "laplacian-2d:nx=500,ny=500", "laplacian-3d:nx=64,ny=60,nz=56",
        "block-graph:n=120000", "power-law-graph:n=120000", "random-walk:side=400",
        "spiked:n=500000", "power-law:n=500000", "sparse-covariance:rows=200000,columns=50000",
    ),
}  # fmt: skip


def generated(text: str) -> Problem:
    """Create the problem ``NAME`` or ``NAME:key=value,...``.

    Raises
    ------
    BenchError
        If there is no such generator or parameter, or a value is not allowed.

    Examples
    --------
    >>> problem = generated("laplacian-2d:nx=8,ny=7")
    >>> problem.name, len(problem.eigenvalues())
    ('laplacian 8x7', 56)
    """
    name, _, rest = text.partition(":")
    if name not in GENERATORS:
        raise BenchError(
            f"problem {name!r} is not one of {', '.join(GENERATORS)}, {', '.join(PRESETS)}"
        )
    generator = GENERATORS[name]
    known = inspect.signature(generator).parameters
    chosen: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, _, value = item.partition("=")
        if key not in known:
            raise BenchError(f"problem {text!r}: {key!r} is not one of {', '.join(known)}")
        kind = type(known[key].default)
        try:
            chosen[key] = kind(value)
        except ValueError:
            raise BenchError(
                f"problem {text!r}: {key}={value!r} is not of type {kind.__name__}"
            ) from None
        if not (np.isfinite(chosen[key]) and chosen[key] >= (0 if key == "seed" else 1e-300)):
            raise BenchError(f"problem {text!r}: need {key} > 0, got {value}")
    return generator(**chosen)


def file_problem(comm: MPI.Comm, path: Path) -> Problem:
    """Create the problem of the matrix in a Matrix Market file.

    Collective on `comm`.

    Raises
    ------
    BenchError
        If the file does not hold a square real matrix.
    """
    symmetric = is_symmetric(comm, path)
    name = path.name.split(".mtx")[0]
    group = "files, symmetric" if symmetric else "files, nonsymmetric"
    return Problem(name, group, symmetric, partial(read_matrix, path=path, hermitian=symmetric))


def select(words: list[str]) -> list[Problem]:
    """Create the problems of a list of names, patterns and sets, each once.

    Raises
    ------
    BenchError
        If a word matches nothing.
    """
    texts: list[str] = []
    for word in words:
        matched = [name for name in GENERATORS if fnmatch.fnmatchcase(name, word)]
        texts += PRESETS.get(word, tuple(matched) or (word,))
    return [generated(text) for text in dict.fromkeys(texts)]
