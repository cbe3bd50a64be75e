"""Input rows of the trials of a study, on every rank.

A smaller k uses the leading columns of the largest k. This also holds for a random projection,
because the columns of a Gaussian or a sparse random matrix (Achlioptas 2003, Li et al. 2006;
scikit-learn's) are independent, and their common factor is removed where the inputs are scaled.
Each seed has its own random projections. Rival projections are in
:mod:`hpcembed.jobs.study.rivals`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix
from hpcembed.data.row_validation import assign
from hpcembed.jobs.job import Job
from hpcembed.jobs.network_inputs import project
from hpcembed.jobs.study.embedded_data import EmbeddedData
from hpcembed.jobs.study.rivals.fits import FitSeconds, autoencoder_rows, linear_rival
from hpcembed.jobs.study.trials import OWN_KINDS, RANDOM_KINDS, Trial
from hpcembed.networks.training.input_scaling import network_type
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import HpcembedError, InputError
from hpcembed.runtime.machine.memory import check_fits
from hpcembed.runtime.ranks import ranks_on_compute_node, timed
from hpcembed.runtime.shared_rows import SharedRows
from hpcembed.runtime.stopping import stop_together
from hpcembed.runtime.wording import counted

__all__ = ["TrialInputs", "input_bytes", "input_columns"]


class TrialInputs:
    """Training and test rows of every input that some trials need, on all ranks.

    Collective.

    Parameters
    ----------
    trials : iterable of Trial
        Only inputs of these trials are prepared.
    centred : bool
        Whether the mean is subtracted before projections; otherwise they are x V.
    limits : mapping of str to int
        Largest number of coordinates of an input, where it is less than that of the embedding.
    image_shape : sequence of int
        Shape of rows that are images; empty for other rows.

    Attributes
    ----------
    fit_seconds : dict
        Mean seconds of a fit of each projection but that of the embedding, by its number of
        coordinates.
    train_labels, test_labels : ndarray of int64 or float64
        Class codes, or targets of a regression.
    """

    def __init__(
        self,
        job: Job,
        data: EmbeddedData,
        trials: Iterable[Trial],
        *,
        centred: bool,
        limits: Mapping[str, int] = MappingProxyType({}),
        image_shape: Sequence[int] = (),
    ) -> None:
        self._job, self._data, self._centred = job, data, centred
        self._limits, self._image_shape = limits, image_shape
        self._held: dict[tuple[str, int, int], tuple[SharedRows, SharedRows]] = {}
        self._seconds: dict[tuple[str, int], list[float]] = {}
        needed = sorted({_key(trial) for trial in trials})
        labels = [SharedRows(job.comm, part.labels) for part in (data.train, data.test)]
        self.train_labels, self.test_labels = (np.array(held.array) for held in labels)
        for held in labels:
            held.destroy()
        for key in needed:
            train, test = self._local_rows(*key)
            self._held[key] = SharedRows(job.comm, train), SharedRows(job.comm, test)

    def rows(self, trial: Trial) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return training and test rows of a trial, with the columns of the largest k."""
        train, test = self._held[_key(trial)]
        return train.array, test.array

    @property
    def fit_seconds(self) -> FitSeconds:
        """Mean seconds of the fits of each projection, by its number of coordinates."""
        found: FitSeconds = {}
        for (kind, k), seconds in self._seconds.items():
            found.setdefault(kind, {})[k] = float(np.mean(seconds))
        return found

    def destroy(self) -> None:
        """Free the rows, which must not be used afterwards.

        Collective.
        """
        for pair in self._held.values():
            for held in pair:
                held.destroy()
        self._held.clear()

    def _local_rows(self, kind: str, seed: int, own: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Compute this rank's training and test rows of an input. Collective.

        `own` is the number of coordinates of an input that differs from one number to another.
        """
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
            return self._projected(kind, seed, own)
        return local[0], local[1]

    def _projected(self, kind: str, seed: int, own: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Fit a projection other than that of the embedding, and apply it. Collective."""
        job, data, spent = self._job, self._data, dict[str, float]()
        k = _columns(kind, own, len(data.embedding.spectrum_.values), self._limits)
        local = list[NDArray[Any]]()
        with timed(job.comm, spent, kind), _named_errors(kind):
            if kind == "autoencoder":
                local += autoencoder_rows(job, data, seed, k)
            elif kind in ("gaussian", "sparse"):
                R = _random_matrix(kind, seed, k, data.n_features)
            else:
                R = linear_rival(job, data, kind, seed, k, self._image_shape)
        self._seconds.setdefault((kind, k), []).append(spent[kind])
        if kind in self._limits:
            job.log(f"{kind}, {counted(k, 'coordinate')}: fitted in {spent[kind]:.2f} s")
            stop_together(job.comm, "after the fit of a rival projection")
        if not local:
            with agreement(job.comm):
                local = [self._product(part, R) for part in (data.train, data.test)]
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
        check_fits(
            input_bytes(rows, [train.n_features], ranks_on_compute_node(job.comm)),
            job.remaining(train.stored_bytes + test.stored_bytes),
            "the uncompressed input on every compute node",
            "set study.baseline = false, or use more memory per rank",
        )


def input_columns(
    trials: Iterable[Trial], k: int, n_features: int, limits: Mapping[str, int]
) -> list[int]:
    """Return the number of columns of every input that some trials need.

    Parameters
    ----------
    k : int
        Number of coordinates of the embedding.
    limits : mapping of str to int
        Largest number of coordinates of an input, where it is less than `k`.

    Examples
    --------
    >>> trials = [Trial("spectral", (8,), k, 0) for k in (2, 6)]
    >>> trials += [Trial("gaussian", (8,), 6, seed) for seed in (0, 1)] + [Trial("full", (), 9, 0)]
    >>> sorted(input_columns(trials, 6, 9, {}))
    [6, 6, 6, 9]
    """
    return [
        n_features if kind == "full" else _columns(kind, own, k, limits)
        for kind, _, own in {_key(trial) for trial in trials}
    ]


def input_bytes(n_rows: int, columns: Sequence[int], ranks: int) -> int:
    """Return the memory on one rank of inputs with some numbers of columns.

    The ranks of a compute node share the rows of all inputs. While a rank trains, it has a scaled
    copy of one of them.

    Parameters
    ----------
    n_rows : int
        Training and test rows of all ranks.
    columns : sequence of int
        Of :func:`input_columns`.
    ranks : int
        On the compute node.

    Examples
    --------
    >>> input_bytes(1000, [6, 9], 2)
    66000
    """
    row = 4 * n_rows  # float32
    return -(-row * sum(columns) // ranks) + row * max(columns, default=0)


def _columns(kind: str, own: int, k: int, limits: Mapping[str, int]) -> int:
    """Number of columns of an input that is not the features: `own` if it is not 0."""
    return own or min(k, limits.get(kind, k))


def _key(trial: Trial) -> tuple[str, int, int]:
    """Key of an input: scaling makes no difference, and only random projections have seeds."""
    kind = "spectral" if trial.input == "whitened" else trial.input
    seed = trial.seed if kind in RANDOM_KINDS else 0
    return kind, seed, trial.n_inputs if kind in OWN_KINDS else 0


@contextmanager
def _named_errors(kind: str) -> Iterator[None]:
    """Begin the message of an error in the block with the name of the projection."""
    try:
        yield
    except HpcembedError as error:
        error.args = (f"projection {kind}: {error}", *error.args[1:])
        raise


def _random_matrix(kind: str, seed: int, k: int, d: int) -> Any:
    """Draw a random projection of shape (d, k) with scikit-learn."""
    from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

    make = GaussianRandomProjection if kind == "gaussian" else SparseRandomProjection
    fitted = make(n_components=k, random_state=seed).fit(np.zeros((1, d)))
    components = fitted.components_
    # It has few columns: a dense array multiplies dense and sparse rows.
    dense = components.toarray() if hasattr(components, "toarray") else components
    return np.ascontiguousarray(dense.T)
