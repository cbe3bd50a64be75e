"""The values of ``embedding.method``: how each is made for a job, and what it will take.

To add one: an estimator that keeps :class:`hpcembed.embedding.contract.Embedding`, an entry in
:data:`METHODS`, its name in ``MethodConfig.method`` and, where it has keys of its own, a section in
:mod:`hpcembed.jobs.configuration`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from hpcembed.embedding.contract import Embedding, Machine, OnCheck, Plan, Shape
from hpcembed.embedding.pca import PCA
from hpcembed.embedding.solving import SolverSettings
from hpcembed.embedding.truncated_svd import TruncatedSVD
from hpcembed.jobs.configuration import JobConfig
from hpcembed.jobs.embedding_makers import (
    engine_plan,
    kernel_settings,
    make_cooccurrence,
    make_kernel_pca,
    make_nystroem,
    make_pca,
    make_spectral,
    make_svd,
    node_settings,
    plan_counts,
    plan_kernel_pca,
    plan_nodes,
    plan_nystroem,
    solver_settings,
)

__all__ = [
    "METHODS",
    "Method",
    "embedding_settings",
    "largest_dimension",
    "make_embedding",
    "plan_embedding",
    "solver_settings",
]


@dataclass(frozen=True, slots=True)
class Method:
    """One value of ``embedding.method``.

    Attributes
    ----------
    make : callable
        ``make(job, machine, solver)``: the estimator, not fitted. `solver` is what the job's
        [solver] section says, with what hears of the progress.
    plan : callable
        ``plan(job, shape, machine)``: what fitting will take, from the shape of the data alone.
        Raises MemoryLimitError where it cannot fit, ConfigError for settings that do not go
        together. Not collective, and the same on all ranks.
    settings : callable, optional
        ``settings(job)``: what beside the method decides the coordinates, as JSON values; finished
        trainings of a study are taken over only where it is the same.
    dimension : {"features", "rows"}
        Of the operator: no more coordinates are found than there are of these.
    """

    make: Callable[[JobConfig, Machine, SolverSettings], Embedding]
    plan: Callable[[JobConfig, Shape, Machine], Plan]
    settings: Callable[[JobConfig], dict[str, Any]] = lambda _job: {}
    dimension: Literal["features", "rows"] = "features"


def make_embedding(
    job: JobConfig, machine: Machine, *, on_check: OnCheck | None = None
) -> Embedding:
    """The estimator that a job asks for, not fitted.

    Not collective. It keeps what it found where pairs missed their tolerance.

    Parameters
    ----------
    on_check : callable, optional
        Called with every look of the solver at its subspace.
    """
    return METHODS[job.embedding.method].make(job, machine, solver_settings(job, on_check))


def plan_embedding(job: JobConfig, shape: Shape, machine: Machine) -> Plan:
    """What fitting the embedding of a job will take. Not collective.

    Raises
    ------
    MemoryLimitError
        When no way to find it fits.
    """
    return METHODS[job.embedding.method].plan(job, shape, machine)


def largest_dimension(job: JobConfig, n_train: int, n_features: int) -> int:
    """Dimension of the job's operator, which no number of coordinates exceeds."""
    return {"features": n_features, "rows": n_train}[METHODS[job.embedding.method].dimension]


def embedding_settings(job: JobConfig) -> dict[str, Any]:
    """What tells the coordinates of a job from another's on the same data. Not collective.

    Neither their number nor how the operator is held changes what the leading ones are. Nothing is
    told of principal components: digests of trainings on them are older than the choice.
    """
    name = job.embedding.method
    return {} if name == "pca" else {"method": name, **METHODS[name].settings(job)}


#: How each method is made and planned; every name of ``embedding.method`` is here.
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "pca": Method(make_pca, engine_plan(PCA.operator_name)),
        "svd": Method(make_svd, engine_plan(TruncatedSVD.operator_name)),
        "kernel_pca": Method(make_kernel_pca, plan_kernel_pca, kernel_settings, "rows"),
        "cooccurrence": Method(
            make_cooccurrence, plan_counts, lambda job: msgspec.structs.asdict(job.cooccurrence)
        ),
        "spectral": Method(make_spectral, plan_nodes, node_settings, "rows"),
        "nystroem": Method(make_nystroem, plan_nystroem, kernel_settings, "rows"),
    }
)
