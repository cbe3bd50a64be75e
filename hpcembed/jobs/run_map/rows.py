"""Coordinates and labels of a sample of the rows of a finished run.

The folder of a run has the projection, not the coordinates of its rows: the data are read again, as
in the run, and projected. Kernel methods keep no projection: their eigenproblem is solved again,
and its eigenvalues are compared with those of the run. Spectral coordinates of graph nodes are read
from ``nodes.csv``.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import threadpoolctl
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix
from hpcembed.jobs.export.finished_run import FinishedRun, read_tensors
from hpcembed.jobs.job import Job, place
from hpcembed.jobs.network_similarity import sampled_rows
from hpcembed.jobs.node_coordinates import NODES_FILE
from hpcembed.jobs.run import fit, read
from hpcembed.runtime.agreement import agreement, on_rank
from hpcembed.runtime.errors import ConvergenceError, InputError
from hpcembed.runtime.ranks import gather_rows

__all__ = ["MapRows", "map_rows"]

#: Bytes of the rows that are projected at a time.
_BLOCK_BYTES = 2**26
_NO_LABEL = "without label"
#: Methods without a projection whose coordinates follow from the same rows and settings.
_SOLVED_AGAIN = ("kernel_pca", "nystroem")
#: Relative difference of eigenvalues from which on the rows are others.
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class MapRows:
    """A sample of rows.

    Attributes
    ----------
    names : sequence
        Numbers of the training rows, from 1, or names of graph nodes.
    coordinates : ndarray of shape (m, k)
    classes : sequence of str
        Class of each row; empty for a regression.
    targets : ndarray of shape (m,) or None
        Targets of a regression.
    n_rows : int
        Rows from which the sample was taken.
    """

    names: Sequence[int | str]
    coordinates: NDArray[np.float64]
    classes: Sequence[str]
    targets: NDArray[np.float64] | None
    n_rows: int


def map_rows(run: FinishedRun, comm: MPI.Intracomm, most: int) -> MapRows | None:
    """Compute or read the coordinates of at most `most` training rows, evenly spaced.

    Collective.

    Returns
    -------
    MapRows or None
        None on ranks other than 0.

    Raises
    ------
    InputError
        Coordinates of the method of the run cannot be computed, or the data are not those of the
        run.
    ConvergenceError
        Kernel methods: an eigenpair is not certified.
    MemoryLimitError
        Kernel methods: the operator exceeds the memory of this job.
    """
    if run.job.embedding.method == "spectral":
        found = on_rank(comm, 0, lambda: _read_nodes(run, most))
        return found if comm.rank == 0 else None
    arrays: dict[str, NDArray[np.float64]] = {}
    method = run.job.embedding.method
    wanted = ("eigenvalues", "feature_means")
    if method not in _SOLVED_AGAIN:
        wanted = ("components", "mean")
    with agreement(comm):
        path = run.folder / "projection.safetensors"
        arrays, _ = read_tensors(path)
        missing = [name for name in wanted if name not in arrays]
        if missing:
            raise InputError(f"{path}: has no {' and no '.join(missing)}; run the job again")
    n_features = arrays[wanted[1]].size
    job = place(run.job, run.folder, None, run.folder, comm)
    with threadpoolctl.threadpool_limits(job.threads):
        dataset, train, test = read(job)
        if train.n_features != n_features:
            n_found = train.n_features
            train.destroy()
            test.destroy()
            raise InputError(
                f"{run.folder}: the data have {n_found} features, the run had {n_features}: the "
                "files have changed"
            )
        first, last = train.row_range
        chosen = sampled_rows(train.n_rows, most)
        chosen = chosen[(chosen >= first) & (chosen < last)] - first
        if method in _SOLVED_AGAIN:
            job.log(f"{method} keeps no projection: its eigenproblem is solved again")
            own = _solved_again(job, train, test, arrays["eigenvalues"])[chosen]
        else:
            own = _projected(train, chosen, arrays["components"], arrays["mean"])
        test.destroy()
        labels, n_rows = np.asarray(train.labels)[chosen], train.n_rows
        train.destroy()
    gathered = [gather_rows(comm, one) for one in (own, labels, chosen + first + 1)]
    coordinates, all_labels, numbers = gathered
    if coordinates is None or all_labels is None or numbers is None:
        return None
    if dataset.task == "regression":
        return MapRows(numbers.tolist(), coordinates, (), all_labels.astype(np.float64), n_rows)
    names = dataset.train.class_names
    classes = [names[code] if 0 <= code < len(names) else _NO_LABEL for code in all_labels]
    return MapRows(numbers.tolist(), coordinates, classes, None, n_rows)


def _projected(
    train: DataMatrix,
    chosen: NDArray[np.int64],
    components: NDArray[np.float64],
    mean: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the coordinates of some rows of this rank."""
    coordinates = np.empty((chosen.size, len(components)))
    step = max(1, _BLOCK_BYTES // (8 * max(train.n_features, 1)))
    for start in range(0, chosen.size, step):
        rows = train.take(chosen[start : start + step])
        coordinates[start : start + step] = (rows - mean) @ components.T
    return coordinates


def _solved_again(
    job: Job, train: DataMatrix, test: DataMatrix, eigenvalues: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the coordinates of all rows of this rank, from an embedding fitted as in the run.

    Collective.

    Parameters
    ----------
    eigenvalues : ndarray of shape (k,)
        Of the run.
    """
    embedding = fit(job, train, test)
    if not embedding.certified_:
        raise ConvergenceError(embedding.failure_text(), embedding.result_)
    found = embedding.spectrum_.values
    tolerance = _SAME * float(np.abs(eigenvalues).max(initial=0.0))
    if found.shape != eigenvalues.shape or np.abs(found - eigenvalues).max() > tolerance:
        raise InputError(
            f"{job.out}: the eigenvalues are not those of the run: the files have changed"
        )
    coordinates = np.empty((0, 0))
    with agreement(job.comm):
        coordinates = np.asarray(embedding.transform(train, np.float64))
    return coordinates


def _read_nodes(run: FinishedRun, most: int) -> MapRows:
    """Read the spectral coordinates of graph nodes."""
    path = run.folder / NODES_FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            heading, *lines = list(csv.reader(file))
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such file: the run wrote no coordinates of its nodes"
        ) from error
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    places = [i for i, name in enumerate(heading) if name.startswith("coordinate")]
    chosen = [lines[i] for i in sampled_rows(len(lines), most)] if lines else []
    try:
        coordinates = np.array([[float(line[i]) for i in places] for line in chosen])
    except (ValueError, IndexError) as error:
        raise InputError(f"{path}: damaged ({error}); run the job again") from error
    classes = ["node"] * len(chosen)
    if "class" in heading:
        place_of_class = heading.index("class")
        classes = [line[place_of_class] or _NO_LABEL for line in chosen]
    shaped = coordinates.reshape(len(chosen), len(places))
    return MapRows([line[0] for line in chosen], shaped, classes, None, len(lines))
