"""A trained network as one safetensors file: tensors, and a JSON description of the layers.

Nothing in the file is executed on reading. The tensors are the weights and the standardisation of
the inputs (``shift``, ``scale``) and of the target of a regression (``target_shift``,
``target_scale``); the description has the metadata key ``hpcembed``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from hpcembed.networks.training.classifier import Classifier, Regressor, build_mlp
from hpcembed.networks.training.report import TrainedClassifier
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.output.files import ordered_safetensors, write_whole

__all__ = ["SavedClassifier", "classifier_bytes", "load_classifier", "save_classifier"]

#: Version of the files; raised when older versions can no longer read them.
VERSION = 1


@dataclass(frozen=True, slots=True)
class SavedClassifier:
    """A network that was read, in evaluation mode, and its description."""

    model: Classifier
    input: str
    hidden: tuple[int, ...]
    n_inputs: int
    n_classes: int
    class_names: tuple[str, ...]
    extra: Mapping[str, str] = field(default_factory=dict)


def save_classifier(
    path: Path,
    trained: TrainedClassifier,
    *,
    class_names: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write the network to `path`; the file is complete or absent.

    Parameters
    ----------
    class_names : sequence of str
        Name of each class; empty if there are none.
    extra : mapping of str to str
        More metadata of the network (the name of a run, a version).

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    write_whole(path, classifier_bytes(trained, class_names=class_names, extra=extra))


def classifier_bytes(
    trained: TrainedClassifier,
    *,
    class_names: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
) -> bytes:
    """Return the content of the file that :func:`save_classifier` writes."""
    model = trained.model
    linear = [layer for layer in model.layers if isinstance(layer, nn.Linear)]
    if class_names and len(class_names) != linear[-1].out_features:
        raise ValueError(f"{len(class_names)} names for {linear[-1].out_features} classes")
    description = {
        "version": VERSION,
        "input": trained.report.input,
        "hidden": [layer.out_features for layer in linear[:-1]],
        "n_inputs": linear[0].in_features,
        "n_classes": linear[-1].out_features,  # outputs; 1 for a regression
        "class_names": [str(name) for name in class_names],
        "task": trained.report.task,
        "activation": "relu",
        "input_standardisation": "(x - shift) * scale in float64, then float32",
        "extra": dict(extra or {}),
    }
    tensors = {name: tensor.contiguous() for name, tensor in _named_tensors(model).items()}
    content = safetensors.torch.save(tensors, {"hpcembed": json.dumps(description)})
    return ordered_safetensors(content)


def _named_tensors(model: Classifier) -> dict[str, torch.Tensor]:
    """Return standardisation and weights; linear layers alone are numbered."""
    linear = [layer for layer in model.layers if isinstance(layer, nn.Linear)]
    tensors = {"shift": model.shift, "scale": model.scale}
    if isinstance(model, Regressor):
        tensors |= {"target_shift": model.target_shift, "target_scale": model.target_scale}
    for number, layer in enumerate(linear):
        tensors[f"layer{number}.weight"] = layer.weight.detach()
        tensors[f"layer{number}.bias"] = layer.bias.detach()
    return tensors


def load_classifier(path: Path) -> SavedClassifier:
    """Read a network that :func:`save_classifier` wrote.

    Raises
    ------
    InputError
        The file cannot be read, or is not one of :func:`save_classifier`.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    try:
        description: dict[str, Any] = json.loads(metadata["hpcembed"])
        version = description["version"]
        if version != VERSION:
            raise InputError(
                f"{path}: classifier file of version {version}; this program reads {VERSION}"
            )
        return _rebuild(description, tensors)
    except InputError:
        raise
    except (
        KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError,
    ) as error:  # fmt: skip
        raise InputError(f"{path}: not a classifier written by hpcembed ({error})") from error


def _rebuild(description: dict[str, Any], tensors: dict[str, torch.Tensor]) -> SavedClassifier:
    hidden = tuple(int(width) for width in description["hidden"])
    n_inputs, n_classes = int(description["n_inputs"]), int(description["n_classes"])
    sizes = (n_inputs, *hidden, n_classes)
    for number, shape in enumerate(zip(sizes[1:], sizes, strict=False)):  # before they are made
        if tuple(tensors[f"layer{number}.weight"].shape) != shape:
            raise ValueError(f"layer{number}.weight is not of the stated size {shape}")
    with torch.random.fork_rng(devices=[]):
        layers = build_mlp(n_inputs, hidden, n_classes)
    model = Classifier(layers, np.zeros(n_inputs), np.ones(n_inputs))
    if description.get("task") == "regression":
        model = Regressor(layers, np.zeros(n_inputs), np.ones(n_inputs), 0.0, 1.0)
    expected = _named_tensors(model)
    if expected.keys() != tensors.keys():
        raise ValueError(f"tensors {sorted(tensors)} are not those of its layers")
    for name, place in expected.items():
        if place.shape != tensors[name].shape:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}")
        place.copy_(tensors[name])
    return SavedClassifier(
        model=model.eval(),
        input=str(description["input"]),
        hidden=hidden,
        n_inputs=n_inputs,
        n_classes=n_classes,
        class_names=tuple(description["class_names"]),
        extra=description["extra"],
    )
