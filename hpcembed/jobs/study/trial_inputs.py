"""Input rows of the trials of a study, on every rank.

A smaller k uses the leading columns of the largest k. This also holds for a random projection,
because the columns of a Gaussian or a sparse random matrix (Achlioptas 2003, Li et al. 2006;
scikit-learn's) are independent, and their common factor is removed where the inputs are scaled.
Each seed has its own random projections.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix
from hpcembed.data.row_validation import assign
from hpcembed.jobs.job import Job
from hpcembed.jobs.network_inputs import project
from hpcembed.jobs.study.embedded_data import EmbeddedData
from hpcembed.jobs.study.trials import RANDOM_KINDS, InputKind, Trial
from hpcembed.networks.training.input_scaling import network_type
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.machine.memory import check_fits
from hpcembed.runtime.ranks import ranks_on_compute_node
from hpcembed.runtime.shared_rows import SharedRows

__all__ = ["TrialInputs"]


class TrialInputs:
    """Training and test rows of every input that some trials need, on all ranks.

    Collective.

    Parameters
    ----------
    trials : iterable of Trial
        Only inputs of these trials are prepared.
    centred : bool
        Whether the mean is subtracted before projections; otherwise they are x V.

    Attributes
    ----------
    train_labels, test_labels : ndarray of int64 or float64
        Class codes, or targets of a regression.
    """

    def __init__(
        self, job: Job, data: EmbeddedData, trials: Iterable[Trial], *, centred: bool
    ) -> None:
        self._job, self._data, self._centred = job, data, centred
        self._held: dict[tuple[str, int], tuple[SharedRows, SharedRows]] = {}
        needed = sorted({_key(trial.input, trial.seed) for trial in trials})
        labels = [SharedRows(job.comm, part.labels) for part in (data.train, data.test)]
        self.train_labels, self.test_labels = (np.array(held.array) for held in labels)
        for held in labels:
            held.destroy()
        for kind, seed in needed:
            train, test = self._local_rows(kind, seed)
            self._held[kind, seed] = SharedRows(job.comm, train), SharedRows(job.comm, test)

    def rows(self, kind: InputKind, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return training and test rows of an input, with the columns of the largest k."""
        train, test = self._held[_key(kind, seed)]
        return train.array, test.array

    def destroy(self) -> None:
        """Free the rows, which must not be used afterwards.

        Collective.
        """
        for pair in self._held.values():
            for held in pair:
                held.destroy()
        self._held.clear()

    def _local_rows(self, kind: str, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Compute this rank's training and test rows of an input. Collective."""
        embedding, parts = self._data.embedding, (self._data.train, self._data.test)
        comm, local = self._job.comm, list[NDArray[Any]]()
        if kind == "spectral":
            projected = project(embedding, *parts)
            linear = embedding.linear_map_
            if linear is not None and not self._centred:
                with agreement(comm):
                    for part in projected:
                        assign(part, part + linear.components @ linear.mean)
            return projected
        if kind == "full":
            self._check_memory(*parts)
            deviation = np.sqrt(embedding.feature_variances_)
            dtype = network_type(embedding.feature_means_, deviation)
            with agreement(comm):
                local = [part.dense_rows(dtype) for part in parts]
        else:
            k, d = len(embedding.spectrum_.values), embedding.n_features_in_
            R = _random_matrix(kind, seed, k, d)
            with agreement(comm):
                local = [self._product(part, R) for part in parts]
        return local[0], local[1]

    def _product(self, rows: DataMatrix, R: Any) -> NDArray[Any]:
        """Compute the random projection of this rank's rows."""
        product = np.empty((rows.n_local, R.shape[1]), dtype=np.float32)
        offset = self._data.embedding.feature_means_ @ R if self._centred else 0.0
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
            "the uncompressed input on every compute node",
            "set study.baseline = false, or use more memory per rank",
        )


def _key(kind: str, seed: int) -> tuple[str, int]:
    """Key of an input: scaling makes no difference, and only random projections have seeds."""
    return ("spectral", 0) if kind == "whitened" else (kind, seed if kind in RANDOM_KINDS else 0)


def _random_matrix(kind: str, seed: int, k: int, d: int) -> Any:
    """Draw a random projection of shape (d, k) with scikit-learn."""
    from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

    make = GaussianRandomProjection if kind == "gaussian" else SparseRandomProjection
    fitted = make(n_components=k, random_state=seed).fit(np.zeros((1, d)))
    components = fitted.components_
    # It has few columns: a dense array multiplies dense and sparse rows.
    dense = components.toarray() if hasattr(components, "toarray") else components
    return np.ascontiguousarray(dense.T)
