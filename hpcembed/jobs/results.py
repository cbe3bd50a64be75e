"""The results of a run: run.json, tables, safetensors, figures, and the text for the terminal."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from numpy.typing import NDArray

from hpcembed.data.columns.choices import choice_records
from hpcembed.data.columns.serialise import COLUMNS_FILE, encoding_to_json
from hpcembed.data.dataset import Dataset
from hpcembed.data.text.serialise import VECTORISER_FILE, vectoriser_to_json
from hpcembed.embedding import Embedding
from hpcembed.jobs.job import Job
from hpcembed.jobs.report.dimensions import DimensionsRecord, dimensions_line
from hpcembed.jobs.report.layer_similarity import similarity_line
from hpcembed.jobs.report.nearest_words import Neighbours, nearest_words, word_columns
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.report.run_headline import run_headline
from hpcembed.jobs.report.run_json import (
    DatasetRecord,
    EmbeddingRecord,
    ReferenceRecord,
    RunRecord,
    SimilarityRecord,
    StageSeconds,
    classifier_record,
)
from hpcembed.jobs.report.scores import worse_than_mean_warning
from hpcembed.jobs.report.tables import network_table
from hpcembed.jobs.report.wording import (
    certification_line,
    majority_warning,
    network_name,
    seconds_line,
)
from hpcembed.runtime.errors import HpcembedError
from hpcembed.runtime.wording import counted

if TYPE_CHECKING:
    from hpcembed.networks.training.report import ClassifierReport, TrainedClassifier

__all__ = [
    "embedding_record",
    "run_record",
    "words_of",
    "write_embedding",
    "write_networks",
    "write_projection",
    "write_results",
]

_log = logging.getLogger(__name__)


def write_embedding(folder: RunFolder, dataset: Dataset, embedding: Embedding) -> None:
    """Write the projection, the eigenpairs and their convergence, on rank 0."""
    write_projection(folder, dataset, embedding)
    _write_eigenvalues(folder, embedding)


def write_results(
    folder: RunFolder,
    job: Job,
    dataset: Dataset,
    embedding: Embedding,
    trained: Sequence[TrainedClassifier],
    environment: Mapping[str, Any],
    majority: tuple[float, float] | None = None,
    similarity: Sequence[SimilarityRecord] = (),
    dimensions: DimensionsRecord | None = None,
) -> str:
    """Write all results except those of :func:`write_embedding`, on rank 0.

    Parameters
    ----------
    majority : tuple of float, optional
        Shares of the largest class among training and test rows; networks below are named.
    similarity : sequence of SimilarityRecord
        Of networks on all features and on the embedding.
    dimensions : DimensionsRecord, optional
        Diagnostics of the dimension, for ``run.json`` and one line of the text.

    Returns
    -------
    str
        Table of the networks, seconds and certification, for the terminal.
    """
    record = run_record(job, dataset, embedding, trained, environment, similarity=similarity)
    record = msgspec.structs.replace(record, dimensions=dimensions)
    words = words_of(dataset, embedding)
    if words:
        folder.write_csv("nearest_words.csv", word_columns(words))
    write_networks(folder, dataset, trained)
    _write_model(folder, trained, record)
    if job.config.output.figures:
        # rank 0 alone imports matplotlib, at the end
        from hpcembed.jobs.run_figures import draw_run

        class_names = dataset.train.class_names
        draw_run(folder, job.config.solver.tol, embedding, trained, class_names, similarity)
    folder.write_json("run.json", record)  # last: a folder with this file is complete
    lines = [similarity_line(similarity)] if similarity else []
    if dimensions is not None and (line := dimensions_line(dimensions)):
        lines.append(line)
    return _text(embedding, job.seconds, trained, majority, dataset.test.n_rows, lines)


def run_record(
    job: Job,
    dataset: Dataset,
    embedding: Embedding,
    trained: Sequence[TrainedClassifier],
    environment: Mapping[str, Any],
    k: int | None = None,
    similarity: Sequence[SimilarityRecord] = (),
) -> RunRecord:
    """Return the record of a run for ``run.json``.

    Parameters
    ----------
    k : int, optional
        Number of leading components in use; default: all.
    """
    return RunRecord(
        dataset=DatasetRecord(
            dataset.name,
            dataset.train.n_rows,
            dataset.test.n_rows,
            embedding.n_features_in_,
            len(dataset.train.class_names),
            dataset.task,
            None if dataset.encoding is None else choice_records(dataset.encoding),
        ),
        embedding=embedding_record(job, embedding, k),
        classifiers=[
            classifier_record(one.report, _projection_size(embedding, k)) for one in trained
        ],
        environment=dict(environment),
        similarity=similarity,
    )


def _projection_size(embedding: Embedding, k: int | None) -> int | None:
    """Count the numbers of the projection; None if there is none."""
    used = len(embedding.spectrum_.values) if k is None else k
    return None if embedding.linear_map_ is None else used * embedding.n_features_in_


def words_of(dataset: Dataset, embedding: Embedding) -> list[Neighbours]:
    """Return the nearest words of the terms of texts; empty for other data."""
    linear = embedding.linear_map_
    if dataset.vectoriser is None or linear is None:
        return []
    return nearest_words(
        linear.components,
        embedding.spectrum_.values,
        dataset.train.feature_names,
        embedding.feature_variances_,
    )


def embedding_record(job: Job, embedding: Embedding, k: int | None = None) -> EmbeddingRecord:
    """Return the record of an embedding for ``run.json``; see :func:`run_record`."""
    result, spectrum, reference = embedding.result_, embedding.spectrum_, None
    if embedding.reference_ is not None and embedding.comparison_ is not None:
        reference = ReferenceRecord(
            embedding.reference_.solver,
            embedding.comparison_.max_relative_error,
            embedding.comparison_.sin_angle,
            embedding.reference_.n_matvec,
            embedding.reference_.seconds,
            embedding.comparison_.n_pairs,
        )
    share = spectrum.explained_variance_ratio
    return EmbeddingRecord(
        n_components=embedding.n_requested_ if k is None else k,
        operator=embedding.operator_,
        solver=result.solver,
        eigenvalues=spectrum.values[:k].tolist(),
        explained_variance_ratio=None if share is None else share[:k].tolist(),
        residual_norms=result.relative_residuals[:k].tolist(),
        orthogonality=result.orthogonality,
        n_matvec=result.n_matvec,
        n_restarts=result.n_restarts,
        converged_reason=result.reason.name,
        seconds=StageSeconds(
            **{name: job.seconds.get(name, math.nan) for name in StageSeconds.__struct_fields__}
        ),
        reference=reference,
        method=job.config.embedding.method,
        components=embedding.components_name,
        eigenvalue_meaning=spectrum.meaning,
        is_linear=embedding.linear_map_ is not None,
        certificate=embedding.certificate_,
        failure_probability=result.failure_probability,
    )


def _write_eigenvalues(folder: RunFolder, embedding: Embedding) -> None:
    result, spectrum = embedding.result_, embedding.spectrum_
    share: dict[str, Any] = {}
    if spectrum.share is not None:
        is_variance = spectrum.explained_variance_ratio is not None
        share["explained_variance_ratio" if is_variance else "share"] = spectrum.share
    folder.write_csv(
        "eigenvalues.csv",
        {
            "component": range(1, len(spectrum.values) + 1),
            "eigenvalue": spectrum.values,
            **share,
            "residual_norm": result.residual_norms,
            "residual_bound": result.residual_tolerances,
            "eigenvalue_error_bound": result.error_bounds,
        },
    )
    folder.write_csv(
        "convergence.csv",
        {
            name: [getattr(record, name) for record in result.history]
            for name in ("restart", "size", "n_matvec", "measure", "n_converged", "chosen")
        },
    )


def write_projection(
    folder: RunFolder, dataset: Dataset, embedding: Embedding, k: int | None = None
) -> None:
    """Write the arrays that project a row x to ((x - shift) * factor - mean) @ components.T .

    An embedding that is not linear has neither components nor mean. For texts the vectoriser, which
    makes the rows, is written as well; for raw columns their encoding.

    Parameters
    ----------
    k : int, optional
        Number of leading components that are kept; default: all.
    """
    arrays: dict[str, NDArray[Any]] = {}
    if embedding.linear_map_ is not None:
        arrays["components"] = embedding.linear_map_.components[:k]
        arrays["mean"] = embedding.linear_map_.mean
    arrays |= {
        "eigenvalues": embedding.spectrum_.values[:k],
        "feature_means": embedding.feature_means_,
        "feature_variances": embedding.feature_variances_,
        "scaling_shift": dataset.scaling.shift,
        "scaling_factor": dataset.scaling.factor,
    }
    metadata = {
        "dataset": dataset.name,
        "scaling": dataset.scaling.kind,
        "feature_names": json.dumps(dataset.train.feature_names),
        "class_names": json.dumps(dataset.train.class_names),
        "reading": json.dumps(dataset.train.reading),
    }
    folder.save_arrays("projection.safetensors", arrays, metadata)
    if dataset.vectoriser is not None:
        folder.write_text(VECTORISER_FILE, vectoriser_to_json(dataset.vectoriser))
    if dataset.encoding is not None:
        folder.write_text(COLUMNS_FILE, encoding_to_json(dataset.encoding))


def write_networks(
    folder: RunFolder, dataset: Dataset, trained: Sequence[TrainedClassifier]
) -> None:
    """Write each network to ``classifier-INPUT-LAYERS.safetensors``, or ``regressor-...``."""
    if not trained:
        return
    from hpcembed.networks.training.serialise import save_classifier

    for one in trained:
        kind = "regressor" if one.report.task == "regression" else "classifier"
        name = f"{kind}-{one.report.input}-{network_name(one.report.hidden)}.safetensors"
        save_classifier(folder.path / name, one, class_names=dataset.train.class_names)


def _write_model(
    folder: RunFolder, trained: Sequence[TrainedClassifier], record: RunRecord
) -> None:
    """Write a network on the embedding as a deployable model; `hpcembed export` writes others."""
    if not any(one.report.input == "embedded" for one in trained):
        return
    from hpcembed.jobs.export.run_export import export_run

    try:
        export_run(folder.path, folder.path / "model", record=record)
    except HpcembedError as error:  # the results of the run itself are written
        _log.warning("no model/: %s", error)


def _text(
    embedding: Embedding,
    seconds: Mapping[str, float],
    trained: Sequence[TrainedClassifier],
    majority: tuple[float, float] | None,
    n_test: int,
    lines: Sequence[str],
) -> str:
    n_inputs = {"full": embedding.n_features_in_, "embedded": len(embedding.spectrum_.values)}
    parts = []
    if trained:
        reports = [one.report for one in trained]
        is_linear = embedding.linear_map_ is not None
        parts.append(network_table(reports, n_inputs, is_linear=is_linear).terminal())
        parts += run_headline(
            reports, n_inputs["embedded"], n_inputs["full"], n_test, is_linear=is_linear
        )
        parts += _warnings(reports, n_inputs, majority)
    parts += [*lines, seconds_line(seconds)]
    result, reference, comparison = embedding.result_, embedding.reference_, embedding.comparison_
    parts.append(
        certification_line(
            embedding.spectrum_.values,
            result.residual_norms,
            result.residual_tolerances,
            result.orthogonality,
            n_requested=embedding.n_requested_,
            reference_solver="" if reference is None else reference.solver,
            reference_sin_angle=None if comparison is None else comparison.sin_angle,
            n_compared=None if comparison is None else comparison.n_pairs,
            exceeded=() if comparison is None else comparison.exceeded,
            failure_probability=result.failure_probability,
        )
    )
    return "\n".join(parts)


def _warnings(
    reports: Sequence[ClassifierReport],
    n_inputs: Mapping[str, int],
    majority: tuple[float, float] | None,
) -> list[str]:
    """Return warnings about networks that are not better than a constant prediction."""
    names = [
        f"{network_name(one.hidden)} on {counted(n_inputs[one.input], 'input')} ({one.input})"
        for one in reports
    ]
    pairs = list(zip(names, reports, strict=True))
    found = [
        worse_than_mean_warning(
            (name, one.test_score) for name, one in pairs if one.task == "regression"
        )
    ]
    if majority is not None:
        found += [
            majority_warning(
                name,
                one.validation_accuracy,
                one.test_accuracy,
                majority,
                is_baseline=one.input == "full",
            )
            for name, one in pairs
        ]
    return [text for text in found if text]
