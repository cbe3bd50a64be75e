"""Networks of a search: of every network and k, the trial with the highest validation score.

A training that is repeated alone need not give the same bits as in its batch, so the model of the
answer is a network that was judged, not one that is trained again. Rank 0 stores the networks
beside the finished trials; a repeated search finds them there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from hpcembed.jobs.study.result_store import FOLDER
from hpcembed.jobs.study.trials import TrialBatch, TrialResult
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.output.files import output_error, write_whole

if TYPE_CHECKING:
    from hpcembed.networks.training.batched_training import TrainedBatch
    from hpcembed.networks.training.report import TrainedClassifier

__all__ = ["KeptNetworks", "best_of"]

_log = logging.getLogger(__name__)
_TAG = 12


def best_of(results: Sequence[TrialResult]) -> TrialResult:
    """Select the trial of highest validation score, that of the first seed among equal ones."""
    return max(results, key=_rank)


def _rank(result: TrialResult) -> tuple[float, int]:
    return result.validation_score, -result.trial.seed


class KeptNetworks:
    """Networks of the best trials, in the output folder of a search.

    Parameters
    ----------
    comm : MPI.Comm
    folder : Path
        Output folder.
    """

    def __init__(self, comm: MPI.Intracomm, folder: Path) -> None:
        self._comm, self._folder = comm, folder / FOLDER
        self._offer: tuple[TrialResult, bytes] | None = None

    def take(
        self, trained: TrainedBatch, results: Sequence[TrialResult], class_names: Sequence[str]
    ) -> None:
        """Keep the best network of a batch in memory, if it is the best one of this rank."""
        from hpcembed.networks.training.serialise import classifier_bytes

        best = best_of(results)
        if self._offer is None or _rank(best) > _rank(self._offer[0]):
            position = list(results).index(best)
            network = trained.classifier(position)
            extra = {"device": network.report.device, "threads": str(network.report.threads)}
            content = classifier_bytes(network, class_names=class_names, extra=extra)
            self._offer = best, content

    def store(self, group: Sequence[TrialResult]) -> None:
        """Write the best network that the ranks took, unless a stored one of its group is better.

        Collective.

        Parameters
        ----------
        group : sequence of TrialResult
            All trials of the network and k so far; the files of others of them are removed.
        """
        comm, offer = self._comm, self._offer
        self._offer = None
        ranks = comm.allgather(None if offer is None else _rank(offer[0]))
        offered = [(rank, owner) for owner, rank in enumerate(ranks) if rank is not None]
        if not offered:
            return
        owner = max(offered)[1]
        if owner == comm.rank and comm.rank:
            comm.send(offer, dest=0, tag=_TAG)
        elif owner and not comm.rank:
            offer = comm.recv(source=owner, tag=_TAG)
        with agreement(comm):
            if comm.rank == 0 and offer is not None:
                self._write(*offer, group)

    def _write(self, result: TrialResult, content: bytes, group: Sequence[TrialResult]) -> None:
        others = [one for one in group if one.digest != result.digest and self._path(one).is_file()]
        if any(_rank(one) > _rank(result) for one in others):
            return
        write_whole(self._path(result), content)
        for one in others:
            try:
                self._path(one).unlink(missing_ok=True)
            except OSError as error:
                raise output_error(self._path(one), error) from error

    def _path(self, result: TrialResult) -> Path:
        return self._folder / f"{result.digest}.safetensors"

    def network(
        self, result: TrialResult, train: Callable[[TrialBatch], TrainedBatch]
    ) -> TrainedClassifier:
        """Return the network of a trial; one that is not stored is trained again. Rank 0 only.

        Earlier versions stored no networks. The report of the returned network is its own.
        """
        from hpcembed.networks.training.report import ClassifierReport, TrainedClassifier
        from hpcembed.networks.training.serialise import load_classifier

        path = self._path(result)
        try:
            saved = load_classifier(path)
        except InputError as error:
            if path.exists():
                _log.warning("%s; the network is trained again", error)
            return train(TrialBatch((result.trial,), 1.0)).classifier(0)
        report = ClassifierReport(
            input="embedded",
            hidden=result.trial.hidden,
            parameters=result.parameters,
            train_seconds=result.train_seconds,
            validation_score=result.validation_score,
            test_score=result.test_score,
            best_epoch=result.best_epoch,
            history=(),
            device=saved.extra.get("device", ""),
            threads=int(saved.extra.get("threads", "1")),
            test_confusion=result.confusion,
            task="regression" if np.isfinite(result.test_rmse) else "classification",
            test_rmse=result.test_rmse,
            test_mae=result.test_mae,
            predictions=np.array(result.predictions, dtype=np.float64).reshape(-1, 2),
        )
        return TrainedClassifier(saved.model, report)
