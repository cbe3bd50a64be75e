"""The report of a trained network.

The score of a network is the accuracy of a classifier, between 0 and 1, or R2 of a regression, at
most 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcembed.networks.training.classifier import Classifier, count_parameters
from hpcembed.networks.training.epochs import BestEpoch, Epoch

__all__ = ["ClassifierReport", "Evaluation", "InputName", "TrainedClassifier"]

InputName = Literal["full", "embedded"]


def _no_predictions() -> NDArray[Any]:
    return np.empty((0, 2))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Score and mean loss of a network on some rows; NaN if they are not defined.

    Attributes
    ----------
    score : float
        Accuracy or R2.
    loss : float
        Mean cross-entropy, or mean squared error of standardised targets.
    rmse, mae : float
        Root mean squared error and mean absolute error, in the unit of the target; NaN for classes.
    """

    score: float
    loss: float
    rmse: float = math.nan
    mae: float = math.nan


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """Results of one training run of a classifier or of a regression.

    `train_seconds` counts preparation of the rows, all epochs and their validation; not the test.
    `best_epoch` is the epoch (from 1) whose weights were kept. A regression also has `test_rmse`
    and `test_mae`, in the unit of the target, and `predictions`: targets and predictions of at most
    500 test rows, shape (m, 2). `test_confusion` counts the test rows of each class (outer) by
    their predicted class (inner); it is empty for many classes and for a regression.
    """

    input: InputName
    hidden: tuple[int, ...]
    parameters: int
    train_seconds: float
    validation_score: float
    test_score: float
    best_epoch: int
    history: tuple[Epoch, ...]
    device: str
    threads: int
    test_confusion: tuple[tuple[int, ...], ...] = field(default=(), kw_only=True)
    task: Literal["classification", "regression"] = field(default="classification", kw_only=True)
    test_rmse: float = field(default=math.nan, kw_only=True)
    test_mae: float = field(default=math.nan, kw_only=True)
    predictions: NDArray[np.float64] = field(default_factory=_no_predictions, kw_only=True)

    @property
    def validation_accuracy(self) -> float:
        """The validation score, which is the accuracy of a classifier."""
        return self.validation_score

    @property
    def test_accuracy(self) -> float:
        """The test score, which is the accuracy of a classifier."""
        return self.test_score


@dataclass(frozen=True, slots=True)
class TrainedClassifier:
    """A network in evaluation mode, in main memory, and its report."""

    model: Classifier
    report: ClassifierReport

    @classmethod
    def reported(
        cls,
        model: Classifier,
        best: BestEpoch,
        history: tuple[Epoch, ...],
        tested: Evaluation,
        *,
        is_regression: bool,
        **facts: Any,
    ) -> TrainedClassifier:
        """Return a network with the report of its training and its test.

        Parameters
        ----------
        model : Classifier
            With the weights of the best epoch, on any device.
        tested : Evaluation
            Of the test rows.
        facts
            The other fields of :class:`ClassifierReport`.
        """
        report = ClassifierReport(
            parameters=count_parameters(model),
            validation_score=best.score,
            best_epoch=best.epoch,
            history=history,
            test_score=tested.score,
            test_rmse=tested.rmse,
            test_mae=tested.mae,
            task="regression" if is_regression else "classification",
            **facts,
        )
        return cls(model.cpu(), report)
