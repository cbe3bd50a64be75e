"""One job, one TOML file: its sections as frozen structs.

A job is read with :func:`load_job`; ``--set section.key=value`` overrides single keys. Types,
choices and ranges are in the annotations of the sections, which
:func:`hpcembed.runtime.settings.build` checks; rules between keys are in :func:`check_job`.
:func:`hpcembed.runtime.settings.to_toml` writes the resolved job back, so that a run can be
repeated from its folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hpcembed.data.settings import GRAPH_FORMATS, DataSettings, GraphSettings
from hpcembed.jobs.network_sizes import NETWORK_SIZES, check_network, layers_of
from hpcembed.networks.training.recipe import Recipe
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.settings import (
    Count,
    Fraction,
    NotNegative,
    Positive,
    Seed,
    Size,
    build,
    read_overrides,
    read_table,
)

__all__ = [
    "ClassifierConfig",
    "CommonConfig",
    "CooccurrenceConfig",
    "DiagnosticsConfig",
    "EmbeddingConfig",
    "JobConfig",
    "KernelConfig",
    "MethodConfig",
    "OutputConfig",
    "ResourcesConfig",
    "SolverConfig",
    "check_job",
    "load_job",
    "override_data",
    "rename_files",
]


class MethodConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Method of the embedding; the [embedding] of a study, whose dimensions are in [study]."""

    #: pca: principal components; svd: singular vectors, without centring (counts, TF-IDF weights);
    #: kernel_pca: principal components in the space of a kernel, exact; nystroem: by landmarks;
    #: lda, cca: linear discriminants, and canonical directions between rows and labels, at most as
    #: many as classes less one, one for a numeric target; lpp: linear, keeps nearest rows together;
    #: cooccurrence: sums of vectors of features that share rows (no negative entries);
    #: spectral: eigenvectors of an operator of the graph
    method: Literal[
        "pca", "svd", "kernel_pca", "nystroem", "lda", "cca", "lpp", "cooccurrence", "spectral",
    ] = "pca"  # fmt: skip
    #: how the operator of pca, svd and kernel_pca is held and multiplied
    engine: Literal["auto", "assembled", "matrix_free", "block", "gram"] = "auto"


class EmbeddingConfig(MethodConfig, frozen=True, kw_only=True):
    """Method and dimension of the embedding; the [embedding] of a job."""

    #: number of coordinates k
    n_components: Count = 20


class KernelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel of the methods kernel_pca and nystroem."""

    #: the kernel
    name: Literal["linear", "poly", "rbf", "cosine"] = "rbf"
    #: gamma of rbf and poly: a number; auto: 1 / features; scale: 1 / (features times the variance
    #: of all entries); median: 1 / (2 s^2), s the median distance of rows
    gamma: str | float = "auto"
    #: degree of poly
    degree: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    #: constant term of poly
    coef0: float = 1.0
    #: number of landmarks of nystroem; all rows if there are fewer
    n_landmarks: Count = 2000
    #: seed of the choice of landmarks, and of the rows whose distances give the median
    seed: Seed = 0


class CooccurrenceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The weights of the method cooccurrence."""

    #: amount that a row adds to two features that share it: the product of their entries, or 1
    counts: Literal["weights", "presence"] = "weights"
    #: k: pointwise mutual information is lowered by log k
    shift: Positive = 1.0
    #: exponent of the context distribution, 1 = none
    smoothing: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.75
    #: exponent of the moduli of the eigenvalues that scale the vectors
    power: NotNegative = 0.5


class SolverConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The eigensolver and the reference solver."""

    #: miramns, or SLEPc's Krylov-Schur
    name: Literal["miramns", "krylovschur"] = "miramns"
    #: default, or the method as its authors published it
    variant: Literal["default", "published"] = "default"
    #: largest true residual, relative to each eigenvalue
    tol: Fraction = 1e-10
    #: largest number of restarts
    max_it: Count = 500
    #: largest subspace, 0 = chosen from k, n and the memory
    ncv: Size = 0
    #: nested sizes, empty = chosen by the variant
    nested: tuple[Count, ...] = ()
    #: seed of the start vector
    seed: Seed = 0
    #: solve again with SLEPc's Krylov-Schur and compare
    reference: bool = True


class ClassifierConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The networks; [training] states how they are trained."""

    #: train networks
    enabled: bool = True
    #: names (large, medium, low, very_low) or lists of layer widths
    hidden: tuple[str | tuple[int, ...], ...] = ("low",)
    #: train the same networks on the uncompressed input as well
    baseline: bool = True
    #: seed of first weights, held-out rows, order of rows and dropout
    seed: Seed = 0
    #: auto: a GPU if there is one
    device: Literal["auto", "cpu", "cuda"] = "auto"
    #: gather: rank 0 trains on all rows; data_parallel: all ranks train, rows stay where they are;
    #: auto: each input is gathered where the memory of rank 0 holds it
    parallel: Literal["auto", "gather", "data_parallel"] = "auto"
    #: test rows, at most, for the comparison of the layers of each network on all features and on
    #: the embedding (linear CKA); 0: no comparison
    similarity_rows: Size = 2000


class ResourcesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Threads and memory of one rank."""

    #: BLAS threads per rank, 0 = OMP_NUM_THREADS, else cores of the compute node / its ranks
    threads: Annotated[int, msgspec.Meta(ge=0, le=2**15)] = 0
    #: memory limit per rank in GiB, 0 = memory of the machine
    memory_gib: float = 0.0
    #: results with the same bits on any number of ranks (pca and svd): sums in the order of the
    #: rows, one rank solves, threads = 0 means 1; slower
    reproducible: bool = False


class OutputConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The output of a run."""

    #: folder of the results; empty: runs/<name>-<time>
    directory: str = ""
    #: draw the figures of the run
    figures: bool = True


class DiagnosticsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of dimensions from the spectrum and from neighbours, beside the results."""

    #: compute them
    enabled: bool = True
    #: neighbours of the maximum likelihood estimate of the intrinsic dimension
    n_neighbours: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 20
    #: largest number of training rows whose neighbours are found, drawn by the seed; 0: as many as
    #: take less than a second in a job and a few seconds in a study, among fewer rows if the data
    #: have more than 17,000 or 260,000 rows of 50 coordinates
    rows: Size = 0
    #: seed of the choice of rows
    seed: Seed = 0


class CommonConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The sections that jobs and studies share."""

    data: DataSettings = DataSettings()
    embedding: MethodConfig = MethodConfig()
    kernel: KernelConfig = KernelConfig()
    cooccurrence: CooccurrenceConfig = CooccurrenceConfig()
    graph: GraphSettings = GraphSettings()
    solver: SolverConfig = SolverConfig()
    training: Recipe = Recipe()
    diagnostics: DiagnosticsConfig = DiagnosticsConfig()
    resources: ResourcesConfig = ResourcesConfig()
    output: OutputConfig = OutputConfig()


class JobConfig(CommonConfig, frozen=True, kw_only=True):
    """A whole job."""

    embedding: EmbeddingConfig = EmbeddingConfig()
    classifier: ClassifierConfig = ClassifierConfig()


def load_job(path: Path, overrides: Sequence[str] = ()) -> JobConfig:
    """Read a job file and apply ``section.key=value`` overrides.

    Raises
    ------
    ConfigError
        A key or value is wrong; the message names the file, the key and the correct form.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "job.toml"
    ...     _ = path.write_text("embedding.n_components = 5")
    ...     job = load_job(path, ["solver.tol=1e-6"])
    >>> job.embedding.n_components, job.solver.tol
    (5, 1e-06)
    """
    table = read_table(path, overrides)
    if "study" in table:
        raise ConfigError(f"{path}: this is a study file: use hpcembed study")
    job = build(JobConfig, table, str(path))
    check_job(job, str(path))
    return job


def override_data(data: DataSettings, overrides: Sequence[str]) -> DataSettings:
    """Apply ``data.key=value`` overrides to a [data] section.

    Raises
    ------
    ConfigError
        As :func:`load_job`, and for a key of another section.

    Examples
    --------
    >>> override_data(DataSettings(name="a"), ["data.format=csv"]).format
    'csv'
    """
    table = {"data": {}, **read_overrides(overrides)}
    if len(table) > 1:
        raise ConfigError(f"--set {', '.join(overrides)}: only keys of data have an effect here")
    changed = build(JobConfig, table, "--set").data
    return msgspec.structs.replace(data, **{key: getattr(changed, key) for key in table["data"]})


def rename_files(data: DataSettings, rename: Callable[[str], str]) -> DataSettings:
    """Return a [data] section with other names of its files.

    Examples
    --------
    >>> rename_files(DataSettings(train=("a.csv",)), lambda name: name and f"/data/{name}").train
    ('/data/a.csv',)
    """
    return msgspec.structs.replace(
        data,
        train=tuple(map(rename, data.train)),
        train_labels=rename(data.train_labels),
        test=tuple(map(rename, data.test)),
        test_labels=rename(data.test_labels),
    )


def check_job(job: JobConfig, source: str) -> None:
    """Check the rules between keys of a job.

    Raises
    ------
    ConfigError
        A rule does not hold; the message names `source`, the keys and the rule.
    """
    data, solver, kernel, k = job.data, job.solver, job.kernel, job.embedding.n_components
    conditions = [
        (data.divisor != 0, "data.divisor must not be 0"),
        (
            kernel.gamma in ("auto", "scale", "median")
            or (not isinstance(kernel.gamma, str) and kernel.gamma > 0),
            "kernel.gamma must be a positive number, or one of auto, scale, median",
        ),
        (
            job.embedding.method != "nystroem" or k <= kernel.n_landmarks,
            "embedding.n_components must not exceed kernel.n_landmarks",
        ),
        (
            list(solver.nested) == sorted(set(solver.nested)),
            "solver.nested must be an increasing list of positive sizes",
        ),
        (
            job.resources.memory_gib == 0 or 1e-6 <= job.resources.memory_gib <= 2**30,
            "resources.memory_gib must be 0 (no limit) or lie between 1e-6 and 2^30",
        ),
        (
            data.name.isprintable() and "/" not in data.name and len(data.name) <= 200,
            "data.name must be at most 200 printable characters without /",
        ),
        (
            data.split != "sklearn" or data.split_seed < 2**32,
            "data.split_seed must lie between 0 and 2^32 - 1 with data.split = sklearn",
        ),
        *_graph_rules(job),
        *_reproducible_rules(job),
        *job.training.rules(),
    ]
    for holds, message in conditions:
        if not holds:
            raise ConfigError(f"{source}: {message}")
    for network in job.classifier.hidden:
        if isinstance(network, str) and network not in NETWORK_SIZES:
            raise ConfigError(
                f"{source}: classifier.hidden: {network!r} is not one of "
                f"{', '.join(NETWORK_SIZES)} or a list of layer widths"
            )
        hidden = layers_of(network)
        if not hidden or min(hidden) < 1:
            raise ConfigError(f"{source}: classifier.hidden: layer widths must be positive")
        check_network(hidden, source)
        job.training.dropouts(hidden)


def _reproducible_rules(job: JobConfig) -> list[tuple[bool, str]]:
    free, method = not job.resources.reproducible, job.embedding.method
    return [
        (
            free or method in ("pca", "svd"),
            f"resources.reproducible: the sums of embedding.method = {method} depend on the number "
            "of ranks; use pca or svd",
        ),
        (
            free or not job.graph.smoothing,
            "resources.reproducible: sums over the neighbours of graph nodes depend on the number "
            "of ranks; use graph.smoothing = 0",
        ),
        (
            free or job.classifier.parallel != "data_parallel",
            "resources.reproducible: data-parallel training adds gradients in the order of the "
            "ranks; use classifier.parallel = gather",
        ),
    ]


def _graph_rules(job: JobConfig) -> list[tuple[bool, str]]:
    graph, spectral = job.graph, job.embedding.method == "spectral"
    is_graph = job.data.format in GRAPH_FORMATS
    return [
        (
            graph.tau == "mean" or (isinstance(graph.tau, float) and graph.tau >= 0),
            "graph.tau must be a number of at least 0, or mean",
        ),
        (is_graph or not spectral, "embedding.method = spectral needs data.format = graph"),
        (is_graph or not graph.smoothing, "graph.smoothing needs data.format = graph"),
        (
            not is_graph or job.data.split != "own",
            "data.split = own: a graph has no test nodes of its own; use stratified",
        ),
        (
            graph.attribute_components < job.embedding.n_components or not spectral,
            "graph.attribute_components must be less than embedding.n_components",
        ),
        (
            job.data.format != "power_law"
            or (graph.n_nodes >= 2 and graph.n_edges >= 1 and graph.exponent > 2),
            "graph: power_law needs n_nodes of at least 2, n_edges, and an exponent above 2",
        ),
    ]
