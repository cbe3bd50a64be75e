"""What a run leaves: run.json, tables, safetensors and figures, and the text for the terminal."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcembed.config import JobConfig
from hpcembed.data import Dataset
from hpcembed.embedding import PCA
from hpcembed.errors import HpcembedError
from hpcembed.report import (
    DatasetRecord,
    EmbeddingRecord,
    ReferenceRecord,
    RunFolder,
    RunRecord,
    StageSeconds,
    certification_line,
    classifier_record,
    draw_convergence,
    draw_spectrum,
    draw_training,
    result_row,
    result_table,
    seconds_line,
)

if TYPE_CHECKING:
    from hpcembed.classifier import TrainedClassifier

__all__ = ["write_embedding", "write_results"]

_log = logging.getLogger(__name__)


def write_embedding(
    folder: RunFolder | None, job: str, dataset: Dataset, pca: PCA, name: str = "job.toml"
) -> None:
    """Write the job, the eigenpairs and how they were found; rank 0 only.

    Not collective.

    Parameters
    ----------
    job : str
        The resolved job as TOML.
    name : str
        Its file.
    """
    assert folder is not None  # rank 0 made it
    _write_projection(folder, dataset, pca)
    _write_eigenvalues(folder, pca)
    folder.write_text(name, job)


def write_results(
    folder: RunFolder | None,
    config: JobConfig,
    dataset: Dataset,
    pca: PCA,
    seconds: Mapping[str, float],
    trained: Sequence[TrainedClassifier],
    environment: Mapping[str, Any],
) -> str:
    """Write what :func:`write_embedding` did not; rank 0 only.

    Not collective.

    Returns
    -------
    str
        Table of the networks, seconds, certification: what the terminal shows.
    """
    assert folder is not None  # rank 0 made it
    record = RunRecord(
        dataset=DatasetRecord(
            dataset.name,
            dataset.train.n_rows,
            dataset.test.n_rows,
            pca.n_features_in_,
            len(dataset.train.class_names),
        ),
        embedding=_embedding_record(pca, seconds),
        classifiers=[classifier_record(one.report) for one in trained],
        environment=environment,
    )
    folder.write_json("run.json", record.to_dict())
    _write_networks(folder, dataset, trained)
    _write_model(folder, trained)
    if config.output.figures:
        _draw(folder, config, pca, trained)
    return _text(pca, seconds, trained)


def _embedding_record(pca: PCA, seconds: Mapping[str, float]) -> EmbeddingRecord:
    result, reference = pca.result_, None
    if pca.reference_ is not None and pca.comparison_ is not None:
        reference = ReferenceRecord(
            pca.reference_.solver,
            pca.comparison_.max_relative_error,
            pca.comparison_.sin_angle,
            pca.reference_.n_matvec,
            pca.reference_.seconds,
            pca.comparison_.n_pairs,
        )
    return EmbeddingRecord(
        n_components=pca.n_requested_,
        operator=f"covariance, {pca.plan_.kind.replace('_', '-')}",
        solver=result.solver,
        eigenvalues=pca.eigenvalues_,
        explained_variance_ratio=pca.explained_variance_ratio_,
        residual_norms=result.relative_residuals,
        orthogonality=result.orthogonality,
        n_matvec=result.n_matvec,
        n_restarts=result.n_restarts,
        converged_reason=result.reason.name,
        seconds=StageSeconds(**{name: seconds[name] for name in _STAGES}),
        reference=reference,
    )


_STAGES = ("read", "operator", "solve", "project", "gather")


def _write_eigenvalues(folder: RunFolder, pca: PCA) -> None:
    result = pca.result_
    folder.write_csv(
        "eigenvalues.csv",
        {
            "component": range(1, len(pca.eigenvalues_) + 1),
            "eigenvalue": pca.eigenvalues_,
            "explained_variance_ratio": pca.explained_variance_ratio_,
            "residual_norm": result.residual_norms,
            "residual_bound": result.bounds,
            "eigenvalue_error_bound": result.error_bounds,
        },
    )
    folder.write_csv(
        "convergence.csv",
        {
            name: [getattr(check, name) for check in result.history]
            for name in ("restart", "size", "n_matvec", "measure", "n_converged", "chosen")
        },
    )


def _write_projection(folder: RunFolder, dataset: Dataset, pca: PCA) -> None:
    """Everything that turns a raw row x into ((x - shift) * factor - mean) @ components.T ."""
    folder.save_arrays(
        "projection.safetensors",
        {
            "components": pca.components_,
            "mean": pca.mean_,
            "eigenvalues": pca.eigenvalues_,
            "feature_variances": pca.feature_variances_,
            "scaling_shift": dataset.scaling.shift,
            "scaling_factor": dataset.scaling.factor,
        },
        {
            "dataset": dataset.name,
            "scaling": dataset.scaling.kind,
            "feature_names": json.dumps(dataset.train.feature_names),
            "class_names": json.dumps(dataset.train.class_names),
        },
    )


def _write_networks(
    folder: RunFolder, dataset: Dataset, trained: Sequence[TrainedClassifier]
) -> None:
    if not trained:
        return
    from hpcembed.classifier import save_classifier

    for one in trained:
        widths = "-".join(map(str, one.report.hidden))
        with folder.new_file(f"classifier-{one.report.input}-{widths}.safetensors") as path:
            save_classifier(path, one, class_names=dataset.train.class_names)


def _write_model(folder: RunFolder, trained: Sequence[TrainedClassifier]) -> None:
    """The network on the embedding as a model to take away; `hpcembed export` makes the others."""
    if not any(one.report.input == "embedded" for one in trained):
        return
    from hpcembed.export.run_source import export_run

    try:
        export_run(folder.path, folder.path / "model")
    except HpcembedError as error:  # all that it would be made of is written
        _log.warning("no model/: %s", error)


def _draw(
    folder: RunFolder, config: JobConfig, pca: PCA, trained: Sequence[TrainedClassifier]
) -> None:
    with folder.new_file("figures/spectrum.png") as path:
        draw_spectrum(path, pca.eigenvalues_, pca.explained_variance_ratio_)
    if pca.result_.history:
        with folder.new_file("figures/convergence.png") as path:
            draw_convergence(path, pca.result_.history, config.solver.tol)
    if trained:
        curves = {
            f"{one.report.input} {'-'.join(map(str, one.report.hidden))}": one.report.history
            for one in trained
        }
        with folder.new_file("figures/training.png") as path:
            draw_training(path, curves)


def _text(pca: PCA, seconds: Mapping[str, float], trained: Sequence[TrainedClassifier]) -> str:
    n_inputs = {"full": pca.n_features_in_, "embedded": len(pca.eigenvalues_)}
    parts = []
    if trained:
        rows = [result_row(one.report, n_inputs[one.report.input]) for one in trained]
        parts.append(result_table(rows))
    parts.append(seconds_line(seconds))
    result, reference, comparison = pca.result_, pca.reference_, pca.comparison_
    parts.append(
        certification_line(
            pca.eigenvalues_,
            result.residual_norms,
            result.bounds,
            result.orthogonality,
            n_requested=pca.n_requested_,
            reference_solver="" if reference is None else reference.solver,
            reference_sin_angle=None if comparison is None else comparison.sin_angle,
            n_compared=None if comparison is None else comparison.n_pairs,
            exceeded=() if comparison is None else comparison.exceeded,
        )
    )
    return "\n".join(parts)
