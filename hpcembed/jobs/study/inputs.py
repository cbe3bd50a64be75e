"""The inputs that networks of a study are trained on, on every rank.

The coordinates of the largest k serve every smaller one, whose inputs are their leading columns.
So does one random projection: the columns of a Gaussian or a sparse random matrix (Achlioptas 2003,
Li et al. 2006; scikit-learn's) are independent, and their common factor goes where the inputs are
scaled. Each seed has random projections of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix
from hpcembed.data.row_validation import assign
from hpcembed.embedding import Embedding
from hpcembed.jobs.job import Job
from hpcembed.jobs.network_inputs import project
from hpcembed.jobs.study.trials import Cell, InputKind
from hpcembed.networks.training.input_scaling import network_type
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.memory import check_fits
from hpcembed.runtime.ranks import agreement, ranks_on_compute_node
from hpcembed.runtime.shared_rows import SharedRows

__all__ = ["StudyInputs"]


class StudyInputs:
    """Training and test rows of every input that the given cells need, on all ranks.

    Collective.

    Parameters
    ----------
    cells : iterable of Cell
        What is to be trained; nothing is prepared for other cells.
    centred : bool
        Projections that were centred stay so; else they are x V.

    Attributes
    ----------
    train_labels, test_labels : ndarray of int64
    """

    def __init__(
        self,
        job: Job,
        embedding: Embedding,
        train: DataMatrix,
        test: DataMatrix,
        cells: Iterable[Cell],
        *,
        centred: bool,
    ) -> None:
        self._job, self._embedding, self._centred = job, embedding, centred
        self._held: dict[tuple[str, int], tuple[SharedRows, SharedRows]] = {}
        parts = (train, test)
        needed = sorted({_key(cell.input, cell.seed) for cell in cells})
        labels = [SharedRows(job.comm, part.labels) for part in parts]
        self.train_labels, self.test_labels = (np.array(held.array) for held in labels)
        for held in labels:
            held.destroy()
        for kind, seed in needed:
            local = self._local(kind, seed, train, test)
            self._held[kind, seed] = SharedRows(job.comm, local[0]), SharedRows(job.comm, local[1])

    def of(self, kind: InputKind, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Give training and test rows of an input, with the columns of the largest k.

        Not collective.
        """
        train, test = self._held[_key(kind, seed)]
        return train.array, test.array

    def destroy(self) -> None:
        """Free the rows; nobody may use them any more. Collective."""
        for pair in self._held.values():
            for held in pair:
                held.destroy()
        self._held.clear()

    def _local(
        self, kind: str, seed: int, train: DataMatrix, test: DataMatrix
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """This rank's rows of an input. Collective."""
        embedding = self._embedding
        if kind == "full":
            self._check_memory(train, test)
            deviation = np.sqrt(embedding.feature_variances_)
            dtype = network_type(embedding.feature_means_, deviation)
            local: list[NDArray[Any]] = []
            with agreement(train.comm):
                local = [part.dense_rows(dtype) for part in (train, test)]
            return local[0], local[1]
        if kind == "spectral":
            projected = project(embedding, train, test)
            linear = embedding.linear_map_
            if linear is not None and not self._centred:
                with agreement(train.comm):
                    for part in projected:
                        assign(part, part + linear.components @ linear.mean)
            return projected
        R = _random_matrix(kind, seed, len(embedding.spectrum_.values), embedding.n_features_in_)
        pair: list[NDArray[Any]] = []
        with agreement(train.comm):
            pair = [self._product(part, R) for part in (train, test)]
        return pair[0], pair[1]

    def _product(self, rows: DataMatrix, R: Any) -> NDArray[Any]:
        """Random projection of this rank's rows."""
        product = np.empty((rows.n_local, R.shape[1]), dtype=np.float32)
        offset = self._embedding.feature_means_ @ R if self._centred else 0.0
        for first, block in rows.blocks():
            values = block @ R - offset
            if not np.isfinite(values).all():
                raise InputError("a random projection of the rows is not finite: set data.scaling")
            assign(product[first : first + block.shape[0]], np.asarray(values))
        return product

    def _check_memory(self, train: DataMatrix, test: DataMatrix) -> None:
        rows, job = train.n_rows + test.n_rows, self._job
        share = 4 * rows * train.n_features * (1 + ranks_on_compute_node(job.comm))
        check_fits(
            share // ranks_on_compute_node(job.comm),
            job.remaining(train.stored_bytes + test.stored_bytes),
            "the uncompressed input on every node",
            "set study.baseline = false, or use more memory per rank",
        )


def _key(kind: str, seed: int) -> tuple[str, int]:
    """Inputs that differ in their scaling only are one; only random projections have seeds."""
    return ("spectral", 0) if kind == "whitened" else (kind, seed if kind in _RANDOM else 0)


_RANDOM = ("gaussian", "sparse")


def _random_matrix(kind: str, seed: int, k: int, d: int) -> Any:
    """Random projection of shape (d, k), as scikit-learn draws it."""
    from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

    make = GaussianRandomProjection if kind == "gaussian" else SparseRandomProjection
    fitted = make(n_components=k, random_state=seed).fit(np.zeros((1, d)))
    components = fitted.components_
    # Few columns: as a dense array it serves dense and sparse rows.
    dense = components.toarray() if hasattr(components, "toarray") else components
    return np.ascontiguousarray(dense.T)
