"""Networks run by ONNX Runtime, whole or in part."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.model_files import is_beyond_limit, write_model
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.optional import optional_imports

__all__ = ["Session", "require_onnxruntime"]

Array = NDArray[Any]


@cache
def require_onnxruntime() -> Any:
    """Return the module onnxruntime.

    Raises
    ------
    MissingPackageError
        It is not installed.
    """
    with optional_imports():
        import onnxruntime
    return onnxruntime


class Session:
    """A network, or the part that computes some tensors, ready to run on the processor.

    Parameters
    ----------
    network : Network
    outputs : sequence of str, optional
        Tensors to compute; default the outputs of the network.
    inputs : dict of str to int, optional
        Tensors that are given, with their element types; default the inputs of the network.
    threads : int

    Raises
    ------
    InputError
        ONNX Runtime refuses the network.
    """

    def __init__(
        self,
        network: Network,
        outputs: Sequence[str] | None = None,
        inputs: Mapping[str, int] | None = None,
        *,
        threads: int = 1,
    ) -> None:
        runtime = require_onnxruntime()
        self._errors: tuple[type[Exception], ...] = _runtime_errors()
        self._refusals: tuple[type[Exception], ...] = (*self._errors, ValueError)
        self.outputs = list(network.outputs if outputs is None else outputs)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        model = network.proto(outputs, inputs)
        try:
            self._session = _start(runtime, model, options)
        except self._errors as error:
            raise InputError(f"model: ONNX Runtime cannot run it: {_reason(error)}") from error
        self._inputs = {one.name for one in self._session.get_inputs()}

    def run(self, feeds: Mapping[str, Array], where: str) -> dict[str, Any]:
        """Return the tensors for one batch.

        Parameters
        ----------
        feeds : dict of str to ndarray
            Entries that the session does not need are ignored.
        where : str
            Name of the rows, for messages.
        """
        given = {name: array for name, array in feeds.items() if name in self._inputs}
        try:
            values = self._session.run(self.outputs, given)
        except self._refusals as error:
            raise InputError(f"{where}: the model does not take it: {_reason(error)}") from error
        return dict(zip(self.outputs, values, strict=True))


def _start(runtime: Any, model: onnx.ModelProto, options: Any) -> Any:
    providers = ["CPUExecutionProvider"]
    if not is_beyond_limit(model):
        return runtime.InferenceSession(model.SerializeToString(), options, providers=providers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        write_model(model, path)
        return runtime.InferenceSession(str(path), options, providers=providers)


@cache
def _runtime_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(
        kind for kind in vars(state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    )  # fmt: skip


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:240]


def element_type(array: Array) -> int:
    """Return the element type of ONNX of an array."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(array.dtype)))
