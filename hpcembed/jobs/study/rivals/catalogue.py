"""The values of ``study.rivals``: requirements, settings and largest dimension of each projection.

Random kinds have a projection for each seed. All other rivals are fitted once, on all training
rows; those that use labels use the labels of the validation rows as well, so their validation
scores are too high. Rivals are therefore compared on test rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding import PCA
from hpcembed.embedding.generalized.locality import spanned_components
from hpcembed.jobs.study.trials import RivalKind
from hpcembed.runtime.errors import InputError

#: Variance of a component relative to the largest one that is no error of the embedding.
_CLEARLY_SPANNED = 1e-4

__all__ = ["RIVALS", "RivalProjection", "rival_limits", "rival_settings", "unlabelled_limits"]

FittedOn = Literal["nothing", "rows", "rows and labels"]


@dataclass(frozen=True, slots=True)
class RivalProjection:
    """Facts about a rival projection.

    Attributes
    ----------
    fitted_on : {"nothing", "rows", "rows and labels"}
        Part of the training data that the projection needs.
    settings : mapping
        Values that determine the coordinates, as JSON values, for the digests of trials.
    has_own_digest : bool
        False for inputs that are also values of ``study.embeddings``.
    """

    fitted_on: FittedOn
    settings: Mapping[str, Any] = field(default_factory=dict)
    has_own_digest: bool = True


#: Every name of ``study.rivals``.
RIVALS: Mapping[str, RivalProjection] = MappingProxyType(
    {
        "lda": RivalProjection("rows and labels", {"shrinkage": "auto"}),
        "cca": RivalProjection("rows and labels", {"ridge": 1e-6}),
        "lpp": RivalProjection(
            "rows", {"n_neighbors": 5, "pca_components": 100, "max_rows": 20_000}
        ),
        "gaussian": RivalProjection("nothing", has_own_digest=False),
        "sparse": RivalProjection("nothing", has_own_digest=False),
        "fast": RivalProjection("nothing"),
        "dct": RivalProjection("nothing"),
        "truncation": RivalProjection("nothing"),
        "variance": RivalProjection("rows"),
        "autoencoder": RivalProjection("rows", {"hidden": 128, "encoder": "hidden"}),
    }
)


def rival_settings(
    rivals: Sequence[RivalKind], image_shape: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Return the settings of each rival, for the digests of its trials.

    Parameters
    ----------
    image_shape : sequence of int
        Shape of rows that are images; empty for other rows.
    """
    found = {}
    for name in rivals:
        if RIVALS[name].has_own_digest:
            found[str(name)] = dict(RIVALS[name].settings)
            if name == "dct":
                found[name]["image_shape"] = list(image_shape)
    return found


def rival_limits(
    rivals: Sequence[RivalKind], train: DataMatrix, embedding: Any = None
) -> dict[str, int]:
    """Return the largest number of coordinates of each rival.

    Collective.

    Parameters
    ----------
    embedding : fitted estimator, optional
        With the largest number of coordinates of the study. Of lpp, this number is then reduced to
        the number of dimensions that the rows span. Default: it is not.

    Raises
    ------
    InputError
        A rival needs classes, and there are none or only one.
    """
    if not rivals:
        return {}
    limits = unlabelled_limits(rivals, train.n_rows, train.n_features)
    if "lpp" in limits and embedding is not None:
        limits["lpp"] = _spanned_limit(limits["lpp"], train, embedding)
    of_ranks = train.comm.allgather(np.unique(train.labels))
    n_classes = len(np.unique(np.concatenate(of_ranks))) if train.class_names else 0
    return limits | _label_limits(rivals, train.n_features, n_classes)


def unlabelled_limits(rivals: Sequence[RivalKind], n_train: int, d: int) -> dict[str, int]:
    """Return the largest number of coordinates of each rival on rows of any labels.

    Examples
    --------
    >>> unlabelled_limits(["lda", "lpp"], 60_000, 784)
    {'lda': 784, 'lpp': 100}
    """
    limits = {str(name): d for name in rivals}
    if "lpp" in limits:
        limits["lpp"] = max(1, min(d, n_train - 1, RIVALS["lpp"].settings["pca_components"]))
    return limits


def _spanned_limit(limit: int, train: DataMatrix, embedding: Any) -> int:
    """Return the largest number of coordinates of lpp on rows that may span few dimensions.

    Collective. Components are computed again only if those of the embedding leave it open.
    """
    wanted = min(limit, len(embedding.spectrum_.values))
    if isinstance(embedding, PCA):
        values = embedding.explained_variance_[:wanted]
        if values[-1] > _CLEARLY_SPANNED * values[0]:
            return limit
    spanned = max(1, spanned_components(train, wanted))
    return spanned if spanned < wanted else limit


def _label_limits(rivals: Sequence[RivalKind], d: int, n_classes: int) -> dict[str, int]:
    """Return the limits of the rivals that need labels; no classes are those of a regression."""
    limits = {}
    for name in rivals:
        if RIVALS[name].fitted_on != "rows and labels":
            continue
        if n_classes == 0 and name == "lda":
            raise InputError(
                "study.rivals: lda needs classes, and the target is a number: leave it out, or use "
                "cca"
            )
        if n_classes == 1:
            raise InputError(
                f"study.rivals: {name} needs two classes, and the training rows have one: leave it "
                "out"
            )
        limits[str(name)] = min(d, max(1, n_classes - 1))
    return limits
