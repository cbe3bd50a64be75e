"""One job, one TOML file: its sections as frozen dataclasses.

A job is read with :func:`load_job`; ``--set section.key=value`` overrides single keys. A key that
does not exist is refused with the nearest one that does, a value of the wrong type with what was
expected. :func:`to_toml` writes the resolved job back, so that a run folder repeats itself.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

from hpcembed.data.settings import DataSettings, GraphSettings
from hpcembed.jobs.configuration_limits import NETWORK_SIZES, check_limits
from hpcembed.networks.training.recipe import ClassifierConfig
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.settings import build

__all__ = [
    "NETWORK_SIZES",
    "CooccurrenceConfig",
    "EmbeddingConfig",
    "JobConfig",
    "KernelConfig",
    "MethodConfig",
    "OutputConfig",
    "ResourcesConfig",
    "SolverConfig",
    "load_job",
    "override_data",
    "read_table",
    "to_toml",
]


@dataclass(frozen=True, slots=True)
class MethodConfig:
    """How the data is embedded; a study's [embedding], whose dimensions are in [study]."""

    #: pca: principal components; svd: singular vectors, without centring (counts, TF-IDF weights);
    #: kernel_pca: principal components in the space of a kernel, exact; nystroem: by landmarks;
    #: cooccurrence: sums of vectors of features that share rows (no negative entries);
    #: spectral: eigenvectors of an operator of the graph
    method: Literal["pca", "svd", "kernel_pca", "nystroem", "cooccurrence", "spectral"] = "pca"
    #: how the operator of pca and svd is held
    operator: Literal["auto", "assembled", "matrix_free", "block", "gram"] = "auto"


@dataclass(frozen=True, slots=True)
class EmbeddingConfig(MethodConfig):
    """What is extracted from the data; a job's [embedding]."""

    n_components: int = 20


@dataclass(frozen=True, slots=True)
class KernelConfig:
    """The kernel of the methods kernel_pca and nystroem."""

    name: Literal["linear", "poly", "rbf", "cosine"] = "rbf"
    #: of rbf and poly: a number; auto: 1 / features; scale: 1 / (features times the variance of all
    #: entries); median: 1 / (2 s^2), s the median distance of rows
    gamma: str | float = "auto"
    #: of poly
    degree: int = 3
    coef0: float = 1.0
    #: of nystroem: rows that are chosen, all where there are fewer
    n_landmarks: int = 2000
    #: of the choice of landmarks, and of the rows whose distances give the median
    seed: int = 0


@dataclass(frozen=True, slots=True)
class CooccurrenceConfig:
    """Of embedding.method = "cooccurrence"."""

    #: what two features that share a row add: the product of their entries, or one
    counts: Literal["weights", "presence"] = "weights"
    #: k: pointwise mutual information is lowered by log k
    shift: float = 1.0
    #: exponent of the context distribution, 1 = none
    smoothing: float = 0.75
    #: of the moduli of the eigenvalues that scale the vectors
    power: float = 0.5


@dataclass(frozen=True, slots=True)
class SolverConfig:
    """The eigensolver and the one it is checked against."""

    name: Literal["miramns", "krylovschur"] = "miramns"
    variant: Literal["default", "published"] = "default"
    #: relative to each eigenvalue
    tol: float = 1e-10
    max_it: int = 500
    #: largest subspace, 0 = chosen from k, n and the memory
    ncv: int = 0
    #: nested sizes, empty = chosen by the variant
    nested: tuple[int, ...] = ()
    seed: int = 0
    #: solve again with SLEPc's Krylov-Schur and compare
    reference: bool = True


@dataclass(frozen=True, slots=True)
class ResourcesConfig:
    """Threads and memory of one rank."""

    #: BLAS threads per rank, 0 = cores of the node / ranks on it, unless OMP_NUM_THREADS is set
    threads: int = 0
    #: memory limit per rank in GiB, 0 = what the machine has
    memory_gib: float = 0.0


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """What a run leaves behind."""

    #: empty: runs/<name>-<time>
    directory: str = ""
    figures: bool = True


@dataclass(frozen=True, slots=True)
class JobConfig:
    """A whole job."""

    data: DataSettings = field(default_factory=DataSettings)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    kernel: KernelConfig = field(default_factory=KernelConfig)
    cooccurrence: CooccurrenceConfig = field(default_factory=CooccurrenceConfig)
    graph: GraphSettings = field(default_factory=GraphSettings)
    solver: SolverConfig = field(default_factory=SolverConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    output: OutputConfig = field(default_factory=OutputConfig)


def load_job(path: Path, overrides: Sequence[str] = ()) -> JobConfig:
    """Read a job file and apply ``section.key=value`` overrides.

    Raises
    ------
    ConfigError
        Naming the file, the key and what would be right.
    """
    table = read_table(path, overrides)
    for key in ("study", "training"):
        if key in table:
            raise ConfigError(
                f"{path}: unknown key {key}: it is one of study files, which hpcembed study takes"
            )
    job = build(JobConfig, table, str(path))
    check_limits(job, str(path))
    return job


def read_table(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file and apply ``section.key=value`` overrides; nothing is checked yet.

    Raises
    ------
    ConfigError
        Naming the file and what is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the path of a job file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text; a job is a TOML file") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    for override in overrides:
        _apply_override(table, override)
    return table


def override_data(data: DataSettings, overrides: Sequence[str]) -> DataSettings:
    """A [data] section with ``data.key=value`` overrides.

    Raises
    ------
    ConfigError
        As :func:`load_job`, and for a key of another section.
    """
    table: dict[str, Any] = {"data": {}}
    for override in overrides:
        _apply_override(table, override)
    if len(table) > 1:
        raise ConfigError(f"--set {', '.join(overrides)}: only keys of data are of use here")
    changed = build(JobConfig, table, "--set").data
    return dataclasses.replace(data, **{key: getattr(changed, key) for key in table["data"]})


def _apply_override(table: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    section, dot, key = name.strip().partition(".")
    if not separator or not dot or not section or not key:
        raise ConfigError(f"--set {override}: write --set section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    content = table.setdefault(section, {})
    if not isinstance(content, dict):
        raise ConfigError(f"--set {override}: {section} is not a section")
    content[key] = value


def to_toml(job: Any) -> str:
    """The resolved job as TOML text that :func:`load_job` reads back to the same job."""
    lines = []
    for section in dataclasses.fields(job):
        lines.append(f"[{section.name}]")
        content = getattr(job, section.name)
        for key in dataclasses.fields(content):
            lines.append(f"{key.name} = {_toml_value(getattr(content, key.name))}")
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        for character, name in (("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
            escaped = escaped.replace(character, name)
        return f'"{escaped}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    return repr(value)
