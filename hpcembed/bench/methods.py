"""Methods that are compared, by name; the code of each one is imported when it is used."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pkgutil import resolve_name
from typing import Any, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from hpcembed.runtime.machine.memory import format_bytes
from miramns.bench.harness.methods import Method, select_by_name
from miramns.bench.harness.root_rank import BenchError

#: Largest number of features for which a d x d covariance is formed.
_LARGEST_SQUARE = 12_000


@dataclass(frozen=True)
class PcaTask:
    """Task of a method.

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
class PcaAnswer:
    """Answer of a method.

    Attributes
    ----------
    components : ndarray of shape (k, d), or None for a bound
    variances : ndarray of shape (k,), or None where the method reports none
    transform : callable or None
        Maps rows to coordinates.
    certified : float or None
        Residual relative to the largest eigenvalue that the method guarantees.
    centred : bool
        False if `transform` does not centre its rows.
    detail : str
    """

    components: NDArray[Any] | None
    variances: NDArray[Any] | None = None
    transform: Callable[[Any], NDArray[Any]] | None = None
    certified: float | None = None
    centred: bool = True
    detail: str = ""


@dataclass(frozen=True)
class PcaMethod(Method):
    """A PCA, or a step that bounds its time from below.

    Attributes
    ----------
    code : str
        ``module.function`` in this package; the function maps a :class:`PcaTask` to an
        :class:`PcaAnswer`.
    options : dict
        Further arguments of the function.
    group : {"hpcembed", "peer", "bound"}
    needs : str
        Package that must be installed.
    sparse : bool
        Whether the method accepts sparse rows.
    square : bool
        Whether the method forms the d x d covariance.
    doubles : int
        Number of copies of dense rows in double precision that the method makes.
    """

    code: str
    options: Mapping[str, Any] = field(default_factory=dict)
    group: Literal["hpcembed", "peer", "bound"] = "peer"
    needs: str = ""
    sparse: bool = False
    square: bool = False
    doubles: int = 0

    def unfit(self, rows: Any, k: int, available_bytes: int) -> str:
        """Return why the method does not apply; an empty text if it does."""
        n, d = rows.shape
        if scipy.sparse.issparse(rows) and not self.sparse:
            return "dense rows only"
        if self.square and d > _LARGEST_SQUARE:
            return f"forms a {d} x {d} matrix"
        if self.name == "hpcembed-gram" and (n >= d or 2 * k >= n):
            return "for wide rows"
        if k >= min(n, d):
            return "k is not below rows and features"
        needed = 8 * n * d * self.doubles
        if needed > available_bytes:
            return f"copies of {format_bytes(needed)}"
        return ""

    def load(self) -> Callable[[PcaTask], PcaAnswer]:
        """Import the code of the method."""
        return partial(resolve_name(f"hpcembed.bench.{self.code}"), **self.options)


def tolerance(rows: Any) -> float:
    """Return the tolerance of iterative methods, the same as for :class:`hpcembed.PCA`."""
    return 1e-6 if rows.dtype == np.float32 else 1e-10


_PCA = "hpcembed_methods.fit_pca"
_SKLEARN = "sklearn_peers.fit_pca"
_SVD = "scipy_slepc_peers.fit_svd"
_HEAT = "heat_peers.fit_pca"

METHODS = (
    PcaMethod("hpcembed", "hpcembed.PCA, engine chosen by its cost model", _PCA, group="hpcembed",
              sparse=True),
    PcaMethod("hpcembed-assembled", "hpcembed.PCA, assembled covariance", _PCA,
              {"engine": "assembled"}, group="hpcembed", sparse=True, square=True),
    PcaMethod("hpcembed-block", "hpcembed.PCA, block Krylov passes", _PCA, {"engine": "block"},
              group="hpcembed", sparse=True),
    PcaMethod("hpcembed-gram", "hpcembed.PCA on the Gram matrix of the rows", _PCA,
              {"engine": "gram"}, group="hpcembed"),
    PcaMethod("hpcembed-matrix-free", "hpcembed.PCA, single vectors in double", _PCA,
              {"engine": "matrix_free"}, group="hpcembed", sparse=True),
    PcaMethod("xtx", "the bare X.T @ X in numpy: no PCA", "hpcembed_methods.bare_product",
              group="bound", square=True),
    PcaMethod("sklearn-cov-eigh", "scikit-learn PCA, covariance_eigh", _SKLEARN,
              {"solver": "covariance_eigh"}, sparse=True, square=True),
    PcaMethod("sklearn-arpack", "scikit-learn PCA, arpack", _SKLEARN, {"solver": "arpack"},
              sparse=True),
    PcaMethod("sklearn-randomized", "scikit-learn PCA, randomized", _SKLEARN,
              {"solver": "randomized"}),
    PcaMethod("sklearnex-cov-eigh", "scikit-learn-intelex PCA, covariance_eigh",
              "sklearn_peers.fit_intel_pca", needs="sklearnex", square=True),
    PcaMethod("sklearn-truncated-svd", "scikit-learn TruncatedSVD, not centred",
              "sklearn_peers.fit_truncated_svd", sparse=True),
    PcaMethod("sklearn-incremental", "scikit-learn IncrementalPCA",
              "sklearn_peers.fit_incremental_pca"),
    PcaMethod("torch-lowrank", "torch.pca_lowrank", "torch_peers.fit_lowrank", needs="torch"),
    PcaMethod("torch-cov-eigh", "torch covariance and linalg.eigh", "torch_peers.fit_covariance",
              needs="torch", square=True),
    PcaMethod("scipy-eigsh", "scipy eigsh on a LinearOperator", "scipy_slepc_peers.fit_eigsh",
              sparse=True),
    PcaMethod("slepc-svd-cross", "SLEPc SVD, cross, of the centred rows in double", _SVD,
              {"kind": "cross"}, doubles=2),
    PcaMethod("slepc-svd-trlanczos", "SLEPc SVD, trlanczos, of the centred rows in double", _SVD,
              {"kind": "trlanczos"}, doubles=2),
    PcaMethod("slepc-eps", "SLEPc Krylov-Schur on hpcembed's matrix-free covariance", _PCA,
              {"engine": "matrix_free", "solver": "krylovschur"}, sparse=True),
    PcaMethod("heat-full", "Heat PCA, full", _HEAT, {"solver": "full"}, needs="heat"),
    PcaMethod("heat-hierarchical", "Heat PCA, hierarchical", _HEAT, {"solver": "hierarchical"},
              needs="heat"),
    PcaMethod("heat-randomized", "Heat PCA, randomized", _HEAT, {"solver": "randomized"},
              needs="heat"),
)  # fmt: skip


def available() -> list[PcaMethod]:
    """Return the methods whose package is installed."""
    return [
        one for one in METHODS if not one.needs or importlib.util.find_spec(one.needs) is not None
    ]


def select(patterns: Sequence[str]) -> list[PcaMethod]:
    """Return the methods whose names match one of the patterns; all without patterns.

    Raises
    ------
    BenchError
        If a pattern matches nothing that is installed.
    """
    installed = available()
    for pattern in patterns:
        fitting = [one for one in METHODS if fnmatchcase(one.name, pattern)]
        if fitting and not any(one in installed for one in fitting):
            raise BenchError(f"method {pattern!r}: {fitting[0].needs} is not installed")
    return select_by_name(installed, patterns)
