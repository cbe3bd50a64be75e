"""Similarity of the layers of two networks: a matrix of linear CKA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.networks.similarity.joint_covariance import joint_covariance
from hpcembed.networks.similarity.measures import cka_matrix
from hpcembed.runtime.agreement import agreement, same_on_all_ranks
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.ranks import communicator

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["LayerSimilarity", "layer_similarity"]


@dataclass(frozen=True, slots=True)
class LayerSimilarity:
    """Linear CKA of each layer of one network with each layer of another one.

    Attributes
    ----------
    first, second : tuple of str
        Names of the layers.
    cka : ndarray of shape (len(first), len(second))
        Between 0 and 1; NaN for a layer whose activations are constant.
    n_rows : int
        Rows on all ranks.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    cka: NDArray[np.float64]
    n_rows: int


def layer_similarity(
    first: Mapping[str, NDArray[Any]],
    second: Mapping[str, NDArray[Any]],
    *,
    comm: MPI.Intracomm | None = None,
) -> LayerSimilarity:
    """Compare all layers of two networks by linear CKA.

    Collective.

    Parameters
    ----------
    first, second : mapping of str to ndarray of shape (n_local, width)
        Activations of the layers of each network for this rank's rows, by the name of the layer;
        the same rows in all of them.
    comm : MPI.Intracomm, optional
        Ranks that hold the rows; default: this rank alone.

    Raises
    ------
    InputError
        Activations are not tables of finite numbers of the same rows, or there are fewer than 2
        rows.
    ConfigError
        A network has no layers, or ranks have different layers.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).standard_normal((100, 4))
    >>> found = layer_similarity({"a": rows, "b": rows[:, :1]}, {"c": -rows[:, :1]})
    >>> found.cka.shape, round(found.cka[1, 0], 12)
    ((2, 1), 1.0)
    """
    ranks = communicator(comm)
    with agreement(ranks):
        for title, one in (("first", first), ("second", second)):
            if not isinstance(one, Mapping):
                raise ConfigError(
                    f"{title}: {type(one).__name__}: give a mapping of layers to activations"
                )
        if not first or not second:
            raise ConfigError("layer_similarity: give at least one layer of each network")
    names = (tuple(first), tuple(second))
    same_on_all_ranks(ranks, first=names[0], second=names[1])
    titles = [f"first[{name!r}]" for name in first] + [f"second[{name!r}]" for name in second]
    joint = joint_covariance([*first.values(), *second.values()], titles, ranks)
    cka = cka_matrix(joint)[: len(first), len(first) :]
    return LayerSimilarity(*names, cka, joint.n_rows)
