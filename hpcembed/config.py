"""One job, one TOML file: its sections as frozen dataclasses.

A job is read with :func:`load_job`; ``--set section.key=value`` overrides single keys. A key that
does not exist is refused with the nearest one that does, a value of the wrong type with what was
expected. :func:`to_toml` writes the resolved job back, so that a run folder repeats itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

from hpcembed.config_limits import NETWORK_SIZES, check_limits
from hpcembed.errors import ConfigError

__all__ = [
    "NETWORK_SIZES",
    "ClassifierConfig",
    "CooccurrenceConfig",
    "DataConfig",
    "EmbeddingConfig",
    "GraphConfig",
    "JobConfig",
    "KernelConfig",
    "MethodConfig",
    "OutputConfig",
    "ResourcesConfig",
    "SolverConfig",
    "build",
    "load_job",
    "override_data",
    "read_table",
    "to_toml",
]


Section = TypeVar("Section")


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Where the data is, in which format, how it is split and scaled.

    Paths are relative to ``--data-dir`` (default: the folder of the job file).
    """

    name: str = "digits"
    #: auto: by the file name's ending
    format: Literal[
        "auto",
        "digits",
        "idx",
        "cifar10",
        "npz",
        "npy",
        "csv",
        "matrix_market",
        "svmlight",
        "hdf5",
        "text_folder",
        "text_tar",
        "text_lines",
        "text_csv",
        "graph",
        "power_law",
    ] = "auto"
    train: tuple[str, ...] = ()
    train_labels: str = ""
    test: tuple[str, ...] = ()
    test_labels: str = ""
    #: csv, text_csv: name of the column that holds the class
    label_column: str = ""
    #: csv: field separator; auto takes the one that the header line uses
    delimiter: str = "auto"
    #: npz, hdf5: names of the arrays
    features_key: str = "x"
    labels_key: str = "y"
    #: svmlight, bare triplets: number of features, 0 = the largest index found
    n_features: int = 0
    #: own: the files' split; stratified, random: counter-based, any scale; sklearn: the rows of
    #: scikit-learn's train_test_split(test_size, random_state=seed)
    split: Literal["auto", "own", "stratified", "random", "sklearn"] = "auto"
    test_fraction: float = 0.2
    split_seed: int = 0
    scaling: Literal["none", "divide", "minmax", "standard"] = "none"
    divisor: float = 255.0
    #: text_csv: name of the column that holds the text
    text_column: str = ""
    #: text: mail and news headers; quoted lines and those that announce them
    headers: Literal["keep", "remove"] = "keep"
    quoting: Literal["keep", "remove"] = "keep"
    #: text: of the files; what is not of it is replaced by U+FFFD and counted, or refused
    encoding: str = "utf-8"
    encoding_errors: Literal["replace", "refuse"] = "replace"
    #: text: what a document has for a term: its occurrences, times idf or not, or 1
    weighting: Literal["tfidf", "counts", "binary"] = "tfidf"
    #: 1 + log of the occurrences in their place
    sublinear_tf: bool = False
    #: idf as if one more document had every term
    smooth_idf: bool = True
    #: length of every document's row
    norm: Literal["l2", "none"] = "l2"
    #: classes: times what a term says of the classes, by the labels of all training documents:
    #: those that a classifier holds out for validation too, whose accuracy is then too high
    relevance: Literal["none", "classes"] = "none"
    #: training documents that a term must be in: a number from 1 on, below that a share
    min_df: float = 1.0
    #: and may be in: a share up to 1, above that a number
    max_df: float = 1.0
    #: keep that many terms with the most occurrences, 0 = all
    max_features: int = 0
    #: how the rows are held: dense (double), aij (sparse), shell (as read; converted per block)
    storage: Literal["auto", "dense", "aij", "shell"] = "auto"


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """Graphs: what their lines mean, what becomes of attributes, which operator places the nodes.

    For ``data.format = "graph"`` (one file, or ``data.train_labels`` with node ids and labels) and
    ``"power_law"`` (made on the spot).
    """

    #: of the file: auto by its ending, edges: a line per edge
    format: Literal["auto", "edges", "matrix_market", "npz"] = "auto"
    #: two directions of an edge: the larger weight, their mean, their sum, or both there
    directed: Literal["either", "symmetrise", "sum", "mutual"] = "either"
    #: lines of the same edge in the same direction: weights added, or the largest kept
    duplicates: Literal["sum", "once"] = "sum"
    loops: Literal["drop", "keep"] = "drop"
    components: Literal["all", "largest"] = "all"
    weights: Literal["auto", "ignore"] = "auto"
    negative_weights: Literal["refuse", "keep"] = "refuse"
    #: power_law: nodes, edges drawn, exponent of the degrees, seed
    n_nodes: int = 0
    n_edges: int = 0
    exponent: float = 2.5
    seed: int = 0
    #: times that attributes are averaged over the neighbours, for every method
    smoothing: int = 0
    smoothing_operator: Literal["random_walk", "normalized"] = "random_walk"
    #: method spectral: whose eigenvectors
    operator: Literal["normalized", "random_walk", "laplacian", "modularity", "adjacency"] = (
        "normalized"
    )
    #: regularisation of the normalised operators: a degree added to all, or mean
    tau: str | float = "mean"
    #: method spectral: how many of the n_components are principal components of the attributes,
    #: which come first
    attribute_components: int = 0


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
class ClassifierConfig:
    """The networks and how they are trained."""

    enabled: bool = True
    #: names out of large, medium, low, very_low, or lists of layer widths
    hidden: tuple[str | tuple[int, ...], ...] = ("low",)
    #: train the same networks on the uncompressed input as well
    baseline: bool = True
    epochs: int = 15
    batch_size: int = 256
    learning_rate: float = 3e-3
    schedule: Literal["onecycle", "cosine", "constant"] = "onecycle"
    dropout: float = 0.0
    weight_decay: float = 0.1
    label_smoothing: float = 0.05
    #: auto: embedded inputs divided by the square root of their standard deviation
    input_scaling: Literal["auto", "none", "standard", "sqrt"] = "auto"
    validation_fraction: float = 0.1
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    #: gather: rank 0 trains on all rows; data_parallel: all ranks train, rows stay where they are;
    #: auto: each input is gathered when rank 0's memory holds it
    parallel: Literal["auto", "gather", "data_parallel"] = "auto"


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

    data: DataConfig = field(default_factory=DataConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    kernel: KernelConfig = field(default_factory=KernelConfig)
    cooccurrence: CooccurrenceConfig = field(default_factory=CooccurrenceConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
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


def build(kind: type[Section], table: Mapping[str, Any], source: str) -> Section:
    """Make a dataclass of sections out of a table; unknown keys and wrong types are refused.

    Raises
    ------
    ConfigError
        Naming `source`, the key and what would be right.
    """
    return typing.cast(Section, _build(kind, table, source, ""))


def override_data(data: DataConfig, overrides: Sequence[str]) -> DataConfig:
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
    changed = _build(JobConfig, table, "--set", "").data
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


def _build(kind: type[Any], table: Mapping[str, Any], source: str, prefix: str) -> Any:
    hints = typing.get_type_hints(kind)
    for key in table:
        if key not in hints:
            raise ConfigError(f"{source}: unknown key {prefix}{key}{_nearest(key, hints)}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        expected = hints[key]
        if dataclasses.is_dataclass(expected):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{source}: {prefix}{key} is a section: write [{prefix}{key}]")
            values[key] = _build(typing.cast(type, expected), value, source, f"{prefix}{key}.")
        else:
            values[key] = _convert(value, expected, f"{source}: {prefix}{key}")
    return kind(**values)


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known keys: {', '.join(known)}"


def _convert(value: Any, expected: Any, where: str) -> Any:
    origin = typing.get_origin(expected)
    if origin is Literal:
        choices = typing.get_args(expected)
        if value not in choices:
            listed = ", ".join(map(str, choices))
            close = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{where}: {value!r} is not one of {listed}{hint}")
        return value
    if origin is tuple:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        element = typing.get_args(expected)[0]
        return tuple(_convert(item, element, where) for item in items)
    if origin in (typing.Union, types.UnionType):
        if isinstance(value, str):
            return value
        return _convert(value, typing.get_args(expected)[1], where)
    if expected is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ConfigError(f"{where} must be a finite number")
        return number
    if type(value) is not expected:
        raise ConfigError(f"{where}: expected {expected.__name__}, got {value!r}")
    return value


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
