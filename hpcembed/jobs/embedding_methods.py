"""The values of ``embedding.method``: the estimator of each, from the settings of a job.

To add an estimator (:mod:`hpcembed.embedding._estimator`) to jobs, add an entry to :data:`METHODS`,
its name to ``MethodConfig.method`` in :mod:`hpcembed.jobs.configuration` and, if it has keys of its
own, a section there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from hpcembed.embedding import (
    PCA,
    CanonicalCorrelation,
    CooccurrenceEmbedding,
    Embedding,
    KernelPCA,
    LinearDiscriminantAnalysis,
    LocalityPreservingProjection,
    Machine,
    Monitor,
    Nystroem,
    SolverSettings,
    TruncatedSVD,
)
from hpcembed.embedding.node_embedding import NodeEmbedding
from hpcembed.jobs.configuration import JobConfig
from hpcembed.runtime.errors import ConfigError
from miramns.checkpointing import CheckpointStore

__all__ = [
    "METHODS",
    "EmbeddingMethod",
    "embedding_settings",
    "largest_dimension",
    "make_embedding",
]


@dataclass(frozen=True, slots=True)
class EmbeddingMethod:
    """One value of ``embedding.method``.

    Attributes
    ----------
    make : callable
        ``make(job, common)`` returns the estimator, not fitted. `common` holds parameters that most
        estimators share: ``tol``, ``random_state``, ``memory_limit``, ``n_threads``, ``solver``.
    settings : callable
        ``settings(job)`` returns the settings that determine the coordinates, besides the method,
        as JSON values. Finished trials of a study are reused only if these are equal.
    dimension : {"features", "rows"}
        Dimension of the operator, which bounds the number of coordinates.
    engines : tuple of str
        Values of ``embedding.engine`` that the estimator accepts.
    """

    make: Callable[[JobConfig, dict[str, Any]], Embedding]
    settings: Callable[[JobConfig], dict[str, Any]] = lambda _job: {}
    dimension: Literal["features", "rows"] = "features"
    engines: tuple[str, ...] = ("auto",)


def make_embedding(
    job: JobConfig,
    machine: Machine,
    *,
    monitor: Monitor | None = None,
    checkpoint: CheckpointStore | None = None,
) -> Embedding:
    """Return the estimator of a job, not fitted.

    Its fit keeps a result with unconverged pairs.

    Parameters
    ----------
    monitor : callable, optional
        Called with each iteration record of the solver.
    checkpoint : CheckpointStore, optional
        Where the fit stores its state, and continues from.

    Raises
    ------
    ConfigError
        The method does not have this engine.
    """
    name, engine = job.embedding.method, job.embedding.engine
    method = METHODS[name]
    if engine not in method.engines:
        listed = " or ".join(filter(None, (", ".join(method.engines[:-1]), method.engines[-1])))
        raise ConfigError(f"embedding.engine = {engine} is not for {name}: use {listed}")
    options = msgspec.structs.asdict(job.solver)
    common = {"tol": options.pop("tol"), "random_state": options.pop("seed")}
    solver = SolverSettings(
        **options,
        criterion="relative",
        on_no_convergence="keep",
        monitor=monitor,
        checkpoint=checkpoint,
        reproducible=job.resources.reproducible,
    )
    common |= {
        "memory_limit": machine.available_bytes,
        "n_threads": machine.threads,
        "solver": solver,
    }
    return method.make(job, common)


def largest_dimension(job: JobConfig, n_train: int, n_features: int) -> int:
    """Return the dimension of the job's operator, which no number of coordinates exceeds."""
    return {"features": n_features, "rows": n_train}[METHODS[job.embedding.method].dimension]


def embedding_settings(job: JobConfig) -> dict[str, Any]:
    """Return the settings that determine the coordinates of a job, on the same data.

    Neither the number of coordinates nor the engine changes the leading ones. Principal components
    have no settings, because their digests are older than the other methods.
    """
    name = job.embedding.method
    return {} if name == "pca" else {"method": name, **METHODS[name].settings(job)}


def _kernel(job: JobConfig, *, has_landmarks: bool = False) -> dict[str, Any]:
    """Return parameters of a kernel estimator; only nystroem has landmarks."""
    settings = msgspec.structs.asdict(job.kernel)
    n_landmarks = settings.pop("n_landmarks")
    given = {"kernel": settings.pop("name"), "random_state": settings.pop("seed"), **settings}
    return given | ({"n_landmarks": n_landmarks} if has_landmarks else {})


def _kernel_settings(job: JobConfig) -> dict[str, Any]:
    settings = msgspec.structs.asdict(job.kernel)
    if job.embedding.method != "nystroem":
        del settings["n_landmarks"]
    return {"kernel": settings}


def _graph(job: JobConfig) -> dict[str, Any]:
    """Return parameters of the embedding of graph nodes; plain operators have no tau."""
    graph = job.graph
    is_normalised = graph.operator not in ("adjacency", "modularity")
    return {
        "operator": graph.operator,
        "tau": graph.tau if is_normalised else 0.0,
        "attribute_components": graph.attribute_components,
    }


def _cooccurrence(job: JobConfig) -> dict[str, Any]:
    return msgspec.structs.asdict(job.cooccurrence)


def _make(
    estimator: Callable[..., Embedding],
    parameters: Callable[[JobConfig], dict[str, Any]] = lambda _job: {},
) -> Callable[[JobConfig, dict[str, Any]], Embedding]:
    """Return ``make`` of a method, whose own parameters override the common ones."""
    names = inspect.signature(estimator).parameters

    def make(job: JobConfig, common: dict[str, Any]) -> Embedding:
        shared = {name: value for name, value in common.items() if name in names}
        return estimator(job.embedding.n_components, **(shared | parameters(job)))

    return make


def _engine(job: JobConfig) -> dict[str, Any]:
    return {"engine": job.embedding.engine}


_ENGINES = ("auto", "assembled", "matrix_free", "block", "gram")

#: Every name of ``embedding.method``.
METHODS: Mapping[str, EmbeddingMethod] = MappingProxyType(
    {
        "pca": EmbeddingMethod(_make(PCA, _engine), engines=_ENGINES),
        "svd": EmbeddingMethod(_make(TruncatedSVD, _engine), engines=_ENGINES),
        "kernel_pca": EmbeddingMethod(
            _make(KernelPCA, lambda job: _engine(job) | _kernel(job)),
            _kernel_settings,
            "rows",
            _ENGINES[:3],
        ),
        "nystroem": EmbeddingMethod(
            _make(Nystroem, lambda job: _kernel(job, has_landmarks=True)), _kernel_settings, "rows"
        ),
        "lda": EmbeddingMethod(_make(LinearDiscriminantAnalysis)),
        "cca": EmbeddingMethod(_make(CanonicalCorrelation)),
        "lpp": EmbeddingMethod(_make(LocalityPreservingProjection)),
        "cooccurrence": EmbeddingMethod(_make(CooccurrenceEmbedding, _cooccurrence), _cooccurrence),
        "spectral": EmbeddingMethod(_make(NodeEmbedding, _graph), _graph, "rows"),
    }
)
