"""The model card: what a person who is handed the model must know, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Accuracy", "Uncompressed", "card_text"]

#: Class names beyond which a card only counts.
LISTED = 20


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often the network is right, between 0 and 1; None where there were no rows to tell.

    Attributes
    ----------
    test, validation : float or None
        Means over `n_seeds` trainings. Test rows were used once, validation rows chose the epoch.
    spread : float or None
        Standard deviation of the test accuracy over the trainings.
    n_seeds : int
    """

    test: float | None
    validation: float | None
    spread: float | None = None
    n_seeds: int = 1


@dataclass(frozen=True, slots=True)
class Uncompressed:
    """A network on all features, to compare with; `test_accuracy` is a mean over `n_seeds`."""

    hidden: tuple[int, ...]
    parameters: int
    test_accuracy: float
    train_seconds: float
    n_seeds: int = 1


def card_text(description: Mapping[str, Any]) -> str:
    """The card of a model with this ``model.json``.

    Not collective.
    """
    paragraphs = [
        f"---\nlibrary_name: hpcembed\npipeline_tag: {_task(description)}\n"
        f"tags: [onnx, safetensors{_tag(description)}]\n---\n\n# {_title(description)}",
        _summary(description),
        "## Accuracy\n\n" + _accuracy(description),
        "## Size\n\n" + _size(description),
        "## Data\n\n" + _data(description),
        "## Use\n\n" + _use(description),
        "## Provenance\n\n" + _provenance(description["provenance"]),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _task(description: Mapping[str, Any]) -> str:
    return "text-classification" if description.get("takes_texts") else "tabular-classification"


def _tag(description: Mapping[str, Any]) -> str:
    return f", {description['embedding']['method']}" if description["embedding"] else ""


def _title(description: Mapping[str, Any]) -> str:
    return f"{description['name']}, network {description['network']}"


def _summary(description: Mapping[str, Any]) -> str:
    data, k = description["dataset"], description["n_components"]
    layers = "-".join(map(str, description["hidden"]))
    inputs = f"all {data['n_features']:,} features"
    if k is not None:
        name = description["embedding"]["components"]
        inputs = f"{k:,} {name} of {data['n_features']:,} features"
    return (
        f"A multilayer perceptron (hidden layers {layers}, ReLU) on {inputs}; "
        f"{data['n_classes']} classes. Scaling{', projection' if k is not None else ''} and "
        f"network are one graph: the input is {_input(description)}."
    )


def _input(description: Mapping[str, Any]) -> str:
    if description.get("takes_texts"):
        return (
            "rows of weighted terms, which `hpcembed.load` and `hpcembed predict` make of texts "
            "with the vocabulary and weights in `text.json`"
        )
    return "the raw features"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.2f} %"


def _accuracy(description: Mapping[str, Any]) -> str:
    accuracy = description["accuracy"]
    test = _percent(accuracy["test"])
    if accuracy["spread"] is not None:
        test += f" +- {100 * accuracy['spread']:.2f} (standard deviation)"
    seeds = accuracy["n_seeds"]
    over = "one seed; its spread is not known"
    if seeds > 1:
        over = f"mean of {seeds} seeds; this network is the one with the best validation accuracy"
    lines = [
        f"- Test: {test}, {over}. The test rows were used once.",
        f"- Validation: {_percent(accuracy['validation'])}. It chose the epoch.",
    ]
    full = description["uncompressed"]
    if full is not None:
        over = f" (mean of {full['n_seeds']} seeds)" if full["n_seeds"] > 1 else ""
        lines.append(
            f"- {'-'.join(map(str, full['hidden']))} on all features: test "
            f"{_percent(full['test_accuracy'])}{over}, {full['parameters']:,} parameters, "
            f"{full['train_seconds']:.2f} s to train."
        )
    return "\n".join(lines)


def _size(description: Mapping[str, Any]) -> str:
    parameters, sizes = description["parameters"], description["projection"]
    rows = [
        ("trained parameters, without the projection", parameters["network"]),
        ("all numbers stored, with the projection and the shift", parameters["stored"]),
        ("multiplications for one row", description["multiplications"]),
    ]
    table = ["| | |", "|---|---:|", *(f"| {name} | {count:,} |" for name, count in rows)]
    text = "\n".join(table)
    if sizes is None:
        return text + "\n\nScaling and standardisation are part of the first layer's weights."
    folded, apart = f"{sizes['numbers_folded']:,}", f"{sizes['numbers_apart']:,}"
    if sizes["folded"]:
        return text + (
            f"\n\nThe projection is folded into the first layer: one matrix of {folded} numbers "
            f"where both apart have {apart}. It computes the same; products were formed in double "
            "and rounded once."
        )
    return text + (
        f"\n\nThe projection is kept apart from the first layer: both have {apart} numbers, where "
        f"one matrix for both would have {folded}."
    )


def _data(description: Mapping[str, Any]) -> str:
    data, certificate = description["dataset"], description["embedding"]
    names = description["class_names"]
    lines = [f"- {data['name']}: {data['n_train']:,} training and {data['n_test']:,} test rows."]
    if names:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        lines.append(f"- Classes: {', '.join(names[:LISTED])}{more}.")
    if certificate is not None:
        residual = certificate["largest_relative_residual"]
        known = "unknown" if residual is None else f"{residual:.1e}"
        share = certificate["explained_variance"]
        held = "" if share is None else f"; they hold {100 * share:.1f} % of the variance"
        lines.append(
            f"- Components: {certificate['solver']}, {certificate['converged_reason']}, largest "
            f"relative residual {known}{held}."
        )
    return "\n".join(lines)


def _use(description: Mapping[str, Any]) -> str:
    kind = description["input_type"]
    d = description["dataset"]["n_features"]
    why = "" if kind == "float32" else ", because float32 would lose what tells the rows apart"
    rows, file = "rows", "rows.csv"
    if description.get("takes_texts"):
        rows, file = '["a text", "another"]', "texts.txt"
    return f"""\
`model.onnx` takes `features`, {kind} of shape (rows, {d}){why}, and gives `logits`,
`probabilities` and `class_index`; the names of the classes are in its metadata.

```python
import hpcembed

model = hpcembed.load("this/folder")
model.predict({rows})            # also predict_proba, score, classes_
```

```sh
hpcembed predict this/folder {file} --out predictions.csv
```"""


def _provenance(provenance: Mapping[str, Any]) -> str:
    versions = {"hpcembed": provenance["hpcembed"], "Python": provenance["python"]}
    versions |= {"PETSc": provenance["petsc"], "SLEPc": provenance["slepc"]}
    versions |= provenance["packages"]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    seeds = ", ".join(f"{name} {seed}" for name, seed in provenance["seeds"].items())
    return (
        f"- Versions: {listed}.\n- MPI: {provenance['mpi']}, ranks: {provenance['ranks']}.\n"
        f"- Seeds: {seeds}.\n\n```toml\n{provenance['job'].strip()}\n```"
    )
