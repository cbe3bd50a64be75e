"""Settings of a study: the sections of its TOML file.

``[data]``, ``[solver]``, ``[resources]`` and ``[output]`` are the same as in a job. ``[embedding]``
is the same without the number of components, which is in ``[study]`` with the networks.
``[training]`` changes single values of the recipe that ``study.recipe`` names;
``[training.published]`` and ``[training.default]`` change those of one recipe only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hpcembed.jobs.configuration import (
    ClassifierConfig,
    CommonConfig,
    EmbeddingConfig,
    JobConfig,
    check_job,
)
from hpcembed.jobs.study.trials import RivalKind
from hpcembed.networks.training.recipe import RECIPES, Recipe
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.settings import Fraction, NotNegative, Size, build, read_table

__all__ = ["StudyConfig", "SweepConfig", "check_study", "image_shape", "job_of", "load_study"]

#: Largest k up to which the default dimensions are all numbers.
ALL_UP_TO = 16

#: A number of components.
Dimension = Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class SweepConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Section ``[study]``: networks, dimensions and seeds, and the definition of no loss."""

    #: numbers of components; by default all up to 16, then steps of a fifth, up to n_components
    dimensions: tuple[Dimension, ...] = ()
    #: largest number of components
    n_components: Dimension = 50
    #: large, medium, low, very_low, or lists of layer widths
    networks: tuple[str | tuple[int, ...], ...] = ("large", "medium", "low", "very_low")
    #: number of seeds
    seeds: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 5
    #: the first seed
    first_seed: Size = 0
    #: spectral: coordinates of [embedding]; whitened: the same, each divided by its deviation;
    #: gaussian, sparse: random projections (Johnson-Lindenstrauss)
    embeddings: tuple[Literal["spectral", "whitened", "gaussian", "sparse"], ...] = ("spectral",)
    #: projections that are compared with the coordinates of [embedding], on the same networks and
    #: seeds: lda, cca (from the labels); lpp (from nearest rows); gaussian, sparse, fast (random);
    #: dct (lowest frequencies); truncation (the first features), variance (those of largest
    #: variance); autoencoder (one for each seed and k)
    rivals: tuple[RivalKind, ...] = ()
    #: whether the same networks are trained on all features as well
    baseline: bool = True
    #: whether the least dimension of a random subspace of the parameters is measured in which the
    #: chosen network, on all features and on its coordinates, reaches a share of its own score
    intrinsic: bool = False
    #: that share of the validation score
    intrinsic_share: Fraction = 0.9
    #: relative width of the interval of that dimension at which the search ends
    intrinsic_tolerance: Fraction = 0.1
    #: settings of the training, which [training] changes
    recipe: Literal["default", "published"] = "default"
    #: points of accuracy that a network without loss may lose
    margin: NotNegative = 0.2
    #: confidence of the intervals
    confidence: Fraction = 0.95
    #: number of networks trained together; 0 chooses it from their widths
    batch: Size = 0
    #: JSON file with published accuracies of the data set, for comparison
    published: str = ""
    #: auto: a GPU if there is one
    device: Literal["auto", "cpu", "cuda"] = "auto"
    #: shape of rows that are images, (height, width) or (3, height, width), for the report; known
    #: for idx (square images), cifar10 and digits
    image_shape: tuple[int, ...] = ()


class StudyConfig(CommonConfig, frozen=True, kw_only=True):
    """All settings of a study."""

    study: SweepConfig = SweepConfig()

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Numbers of components, in ascending order."""
        given = self.study.dimensions or _dimensions(self.study.n_components)
        return tuple(sorted(set(given)))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the trials."""
        first = self.study.first_seed
        return tuple(range(first, first + self.study.seeds))


def _dimensions(largest: int) -> tuple[int, ...]:
    chosen = list(range(1, min(largest, ALL_UP_TO) + 1))
    while chosen[-1] < largest:
        chosen.append(min(largest, chosen[-1] + max(1, round(0.2 * chosen[-1]))))
    return tuple(chosen)


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read the file of a study and apply ``section.key=value`` overrides.

    Raises
    ------
    ConfigError
        A key or value is wrong; the message names the file, the key and the allowed values.
    """
    table, source = read_table(path, overrides), str(path)
    sweep = table.get("study", {})
    name = sweep.get("recipe", "default") if isinstance(sweep, Mapping) else "default"
    given = table.get("training", {})
    if isinstance(given, Mapping):
        own = {key: given[key] for key in RECIPES if isinstance(given.get(key), Mapping)}
        common = {key: value for key, value in given.items() if key not in own}
        for key, values in own.items():  # checks those of the other recipe as well
            build(Recipe, values, f"{source}: training.{key}")
        if name in RECIPES:
            recipe = msgspec.structs.asdict(RECIPES[name])
            table["training"] = recipe | dict(own.get(name, {})) | common
    embedding = table.get("embedding", {})
    if isinstance(embedding, Mapping) and "n_components" in embedding:
        raise ConfigError(
            f"{source}: embedding.n_components: a study has study.dimensions, a list of numbers of "
            "components, in place of this key; `hpcembed init DATA --study` writes a job for a "
            "study"
        )
    if "classifier" in table:
        raise ConfigError(
            f"{source}: [classifier]: a study has study.networks, a list of hidden layers, in "
            "place of this section; `hpcembed init DATA --study` writes a job for a study"
        )
    study = build(StudyConfig, table, source)
    check_study(study, source)
    return study


def check_study(study: StudyConfig, source: str) -> None:
    """Check the rules between keys of a study.

    Raises
    ------
    ConfigError
        A rule does not hold; the message names `source`, the keys and the rule.
    """
    for key in ("networks", "embeddings"):
        if not getattr(study.study, key):
            raise ConfigError(f"{source}: study.{key} must not be empty")
    if study.study.rivals and "spectral" not in study.study.embeddings:
        raise ConfigError(
            f"{source}: study.rivals are compared with the coordinates of [embedding]: add "
            '"spectral" to study.embeddings'
        )
    if study.study.intrinsic and not study.study.baseline:
        raise ConfigError(
            f"{source}: study.intrinsic needs the networks on all features: set study.baseline = "
            "true"
        )
    try:
        check_job(job_of(study), source)
    except ConfigError as error:
        named = str(error).replace("classifier.hidden", "study.networks")
        raise ConfigError(named) from error


def job_of(study: StudyConfig) -> JobConfig:
    """Return the job that a study starts with: its data and its eigenproblem."""
    sections = msgspec.structs.asdict(study)
    sweep, method = sections.pop("study"), msgspec.structs.asdict(sections.pop("embedding"))
    return JobConfig(
        **sections,
        embedding=EmbeddingConfig(**method, n_components=max(study.dimensions)),
        classifier=ClassifierConfig(
            hidden=sweep.networks, baseline=sweep.baseline, device=sweep.device
        ),
    )


def image_shape(study: StudyConfig, n_features: int) -> tuple[int, ...]:
    """Return the shape of rows that are images; empty for other rows.

    Raises
    ------
    ConfigError
        ``study.image_shape`` does not have `n_features` values.
    """
    given = study.study.image_shape
    if given:
        right = len(given) == 2 or (len(given) == 3 and given[0] == 3)
        if not right or math.prod(given) != n_features:
            raise ConfigError(
                f"study.image_shape = {list(given)} is not an image of {n_features} features: give "
                "[height, width] or [3, height, width]"
            )
        return given
    side = math.isqrt(n_features)
    if study.data.format == "cifar10" and n_features == 3072:
        return 3, 32, 32
    if study.data.format in ("idx", "digits") and side * side == n_features:
        return side, side
    return ()
