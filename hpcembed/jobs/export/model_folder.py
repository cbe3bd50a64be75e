"""Model folder: model.json, model.safetensors, model.onnx, manifest.json and a card, README.md.

A model of texts has its vocabulary in text.json as well, a model of raw columns its encoding in
columns.json. The folder is written under a temporary name and renamed, so it is complete or absent.
Nothing in it is executed on reading. ``model.json`` holds digests of the weights, of the vocabulary
and of the encoding, and ``manifest.json`` those of all files
(:mod:`hpcembed.jobs.export.manifest`), so that files of two models cannot be mixed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from hpcembed.data.columns.encoding import ColumnEncoding
from hpcembed.data.columns.serialise import COLUMNS_FILE, encoding_from_json
from hpcembed.data.text.serialise import VECTORISER_FILE, vectoriser_from_json
from hpcembed.data.text.vectoriser import Vectoriser
from hpcembed.jobs.export.manifest import MANIFEST, check_manifest, manifest_bytes
from hpcembed.jobs.export.model import Model, Stage, TargetScaling
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.output.files import check_free, ordered_safetensors
from hpcembed.runtime.output.whole_folder import whole_folder

__all__ = ["read_encoding", "read_model", "read_vectoriser", "write_model"]

Part = TypeVar("Part")

FORMAT = "hpcembed model"
#: Increased when readers of an older version can no longer read the folder.
VERSION = 2
#: Version of folders of classifiers, which older readers can read.
CLASSIFIER_VERSION = 1

JSON, TENSORS, ONNX, CARD = "model.json", "model.safetensors", "model.onnx", "README.md"


def write_model(
    path: Path,
    model: Model,
    description: Mapping[str, Any],
    card: str,
    *,
    text: str | None = None,
    columns: str | None = None,
) -> None:
    """Write a model folder.

    Parameters
    ----------
    path : Path
    model : Model
    description : mapping
        Further entries of ``model.json``, for information.
    card : str
        Content of README.md.
    text : str, optional
        Serialised vectoriser (:mod:`hpcembed.data.text.serialise`) of a model of texts.
    columns : str, optional
        Serialised encoding (:mod:`hpcembed.data.columns.serialise`) of a model of raw columns.

    Raises
    ------
    OutputExistsError
        The folder is not empty.
    OutputError
        The folder cannot be written.
    InputError
        The weights do not fit one ONNX file.
    """
    from hpcembed.jobs.export.onnx_graph import onnx_bytes

    check_free(path)
    encoding = None if columns is None else encoding_from_json(columns)
    arrays = {name: np.ascontiguousarray(array) for name, array in model.tensors.items()}
    tensors = ordered_safetensors(safetensors.numpy.save(arrays, {"format": FORMAT}))
    content = {
        "format": FORMAT,
        "version": CLASSIFIER_VERSION if model.target is None else VERSION,
        "task": "classification" if model.target is None else "regression",
        **description,
        "n_features": model.n_features,
        "n_classes": len(model.class_names),
        "class_names": list(model.class_names),
        "feature_names": list(model.feature_names),
        "input_type": model.input_type.name,
        "target_type": None if model.target is None else model.target.shift.dtype.name,
        "stages": [{"bias": stage.bias is not None, "relu": stage.relu} for stage in model.stages],
        "has_manifest": True,
        "sha256": hashlib.sha256(tensors).hexdigest(),
        "text_sha256": text and hashlib.sha256(text.encode("utf-8")).hexdigest(),
        "columns_sha256": columns and hashlib.sha256(columns.encode("utf-8")).hexdigest(),
    }
    metadata = {
        "hpcembed": str(description.get("hpcembed", "")),
        "name": str(description.get("name", "")),
        "network": str(description.get("network", "")),
        "class_names": json.dumps(model.class_names, ensure_ascii=False),
        "feature_names": json.dumps(model.feature_names, ensure_ascii=False),
    }
    text_of_json = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    files = {
        JSON: f"{text_of_json}\n".encode(),
        TENSORS: tensors,
        ONNX: onnx_bytes(model, metadata, encoding),
        CARD: card.encode("utf-8"),
        **({} if text is None else {VECTORISER_FILE: text.encode("utf-8")}),
        **({} if columns is None else {COLUMNS_FILE: columns.encode("utf-8")}),
    }
    files[MANIFEST] = manifest_bytes(files)
    with whole_folder(path) as partial:
        for name, data in files.items():
            (partial / name).write_bytes(data)


def read_model(path: Path) -> tuple[Model, dict[str, Any]]:
    """Read a model folder and the content of its ``model.json``.

    Raises
    ------
    InputError
        There is no model, or it is damaged, or a newer version of hpcembed wrote it.
    """
    folder = _folder(path)
    file = folder / JSON
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({' '.join(str(error).split())})") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{file}: not the description of a model written by hpcembed")
    version = description.get("version")
    if isinstance(version, int) and version > VERSION:
        raise InputError(
            f"{file}: a model of version {version}, and this hpcembed reads up to {VERSION}: "
            "install a newer hpcembed"
        )
    tensors = _read_tensors(folder / TENSORS, description.get("sha256"))
    if description.get("has_manifest") is True:  # false for models of earlier versions
        check_manifest(folder, needed=(JSON, TENSORS), skipped=(CARD, VECTORISER_FILE))
    try:
        model = _build(description, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: a damaged model ({reason}): export it again") from error
    return model, description


def read_vectoriser(path: Path, description: Mapping[str, Any], model: Model) -> Vectoriser | None:
    """Read the vectoriser of a model of texts; None for a model of other data.

    Raises
    ------
    InputError
        The file is missing or damaged, or belongs to another model.
    """
    vectoriser = _read_part(
        path, description, "text_sha256", VECTORISER_FILE, "vocabulary", vectoriser_from_json
    )
    if vectoriser is not None:
        _check_width(path, VECTORISER_FILE, len(vectoriser.vocabulary), "terms", model)
    return vectoriser


def read_encoding(
    path: Path, description: Mapping[str, Any], model: Model
) -> ColumnEncoding | None:
    """Read the encoding of a model of raw columns; None for a model of other data.

    Raises
    ------
    InputError
        The file is missing or damaged, or belongs to another model.
    """
    encoding = _read_part(
        path, description, "columns_sha256", COLUMNS_FILE, "columns", encoding_from_json
    )
    if encoding is not None:
        _check_width(path, COLUMNS_FILE, encoding.n_features_out, "columns", model)
    return encoding


def _read_part(
    path: Path,
    description: Mapping[str, Any],
    key: str,
    name: str,
    content_name: str,
    parse: Callable[[str], Part],
) -> Part | None:
    """Read a file whose digest is in ``model.json``; None for a model without it."""
    digest = description.get(key)
    if digest is None:
        return None
    file = _folder(path) / name
    content = _read_checked(file, digest, content_name)
    try:
        return parse(content.decode("utf-8"))
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file}: cannot be read ({reason}): export again") from error


def _check_width(path: Path, name: str, width: int, unit: str, model: Model) -> None:
    if width != model.n_features:
        file = _folder(path) / name
        raise InputError(f"{file}: not as many {unit} as features of the model: export again")


def _folder(path: Path) -> Path:
    if path.name == JSON and path.is_file():
        return path.parent
    for folder in (path, path / "model"):
        if (folder / JSON).is_file():
            return folder
    if not path.exists():
        raise InputError(f"{path}: no such folder")
    raise InputError(
        f"{path}: contains no {JSON}: give a folder that hpcembed run or hpcembed export wrote"
    )


def _read_checked(path: Path, digest: object, name: str) -> bytes:
    """Return the content of a file whose digest is in ``model.json``."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{path}: not the {name} of {JSON}: export again")
    return content


def _read_tensors(path: Path, digest: object) -> dict[str, NDArray[Any]]:
    content = _read_checked(path, digest, "weights")
    try:
        return dict(safetensors.numpy.load(content))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error


def _build(description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Model:
    shift = tensors["shift"]
    width, dtype = int(description["n_features"]), np.dtype(description["input_type"])
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"input of type {dtype}")
    _check(shift, (width,), dtype, "shift")
    stages = []
    for i, stage in enumerate(description["stages"]):
        weight = tensors[f"stage{i}.weight"]
        expected = dtype if i == 0 else np.dtype(np.float32)
        _check(weight, (width, weight.shape[-1]), expected, f"stage{i}.weight")
        width = weight.shape[-1]
        bias = tensors[f"stage{i}.bias"] if stage["bias"] else None
        if bias is not None:
            _check(bias, (width,), expected, f"stage{i}.bias")
        stages.append(Stage(weight, bias, bool(stage["relu"])))
    names = tuple(str(name) for name in description["class_names"])
    features = tuple(str(name) for name in description["feature_names"])
    target = None
    if description.get("task") == "regression":
        kind = np.dtype(description["target_type"])
        target = TargetScaling(tensors["target.shift"], tensors["target.scale"])
        for name, array in (("shift", target.shift), ("scale", target.scale)):
            _check(array, (1,), kind, f"target.{name}")
    if not stages or width != (len(names) if target is None else 1):
        raise ValueError(f"{len(names)} class names for {width} outputs")
    if features and len(features) != shift.size:
        raise ValueError(f"{len(features)} feature names for {shift.size} features")
    return Model(shift, tuple(stages), names, features, target)


def _check(array: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinity")
