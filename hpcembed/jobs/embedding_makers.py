"""How a job makes each embedding: its estimator, the plan of what it takes, its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from hpcembed.embedding.contract import Machine, OnCheck, Shape
from hpcembed.embedding.cooccurrence import (
    CooccurrenceEmbedding,
    CooccurrencePlan,
    plan_cooccurrence,
)
from hpcembed.embedding.kernel_pca import KernelPCA
from hpcembed.embedding.node_embedding import NodeEmbedding, NodePlan
from hpcembed.embedding.nystroem import Nystroem
from hpcembed.embedding.pca import PCA
from hpcembed.embedding.solving import SolverSettings, engine_tolerance
from hpcembed.embedding.truncated_svd import TruncatedSVD
from hpcembed.jobs.configuration import JobConfig
from hpcembed.operators import (
    EnginePlan,
    FeaturePlan,
    KernelPlan,
    expected_products,
    plan_engine,
    plan_features,
    plan_kernel,
)
from hpcembed.runtime.errors import ConfigError

__all__ = [
    "engine_plan",
    "kernel_settings",
    "make_cooccurrence",
    "make_kernel_pca",
    "make_nystroem",
    "make_pca",
    "make_spectral",
    "make_svd",
    "node_settings",
    "plan_counts",
    "plan_kernel_pca",
    "plan_nodes",
    "plan_nystroem",
    "solver_settings",
]


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


def make_pca(job: JobConfig, machine: Machine, solver: SolverSettings) -> PCA:
    """Principal components. Not collective."""
    return PCA(
        job.embedding.n_components,
        eigen_solver=job.embedding.engine,
        tol=job.solver.tol,
        random_state=job.solver.seed,
        memory_limit=machine.available_bytes,
        n_threads=machine.threads,
        solver=solver,
    )


def make_svd(job: JobConfig, machine: Machine, solver: SolverSettings) -> TruncatedSVD:
    """Singular vectors. Not collective."""
    return TruncatedSVD(
        job.embedding.n_components,
        eigen_solver=job.embedding.engine,
        tol=job.solver.tol,
        random_state=job.solver.seed,
        memory_limit=machine.available_bytes,
        n_threads=machine.threads,
        solver=solver,
    )


def make_kernel_pca(job: JobConfig, machine: Machine, solver: SolverSettings) -> KernelPCA:
    """Principal components in the space of a kernel. Not collective."""
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
    engine = job.embedding.engine
    if engine in ("block", "gram"):
        raise ConfigError(
            f"embedding.engine = {engine} is not for kernel_pca: use auto, assembled or matrix_free"
        )
    return engine  # type: ignore[return-value]


def plan_kernel_pca(job: JobConfig, shape: Shape, machine: Machine) -> KernelPlan:
    """What a kernel operator will take. Not collective."""
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


def make_nystroem(job: JobConfig, machine: Machine, solver: SolverSettings) -> Nystroem:
    """Principal components of a kernel by landmarks. Not collective."""
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


def plan_nystroem(job: JobConfig, shape: Shape, machine: Machine) -> FeaturePlan:
    """What features of landmarks will take. Not collective."""
    if job.embedding.engine != "auto":
        raise ConfigError(
            f"embedding.engine = {job.embedding.engine} is not for nystroem: use auto"
        )
    return plan_features(
        shape.n_train,
        shape.n_features,
        min(job.kernel.n_landmarks, shape.n_train),
        ranks=machine.ranks,
        threads=machine.threads,
        available_bytes=machine.available_bytes,
    )


def kernel_settings(job: JobConfig) -> dict[str, Any]:
    """What tells a kernel from another; landmarks make a difference to nystroem only."""
    settings = msgspec.structs.asdict(job.kernel)
    if job.embedding.method != "nystroem":
        del settings["n_landmarks"]
    return {"kernel": settings}


def make_cooccurrence(
    job: JobConfig, machine: Machine, solver: SolverSettings
) -> CooccurrenceEmbedding:
    """Sums of vectors of features that share rows. Not collective."""
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


def plan_counts(job: JobConfig, shape: Shape, machine: Machine) -> CooccurrencePlan:
    """What counts of features that share rows will take. Not collective."""
    return plan_cooccurrence(
        shape.n_train,
        shape.n_features,
        min(job.embedding.n_components, shape.n_features),
        shape.n_nonzeros,
        ranks=machine.ranks,
        available=machine.available_bytes,
    )


def make_spectral(job: JobConfig, machine: Machine, solver: SolverSettings) -> NodeEmbedding:
    """Coordinates of the nodes of a graph. Not collective."""
    return NodeEmbedding(
        job.embedding.n_components,
        operator=job.graph.operator,
        tau=_tau(job),
        attribute_components=job.graph.attribute_components,
        tol=job.solver.tol,
        random_state=job.solver.seed,
        memory_limit=machine.available_bytes,
        n_threads=machine.threads,
        solver=solver,
    )


def _tau(job: JobConfig) -> Any:
    """Plain operators take none, whatever the default is."""
    normal = job.graph.operator not in ("adjacency", "modularity")
    return job.graph.tau if normal else 0.0


def plan_nodes(job: JobConfig, shape: Shape, machine: Machine) -> NodePlan:
    """What the operator of a graph will take. Not collective."""
    return NodePlan.of(job.graph.operator, job.embedding.n_components, shape, machine)


def node_settings(job: JobConfig) -> dict[str, Any]:
    """What tells coordinates of nodes from others. Not collective."""
    graph = job.graph
    return {
        "operator": graph.operator,
        "tau": _tau(job),
        "attribute_components": graph.attribute_components,
    }


def engine_plan(operator: str) -> Callable[[JobConfig, Shape, Machine], EnginePlan]:
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
            kind=job.embedding.engine,
            operator=operator,
        )

    return plan
