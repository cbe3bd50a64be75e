"""Coordinates and labels of a sample of the rows of a finished run.

The folder of a run has the projection, not the coordinates of its rows: the data are read again, as
in the run, and projected. Spectral coordinates of graph nodes are read from ``nodes.csv``.
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
from hpcembed.jobs.job import place
from hpcembed.jobs.network_similarity import sampled_rows
from hpcembed.jobs.node_coordinates import NODES_FILE
from hpcembed.jobs.run import read
from hpcembed.runtime.agreement import agreement, on_rank
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import gather_rows

__all__ = ["MapRows", "map_rows"]

#: Bytes of the rows that are projected at a time.
_BLOCK_BYTES = 2**26
_NO_LABEL = "without label"


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
        The embedding of the run keeps no projection, or the data are not those of the run.
    """
    if run.job.embedding.method == "spectral":
        found = on_rank(comm, 0, lambda: _read_nodes(run, most))
        return found if comm.rank == 0 else None
    components, mean = np.empty((0, 0)), np.empty(0)
    with agreement(comm):
        arrays, _ = read_tensors(run.folder / "projection.safetensors")
        if "components" not in arrays or "mean" not in arrays:
            raise InputError(
                f"{run.folder}: embedding.method = {run.job.embedding.method} keeps no projection, "
                "so that coordinates of rows cannot be computed again: a map needs a run with a "
                "linear embedding, such as pca, or with spectral"
            )
        components, mean = arrays["components"], arrays["mean"]
    job = place(run.job, run.folder, None, run.folder, comm)
    with threadpoolctl.threadpool_limits(job.threads):
        dataset, train, test = read(job)
        test.destroy()
        if train.n_features != components.shape[1]:
            train.destroy()
            raise InputError(
                f"{run.folder}: the data have {train.n_features} features, the run had "
                f"{components.shape[1]}: the files have changed"
            )
        first, last = train.row_range
        chosen = sampled_rows(train.n_rows, most)
        chosen = chosen[(chosen >= first) & (chosen < last)] - first
        own = _projected(train, chosen, components, mean)
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
