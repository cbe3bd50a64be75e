"""Card of a compressed model: its description for users, as Markdown."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import hpcembed
from hpcembed.jobs.network_compression.report import settings_rows
from hpcembed.jobs.network_compression.wording import (
    before_after,
    certification,
    count_pair,
    error_text,
    headline,
    layer_ranks,
    layer_size,
    number,
    one_line,
    percentage,
)
from hpcembed.jobs.report.tables import TextTable
from hpcembed.networks.low_rank.report import CompressionReport

__all__ = ["CardFacts", "card_text", "file_sha256"]

#: The weights of a folder for torch.
TENSORS = "model.safetensors"
_NUMBERS = (
    "All numbers of the compression are in `report.json`, `layers.csv` and `frontier.csv`; "
    "`report.html` shows them."
)
_PACKAGES = ("torch", "safetensors", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Facts of a model folder that are not in the report.

    Attributes
    ----------
    model_name, data_name : str
        Empty where the user gave none.
    files : tuple of str
        Files of the model in the folder.
    sha256 : str
        Hash of ``model.safetensors``; of ``model.onnx`` in a folder without it.
    n_tensors, n_bytes : int
        Tensors in that file, and their bytes.
    onnx_deviation : float or None
        Largest deviation of ``model.onnx`` from torch, relative to the largest output.
    warnings : tuple of str
    """

    model_name: str
    data_name: str
    files: tuple[str, ...]
    sha256: str
    n_tensors: int = 0
    n_bytes: int = 0
    onnx_deviation: float | None = None
    warnings: tuple[str, ...] = ()


def card_text(report: CompressionReport, facts: CardFacts) -> str:
    """Write the card.

    Parameters
    ----------
    report : CompressionReport
    facts : CardFacts
    """
    name = _plain(facts.model_name) or "Network"
    sections = [
        ("", [f"# {name}, compressed", headline(report)]),
        ("Use", _use(facts)),
        ("Size and scores", [_markdown(("", "before", "after", "kept"), before_after(report))]),
        ("Layers", _layers(report)),
        ("Data", _data(report, facts)),
        ("Settings", [_markdown(("setting", "value"), settings_rows(report.settings), (0, 1))]),
        ("Warnings", [f"- {_plain(text)}" for text in (*report.warnings, *facts.warnings)]),
        ("Provenance", [_versions()]),
    ]
    parts = []
    for heading, blocks in sections:
        shown = [block for block in blocks if block]
        if shown:
            parts += ([f"## {heading}"] if heading else []) + shown
    return "\n\n".join(parts) + "\n"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _use(facts: CardFacts) -> list[str]:
    if TENSORS not in facts.files:
        files = " and ".join(f"`{name}`" for name in facts.files)
        return [
            f"{files} ({facts.n_bytes:,} bytes; SHA-256 of `model.onnx` {facts.sha256}) takes the "
            "inputs of the model that was compressed, in any runtime of ONNX. Its metadata has the "
            "ranks of the layers.",
            _NUMBERS,
        ]
    size = f"{facts.n_tensors} tensors, {facts.n_bytes:,} bytes"
    blocks = [
        "`load_model.py` needs torch and safetensors only. It takes the network before its "
        "compression (`MyNet()` below stands for it), replaces layers as `layers.json` states, "
        f"and loads `model.safetensors` ({size}; SHA-256 {facts.sha256}).",
        '```python\nimport sys\n\nsys.path.insert(0, "this/folder")\nimport load_model\n\n'
        'small = load_model.restore(MyNet(), "this/folder")\n```',
    ]
    if "model.onnx" in facts.files:
        text = (
            "`model.onnx` is the same model for runtimes of ONNX; the number of samples is free, "
            "other dimensions are those of the example."
        )
        if facts.onnx_deviation is not None:
            text += (
                " Largest deviation of its outputs from those of torch, relative to the largest "
                f"output: {number(facts.onnx_deviation)}."
            )
        blocks.append(text)
    return [*blocks, _NUMBERS]


def _layers(report: CompressionReport) -> list[str]:
    cut = [layer for layer in report.layers if layer.side != "none"]
    rows = [
        (
            layer.name, layer.kind, layer_size(layer), layer_ranks(layer),
            percentage(layer.captured), number(layer.error_measured),
            *count_pair(layer.parameters),
        )
        for layer in cut
    ]  # fmt: skip
    headings = (
        "layer", "type", "outputs x inputs", "rank", "captured %", "error measured", "parameters",
        "after",
    )  # fmt: skip
    whole = len(report.layers) - len(cut)
    more = f"{whole} other layers are whole; `report.html` gives the reasons." if whole else ""
    folded = ", ".join(f"`{_plain(name)}`" for name in report.folded)
    return [
        _markdown(headings, rows, (0, 1, 2, 3)) if rows else "No layer was cut.",
        f"Errors are those {error_text(report)}, relative to the variance." if rows else "",
        more,
        f"Batch normalisations folded into the layers before them: {folded}." if folded else "",
        certification(report),
    ]


def _data(report: CompressionReport, facts: CardFacts) -> list[str]:
    name = _plain(facts.data_name) or "no name was given"
    lines = [
        f"- Data: {name}.",
        f"- Calibration: {report.samples:,} samples; labels were not used.",
        f"- SHA-256 of the calibration batches: {report.calibration_hash or 'unknown'}.",
        f"- Seed: {report.settings.get('seed', 'unknown')}.",
    ]
    return ["\n".join(lines)]


def _versions() -> str:
    found = [("hpcembed", hpcembed.__version__), ("Python", platform.python_version())]
    for package in _PACKAGES:
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(f"{name} {version}" for name, version in found) + "."


def _markdown(
    headings: Sequence[str], rows: Sequence[Sequence[str]], text_columns: tuple[int, ...] = (0,)
) -> str:
    cells = [[_plain(cell) for cell in row] for row in rows]
    return TextTable(headings, cells, text_columns).markdown() if rows else ""


def _plain(text: object) -> str:
    """Return text in one line that Markdown shows as it is."""
    line = one_line(text)
    for character in "\\`*_|<>[]":
        line = line.replace(character, f"\\{character}")
    return line
