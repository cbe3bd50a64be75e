"""The methods that are compared, by name; the code of each family is loaded when it is used."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.memory import format_bytes

__all__ = ["METHODS", "Fitted", "Method", "Task", "available", "select", "tolerance"]

#: Largest number of features whose d x d covariance is tried.
_LARGEST_SQUARE = 12_000


@dataclass(frozen=True)
class Task:
    """What every method is asked.

    Attributes
    ----------
    rows : ndarray or csr_matrix of shape (n, d)
    k : int
    threads : int
    seed : int
    """

    rows: Any
    k: int
    threads: int
    seed: int


@dataclass(frozen=True)
class Fitted:
    """What a method has found, and how it projects.

    Attributes
    ----------
    transform : callable
        Rows in, coordinates out.
    components, variances, certified, centred, detail
        As in :class:`~hpcembed.bench.judging.Answer`; components are None for a bound.
    """

    transform: Callable[[Any], NDArray[Any]] | None
    components: NDArray[Any] | None
    variances: NDArray[Any] | None = None
    certified: float | None = None
    centred: bool = True
    detail: str = ""


@dataclass(frozen=True)
class Method:
    """A PCA, or what one has to take at least.

    Attributes
    ----------
    name, about : str
    group : {"ours", "peer", "bound"}
    module : str
        Where its code is: ``FITS[name]`` of that module of this package.
    needs : str
        A package that must be importable.
    sparse : bool
        Whether it takes sparse rows.
    square : bool
        Whether it forms the d x d covariance.
    doubles : int
        Copies of dense rows in double precision that it makes.
    """

    name: str
    about: str
    module: str
    group: Literal["ours", "peer", "bound"] = "peer"
    needs: str = ""
    sparse: bool = False
    square: bool = False
    doubles: int = 0

    def unfit(self, rows: Any, k: int, available_bytes: int) -> str:
        """Why it does not apply; nothing where it does."""
        n, d = rows.shape
        needed = 8 * n * d * self.doubles
        if scipy.sparse.issparse(rows):
            needed = 0
            if not self.sparse:
                return "dense rows only"
        if self.square and d > _LARGEST_SQUARE:
            return f"forms a {d} x {d} matrix"
        if self.name == "ours-gram" and (n >= d or 2 * k >= n):
            return "for wide rows"
        if k >= min(n, d):
            return "k is not below rows and features"
        if needed > available_bytes:
            return f"copies of {format_bytes(needed)}"
        return ""

    def load(self) -> Callable[[Task], Fitted]:
        """Its code."""
        fits: dict[str, Callable[[Task], Fitted]] = import_module(
            f"hpcembed.bench.{self.module}"
        ).FITS
        return fits[self.name]


def tolerance(rows: Any) -> float:
    """What iterative methods are asked for: as :class:`hpcembed.PCA` for rows of this type."""
    return 1e-6 if rows.dtype == np.float32 else 1e-10


METHODS = (
    Method("ours", "hpcembed.PCA, engine chosen by its cost model", "ours", "ours", sparse=True),
    Method(
        "ours-assembled", "hpcembed.PCA, assembled covariance", "ours", "ours",
        sparse=True, square=True,
    ),
    Method("ours-block", "hpcembed.PCA, block Krylov passes", "ours", "ours", sparse=True),
    Method("ours-gram", "hpcembed.PCA on the side of the rows", "ours", "ours"),
    Method(
        "ours-matrix-free", "hpcembed.PCA, single vectors in double", "ours", "ours", sparse=True
    ),
    Method("xtx", "the bare X.T @ X in numpy: no PCA", "ours", "bound", square=True),
    Method(
        "sklearn-cov-eigh", "scikit-learn PCA, covariance_eigh", "sklearn_peers",
        sparse=True, square=True,
    ),
    Method("sklearn-arpack", "scikit-learn PCA, arpack", "sklearn_peers", sparse=True),
    Method("sklearn-randomized", "scikit-learn PCA, randomized", "sklearn_peers"),
    Method(
        "sklearnex-cov-eigh", "scikit-learn-intelex PCA, covariance_eigh", "sklearn_peers",
        needs="sklearnex", square=True,
    ),
    Method(
        "sklearn-truncated-svd", "scikit-learn TruncatedSVD, not centred", "sklearn_peers",
        sparse=True,
    ),
    Method("sklearn-incremental", "scikit-learn IncrementalPCA", "sklearn_peers"),
    Method("torch-lowrank", "torch.pca_lowrank", "torch_peers", needs="torch"),
    Method(
        "torch-cov-eigh", "torch covariance and linalg.eigh", "torch_peers",
        needs="torch", square=True,
    ),
    Method("scipy-eigsh", "scipy eigsh on a LinearOperator", "slepc_peers", sparse=True),
    Method(
        "slepc-svd-cross", "SLEPc SVD, cross, of the centred rows in double", "slepc_peers",
        doubles=2,
    ),
    Method(
        "slepc-svd-trlanczos", "SLEPc SVD, trlanczos, of the centred rows in double",
        "slepc_peers", doubles=2,
    ),
    Method(
        "slepc-eps", "SLEPc Krylov-Schur on hpcembed's matrix-free covariance", "slepc_peers",
        sparse=True,
    ),
    Method("heat-full", "Heat PCA, full", "heat_peers", needs="heat"),
    Method("heat-hierarchical", "Heat PCA, hierarchical", "heat_peers", needs="heat"),
    Method("heat-randomized", "Heat PCA, randomized", "heat_peers", needs="heat"),
)  # fmt: skip


def available() -> list[Method]:
    """Those whose package is there."""
    return [
        one for one in METHODS if not one.needs or importlib.util.find_spec(one.needs) is not None
    ]


def select(words: Sequence[str]) -> list[Method]:
    """Methods by name or pattern, in the order of the catalogue; all where no word is given.

    Raises
    ------
    ConfigError
        When a word fits none.
    """
    there = available()
    if not words:
        return there
    for word in words:
        if not any(fnmatchcase(one.name, word) for one in there):
            missing = next((one for one in METHODS if fnmatchcase(one.name, word)), None)
            if missing:
                raise ConfigError(f"--methods {word}: {missing.needs} is not installed")
            names = ", ".join(one.name for one in there)
            raise ConfigError(f"--methods {word}: no such method; there are {names}")
    return [one for one in there if any(fnmatchcase(one.name, word) for word in words)]
