"""``run.json``: what a run was and gave, in one shape that programs can rely on.

Fields are never removed or renamed; more may follow. A stage that did not run has the value null.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ClassifierRecord",
    "DatasetRecord",
    "EmbeddingRecord",
    "ReferenceRecord",
    "RunRecord",
    "StageSeconds",
    "Trained",
    "classifier_record",
]

Numbers = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """What was read."""

    name: str
    n_train: int
    n_test: int
    n_features: int
    n_classes: int


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Wall-clock seconds of each stage, of the slowest rank."""

    read: float
    operator: float
    solve: float
    project: float
    gather: float


@dataclass(frozen=True, slots=True)
class ReferenceRecord:
    """A second solver on the same operator, and how far its answer lies away.

    `max_relative_eigenvalue_error` is relative to each reference eigenvalue;
    `max_subspace_sin_angle` the sine of the largest angle between the two subspaces; `n_compared`
    the number of pairs that the reference found of those asked for. Both are NaN where it is 0.
    """

    solver: str
    max_relative_eigenvalue_error: float
    max_subspace_sin_angle: float
    n_matvec: int
    seconds: float
    n_compared: int


@dataclass(frozen=True, slots=True)
class EmbeddingRecord:
    """The eigenpairs and what they cost.

    `eigenvalues`, `explained_variance_ratio` and `residual_norms` (true ones) have `n_components`
    entries, in the order of the components: for `method` "pca" and "svd" in descending order of the
    eigenvalues. `explained_variance_ratio` is null where components hold no known share of the
    variance of the features. `orthogonality` is the norm of V'V - I; `components` what coordinates
    are called, `eigenvalue_meaning` what an eigenvalue is, `is_linear` whether they are affine
    functions of the features.
    """

    n_components: int
    operator: str
    solver: str
    eigenvalues: Numbers
    explained_variance_ratio: Numbers | None
    residual_norms: Numbers
    orthogonality: float
    n_matvec: int
    n_restarts: int
    converged_reason: str
    seconds: StageSeconds
    reference: ReferenceRecord | None = None
    method: str = "pca"
    components: str = "principal components"
    eigenvalue_meaning: str = "variance"
    is_linear: bool = True


@dataclass(frozen=True, slots=True)
class ClassifierRecord:
    """One trained network."""

    input: Literal["full", "embedded"]
    hidden: tuple[int, ...]
    parameters: int
    train_seconds: float
    validation_accuracy: float
    test_accuracy: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A whole run."""

    dataset: DatasetRecord
    embedding: EmbeddingRecord
    classifiers: Sequence[ClassifierRecord] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts and lists of plain Python values, for :meth:`RunFolder.write_json`.

        Not collective. NaN and infinity stay what they are; the writer turns them into null.
        """
        return {
            "dataset": _plain_fields(self.dataset),
            "embedding": _plain_fields(self.embedding),
            "classifiers": [_plain_fields(one) for one in self.classifiers],
            "environment": dict(self.environment),
        }


class Trained(Protocol):
    """What is read of a classifier's report."""

    @property
    def input(self) -> Literal["full", "embedded"]: ...  # noqa: D102
    @property
    def hidden(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def parameters(self) -> int: ...  # noqa: D102
    @property
    def train_seconds(self) -> float: ...  # noqa: D102
    @property
    def validation_accuracy(self) -> float: ...  # noqa: D102
    @property
    def test_accuracy(self) -> float: ...  # noqa: D102


def classifier_record(trained: Trained) -> ClassifierRecord:
    """Take from a classifier's report what ``run.json`` keeps. Not collective."""
    names = [one.name for one in dataclasses.fields(ClassifierRecord)]
    return ClassifierRecord(**{name: getattr(trained, name) for name in names})


def _plain_fields(record: Any) -> dict[str, Any]:
    return {one.name: _plain(getattr(record, one.name)) for one in dataclasses.fields(record)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _plain_fields(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
