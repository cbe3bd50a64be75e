"""Autoencoder with scikit-learn's contract: rank 0 trains it, every rank encodes its own rows.

This module does not import PyTorch; only rank 0 needs it.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hpcembed.data.matrix import RowSource
from hpcembed.data.row_validation import assign
from hpcembed.embedding._estimator import RowEstimator
from hpcembed.embedding._parameters import check_components
from hpcembed.embedding.protocol import LinearMap
from hpcembed.runtime.agreement import agreement, idle_while_root
from hpcembed.runtime.arguments import check_choice, check_count, is_integer
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.machine.memory import check_fits
from hpcembed.runtime.ranks import gather_rows

__all__ = ["Autoencoder"]

Self = TypeVar("Self", bound="Autoencoder")


class Autoencoder(RowEstimator):
    """Compression of rows by a small network that is trained to restore them.

    The encoder has the layers ``d - hidden - k`` with rectified linear units, or is one linear
    layer; the decoder has the layers ``k - hidden - d``. The recipe is that of
    :mod:`hpcembed.networks.training.autoencoder.fit`.

    Parameters
    ----------
    n_components : int, default=2
        Number of coordinates k, at most the number of features.
    hidden : int, default=128
        Width of the hidden layers.
    encoder : {"hidden", "linear"}, default="hidden"
        Whether the encoder has a hidden layer. A linear one is an affine map.
    epochs : int, default=0
        Passes over the rows, at most; 0 chooses them from the number of rows.
    random_state : int, RandomState or None, default=None
        Seed of first weights, held-out rows and order; None is 0, so that results repeat.
    device : {"auto", "cpu", "cuda"}, default="auto"
        auto: a GPU if there is one.
    memory_limit : int, optional
        Bytes that one rank may take. Default: its share of the free memory.
    n_threads : int, optional
        Threads of rank 0. Default: those that BLAS uses.

    Attributes
    ----------
    encoder_, decoder_ : list of (ndarray, ndarray)
        Weights of shape (outputs, inputs) and biases of each layer, on every rank.
    mean_ : ndarray of shape (d,)
    scale_ : float
        The network reads ``(x - mean_) * scale_``.
    losses_ : tuple of float
        Mean squared error on the held-out rows after each epoch, relative to the mean variance of
        the features.
    best_epoch_ : int
        Epoch whose weights are kept, from 1.
    n_components_, n_features_in_, n_samples_ : int

    See Also
    --------
    PCA : The linear projection of least error.

    Notes
    -----
    Coordinates of fewer components are not the first ones of more components.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from hpcembed import Autoencoder
    >>> X = load_digits().data
    >>> model = Autoencoder(4, hidden=32, epochs=2).fit(X)
    >>> model.transform(X).shape, len(model.losses_)
    ((1797, 4), 2)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        hidden: int = 128,
        encoder: Literal["hidden", "linear"] = "hidden",
        epochs: int = 0,
        random_state: Any = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        memory_limit: int | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.hidden = hidden
        self.encoder = encoder
        self.epochs = epochs
        self.random_state = random_state
        self.device = device
        self.memory_limit = memory_limit
        self.n_threads = n_threads

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Train the autoencoder on the rows of `X`.

        Collective on `comm`, or on the communicator of a DataMatrix. Rank 0 gathers the rows in
        single precision and trains; the others wait. The result does not depend on the number of
        ranks.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n_local, d)
        y : ignored
        comm : MPI.Comm, optional
            If `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError, ConfigError
            Rows or parameters that cannot be used.
        MemoryLimitError
            The rows of all ranks do not fit the memory of rank 0.
        TrainingError
            The loss became NaN or infinite.
        """
        data, machine, seed = self._begin(X, comm, "an autoencoder")
        check_components(self.n_components, data.n_features, "features")
        k, threads = int(self.n_components), machine.threads
        check_fits(
            4 * data.n_features * (data.n_rows + data.n_local),
            machine.available_bytes,
            "the rows of all ranks on rank 0, in single precision,",
            "use more memory per rank, or PCA",
        )
        rows = np.empty((0, data.n_features), np.float32)
        with agreement(data.comm):
            rows = np.empty((data.n_local, data.n_features), np.float32)
            for first, block in data.blocks():
                dense = block if isinstance(block, np.ndarray) else block.toarray()
                assign(rows[first : first + len(dense)], dense)
        whole = gather_rows(data.comm, rows)
        del rows

        def train() -> Any:
            # PyTorch takes seconds and hundreds of megabytes: only rank 0 imports it.
            from hpcembed.networks.training.autoencoder.fit import train_autoencoder

            assert whole is not None  # on rank 0
            trained = train_autoencoder(
                whole, k, hidden=self.hidden, encoder=self.encoder, epochs=self.epochs,
                seed=seed, threads=threads, device=self.device,
            )  # fmt: skip
            return {field.name: getattr(trained, field.name) for field in fields(trained)}

        found = idle_while_root(data.comm, train)
        found = data.comm.bcast(found)
        self.encoder_, self.decoder_ = found["encoder"], found["decoder"]
        self.mean_, self.scale_ = found["shift"], found["scale"]
        self.losses_, self.best_epoch_ = found["losses"], found["best_epoch"]
        self.n_components_ = k
        return self

    def _check_parameters(self) -> None:
        check_count("n_components", self.n_components)
        check_count("hidden", self.hidden)
        check_choice("encoder", self.encoder, ("hidden", "linear"))
        check_choice("device", self.device, ("auto", "cpu", "cuda"))
        if not is_integer(self.epochs) or self.epochs < 0:
            raise ConfigError(f"epochs must be an integer of at least 0, got {self.epochs!r}")
        super()._check_parameters()

    def _coordinates(self, X: RowSource, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        embedded = np.empty((X.n_local, self.n_components_), dtype=dtype)
        for first, block in X.blocks():
            dense = block if isinstance(block, np.ndarray) else block.toarray()
            scaled = (dense - self.mean_) * self.scale_
            part = embedded[first : first + len(dense)]
            assign(part, _network(scaled.astype(dtype), self.encoder_))
        return embedded

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Return the rows that the decoder makes of coordinates, shape (n, d).

        Not collective.

        Raises
        ------
        InputError
            If the coordinates do not have the shape (n, k).
        """
        check_is_fitted(self)
        coordinates = np.asarray(X)
        coordinates = coordinates if coordinates.dtype == np.float32 else coordinates.astype(float)
        k = self.n_components_
        if coordinates.ndim != 2 or coordinates.shape[1] != k:
            raise InputError(f"coordinates of shape {coordinates.shape}: give (rows, {k})")
        restored = _network(coordinates, self.decoder_) / self.scale_ + self.mean_
        return np.asarray(restored, dtype=coordinates.dtype)

    @property
    def linear_map_(self) -> LinearMap | None:
        """The map of a linear encoder, apart from a constant; None with a hidden layer."""
        check_is_fitted(self)
        if len(self.encoder_) > 1:
            return None
        return LinearMap(self.encoder_[0][0].astype(np.float64) * self.scale_, self.mean_)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_


def _network(
    rows: NDArray[Any], layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> NDArray[Any]:
    """Return the outputs of layers with rectified linear units between them."""
    for position, (weights, bias) in enumerate(layers):
        if position:
            rows = np.maximum(rows, 0.0)
        rows = rows @ weights.T.astype(rows.dtype) + bias
    return rows
