"""Fits of rival projections, and the seconds that they take."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.embedding import (
    CanonicalCorrelation,
    CosineTransform,
    FastJohnsonLindenstrauss,
    FeatureTruncation,
    LinearDiscriminantAnalysis,
    LocalityPreservingProjection,
)
from hpcembed.jobs.job import Job
from hpcembed.jobs.report.run_folder import json_bytes
from hpcembed.jobs.study.embedded_data import EmbeddedData
from hpcembed.jobs.study.rivals.catalogue import RIVALS
from hpcembed.networks.training.autoencoder import Autoencoder
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.output.files import output_error

__all__ = [
    "FitSeconds",
    "autoencoder_rows",
    "linear_rival",
    "load_fit_seconds",
    "store_fit_seconds",
]

#: Seconds of one fit of each rival, by the number of coordinates that it found.
FitSeconds = dict[str, dict[int, float]]

#: File of the seconds in the folder of a study.
_FILE = "rivals.json"


def linear_rival(
    job: Job, data: EmbeddedData, kind: str, seed: int, k: int, image_shape: Sequence[int]
) -> NDArray[np.float64]:
    """Return the matrix of a linear rival, shape (d, k), on every rank.

    Collective.

    Raises
    ------
    HpcembedError
        The projection does not exist for these data, is not certified, or exceeds the memory.
    """
    train = data.train
    memory = job.remaining(train.stored_bytes + data.test.stored_bytes)
    settings: dict[str, Any] = {"memory_limit": max(memory, 1), **RIVALS[kind].settings}
    make: dict[str, Callable[[], Any]] = {
        "lda": lambda: LinearDiscriminantAnalysis(k, **settings),
        "cca": lambda: CanonicalCorrelation(k, **settings),
        "lpp": lambda: LocalityPreservingProjection(k, **settings),
        "fast": lambda: FastJohnsonLindenstrauss(k, random_state=seed, **settings),
        "dct": lambda: CosineTransform(k, image_shape=tuple(image_shape) or None),
        "truncation": lambda: FeatureTruncation(k),
        "variance": lambda: FeatureTruncation(k, order="variance"),
    }
    fitted = make[kind]().fit(train)
    return np.ascontiguousarray(fitted.components_.T)


def autoencoder_rows(
    job: Job, data: EmbeddedData, seed: int, k: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Train an autoencoder, and return the coordinates of this rank's training and test rows.

    Collective.

    Raises
    ------
    HpcembedError
        The rows do not fit the memory of rank 0, or the training failed.
    """
    train, test = data.train, data.test
    memory = job.remaining(train.stored_bytes + test.stored_bytes)
    model = Autoencoder(
        k, **RIVALS["autoencoder"].settings, random_state=seed, memory_limit=max(memory, 1),
        n_threads=job.threads, device=job.config.classifier.device,
    ).fit(train)  # fmt: skip
    local = list[NDArray[np.float32]]()
    with agreement(job.comm):
        local = [model.transform(part, np.float32) for part in (train, test)]
    return local[0], local[1]


def store_fit_seconds(job: Job, data: EmbeddedData, seconds: Mapping[str, Any]) -> None:
    """Write the seconds of the fits into the folder of a study, with those of the same data there.

    Collective.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    known = load_fit_seconds(job.comm, job.out, data)
    with agreement(job.comm):
        if job.comm.rank == 0 and seconds:
            for name, of_sizes in seconds.items():
                known[name] = known.get(name, {}) | dict(of_sizes)
            path = job.out / _FILE
            content = {"rows": data.fingerprint["rows"], "seconds": known}
            try:
                path.write_bytes(json_bytes(content))
            except OSError as error:
                raise output_error(path, error) from error


def load_fit_seconds(comm: MPI.Intracomm, folder: Path, data: EmbeddedData) -> FitSeconds:
    """Return the seconds of earlier fits on the same data; empty where there are none.

    Collective. A damaged file is ignored, because its content is shown only.
    """
    found: FitSeconds = {}
    if comm.rank == 0:
        try:
            content = json.loads((folder / _FILE).read_bytes())
            if content["rows"] == list(data.fingerprint["rows"]):
                found = {
                    name: {int(k): float(value) for k, value in of_sizes.items()}
                    for name, of_sizes in content["seconds"].items()
                }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            found = {}
    return comm.bcast(found)
