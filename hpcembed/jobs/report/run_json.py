"""Records of ``run.json``: settings and results of a run, in a fixed shape for programs.

Fields are never removed or renamed; new ones may follow. The value of a stage that did not run is
null. Numbers that are not finite are also null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from hpcembed.jobs.report.dimensions import DimensionsRecord, Number

if TYPE_CHECKING:
    from hpcembed.networks.training.report import ClassifierReport

__all__ = [
    "ClassifierRecord",
    "DatasetRecord",
    "EmbeddingRecord",
    "ReferenceRecord",
    "RunRecord",
    "SimilarityRecord",
    "StageSeconds",
    "classifier_record",
]


class DatasetRecord(msgspec.Struct, frozen=True):
    """Name and sizes of the data, and the task; a regression has 0 classes.

    Attributes
    ----------
    n_features : int
        Columns of numbers, after the encoding of raw columns.
    columns : list of dict, optional
        For raw columns: column, kind, values, missing, and its encoding or why it is left out.
    """

    name: str
    n_train: int
    n_test: int
    n_features: int
    n_classes: int
    task: Literal["classification", "regression"] = "classification"
    columns: list[dict[str, str]] | None = None


class StageSeconds(msgspec.Struct, frozen=True):
    """Wall-clock seconds of each stage on the slowest rank."""

    read: Number
    operator: Number
    solve: Number
    project: Number
    gather: Number


class ReferenceRecord(msgspec.Struct, frozen=True):
    """Result of the reference solver on the same operator, compared with the run's.

    Attributes
    ----------
    max_relative_eigenvalue_error : float
        Relative to each reference eigenvalue; NaN if `n_compared` is 0.
    max_subspace_sin_angle : float
        Sine of the largest angle between the two subspaces; NaN if `n_compared` is 0.
    n_compared : int
        Number of requested pairs that the reference solver found.
    """

    solver: str
    max_relative_eigenvalue_error: Number
    max_subspace_sin_angle: Number
    n_matvec: int
    seconds: Number
    n_compared: int


class EmbeddingRecord(msgspec.Struct, frozen=True):
    """Eigenpairs of an embedding and their cost.

    Attributes
    ----------
    eigenvalues, residual_norms : sequence of float
        One for each component, in the order of the components; methods ``"pca"`` and ``"svd"``
        order them by descending eigenvalue. Residual norms are true ones, relative to the largest
        eigenvalue.
    explained_variance_ratio : sequence of float or None
        One for each component; None for components that have no known share of the variance of
        the features.
    orthogonality : float
        Norm of V'V - I.
    components : str
        Name of the coordinates.
    eigenvalue_meaning : str
        Quantity that an eigenvalue measures.
    is_linear : bool
        Whether coordinates are affine functions of the features.
    certificate : str
        Origin of the residual norms: ``"exact"`` operator of short integers, products in
        ``"double"`` precision, or a ``"sampled"`` bound.
    failure_probability : float
        Probability with which a sampled bound is exceeded; 0 for computed residual norms.
    """

    n_components: int
    operator: str
    solver: str
    eigenvalues: Sequence[Number]
    explained_variance_ratio: Sequence[Number] | None
    residual_norms: Sequence[Number]
    orthogonality: Number
    n_matvec: int
    n_restarts: int
    converged_reason: str
    seconds: StageSeconds
    reference: ReferenceRecord | None = None
    method: str = "pca"
    components: str = "principal components"
    eigenvalue_meaning: str = "variance"
    is_linear: bool = True
    certificate: str = "double"
    failure_probability: Number = 0.0


class ClassifierRecord(msgspec.Struct, frozen=True):
    """One trained network.

    Attributes
    ----------
    validation_accuracy, test_accuracy : float or None
        Between 0 and 1; None for a regression.
    parameters : int
        Of the network alone.
    parameters_with_projection : int or None
        With the numbers of the projection, for a network on the embedding; None if the embedding
        is not a projection, and in files of earlier versions.
    validation_r2, test_r2, test_rmse, test_mae : float or None
        R2 and errors of a regression, in the unit of the target; None for a classifier.
    """

    input: Literal["full", "embedded"]
    hidden: tuple[int, ...]
    parameters: int
    train_seconds: Number
    validation_accuracy: Number
    test_accuracy: Number
    validation_r2: Number = None
    test_r2: Number = None
    test_rmse: Number = None
    test_mae: Number = None
    parameters_with_projection: int | None = None

    @property
    def validation(self) -> Number:
        """Validation score: accuracy or R2."""
        return self.validation_accuracy if self.validation_r2 is None else self.validation_r2

    @property
    def test(self) -> Number:
        """Test score: accuracy or R2."""
        return self.test_accuracy if self.test_r2 is None else self.test_r2


class SimilarityRecord(msgspec.Struct, frozen=True):
    """Linear CKA of the layers of one network on all features and on the embedding.

    Attributes
    ----------
    hidden : tuple of int
        Hidden layers of both networks.
    n_rows : int
        Test rows of the comparison.
    full_layers, embedded_layers : sequence of str
        Names of the layers.
    cka : sequence of sequence of float
        One row for each layer on all features, one column for each layer on the embedding; null
        for a layer whose activations are constant.
    """

    hidden: tuple[int, ...]
    n_rows: int
    full_layers: Sequence[str]
    embedded_layers: Sequence[str]
    cka: Sequence[Sequence[Number]]


class RunRecord(msgspec.Struct, frozen=True):
    """Record of a whole run: the content of ``run.json``."""

    dataset: DatasetRecord
    embedding: EmbeddingRecord
    classifiers: Sequence[ClassifierRecord] = ()
    environment: dict[str, Any] = {}
    similarity: Sequence[SimilarityRecord] = ()
    dimensions: DimensionsRecord | None = None


def classifier_record(
    trained: ClassifierReport, n_projection: int | None = None
) -> ClassifierRecord:
    """Copy the recorded fields of a training report.

    Parameters
    ----------
    n_projection : int, optional
        Numbers of the projection, which a network on the embedding needs.
    """
    stored: int | None = trained.parameters
    if trained.input == "embedded":
        stored = None if n_projection is None else trained.parameters + n_projection
    scores: dict[str, Number] = {
        "validation_accuracy": trained.validation_score,
        "test_accuracy": trained.test_score,
    }
    if trained.task == "regression":
        scores = {
            "validation_accuracy": None,
            "test_accuracy": None,
            "validation_r2": trained.validation_score,
            "test_r2": trained.test_score,
            "test_rmse": trained.test_rmse,
            "test_mae": trained.test_mae,
        }
    return ClassifierRecord(
        trained.input,
        trained.hidden,
        trained.parameters,
        trained.train_seconds,
        **scores,
        parameters_with_projection=stored,
    )
