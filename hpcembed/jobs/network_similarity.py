"""Layers of each network on all features compared with those of the same network on the embedding.

The comparison takes a sample of the test rows, evenly spaced. Each rank computes the activations of
the rows that it holds; rank 0 compares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.job import Job
from hpcembed.jobs.network_inputs import NetworkInputs
from hpcembed.jobs.network_sizes import layers_of
from hpcembed.jobs.report.run_json import SimilarityRecord
from hpcembed.jobs.report.wording import network_name
from hpcembed.runtime.agreement import idle_while_root
from hpcembed.runtime.ranks import gather_rows, place_rows

if TYPE_CHECKING:
    from hpcembed.networks.training.report import TrainedClassifier

__all__ = ["MOST_UNITS", "compare_networks"]

#: Units of both networks together beyond which they are not compared: 0.5 GB of covariances.
MOST_UNITS = 8192

Activations = Mapping[str, NDArray[Any]]


def compare_networks(
    job: Job, inputs: NetworkInputs, trained: Sequence[TrainedClassifier]
) -> list[SimilarityRecord]:
    """Compare the layers of networks that were trained on all features and on the embedding.

    Collective.

    Parameters
    ----------
    trained : sequence of TrainedClassifier
        Of :func:`hpcembed.jobs.network_training.train_networks`.

    Returns
    -------
    list of SimilarityRecord
        One for each network with both inputs, on rank 0. Empty elsewhere, with
        ``classifier.similarity_rows = 0``, and without at least 2 test rows.
    """
    most, found = job.config.classifier.similarity_rows, list[SimilarityRecord]()
    if not most or len(inputs.names) < 2:
        return found
    for network in job.config.classifier.hidden:
        hidden = layers_of(network)
        if 2 * sum(hidden) > MOST_UNITS:
            job.log(
                f"layers of {network_name(hidden)} are not compared: more than {MOST_UNITS:,} units"
            )
            continue
        activations: dict[str, Activations | None] = {}
        for name in inputs.names:
            models = (one for one in trained if _is_on(one, name, hidden))
            activations[name] = _activations(job, inputs, name, next(models, None), most)
        record = idle_while_root(job.comm, lambda: _compared(hidden, activations))  # noqa: B023
        found += [record] if record is not None else []
    return found


def _is_on(one: TrainedClassifier, name: str, hidden: tuple[int, ...]) -> bool:
    return one.report.hidden == hidden and (one.report.input == "full") == (name == "full")


def _activations(
    job: Job, inputs: NetworkInputs, name: str, one: TrainedClassifier | None, most: int
) -> Activations | None:
    """Return the activations for a sample of the test rows, on rank 0; None elsewhere.

    Collective. None also for a network that was not trained: all ranks of a data-parallel training
    have the network, or none has.
    """
    comm = job.comm
    if name not in inputs.local:

        def of_all_rows() -> Activations | None:
            if one is None:
                return None
            from hpcembed.networks.similarity.activations import layer_activations

            rows, labels = inputs.gathered[name][1]
            return layer_activations(one.model, rows, sampled_rows(len(labels), most))

        return idle_while_root(comm, of_all_rows)
    if one is None:
        return None
    from hpcembed.networks.similarity.activations import layer_activations

    rows, labels = inputs.local[name][1]
    first, n_rows = place_rows(len(labels), comm)
    chosen = sampled_rows(n_rows, most) - first
    chosen = chosen[(chosen >= 0) & (chosen < len(labels))]
    own = layer_activations(one.model, rows, chosen)
    gathered = {layer: gather_rows(comm, values) for layer, values in own.items()}
    return {layer: values for layer, values in gathered.items() if values is not None} or None


def sampled_rows(n_rows: int, most: int) -> NDArray[np.int64]:
    """Return the numbers of at most `most` of the rows, evenly spaced.

    Examples
    --------
    >>> sampled_rows(10, 4), sampled_rows(2, 4)
    (array([0, 3, 6, 9]), array([0, 1]))
    """
    return np.unique(np.linspace(0, max(n_rows - 1, 0), min(n_rows, most)).astype(np.int64))


def _compared(
    hidden: tuple[int, ...], activations: Mapping[str, Activations | None]
) -> SimilarityRecord | None:
    full, embedded = activations["full"], activations["embedded"]
    if full is None or embedded is None or len(next(iter(full.values()))) < 2:
        return None
    from hpcembed.networks.similarity import layer_similarity

    found = layer_similarity(full, embedded)
    return SimilarityRecord(hidden, found.n_rows, found.first, found.second, found.cka.tolist())
