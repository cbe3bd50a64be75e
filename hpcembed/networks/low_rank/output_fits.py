"""Affine maps of rank r that correct the outputs of a layer in a compressed network.

Problem. The layers of a compressed network receive inputs with errors. For the output y of a layer
of the original network and the output z that the layer gives in the compressed network, find the
affine map of rank r with the least mean ``||y - M z||_G^2``.

Method. Reduced-rank regression: ``B = C_yz (C_zz + d I)^-1``, shrunk towards the identity by d, and
the dominant eigenvectors Q of the covariance of ``B z`` in the norm of `G`; ``M = Q Q' G B``. A
layer whose outputs are not reduced is fitted as well: B alone, which its weight absorbs.

Reference: the asymmetric reconstruction of Zhang, Zou, He, Sun, arXiv 1505.06798, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.low_rank.factors import output_factors
from hpcembed.networks.low_rank.layer_data import LayerData
from hpcembed.networks.low_rank.parts import Parts
from hpcembed.networks.low_rank.problems import LayerProblem, gradient_norm
from hpcembed.networks.low_rank.shape import LayerShape, Ranks
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["OutputFit", "OutputSums", "absorbed", "fit_output", "keep_factors"]

Matrix = NDArray[np.float64]

#: Shrinkage towards the identity, relative to the mean variance.
_SHRINKAGE = 1e-2
#: Variances below this share of the mean square are rounding errors.
_ROUNDING = 1e-10
#: Output channels of a group up to which a full map is fitted; above, the bias alone.
MAX_CHANNELS = 4096


class OutputSums:
    """Sums over rows of y and z, from which the map of one layer follows.

    Parameters
    ----------
    shape : LayerShape

    Attributes
    ----------
    has_products : bool
        Second moments are formed: a group has at most :data:`MAX_CHANNELS` output channels.
    """

    def __init__(self, shape: LayerShape) -> None:
        m, width = shape.outputs, shape.group_outputs
        self.has_products = width <= MAX_CHANNELS
        products = 2 * shape.groups * width * width if self.has_products else 0
        self._sums = np.zeros(1 + 2 * m + products)
        self._m, self._groups, self._width = m, shape.groups, width

    @property
    def _products(self) -> Matrix:
        return self._sums[1 + 2 * self._m :].reshape(2, self._groups, self._width, -1)

    def add(self, count: int, total_y: Matrix, total_z: Matrix) -> None:
        """Add the number of rows and their sums, arrays of shape (m,)."""
        self._sums[0] += count
        self._sums[1 : 1 + self._m] += total_y
        self._sums[1 + self._m : 1 + 2 * self._m] += total_z

    def add_products(self, group: int, zz: Matrix, yz: Matrix) -> None:
        """Add the sums of z z' and y z' of one group, arrays of shape (m_g, m_g)."""
        self._products[0, group] += zz
        self._products[1, group] += yz

    def group_part(self, group: int) -> slice:
        """Return the output channels of a group."""
        return slice(group * self._width, (group + 1) * self._width)

    def reduce(self, comm: MPI.Comm) -> None:
        """Replace the sums of this rank by those of all ranks.

        Collective.
        """
        sum_over_ranks(comm, self._sums)

    @property
    def means(self) -> tuple[Matrix, Matrix]:
        """Mean y and mean z, shape (m,)."""
        totals = self._sums[1 : 1 + 2 * self._m] / max(self._sums[0], 1.0)
        return totals[: self._m], totals[self._m :]

    def moments(self, group: int, origin: Matrix, target: Matrix) -> tuple[Matrix, Matrix, float]:
        """Return the moments of z and of y with z about points, and the mean square of z."""
        part = self.group_part(group)
        y, z = (mean[part] for mean in self.means)
        p, q = origin[part], target[part]
        zz, yz = self._products[:, group] / max(self._sums[0], 1.0)
        C_zz = zz - np.outer(z, p) - np.outer(p, z) + np.outer(p, p)
        C_yz = yz - np.outer(y, p) - np.outer(q, z) + np.outer(q, p)
        return C_zz, C_yz, float(np.trace(zz)) / self._width


@dataclass
class OutputFit:
    """The map ``target + left @ right @ (z - origin)``, by groups.

    Attributes
    ----------
    origin, target : ndarray of shape (m,)
    left : list of ndarray of shape (m_g, r), or None
        Columns have length 1. None where the outputs are not reduced.
    right : list of ndarray of shape (r, m_g), or (m_g, m_g)
    """

    origin: Matrix
    target: Matrix
    left: list[Matrix | None] = field(default_factory=list)
    right: list[Matrix] = field(default_factory=list)

    def group_map(self, group: int) -> tuple[slice, Matrix, Matrix]:
        """Return the channels of a group, its matrix, and the constant that is added."""
        left, right = self.left[group], self.right[group]
        M = right if left is None else left @ right
        width = len(self.target) // len(self.right)
        part = slice(group * width, (group + 1) * width)
        return part, M, self.target[part] - M @ self.origin[part]


def fit_output(
    layer: LayerData, ranks: Ranks, sums: OutputSums, *, weighted: bool = False,
    centre: bool = True, has_bias: bool = True,
) -> OutputFit:  # fmt: skip
    """Return the map of least error of one layer.

    Parameters
    ----------
    sums : OutputSums
        Of all ranks, with products.
    weighted : bool
        Use the second moments of gradients as norm of the errors.
    centre : bool
        Count deviations from the means; else from the bias of the layer.
    has_bias : bool
        The layer has a bias. One without that is not cut gets none.
    """
    fit = _points(layer, ranks, sums, centre=centre, has_bias=has_bias)
    for group in range(layer.shape.groups):
        C_zz, C_yz, square = sums.moments(group, fit.origin, fit.target)
        width = len(C_zz)
        # Differences of equal numbers are rounding errors, and no variance.
        variance = max(float(np.trace(C_zz)) / width, _ROUNDING * square)
        shrinkage = (_SHRINKAGE * variance if variance > 0 else 1.0) * np.eye(width)
        B = scipy.linalg.solve(C_zz + shrinkage, (C_yz + shrinkage).T, assume_a="pos").T
        if not ranks.outputs:
            fit.left.append(None)
            fit.right.append(B)
            continue
        norm = gradient_norm(layer.moments.output_gradients[group]) if weighted else None
        predicted = B @ C_zz @ B.T
        factors = output_factors((predicted + predicted.T) / 2, norm, ranks.outputs)
        left, right = factors.normalised_left(ranks.outputs)
        fit.left.append(left)
        fit.right.append(right @ B)
    return fit


def keep_factors(
    layer: LayerData, problem: LayerProblem, ranks: Ranks, sums: OutputSums, *,
    centre: bool = True, has_bias: bool = True,
) -> OutputFit:  # fmt: skip
    """Return the map with the factors of the original network, and fitted means."""
    fit = _points(layer, ranks, sums, centre=centre, has_bias=has_bias)
    for group in range(layer.shape.groups):
        if ranks.outputs and problem.output is not None:
            left, right = problem.output.factors[group].normalised_left(ranks.outputs)
            fit.left.append(left)
            fit.right.append(right)
        else:
            fit.left.append(None)
            fit.right.append(np.eye(layer.shape.group_outputs))
    return fit


def _points(
    layer: LayerData, ranks: Ranks, sums: OutputSums, *, centre: bool, has_bias: bool
) -> OutputFit:
    if centre and (has_bias or ranks.side != "none"):
        mean_y, mean_z = sums.means
        return OutputFit(mean_z, mean_y)
    bias = np.concatenate(layer.biases)
    return OutputFit(bias, bias)


def absorbed(whole: Parts, fit: OutputFit) -> Parts:
    """Put a fitted map into the weights of a layer whose outputs are not reduced."""
    groups = len(fit.right)
    kernels, expansions, biases = [], [], []
    for W, bias, origin, target, left, right in zip(
        np.split(whole.kernel, groups), np.split(whole.bias, groups), np.split(fit.origin, groups),
        np.split(fit.target, groups), fit.left, fit.right, strict=True,
    ):  # fmt: skip
        kernels.append(np.tensordot(right, W, axes=(1, 0)))
        inner = right @ (bias - origin)
        if left is not None:
            expansions.append(left)
            inner = left @ inner
        biases.append(target + inner)
    expansion = np.concatenate(expansions) if expansions else None
    return Parts(whole.reduction, np.concatenate(kernels), expansion, np.concatenate(biases))
