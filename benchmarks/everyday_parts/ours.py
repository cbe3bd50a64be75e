"""Our side: one command from a file to a model, its predictions, and the check of its ONNX file."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import hpcembed
from everyday_parts.peers import read_part
from everyday_parts.sets import EverydaySet, Part

__all__ = ["CommandError", "Ours", "command_of", "onnx_difference", "run_ours"]

#: Exit statuses of ``hpcembed compress`` after which there is a model.
_WITH_MODEL = (0, 5)


class CommandError(Exception):
    """A command that failed, with its last line."""


@dataclass(frozen=True)
class Ours:
    """Result of our command.

    Attributes
    ----------
    predicted : ndarray
        Classes as text, or targets, of the test rows, by ``hpcembed predict``.
    seconds : float or None
        Of ``hpcembed compress`` from its start to its end; None if it was interrupted.
    verdict : str
        Of the search, against its own large network on all features.
    k, parameters : int
        Of the deployed model; the parameters count the projection and the scaling.
    difference : float
        Largest difference of ONNX from ``predict``: of probabilities, or of targets in standard
        deviations; infinite if a class differs.
    """

    predicted: NDArray[Any]
    seconds: float | None
    verdict: str
    k: int
    parameters: int
    difference: float


def command_of(one: EverydaySet, train: Part, test: Part, out: Path) -> list[str]:
    """Return the arguments of ``hpcembed``: files, label column, largest loss, and options."""
    words = ["compress", str(train.file), "--test", str(test.file), "--max-loss", "1"]
    if one.label:
        words += ["--label-column", one.label]
    words += one.options
    if train.label_file:
        words += ["--labels", str(train.label_file), "--test-labels", str(test.label_file)]
    return [*words, "--out", str(out)]


def run_ours(one: EverydaySet, train: Part, test: Part, folder: Path, max_seeds: int = 0) -> Ours:
    """Run the command, predict the test rows, and compare the ONNX file with the predictions.

    Raises
    ------
    CommandError
        A command failed, or there is no model within the largest loss.
    """
    out = folder / "out"
    words = command_of(one, train, test, out)
    if max_seeds:
        words += ["--max-seeds", str(max_seeds)]
    status, seconds, log = _compress(words, folder)
    if status not in _WITH_MODEL:
        reason = "no model within the largest loss" if status == 4 else log
        raise CommandError(reason)
    record = json.loads((out / "compress.json").read_text())
    predictions = folder / "predictions.csv"
    status, log = _hpcembed(
        ["predict", str(out), str(test.file), "--out", str(predictions)], folder / "predict.log"
    )
    if status:
        raise CommandError(log)
    with predictions.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    if len(lines) != len(test.labels):
        raise CommandError(f"{len(lines)} predictions for {len(test.labels)} test rows")
    model = hpcembed.load(out)
    predicted = np.array([line["prediction"] for line in lines])
    return Ours(
        predicted.astype(np.float64) if one.is_regression else predicted,
        seconds,
        record["answer"]["verdict"],
        record["answer"]["n_inputs"],
        int(model.description["parameters"]["stored"]),
        onnx_difference(one, out, test, lines),
    )


def _compress(words: list[str], folder: Path) -> tuple[int, float | None, str]:
    """Run ``compress``, or return the status of an earlier run of the same command.

    A run that was interrupted is continued, with the networks that it had trained, and has no time.
    """
    finished, out = folder / "command.json", Path(words[words.index("--out") + 1])
    if finished.exists():
        earlier = json.loads(finished.read_text())
        if earlier["words"] == words:
            return int(earlier["status"]), earlier["seconds"], str(earlier["log"])
        shutil.rmtree(out, ignore_errors=True)
    is_continued = out.exists()
    began = time.perf_counter()
    status, log = _hpcembed(words, folder / "compress.log")
    seconds = None if is_continued else time.perf_counter() - began
    record = {"words": words, "status": status, "seconds": seconds, "log": log}
    finished.write_text(json.dumps(record))
    return status, seconds, log


def _hpcembed(words: list[str], log: Path) -> tuple[int, str]:
    """Run a command; return its status and the last line of its log."""
    done = subprocess.run(
        [sys.executable, "-m", "hpcembed", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    log.write_text(done.stdout + done.stderr)
    return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]


def onnx_difference(one: EverydaySet, out: Path, test: Part, lines: list[dict[str, str]]) -> float:
    """Return the largest difference between ``model.onnx`` and ``predict`` on raw test rows."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(out / "model" / "model.onnx"))
    outputs = session.run(None, _inputs(one, session, out, test))
    found = dict(zip((output.name for output in session.get_outputs()), outputs, strict=True))
    if one.is_regression:
        told = np.array([float(line["prediction"]) for line in lines])
        return float(np.abs(found["prediction"] - told).max() / told.std())
    names = _class_names(session)
    classes = [names[index] for index in found["class_index"]]
    if classes != [line["prediction"] for line in lines]:
        return float("inf")
    told = np.array([float(line["probability"]) for line in lines])
    return float(np.abs(found["probabilities"].max(axis=1) - told).max())


def _class_names(session: Any) -> list[str]:
    metadata = session.get_modelmeta().custom_metadata_map
    return [str(name) for name in json.loads(metadata["class_names"])]


def _inputs(one: EverydaySet, session: Any, out: Path, test: Part) -> dict[str, NDArray[Any]]:
    """Return the inputs of the graph: raw columns, flat rows, or weights of terms."""
    inputs = session.get_inputs()
    rows: Any
    if one.peer == "text":
        rows = hpcembed.load(out).vectoriser.transform(list(test.rows["sentence"])).toarray()
    elif one.peer != "table":
        rows = read_part(one, test)[0]
    else:
        return {put.name: _column(test.rows, put.name, put.type) for put in inputs}
    kind = np.float64 if inputs[0].type == "tensor(double)" else np.float32
    return {inputs[0].name: np.asarray(rows, dtype=kind)}


def _column(table: pd.DataFrame, name: str, kind: str) -> NDArray[Any]:
    """Return a raw column as an input of shape (n, 1): texts, numbers, or days of dates."""
    column = table[name]
    if kind == "tensor(string)":
        texts = [str(cell) if pd.notna(cell) else "" for cell in column]
        return np.array(texts, dtype=object)[:, None]
    if column.dtype.kind not in "iufb":
        numbers = pd.to_numeric(column.str.replace(",", ""), errors="coerce")
        if numbers.isna().all():
            formats = ("%Y-%m-%d", "%Y/%m/%d")
            tried = (pd.to_datetime(column, format=one, errors="coerce") for one in formats)
            dates = max(tried, key=lambda found: found.notna().sum())
            numbers = (dates - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
        column = numbers
    type_ = np.float64 if kind == "tensor(double)" else np.float32
    return column.to_numpy(dtype=type_)[:, None]
