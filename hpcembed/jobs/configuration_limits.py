"""Which values of a job make sense, whatever the data are."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from hpcembed.data.settings import GRAPH_FORMATS
from hpcembed.runtime.errors import ConfigError

if TYPE_CHECKING:
    from hpcembed.jobs.configuration import JobConfig

__all__ = ["NETWORK_SIZES", "check_limits", "check_network"]

#: Hidden layers behind the names that a job may use (the published two-layer networks).
NETWORK_SIZES: Mapping[str, tuple[int, ...]] = types.MappingProxyType(
    {
        "large": (512, 512),
        "medium": (256, 256),
        "low": (64, 64),
        "very_low": (32, 32),
    }
)

#: Parameters of one network beyond which a width is a typing error.
MOST_PARAMETERS = 2**31


def check_limits(job: JobConfig, source: str) -> None:
    """Refuse values that no job can use.

    Raises
    ------
    ConfigError
        Naming `source`, the key and what would be right.
    """
    data, solver, classifier, kernel = job.data, job.solver, job.classifier, job.kernel
    conditions = [
        (job.embedding.n_components >= 1, "embedding.n_components must be at least 1"),
        (0 < data.test_fraction < 1, "data.test_fraction must lie between 0 and 1"),
        (data.divisor != 0, "data.divisor must not be 0"),
        (data.n_features >= 0, "data.n_features must not be negative"),
        (
            kernel.gamma in ("auto", "scale", "median")
            or (not isinstance(kernel.gamma, str) and kernel.gamma > 0),
            "kernel.gamma must be a positive number, or one of auto, scale, median",
        ),
        (1 <= kernel.degree <= 100, "kernel.degree must lie between 1 and 100"),
        (
            1 <= kernel.n_landmarks < 2**31,
            "kernel.n_landmarks must lie between 1 and 2^31 - 1",
        ),
        (
            job.embedding.method != "nystroem" or job.embedding.n_components <= kernel.n_landmarks,
            "embedding.n_components must not exceed kernel.n_landmarks",
        ),
        (data.min_df >= 0, "data.min_df must not be negative"),
        (data.max_df > 0, "data.max_df must be positive"),
        (data.max_features >= 0, "data.max_features must not be negative"),
        (0 < job.cooccurrence.shift < math.inf, "cooccurrence.shift must be positive"),
        (
            0 <= job.cooccurrence.smoothing <= 1,
            "cooccurrence.smoothing must lie between 0 and 1",
        ),
        (0 <= job.cooccurrence.power < math.inf, "cooccurrence.power must not be negative"),
        (0 < solver.tol < 1, "solver.tol must lie between 0 and 1"),
        (solver.max_it >= 1, "solver.max_it must be at least 1"),
        (solver.ncv >= 0, "solver.ncv must not be negative"),
        (
            list(solver.nested) == sorted(set(solver.nested)) and min(solver.nested, default=1) > 0,
            "solver.nested must be an increasing list of positive sizes",
        ),
        (classifier.epochs >= 1, "classifier.epochs must be at least 1"),
        (classifier.batch_size >= 1, "classifier.batch_size must be at least 1"),
        (classifier.learning_rate > 0, "classifier.learning_rate must be positive"),
        (0 <= classifier.dropout < 1, "classifier.dropout must lie in [0, 1)"),
        (classifier.weight_decay >= 0, "classifier.weight_decay must not be negative"),
        (0 <= classifier.label_smoothing < 1, "classifier.label_smoothing must lie in [0, 1)"),
        (
            0 < classifier.validation_fraction < 1,
            "classifier.validation_fraction must lie between 0 and 1",
        ),
        (0 <= job.resources.threads <= 2**15, "resources.threads must lie between 0 and 32768"),
        (
            job.resources.memory_gib == 0 or 1e-6 <= job.resources.memory_gib <= 2**30,
            "resources.memory_gib must be 0 (no limit) or lie between 1e-6 and 2^30",
        ),
        (
            data.name.isprintable() and "/" not in data.name and len(data.name) <= 200,
            "data.name must be at most 200 printable characters without /",
        ),
        *_graph_limits(job),
        *(
            (0 <= seed < 2**63, f"{key} must lie between 0 and 2^63 - 1")
            for key, seed in (
                ("data.split_seed", data.split_seed),
                ("solver.seed", solver.seed),
                ("kernel.seed", kernel.seed),
                ("classifier.seed", classifier.seed),
                ("graph.seed", job.graph.seed),
            )
        ),
        (
            data.split != "sklearn" or data.split_seed < 2**32,
            "data.split_seed must lie between 0 and 2^32 - 1 with data.split = sklearn",
        ),
        *(
            (number < 2**31, f"{key} must be less than 2^31")
            for key, number in (
                ("embedding.n_components", job.embedding.n_components),
                ("solver.max_it", solver.max_it),
                ("solver.ncv", solver.ncv),
                ("solver.nested", max(solver.nested, default=0)),
                ("classifier.epochs", classifier.epochs),
                ("classifier.batch_size", classifier.batch_size),
            )
        ),
    ]
    for holds, message in conditions:
        if not holds:
            raise ConfigError(f"{source}: {message}")
    for hidden in classifier.hidden:
        if isinstance(hidden, str) and hidden not in NETWORK_SIZES:
            raise ConfigError(
                f"{source}: classifier.hidden: {hidden!r} is not one of {', '.join(NETWORK_SIZES)} "
                "or a list of layer widths"
            )
        if not isinstance(hidden, str) and (not hidden or min(hidden) < 1):
            raise ConfigError(f"{source}: classifier.hidden: layer widths must be positive")
        layers = NETWORK_SIZES[hidden] if isinstance(hidden, str) else hidden
        check_network(layers, source)


def _graph_limits(job: JobConfig) -> list[tuple[bool, str]]:
    graph, spectral = job.graph, job.embedding.method == "spectral"
    is_graph = job.data.format in GRAPH_FORMATS
    return [
        (0 <= graph.smoothing <= 1000, "graph.smoothing must lie between 0 and 1000"),
        (
            graph.tau == "mean" or (isinstance(graph.tau, float) and graph.tau >= 0),
            "graph.tau must be a number of at least 0, or mean",
        ),
        (is_graph or not spectral, "embedding.method = spectral needs data.format = graph"),
        (is_graph or not graph.smoothing, "graph.smoothing needs data.format = graph"),
        (
            not is_graph or job.data.split != "own",
            "data.split = own: the nodes of a graph are split here; use stratified",
        ),
        (
            0 <= graph.attribute_components < job.embedding.n_components or not spectral,
            "graph.attribute_components must be less than embedding.n_components",
        ),
        (
            job.data.format != "power_law"
            or (graph.n_nodes >= 2 and graph.n_edges >= 1 and graph.exponent > 2),
            "graph: power_law needs n_nodes of at least 2, n_edges, and an exponent above 2",
        ),
        (max(graph.n_nodes, graph.n_edges) < 2**62, "graph.n_nodes, n_edges must be below 2^62"),
    ]


def check_network(layers: Sequence[int], source: str) -> None:
    """Refuse layers, with or without inputs and classes, that no network of this kind has.

    Raises
    ------
    ConfigError
    """
    count = sum(width * (before + 1) for before, width in pairwise(layers))
    if max(count, *layers) > MOST_PARAMETERS:
        shown = "-".join(map(str, layers[:8])) + ("-..." if len(layers) > 8 else "")
        raise ConfigError(
            f"{source}: classifier.hidden: layers {shown} have {count:.1e} parameters, more than "
            "2^31: choose smaller widths"
        )
