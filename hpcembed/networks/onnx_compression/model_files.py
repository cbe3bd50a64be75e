"""Files of ONNX models, with data outside of the file for models beyond the limit of protobuf."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import inliner

from hpcembed.networks.onnx_compression.graph import tensor_bytes
from hpcembed.networks.onnx_compression.graph_validation import check_graph, check_texts
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.output.files import whole_file

__all__ = ["MESSAGE_LIMIT", "check_result", "is_beyond_limit", "read_model", "write_model"]

#: Bytes of initialisers from which a model is written with external data; protobuf ends at 2 GiB.
MESSAGE_LIMIT = 2**31 - 2**26
#: Operator set from which Add and Gemm broadcast vectors.
_LEAST_OPSET = 7


def read_model(model: onnx.ModelProto | str | os.PathLike[str]) -> onnx.ModelProto:
    """Return a model, read with its external data if it is a path.

    Raises
    ------
    InputError
        The file is missing or not a valid model of ONNX.
    """
    if isinstance(model, onnx.ModelProto):
        loaded, name = model, "model"
    else:
        path = Path(model)
        name = str(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        try:
            loaded = onnx.load(path)
        except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
            raise InputError(f"{path}: not a model of ONNX: {_first_line(error)}") from error
    check_texts(loaded, name)
    if not loaded.graph.node or not loaded.opset_import:
        raise InputError(f"{name}: not a model of ONNX: it has no nodes or no operator set")
    version = max(
        (o.version for o in loaded.opset_import if o.domain in ("", "ai.onnx")), default=0
    )
    if version < _LEAST_OPSET:
        raise InputError(
            f"{name}: operator set {version}; {_LEAST_OPSET} or later is needed: convert it with "
            "onnx.version_converter"
        )
    if loaded.functions:
        loaded = inliner.inline_local_functions(loaded)
    check_graph(loaded.graph, name, version)
    return loaded


def is_beyond_limit(model: onnx.ModelProto) -> bool:
    """Return whether a model needs external data."""
    return sum(tensor_bytes(tensor) for tensor in model.graph.initializer) > MESSAGE_LIMIT


def check_result(model: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Apply the checker of ONNX to a new model, unless the original one does not pass it either.

    Models beyond the limit of protobuf are not checked.
    """
    if is_beyond_limit(model):
        return
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        try:
            onnx.checker.check_model(original)
        except onnx.checker.ValidationError:
            return
        raise


def write_model(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Write a model whole or not at all; one file ``NAME.data`` beside it holds large weights.

    The message is not changed.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    path = Path(path)
    if not is_beyond_limit(model):
        with whole_file(path) as partial:
            partial.write_bytes(model.SerializeToString())
        return
    with whole_file(path.with_name(path.name + ".data")) as data, whole_file(path) as partial:
        light = _with_external_data(model, data, path.name + ".data")
        partial.write_bytes(light.SerializeToString())


def _with_external_data(model: onnx.ModelProto, data: Path, location: str) -> onnx.ModelProto:
    """Write the weights to a file; return a message that refers to it."""
    light = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _assign(light, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _assign(light.graph, field.name, value)
    with data.open("wb") as stream:
        for tensor in model.graph.initializer:
            if tensor_bytes(tensor) < 1024:
                light.graph.initializer.append(tensor)
                continue
            raw = onnx.numpy_helper.to_array(tensor).tobytes()
            entry = light.graph.initializer.add(
                name=tensor.name, data_type=tensor.data_type, dims=tensor.dims
            )
            entry.data_location = onnx.TensorProto.EXTERNAL
            stream.write(b"\0" * (-stream.tell() % 4096))  # pages, for memory maps
            for key, text in (
                ("location", location), ("offset", stream.tell()), ("length", len(raw)),
            ):  # fmt: skip
                entry.external_data.add(key=key, value=str(text))
            stream.write(raw)
    return light


def _assign(message: object, name: str, value: object) -> None:
    if hasattr(value, "extend"):
        getattr(message, name).extend(value)
    elif hasattr(value, "CopyFrom"):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
