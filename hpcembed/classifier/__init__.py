"""Networks: model, training, evaluation, files. The only place that imports torch."""

from hpcembed.classifier.batch import Member, Outcome, TrainedBatch, train_batch
from hpcembed.classifier.data_parallel import LocalSamples, train_data_parallel
from hpcembed.classifier.evaluation import predict_logits
from hpcembed.classifier.model import Classifier, build_mlp, count_parameters
from hpcembed.classifier.saving import SavedClassifier, load_classifier, save_classifier
from hpcembed.classifier.training import (
    ClassifierReport,
    Epoch,
    Samples,
    TrainedClassifier,
    TrainingError,
    train_classifier,
)

__all__ = [
    "Classifier",
    "ClassifierReport",
    "Epoch",
    "LocalSamples",
    "Member",
    "Outcome",
    "Samples",
    "SavedClassifier",
    "TrainedBatch",
    "TrainedClassifier",
    "TrainingError",
    "build_mlp",
    "count_parameters",
    "load_classifier",
    "predict_logits",
    "save_classifier",
    "train_batch",
    "train_classifier",
    "train_data_parallel",
]
