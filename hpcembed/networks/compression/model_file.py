"""Files of a compressed model: its weights, its replaced layers, and its graph as ONNX.

``model.safetensors`` has every tensor of the model's state once. ``layers.json`` states how the
network before its compression becomes the compressed one: the modules of each replaced layer with
the arguments of their constructors, the normalisations that are identities now, the layers that
have a bias, and further names of tensors. Nothing in these files is executed on reading.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import inspect
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hpcembed.networks.compression.batches import Batch, Batches, call
from hpcembed.networks.low_rank.report import CompressionReport
from hpcembed.runtime.errors import ConfigError, OutputError

__all__ = ["LAYERS", "ONNX", "TENSORS", "ModelFiles", "write_model_files"]

TENSORS, LAYERS, ONNX = "model.safetensors", "layers.json", "model.onnx"
FORMAT = "hpcembed compressed network"
#: Increased when the script of an older version can no longer read the files.
VERSION = 1

#: Largest deviation of the ONNX graph from torch, relative to the largest output, in units of the
#: rounding error: 1e-5 in single precision.
_ROUNDINGS = 84
#: Relative deviation from which the graph is another function, and is not kept.
_WRONG = 1e-2
#: Bytes of weights from which a graph has them in a file of their own; protobuf ends at 2 GiB.
_MESSAGE_LIMIT = 2**31 - 2**26


@dataclass(frozen=True)
class ModelFiles:
    """Files that were written.

    Attributes
    ----------
    names : tuple of str
    sha256 : str
        Hash of ``model.safetensors``.
    n_tensors, n_bytes : int
        Tensors in it, and their bytes.
    onnx_deviation : float or None
        Largest deviation of the outputs of ``model.onnx`` from those of torch, relative to the
        largest output; None where it was not measured.
    warnings : tuple of str
    """

    names: tuple[str, ...]
    sha256: str
    n_tensors: int
    n_bytes: int
    onnx_deviation: float | None = None
    warnings: tuple[str, ...] = ()


def write_model_files(
    small: nn.Module, report: CompressionReport, folder: Path, example: Any = None
) -> ModelFiles:
    """Write the weights and the layers of a compressed model, and its graph as ONNX.

    Parameters
    ----------
    small : nn.Module
        The result of :func:`~hpcembed.networks.compression.compress.compress_model`; not changed.
    report : CompressionReport
        Of the same compression.
    folder : Path
        An existing folder.
    example : batch, optional
        As for :func:`~hpcembed.networks.compression.compress.compress_model`; for ONNX. The number
        of samples stays free in the graph, other dimensions are those of the example.

    Returns
    -------
    ModelFiles

    Raises
    ------
    ConfigError
        If `small` is not the model of the report, or has a tensor that cannot be written.
    InputError
        If `small` does not take the example.
    OutputError
        If the weights cannot be written.
    """
    if not isinstance(small, nn.Module):
        raise ConfigError(
            f"small: the first result of compress_model is needed, not {type(small).__name__}"
        )
    batch = None if example is None else next(iter(Batches([example], "example")))
    tensors, aliases, not_written = _tensors(small)
    layers = _layers(small, report)
    try:
        # One entry of metadata, so that equal tensors give equal files.
        safetensors.torch.save_file(tensors, folder / TENSORS, {"format": "pt"})
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise OutputError(f"{TENSORS}: cannot write: {_one_line(error)}") from error
    digest = _sha256(folder / TENSORS)
    description = {
        "format": FORMAT,
        "version": VERSION,
        **layers,
        "aliases": aliases,
        "not_written": not_written,
        "sha256": digest,
    }
    text = json.dumps(description, indent=1, ensure_ascii=False)
    (folder / LAYERS).write_text(text + "\n", encoding="utf-8")
    notes = [f"{name} is not a tensor and was not written" for name in not_written]
    names, deviation = [TENSORS, LAYERS], None
    if batch is not None:
        deviation, note = _write_onnx(small, batch, folder / ONNX)
        notes += [note] if note else []
        names += sorted(path.name for path in folder.glob(f"{ONNX}*"))
    size = sum(tensor.nbytes for tensor in tensors.values())
    return ModelFiles(tuple(names), digest, len(tensors), size, deviation, tuple(notes))


def _tensors(small: nn.Module) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Return each tensor of the state once, other names of them, and names of other values."""
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    not_written: list[str] = []
    first: dict[Any, str] = {}
    storages: set[int] = set()
    for name, value in small.state_dict().items():
        if not isinstance(value, Tensor):
            not_written.append(name)
            continue
        if value.is_meta or value.layout != torch.strided:
            raise ConfigError(f"model: {name} has no dense values, so it cannot be written")
        storage = value.untyped_storage()
        place = (str(value.device), storage.data_ptr(), value.storage_offset())
        identity = (*place, tuple(value.shape), value.stride(), value.dtype)
        if value.numel() and identity in first:
            aliases[name] = first[identity]
            continue
        first[identity] = name
        stored = value.detach().cpu().contiguous()
        if stored.untyped_storage().data_ptr() in storages or stored.nbytes != storage.nbytes():
            stored = stored.clone()  # a part of another tensor's memory
        storages.add(stored.untyped_storage().data_ptr())
        tensors[name] = stored
    return tensors, aliases, not_written


def _layers(small: nn.Module, report: CompressionReport) -> dict[str, Any]:
    """Return the replaced layers, the identities, and the other layers with a bias."""
    modules = dict(small.named_modules())
    replaced: dict[int, str] = {}
    for name in report.ranks:
        if not isinstance(modules.get(name), nn.Sequential):
            raise ConfigError(f"model: {name} is not a replaced layer; give the report's own model")
        replaced[id(modules[name])] = name
    for name in report.folded:
        if not isinstance(modules.get(name), nn.Identity):
            raise ConfigError(f"model: {name} is not folded; give the report's own model")
    layers: dict[str, list[dict[str, Any]]] = {}
    inside: set[int] = set()
    first: dict[int, str] = {}
    for name, module in small.named_modules(remove_duplicate=False):
        if id(module) not in replaced:
            continue
        layers[name] = []
        for place, part in enumerate(module.children()):
            if id(part) in first:
                layers[name].append({"same_as": first[id(part)]})
            else:
                layers[name].append(_constructor(part, name))
                first[id(part)] = f"{name}.{place}"
            inside.add(id(part))
    biases = [
        name
        for name, module in modules.items()
        if id(module) not in inside
        and isinstance(getattr(module, "weight", None), nn.Parameter)
        and isinstance(getattr(module, "bias", None), nn.Parameter)
    ]
    return {"layers": layers, "identities": list(report.folded), "biases": biases}


def _constructor(module: Any, name: str) -> dict[str, Any]:
    """Return the type of a module and the arguments of its constructor."""
    bias = module.bias is not None if hasattr(module, "bias") else None
    if type(module) is nn.Linear:
        sizes = {"in_features": module.in_features, "out_features": module.out_features}
        return {"type": "Linear", "arguments": {**sizes, "bias": bias}}
    if type(module) in (nn.Conv1d, nn.Conv2d):
        names = (
            "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
        )  # fmt: skip
        arguments = {key: getattr(module, key) for key in names}
        return {"type": type(module).__name__, "arguments": {**arguments, "bias": bias}}
    raise ConfigError(f"model: {name} contains {type(module).__name__}; give the report's model")


def _write_onnx(small: nn.Module, batch: Batch, path: Path) -> tuple[float | None, str]:
    """Write the graph; return its deviation from torch and a warning, empty if all is well."""
    model = small.eval() if not small.training else copy.deepcopy(small).eval()
    if any(parameter.device.type != "cpu" for parameter in model.parameters()):
        model = copy.deepcopy(model).cpu()
    batch = batch.to(torch.device("cpu"))
    with torch.no_grad():
        call(model, batch, "example")  # an InputError where it does not take the example
    pair = _repeated(batch, max(2, batch.size))
    try:
        with warnings.catch_warnings(), torch.no_grad(), _quiet(logging.getLogger("torch.onnx")):
            warnings.simplefilter("ignore")
            _export(model, pair, path)
    except Exception as error:  # an exporter raises errors of any type
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        return None, f"{path.name} was not written: {_one_line(error)}"
    if importlib.util.find_spec("onnxruntime") is None:
        return None, f"{path.name} was not compared with torch: onnxruntime is not installed"
    try:
        # Another number of samples than the one of the export, too.
        deviation = max(
            _deviation(model, one, path) for one in (pair, _repeated(batch, pair.size + 1))
        )
    except Exception as error:  # those of onnxruntime have no common base class
        return None, f"{path.name} was written, but onnxruntime fails on it: {_one_line(error)}"
    allowed = _ROUNDINGS * _rounding(model)
    if deviation <= allowed:
        return deviation, ""
    text = f"its outputs deviate from those of torch by {deviation:.1e} of the largest output"
    if not deviation <= _WRONG:
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        return deviation, f"{path.name} was not written: {text}"
    return deviation, f"{path.name}: {text}, more than {allowed:.0e}"


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Let a logger pass errors only."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _export(model: nn.Module, batch: Batch, path: Path) -> None:
    """Write the graph, by the exporter of torch.export where its package is installed."""
    has_dynamo = "dynamo" in inspect.signature(torch.onnx.export).parameters
    count = len(batch.positional)
    names = list(batch.named) or (["input"] if count == 1 else [f"input_{i}" for i in range(count)])
    if has_dynamo and importlib.util.find_spec("onnxscript") is not None:
        free = torch.export.Dim("batch")
        shapes: Any = tuple(_first_free(value, free) for value in batch.positional)
        if batch.named:
            shapes = {name: _first_free(value, free) for name, value in batch.named.items()}
        size = sum(tensor.nbytes for tensor in model.state_dict().values())
        torch.onnx.export(
            model, batch.positional, str(path), kwargs=dict(batch.named) or None, dynamo=True,
            dynamic_shapes=shapes, input_names=None if batch.named else names, verbose=False,
            external_data=size > _MESSAGE_LIMIT,
        )  # fmt: skip
        _drop_source_lines(path)
        return
    options: dict[str, Any] = {"dynamo": False} if has_dynamo else {}
    arguments = (*batch.positional, dict(batch.named)) if batch.named else batch.positional
    with torch.no_grad():
        outputs = tree_leaves(call(model, batch, "example"))
    output_names = [f"output_{i}" for i in range(len(outputs))]
    torch.onnx.export(
        model, arguments, str(path), input_names=names, output_names=output_names,
        dynamic_axes={name: {0: "batch"} for name in (*names, *output_names)}, **options,
    )  # fmt: skip


def _drop_source_lines(path: Path) -> None:
    """Remove the exporter's notes on each node: they quote the user's source files and paths."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    graphs = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        graph.ClearField("metadata_props")
        graph.ClearField("doc_string")
        for node in graph.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
            for attribute in node.attribute:
                graphs += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
    path.write_bytes(model.SerializeToString())


def _first_free(value: Any, free: Any) -> Any:
    return {0: free} if isinstance(value, Tensor) and value.ndim else None


def _repeated(batch: Batch, size: int) -> Batch:
    """Return a batch of `size` samples, those of `batch` again and again."""

    def rows(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.ndim:
            return value
        return value[torch.arange(size) % max(value.shape[0], 1)]

    named: Mapping[str, Any] = {name: rows(value) for name, value in batch.named.items()}
    return Batch(tuple(rows(value) for value in batch.positional), named, None, batch.number)


def _deviation(model: nn.Module, batch: Batch, path: Path) -> float:
    """Return the largest deviation of the outputs, relative to the largest output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = [input.name for input in session.get_inputs()]
    named = {name: value for name, value in batch.named.items() if isinstance(value, Tensor)}
    values: Iterable[Tensor] = [v for v in batch.positional if isinstance(v, Tensor)]
    feeds = named or dict(zip(given, values, strict=True))
    found = session.run(None, {name: feeds[name].numpy() for name in given})
    with torch.no_grad():
        expected = [v for v in tree_leaves(call(model, batch, "example")) if isinstance(v, Tensor)]
    return max(_relative(a, b) for a, b in zip(found, expected, strict=True))


def _relative(found: Any, expected: Tensor) -> float:
    reference = expected.detach().double().numpy()
    if found.shape != reference.shape:
        return float("inf")
    if not reference.size:
        return 0.0
    difference = np.abs(np.asarray(found, dtype=np.float64) - reference)
    largest = float(np.abs(reference).max())
    return float(difference.max()) / largest if largest else float(difference.max())


def _rounding(model: nn.Module) -> float:
    kinds = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    return max((torch.finfo(k).eps for k in kinds if k != torch.float64), default=2.0**-23)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "\N{HORIZONTAL ELLIPSIS}"
