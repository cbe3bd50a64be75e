"""Model card: the description of a deployable model for its users, as Markdown.

The text is the template ``model_card.md.j2`` of :mod:`hpcembed.jobs.report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcembed.jobs.report.rendering import render_template

__all__ = ["Accuracy", "Uncompressed", "card_text"]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Score of a network: accuracy, or R2 of a regression; None without rows to measure it on.

    Attributes
    ----------
    test, validation : float or None
        Means over `n_seeds` training runs. Test rows were used once; validation rows selected the
        epoch.
    spread : float or None
        Standard deviation of the test score over the training runs.
    n_seeds : int
    rmse, mae : float or None
        Errors of a regression on the test rows, in the unit of the target.
    """

    test: float | None
    validation: float | None
    spread: float | None = None
    n_seeds: int = 1
    rmse: float | None = None
    mae: float | None = None


@dataclass(frozen=True, slots=True)
class Uncompressed:
    """A network on all features, for comparison.

    `test_accuracy` is its test score, the accuracy or R2, as a mean over `n_seeds`.
    """

    hidden: tuple[int, ...]
    parameters: int
    test_accuracy: float | None
    train_seconds: float | None
    n_seeds: int = 1


def card_text(description: Mapping[str, Any]) -> str:
    """Write the card of a model from the content of its ``model.json``."""
    provenance = description["provenance"]
    versions = {
        "hpcembed": provenance["hpcembed"],
        "Python": provenance["python"],
        "PETSc": provenance["petsc"],
        "SLEPc": provenance["slepc"],
        **provenance["packages"],
    }
    values: dict[str, Any] = {
        "task": "classification",
        "target_type": None,
        "accuracy": None,
        "r2": None,
    }
    return render_template("model_card.md.j2", versions=versions, **(values | dict(description)))
