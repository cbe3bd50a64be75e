"""Published accuracies of the networks of a study, for comparison.

They are read from a JSON file: ``sets.NAME.protocol.hidden`` names networks,
``sets.NAME.embedded_accuracy`` has a list for k = 1, 2, ... under each name, and
``sets.NAME.baseline_accuracy`` a number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hpcembed.runtime.errors import ConfigError

__all__ = ["PublishedAccuracy", "load_published"]


@dataclass(frozen=True, slots=True)
class PublishedAccuracy:
    """Accuracies of one network for k = 1, 2, ... and on all features, between 0 and 1."""

    accuracy: tuple[float, ...]
    baseline: float | None

    def at(self, k: int) -> float | None:
        """Return the accuracy at k dimensions, or None if none was published."""
        return self.accuracy[k - 1] if k <= len(self.accuracy) else None


def load_published(path: Path, name: str) -> dict[tuple[int, ...], PublishedAccuracy]:
    """Read the published accuracies of the data set `name`, by hidden layers.

    Raises
    ------
    ConfigError
        The file cannot be read, has another form, or does not have the data set.
    """
    try:
        sets = json.loads(path.read_text(encoding="utf-8"))["sets"]
        if name not in sets:
            raise ConfigError(f"{path}: no data set {name!r}; there are {', '.join(sets)}")
        one = sets[name]
        return {
            tuple(int(width) for width in widths): PublishedAccuracy(
                tuple(float(value) for value in one["embedded_accuracy"].get(network, [])),
                one["baseline_accuracy"].get(network),
            )
            for network, widths in one["protocol"]["hidden"].items()
        }
    except OSError as error:
        raise ConfigError(f"study.published: {path}: {error.strerror or error}") from error
    except (
        ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"study.published: {path}: not a file of published accuracies ({error})"
        ) from error
