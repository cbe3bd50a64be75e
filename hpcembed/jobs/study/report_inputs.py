"""Parts of the data, the embedding and the machine that the report of a study has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.job import Job
from hpcembed.jobs.results import embedding_record, words_of
from hpcembed.jobs.study.embedded_data import EmbeddedData
from hpcembed.jobs.study.figures import DrawnData
from hpcembed.runtime.ranks import gather_rows

__all__ = ["drawn_data", "study_facts"]

#: Test rows whose first three components are drawn.
SCATTERED = 2000


def drawn_data(data: EmbeddedData, coordinates: NDArray[Any], shape: tuple[int, ...]) -> DrawnData:
    """Gather the parts of the data and of the embedding that the report draws.

    Collective.

    Parameters
    ----------
    coordinates : ndarray of shape (n_local, k)
        Projected test rows of this rank.
    shape : tuple of int
        Shape of rows that are images; empty for other rows.

    Returns
    -------
    DrawnData
        Complete on rank 0 only.
    """
    test, linear = data.test, data.embedding.linear_map_
    share = -(-SCATTERED // test.comm.size)
    rows = np.ascontiguousarray(coordinates[:share, :3], dtype=np.float64)
    gathered = gather_rows(test.comm, rows)
    labels = gather_rows(test.comm, np.asarray(test.labels[:share]))
    names = test.class_names
    classes = [] if labels is None or not names else [names[int(label)] for label in labels]
    return DrawnData(
        spectrum=data.embedding.spectrum_,
        components=np.empty((0, 0)) if linear is None else linear.components,
        class_names=tuple(test.class_names),
        image_shape=shape,
        scatter=np.empty((0, 0)) if gathered is None else gathered,
        scatter_classes=classes,
        scatter_targets=labels if not names and labels is not None else np.empty(0),
        words=words_of(data.dataset, data.embedding),
    )


def study_facts(job: Job, data: EmbeddedData, environment: Mapping[str, object]) -> dict[str, Any]:
    """Return the entries of ``study.json`` that the trials do not determine."""
    return {
        "dataset": {
            "name": data.dataset.name,
            "n_train": data.train.n_rows,
            "n_test": data.test.n_rows,
            "n_features": data.n_features,
            "class_names": data.train.class_names,
            "task": data.dataset.task,
            **{key: data.fingerprint[key] for key in ("labels", "rows")},
        },
        "embedding": embedding_record(job, data.embedding),
        "seconds": job.seconds,
        "environment": environment,
    }
