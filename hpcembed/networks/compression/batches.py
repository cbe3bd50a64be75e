"""Batches of a user, in any of the usual forms, as calls of the model.

A batch is a tensor (the only argument), a dictionary (keyword arguments; ``labels`` apart), or a
pair ``(inputs, labels)``, where inputs is a tensor, a tuple of positional arguments or a
dictionary; a tuple of one part has no labels. The first dimension counts samples. The argument
``attention_mask`` or ``mask`` of a dictionary, of shape (samples, positions) and without fractions,
marks the positions of sequences that are not padding: only those enter covariances.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hpcembed.runtime.errors import ConfigError, HpcembedError, InputError, error_text

__all__ = ["Batch", "Batches", "call", "output_tensor", "tensor_bytes"]


@dataclass(frozen=True)
class Batch:
    """One call of the model.

    Attributes
    ----------
    positional : tuple
    named : dict
    labels : Tensor or None
    number : int
        Position in the iterable, for messages.
    """

    positional: tuple[Any, ...]
    named: Mapping[str, Any]
    labels: Tensor | None
    number: int

    @property
    def size(self) -> int:
        """Number of samples."""
        first = self._first()
        return int(first.shape[0]) if first.ndim else 1

    @property
    def mask(self) -> Tensor | None:
        """True for positions that are not padding, or None if all count."""
        for name in ("attention_mask", "mask"):
            mask = self.named.get(name)
            if isinstance(mask, Tensor) and mask.ndim == 2 and not mask.is_floating_point():
                return mask.bool()
        return None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        moved = self._mapped(partial(_move, device=device))
        return replace(moved, labels=_move(self.labels, device))

    def float(self) -> Batch:
        """Return the batch with float16 and bfloat16 inputs in float32."""

        def converted(value: Any) -> Any:
            is_half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
            return value.float() if is_half else value

        return self._mapped(converted)

    def _mapped(self, function: Callable[[Any], Any]) -> Batch:
        """Return the batch with a function of each input."""
        return replace(
            self,
            positional=tuple(function(value) for value in self.positional),
            named={name: function(value) for name, value in self.named.items()},
        )

    def tensors(self) -> Iterator[Tensor]:
        """Yield the input tensors, in a fixed order."""
        for value in (*self.positional, *(self.named[name] for name in sorted(self.named))):
            if isinstance(value, Tensor):
                yield value

    def key(self) -> str:
        """Return a hash of the input tensors."""
        digest = hashlib.sha256()
        for tensor in self.tensors():
            digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
            digest.update(tensor_bytes(tensor))
        return digest.hexdigest()

    def _first(self) -> Tensor:
        for tensor in self.tensors():
            return tensor
        raise InputError(f"batch {self.number}: it has no tensor")


class Batches:
    """Batches that can be read several times.

    An iterable that can be iterated again (a list, a DataLoader) is not copied; an iterator is read
    once into memory.

    Parameters
    ----------
    source : iterable
    name : str
        Name of the argument, for messages.
    """

    def __init__(self, source: Iterable[Any], name: str) -> None:
        if isinstance(source, Tensor):
            raise ConfigError(
                f"{name}: a tensor is one batch, not an iterable of batches; use [tensor] or "
                "tensor.split(256)"
            )
        try:
            iterator = iter(source)
        except TypeError as error:
            raise ConfigError(
                f"{name}: an iterable of batches is needed, not {type(source).__name__}"
            ) from error
        self._source = list(iterator) if iterator is source else source
        self.name = name

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self._source):
            read = _read(batch, number, self.name)
            if not read.size:
                raise InputError(f"{self.name}: batch {number} has no samples")
            yield read

    def first(self, samples: int) -> Batches:
        """Return the first batches, with at least `samples` samples if there are as many."""
        kept, found = [], 0
        for number, raw in enumerate(self._source):
            kept.append(raw)
            found += _read(raw, number, self.name).size
            if found >= samples:
                break
        return Batches(kept, self.name)

    def count(self) -> int:
        """Return the number of batches; they are read only if their source has no length."""
        try:
            return len(self._source)  # type: ignore[arg-type]
        except TypeError:
            return sum(1 for _ in self._source)


def call(model: nn.Module, batch: Batch, name: str) -> Any:
    """Call the model, and raise an InputError that names the batch where it refuses it."""
    try:
        return model(*batch.positional, **batch.named)
    except HpcembedError:
        raise
    except Exception as error:  # of the user's code
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in batch.tensors())
        text = error_text(error)
        if isinstance(error, AttributeError) and "'Sequential' object" in text:
            text += (
                "; if it is an attribute of a layer that was replaced, leave that layer out "
                "(layers=...)"
            )
        raise InputError(
            f"{name}: the model does not take batch {batch.number} (shapes {shapes}): {text}"
        ) from error


def output_tensor(output: Any) -> Tensor:
    """Return the tensor of a model's output: itself, ``.logits``, ``["logits"]``, or the first."""
    if isinstance(output, Tensor):
        return output
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, Mapping):
        output = tuple(output[name] for name in sorted(output, key=lambda name: name != "logits"))
    if isinstance(output, (tuple, list)):
        for value in output:
            if isinstance(value, Tensor):
                return value
    hidden = getattr(output, "last_hidden_state", None)
    if isinstance(hidden, Tensor):
        return hidden
    raise InputError(f"the model returns {type(output).__name__}, which holds no tensor")


def tensor_bytes(tensor: Tensor) -> bytes:
    """Return the values of a tensor as bytes, for hashes."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _read(batch: Any, number: int, name: str) -> Batch:
    if isinstance(batch, (tuple, list)):
        if len(batch) not in (1, 2):
            raise InputError(
                f"{name}: batch {number} has {len(batch)} parts; give a tensor, a dictionary or a "
                "pair (inputs, labels), where inputs may be a tuple of several"
            )
        inputs, labels = batch if len(batch) == 2 else (batch[0], None)
    else:
        inputs, labels = batch, None
    if isinstance(inputs, Mapping):
        named = dict(inputs)
        labels = named.pop("labels", labels)
        return Batch((), named, _tensor_or_none(labels), number)
    positional = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    if not any(isinstance(value, Tensor) for value in positional):
        raise InputError(
            f"{name}: batch {number} is {type(inputs).__name__}; a torch tensor is needed"
        )
    return Batch(positional, {}, _tensor_or_none(labels), number)


def _tensor_or_none(labels: Any) -> Tensor | None:
    return None if labels is None else torch.as_tensor(labels)


def _move(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor):
        return value
    # A tensor of inference mode cannot take part in a graph of gradients; its copy can.
    return value.to(device).clone() if value.is_inference() else value.to(device)
