"""The values of ``embedding.method``: how each is made for a job, and what it will take.

To add one: an estimator that keeps :class:`hpcembed.embedding.contract.Embedding`, an entry in
:data:`METHODS`, its name in ``MethodConfig.method`` and, where it has keys of its own, a section in
:mod:`hpcembed.config`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from hpcembed.config import JobConfig
from hpcembed.embedding.contract import Embedding, Machine, OnCheck, Plan, Shape
from hpcembed.embedding.cooccurrence import (
    CooccurrenceEmbedding,
    CooccurrencePlan,
    plan_cooccurrence,
)
from hpcembed.embedding.kernel_features import Nystroem
from hpcembed.embedding.kernel_pca import KernelPCA
from hpcembed.embedding.pca import PCA
from hpcembed.embedding.solving import SolverSettings, engine_tolerance
from hpcembed.embedding.svd import TruncatedSVD
from hpcembed.errors import ConfigError
from hpcembed.operators import (
    EnginePlan,
    FeaturePlan,
    KernelPlan,
    expected_products,
    plan_engine,
    plan_features,
    plan_kernel,
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


def solver_settings(job: JobConfig, on_check: OnCheck | None = None) -> SolverSettings:
    """How the job wants its eigenproblem solved. Not collective."""
    return SolverSettings(
        name=job.solver.name,
        variant=job.solver.variant,
        criterion="relative",
        max_it=job.solver.max_it,
        ncv=job.solver.ncv,
        nested=job.solver.nested,
        reference=job.solver.reference,
        on_no_convergence="keep",
        on_check=on_check,
    )


def _pca(job: JobConfig, machine: Machine, solver: SolverSettings) -> PCA:
    return PCA(
        job.embedding.n_components,
        eigen_solver=job.embedding.operator,
        tol=job.solver.tol,
        random_state=job.solver.seed,
        memory_limit=machine.available_bytes,
        n_threads=machine.threads,
        solver=solver,
    )


def _svd(job: JobConfig, machine: Machine, solver: SolverSettings) -> TruncatedSVD:
    return TruncatedSVD(
        job.embedding.n_components,
        eigen_solver=job.embedding.operator,
        tol=job.solver.tol,
        random_state=job.solver.seed,
        memory_limit=machine.available_bytes,
        n_threads=machine.threads,
        solver=solver,
    )


def _kernel_pca(job: JobConfig, machine: Machine, solver: SolverSettings) -> KernelPCA:
    kernel = job.kernel
    return KernelPCA(
        job.embedding.n_components,
        kernel=kernel.name,
        gamma=kernel.gamma,  # type: ignore[arg-type]  # a word is one of those that it knows
        degree=kernel.degree,
        coef0=kernel.coef0,
        eigen_solver=_kernel_engine(job),
        tol=job.solver.tol,
        random_state=kernel.seed,
        memory_limit=machine.available_bytes,
        n_threads=machine.threads,
        solver=solver,
    )


def _kernel_engine(job: JobConfig) -> Literal["auto", "assembled", "matrix_free"]:
    operator = job.embedding.operator
    if operator in ("block", "gram"):
        raise ConfigError(
            f"embedding.operator = {operator} is not for kernel_pca: use auto, assembled or "
            "matrix_free"
        )
    return operator  # type: ignore[return-value]


def _plan_kernel(job: JobConfig, shape: Shape, machine: Machine) -> KernelPlan:
    k, solver = min(job.embedding.n_components, shape.n_train), solver_settings(job)
    return plan_kernel(
        shape.n_train,
        shape.n_features,
        k,
        ranks=machine.ranks,
        threads=machine.threads,
        available_bytes=machine.available_bytes,
        n_nonzeros=shape.n_nonzeros,
        tol=engine_tolerance(job.solver.tol, relative=True),
        single_vector=solver.needs_single_vectors,
        no_lapack=True,
        kind=_kernel_engine(job),
    )


def _nystroem(job: JobConfig, machine: Machine, solver: SolverSettings) -> Nystroem:
    kernel = job.kernel
    return Nystroem(
        job.embedding.n_components,
        n_landmarks=kernel.n_landmarks,
        kernel=kernel.name,
        gamma=kernel.gamma,  # type: ignore[arg-type]  # a word is one of those that it knows
        degree=kernel.degree,
        coef0=kernel.coef0,
        tol=job.solver.tol,
        random_state=kernel.seed,
        memory_limit=machine.available_bytes,
        n_threads=machine.threads,
        solver=solver,
    )


def _plan_nystroem(job: JobConfig, shape: Shape, machine: Machine) -> FeaturePlan:
    if job.embedding.operator != "auto":
        raise ConfigError(
            f"embedding.operator = {job.embedding.operator} is not for nystroem: use auto"
        )
    return plan_features(
        shape.n_train,
        shape.n_features,
        min(job.kernel.n_landmarks, shape.n_train),
        ranks=machine.ranks,
        threads=machine.threads,
        available_bytes=machine.available_bytes,
    )


def _kernel_settings(job: JobConfig) -> dict[str, Any]:
    """What tells a kernel from another; landmarks make a difference to nystroem only."""
    settings = dataclasses.asdict(job.kernel)
    if job.embedding.method != "nystroem":
        del settings["n_landmarks"]
    return {"kernel": settings}


def _cooccurrence(
    job: JobConfig, machine: Machine, solver: SolverSettings
) -> CooccurrenceEmbedding:
    own = job.cooccurrence
    return CooccurrenceEmbedding(
        job.embedding.n_components,
        counts=own.counts,
        shift=own.shift,
        smoothing=own.smoothing,
        power=own.power,
        tol=job.solver.tol,
        random_state=job.solver.seed,
        memory_limit=machine.available_bytes,
        solver=solver,
    )


def _cooccurrence_plan(job: JobConfig, shape: Shape, machine: Machine) -> CooccurrencePlan:
    return plan_cooccurrence(
        shape.n_train,
        shape.n_features,
        min(job.embedding.n_components, shape.n_features),
        shape.n_nonzeros,
        ranks=machine.ranks,
        available=machine.available_bytes,
    )


def _engine(operator: str) -> Callable[[JobConfig, Shape, Machine], EnginePlan]:
    """The plan of estimators that :func:`hpcembed.embedding.engines.find_components` serves."""

    def plan(job: JobConfig, shape: Shape, machine: Machine) -> EnginePlan:
        k = min(job.embedding.n_components, shape.n_features)
        return plan_engine(
            shape.n_train,
            shape.n_features,
            k,
            ranks=machine.ranks,
            threads=machine.threads,
            available_bytes=machine.available_bytes,
            n_nonzeros=shape.n_nonzeros,
            item_bytes=shape.item_bytes,
            tol=engine_tolerance(job.solver.tol, relative=True),
            n_reference=2 * expected_products(k) if job.solver.reference else 0,
            single_vector=solver_settings(job).needs_single_vectors,
            kind=job.embedding.operator,
            operator=operator,
        )

    return plan


#: How each method is made and planned; every name of ``embedding.method`` is here.
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "pca": Method(_pca, _engine(PCA.operator_name)),
        "svd": Method(_svd, _engine(TruncatedSVD.operator_name)),
        "kernel_pca": Method(_kernel_pca, _plan_kernel, _kernel_settings, "rows"),
        "cooccurrence": Method(
            _cooccurrence, _cooccurrence_plan, lambda job: dataclasses.asdict(job.cooccurrence)
        ),
        "nystroem": Method(_nystroem, _plan_nystroem, _kernel_settings, "rows"),
    }
)
