"""The report of a trained network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hpcembed.networks.training.classifier import Classifier
from hpcembed.networks.training.epochs import Epoch

__all__ = ["ClassifierReport", "InputName", "TrainedClassifier"]

InputName = Literal["full", "embedded"]


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """Results of one training run.

    `train_seconds` counts preparation of the rows, all epochs and their validation; not the test.
    `best_epoch` is the epoch (from 1) whose weights were kept. `test_confusion` counts the test
    rows of each class (outer) by their predicted class (inner); it is empty for many classes.
    """

    input: InputName
    hidden: tuple[int, ...]
    parameters: int
    train_seconds: float
    validation_accuracy: float
    test_accuracy: float
    best_epoch: int
    history: tuple[Epoch, ...]
    device: str
    threads: int
    test_confusion: tuple[tuple[int, ...], ...] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class TrainedClassifier:
    """A network in evaluation mode, in main memory, and its report."""

    model: Classifier
    report: ClassifierReport
