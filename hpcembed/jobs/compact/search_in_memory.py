"""The search of ``hpcembed compress`` on data in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.table import Table
from hpcembed.data.targets import check_classes
from hpcembed.jobs.compact.requests import configured, tables_of
from hpcembed.jobs.compact.results import CompressReport, read_report
from hpcembed.jobs.compact.temporary_folder import TemporaryFolder
from hpcembed.jobs.compress.command import CompressRequest, SearchOutcome, search_job
from hpcembed.jobs.compress.request import check_networks
from hpcembed.jobs.configuration import JobConfig, check_job
from hpcembed.jobs.job import Job, place
from hpcembed.jobs.network_sizes import NETWORK_SIZES
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError

__all__ = ["Searched", "search_in_memory"]


@dataclass(frozen=True, slots=True)
class Searched:
    """Result of a search, the same on all ranks.

    Attributes
    ----------
    task : {"classification", "regression"}
    files : dict of str to bytes
        The files of the deployable model.
    report : CompressReport
    classes : ndarray
        Original class labels in the order of the model's classes; empty for regression.
    n_columns : int
        Columns of the rows before they are encoded.
    column_names : tuple of str
    """

    task: str
    files: dict[str, bytes]
    report: CompressReport
    classes: NDArray[Any]
    n_columns: int
    column_names: tuple[str, ...]


def search_in_memory(
    X: Any,
    y: Any,
    test: tuple[Any, Any] | None,
    comm: MPI.Intracomm,
    task: str,
    parameters: Mapping[str, Any],
) -> Searched:
    """Search for the smallest network and number of components.

    Collective.

    Parameters
    ----------
    task : {"auto", "classification", "regression"}
    parameters : mapping
        Those of :class:`~hpcembed.jobs.compact.estimators.CompactClassifier`.

    Raises
    ------
    HpcembedError
        On all ranks, one line.
    """
    request, config = CompressRequest(Path("data"), 1.0), JobConfig()
    with agreement(comm):
        request = CompressRequest(
            Path("data"),
            max_loss=parameters["max_loss"],
            seeds=parameters["seeds"],
            max_seeds=parameters["max_seeds"] or 0,
            max_components=parameters["max_components"] or 0,
            confidence=parameters["confidence"],
            keeps_model_of_loss=True,
        )
        request.check()
        config = _config(task, parameters)
    tables = tables_of(X, y, test, comm)
    if task == "classification":
        remedy = "use CompactRegressor, or give the names of the classes as text"
        check_classes(tables[0].labels, remedy, comm)
    with TemporaryFolder(comm) as folder:
        job = place(config, Path(), None, folder.path / "search", comm)
        job = dataclasses.replace(job, tables=tables)
        outcome = search_job(request, job, request.max_components)
        return _result(job, tables[0], y, outcome)


def _config(task: str, parameters: Mapping[str, Any]) -> JobConfig:
    seed, networks = parameters["random_state"], parameters["networks"]
    config = configured(
        JobConfig,
        {
            "data": {
                "name": "data",
                "scaling": parameters["scaling"],
                "test_fraction": float(parameters["test_fraction"]),
                "split_seed": seed,
                "task": task,
            },
            "solver": {"seed": seed},
            "classifier": {
                "hidden": list(NETWORK_SIZES) if networks is None else list(networks),
                "seed": seed,
            },
        },
        parameters["settings"],
    )
    check_job(config, "settings")
    check_networks(config, "settings")
    return config


def _result(job: Job, table: Table, y: Any, outcome: SearchOutcome) -> Searched:
    """Read the files of the search on rank 0, for all ranks. Collective."""
    from hpcembed.jobs.compact.estimators import original_classes

    comm = job.comm
    files: dict[str, bytes] = {}
    report = CompressReport("", {})
    with agreement(comm):
        if comm.rank == 0:
            report = read_report(job.out)
            model = job.out / "model"
            if not model.is_dir():
                method = job.config.embedding.method
                raise ConfigError(f"embedding.method = {method} is not a projection: no model")
            files = {path.name: path.read_bytes() for path in sorted(model.iterdir())}
    files, text, content = comm.bcast((files, report.text, report.content))
    classes = np.empty(0)
    if outcome.task == "classification":
        classes = original_classes(y, outcome.class_names, comm)
    return Searched(
        outcome.task,
        files,
        CompressReport(text, content),
        classes,
        int(table.rows.shape[1]) if len(table.rows.shape) == 2 else 1,
        table.feature_names,
    )
