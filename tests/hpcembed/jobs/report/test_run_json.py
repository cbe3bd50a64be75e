from __future__ import annotations

import json
import math
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from hpcembed.jobs.report.run_folder import RunFolder, json_bytes
from hpcembed.jobs.report.run_json import (
    ClassifierRecord,
    DatasetRecord,
    EmbeddingRecord,
    ReferenceRecord,
    RunRecord,
    SimilarityRecord,
    StageSeconds,
    classifier_record,
)

SECONDS = StageSeconds(read=0.1, operator=0.2, solve=0.3, project=0.4, gather=0.5)
REFERENCE = ReferenceRecord("krylovschur", 1e-12, 2e-9, 90, 0.7, 20)


def embedding(reference: ReferenceRecord | None) -> EmbeddingRecord:
    return EmbeddingRecord(
        n_components=2,
        operator="covariance, assembled",
        solver="miramns(default)",
        eigenvalues=np.array([2.0, 1.0]),
        explained_variance_ratio=(0.5, 0.25),
        residual_norms=np.array([1e-12, 2e-12]),
        orthogonality=np.float64(1e-15),
        n_matvec=np.int64(44),
        n_restarts=3,
        converged_reason="CONVERGED_TOL",
        seconds=SECONDS,
        reference=reference,
    )


CLASSIFIER = ClassifierRecord(
    "full", (64, 64), 8970, 1.5, 0.98, 0.97, parameters_with_projection=8970
)

SIMILARITY = SimilarityRecord((64,), 360, ["hidden 1", "output"], ["hidden 1"], [[0.9], [math.nan]])


def record(reference: ReferenceRecord | None = REFERENCE) -> RunRecord:
    return RunRecord(
        dataset=DatasetRecord("digits", 1437, 360, 64, 10),
        embedding=embedding(reference),
        classifiers=[CLASSIFIER],
        environment={"python": "3.11", "ranks": 3},
        similarity=[SIMILARITY],
    )


EXPECTED = {
    "dataset": {
        "name": "digits",
        "n_train": 1437,
        "n_test": 360,
        "n_features": 64,
        "n_classes": 10,
        "task": "classification",
        "columns": None,
    },
    "embedding": {
        "n_components": 2,
        "operator": "covariance, assembled",
        "solver": "miramns(default)",
        "eigenvalues": [2.0, 1.0],
        "explained_variance_ratio": [0.5, 0.25],
        "residual_norms": [1e-12, 2e-12],
        "orthogonality": 1e-15,
        "n_matvec": 44,
        "n_restarts": 3,
        "converged_reason": "CONVERGED_TOL",
        "seconds": {"read": 0.1, "operator": 0.2, "solve": 0.3, "project": 0.4, "gather": 0.5},
        "reference": {
            "solver": "krylovschur",
            "max_relative_eigenvalue_error": 1e-12,
            "max_subspace_sin_angle": 2e-9,
            "n_matvec": 90,
            "seconds": 0.7,
            "n_compared": 20,
        },
        "method": "pca",
        "components": "principal components",
        "eigenvalue_meaning": "variance",
        "is_linear": True,
        "certificate": "double",
        "failure_probability": 0.0,
    },
    "classifiers": [
        {
            "input": "full",
            "hidden": [64, 64],
            "parameters": 8970,
            "train_seconds": 1.5,
            "validation_accuracy": 0.98,
            "test_accuracy": 0.97,
            "validation_r2": None,
            "test_r2": None,
            "test_rmse": None,
            "test_mae": None,
            "parameters_with_projection": 8970,
        }
    ],
    "environment": {"python": "3.11", "ranks": 3},
    "similarity": [
        {
            "hidden": [64],
            "n_rows": 360,
            "full_layers": ["hidden 1", "output"],
            "embedded_layers": ["hidden 1"],
            "cka": [[0.9], [None]],
        }
    ],
    "dimensions": None,
}


def order(content: object) -> object:
    """The keys of all levels, in their order."""
    if isinstance(content, dict):
        return [(key, order(value)) for key, value in content.items()]
    return [order(item) for item in content] if isinstance(content, list) else None


def test_the_shape_is_exactly_the_promised_one_in_its_order():
    content = json.loads(json_bytes(record()))
    assert content == EXPECTED
    assert order(content) == order(EXPECTED)


def test_plain_python_values_only():
    embedded = json.loads(json_bytes(record()))["embedding"]
    assert type(embedded["orthogonality"]) is float
    assert type(embedded["n_matvec"]) is int
    assert all(type(value) is float for value in embedded["eigenvalues"])


def test_without_a_second_solver_the_reference_is_null(tmp_path):
    path = RunFolder.create(tmp_path / "run").write_json("run.json", record(None))
    assert '"reference": null' in path.read_text()
    assert json.loads(path.read_text())["embedding"]["reference"] is None


def test_written_with_nan_it_is_still_json(tmp_path):
    nan = ReferenceRecord("krylovschur", math.nan, math.inf, 90, 0.7, 0)
    path = RunFolder.create(tmp_path / "run").write_json("run.json", record(nan))
    reference = json.loads(path.read_text())["embedding"]["reference"]
    assert reference["max_relative_eigenvalue_error"] is None
    assert reference["max_subspace_sin_angle"] is None
    assert reference["n_matvec"] == 90


def test_a_classifier_report_gives_its_record():
    report = SimpleNamespace(
        input="embedded",
        hidden=(32,),
        parameters=10,
        train_seconds=2.0,
        task="classification",
        validation_score=0.5,
        test_score=0.25,
        best_epoch=3,
    )
    plain = ClassifierRecord("embedded", (32,), 10, 2.0, 0.5, 0.25)
    assert classifier_record(report) == plain
    stored = msgspec.structs.replace(plain, parameters_with_projection=17)
    assert classifier_record(report, 7) == stored
    report.input = "full"
    full = msgspec.structs.replace(plain, input="full", parameters_with_projection=10)
    assert classifier_record(report, 7) == full


def test_a_record_is_read_back_with_its_types():
    read = msgspec.json.decode(json_bytes(record()), type=RunRecord)
    assert read.embedding.reference == REFERENCE
    assert read.embedding.seconds == SECONDS
    assert read.embedding.eigenvalues == [2.0, 1.0]
    assert read.classifiers == [CLASSIFIER]
    assert read.environment == {"python": "3.11", "ranks": 3}
    with pytest.raises(msgspec.ValidationError, match="missing required field `dataset`"):
        msgspec.json.decode(b"{}", type=RunRecord)
