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
    """Accuracy of a network, between 0 and 1; None if there were no rows to measure it on.

    Attributes
    ----------
    test, validation : float or None
        Means over `n_seeds` training runs. Test rows were used once; validation rows selected the
        epoch.
    spread : float or None
        Standard deviation of the test accuracy over the training runs.
    n_seeds : int
    """

    test: float | None
    validation: float | None
    spread: float | None = None
    n_seeds: int = 1


@dataclass(frozen=True, slots=True)
class Uncompressed:
    """A network on all features, for comparison; `test_accuracy` is a mean over `n_seeds`."""

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
    return render_template("model_card.md.j2", versions=versions, **description)
