"""Arguments of ``hpcembed compress``, and the job that they make of a data file.

A data file needs no job: its format follows from its name. If the usual names are not found in a
file of several arrays, the largest array has the rows; a CSV file of labels and one column of
sentences has documents (:mod:`hpcembed.jobs.init.inspection`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from hpcembed.data.arrays.archives import HDF5_FILES, MATLAB_FILES, NPZ_FILES
from hpcembed.data.arrays.array_names import StatedNames, list_names
from hpcembed.data.formats import format_of_name
from hpcembed.data.settings import DataSettings
from hpcembed.data.tables.csv_header import read_header
from hpcembed.jobs.configuration import ClassifierConfig, JobConfig, check_job, load_job
from hpcembed.jobs.init.inspection import inspect_data
from hpcembed.jobs.network_sizes import NETWORK_SIZES
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.settings import build, read_overrides, read_table

__all__ = ["CompressRequest", "check_networks"]

#: Seeds of a comparison, at most, if no number is given.
MOST_SEEDS = 30
#: Terms of documents at most, those with most occurrences. Networks on all terms are the baseline.
MOST_TERMS = 3000
#: Formats of several arrays.
ARCHIVES = {"npz": NPZ_FILES, "hdf5": HDF5_FILES, "mat": MATLAB_FILES}


@dataclass(frozen=True, slots=True)
class CompressRequest:
    """Arguments of ``hpcembed compress``.

    Attributes
    ----------
    source : Path
        A job file or a data file.
    max_loss : float
        Points of accuracy, or of R2 (0.01 each), that may be lost.
    seeds : int
        Of a comparison at first.
    max_seeds : int
        Of a comparison at last; 0: 30, or `seeds` if that is more.
    max_components : int
        Largest k; 0: that of the job file, else as far as the spectrum goes.
    confidence : float
        Of the intervals.
    label_column, task, scaling : str
        Settings of a data file. A label column may be an array of a file of several arrays. An
        empty scaling is standard, and none for documents.
    labels : Path, optional
        File of the labels of a data file that has none.
    test, test_labels : Path, optional
        Test rows of a data file in a file or folder of their own, and their labels if the labels of
        the data file are in a file of their own; by default test rows are held out.
    overrides : tuple of str
        ``section.key=value``: keys of a job file, or of the job of a data file.
    keeps_model_of_loss : bool
        Write the model with the smallest loss also if it loses more than the margin.
    """

    source: Path
    max_loss: float
    seeds: int = 5
    max_seeds: int = 0
    max_components: int = 0
    confidence: float = 0.95
    label_column: str = ""
    task: Literal["auto", "classification", "regression"] = "auto"
    scaling: Literal["", "none", "divide", "minmax", "standard"] = ""
    overrides: tuple[str, ...] = ()
    keeps_model_of_loss: bool = False
    labels: Path | None = None
    test: Path | None = None
    test_labels: Path | None = None

    def check(self) -> None:
        """Raise ConfigError for values out of range."""
        if not (math.isfinite(self.max_loss) and self.max_loss > 0):
            raise ConfigError(f"--max-loss {self.max_loss}: give points of accuracy above 0")
        if not 2 <= self.seeds <= 1000:
            raise ConfigError(f"--seeds {self.seeds}: give 2 to 1000; one has no interval")
        if self.max_seeds and not self.seeds <= self.max_seeds <= 1000:
            raise ConfigError(f"--max-seeds {self.max_seeds}: give {self.seeds} (--seeds) to 1000")
        if not 0 <= self.max_components <= 2**20:
            raise ConfigError(f"--max-components {self.max_components}: give a k of at least 1")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"--confidence {self.confidence} must lie between 0 and 1")
        self._check_test()

    def _check_test(self) -> None:
        """Raise ConfigError unless the options for test rows belong together."""
        if self.source.suffix == ".toml":
            for option, key in ((self.test, "test"), (self.test_labels, "test_labels")):
                if option is not None:
                    name = key.replace("_", "-")
                    raise ConfigError(
                        f"--{name} {option}: for a job file use --set data.{key}={option}"
                    )
        if self.test_labels is not None and self.test is None:
            raise ConfigError(f"--test-labels {self.test_labels}: name the test rows with --test")
        if self.labels is not None and self.test is not None and self.test_labels is None:
            raise ConfigError(
                f"--test {self.test}: --labels is given, so the test rows need --test-labels"
            )
        if self.test_labels is not None and self.labels is None:
            raise ConfigError(
                f"--test-labels {self.test_labels}: name the labels of {self.source} with --labels"
            )
        for option in (self.test, self.test_labels):
            if option is not None and not option.exists():
                raise ConfigError(f"--test {option}: no such file or folder")

    @property
    def most_seeds(self) -> int:
        """Seeds of a comparison, at most."""
        return self.max_seeds or max(MOST_SEEDS, self.seeds)

    def most_components(self) -> int:
        """Return the largest k that is given, in the options or in the job file; 0 if none is."""
        if self.max_components:
            return self.max_components
        is_job = self.source.suffix == ".toml"
        read = read_table(self.source, self.overrides) if is_job else read_overrides(self.overrides)
        return int(read.get("embedding", {}).get("n_components", 0))

    def job(self) -> JobConfig:
        """Read the job file, or make a job for the data file."""
        if self.source.suffix == ".toml":
            job = load_job(self.source, self.overrides)
            check_networks(job, str(self.source))
            if self.task != "auto":
                raise ConfigError(
                    f"--task {self.task}: for a job file use --set data.task={self.task}"
                )
            job.training.check_default(("centred",), str(self.source), "hpcembed compress")
            if self.labels is not None:
                raise ConfigError("--labels: a job names its labels, data.train_labels")
            return job
        if not self.source.exists():
            raise ConfigError(f"{self.source}: no such job file or data file")
        keys = self._found_keys()
        default: Literal["none", "standard"] = "none" if "text_column" in keys else "standard"
        data = DataSettings(
            name=self.source.name.partition(".")[0],
            train=(self.source.name,),
            train_labels=_absolute(self.labels),
            test=() if self.test is None else (_absolute(self.test),),
            test_labels=_absolute(self.test_labels),
            task=self.task,
            scaling=self.scaling or default,
        )
        data = msgspec.structs.replace(data, **keys)
        job = JobConfig(data=data, classifier=ClassifierConfig(hidden=tuple(NETWORK_SIZES)))
        table = msgspec.to_builtins(job)
        for section, changed in read_overrides(self.overrides).items():
            table[section] = {**table.get(section, {}), **changed}
        job = build(JobConfig, table, "--set")
        check_job(job, str(self.source))
        check_networks(job, "--set")
        job.training.check_default(("centred",), "--set", "hpcembed compress")
        return job

    def _found_keys(self) -> dict[str, str | int | float]:
        """Return the keys of [data] that follow from the contents of the data file."""
        column, source = self.label_column, self.source
        kind = None if source.is_dir() else format_of_name(source.name)
        if kind in ("npz", "hdf5", "mat"):
            return _array_keys(source, kind, column)
        keys: dict[str, str | int | float] = {"label_column": column}
        if kind == "csv" and self.labels is None and column:
            found = inspect_data(source, column).keys
            text = found.get("text_column", "")
            if text and set(read_header(source, column, "auto").names) == {text, column}:
                keys |= {"text_column": text, "min_df": 2.0, "max_features": MOST_TERMS}
        return keys


def check_networks(job: JobConfig, source: str) -> None:
    """Raise ConfigError if a search has no network to try."""
    if not job.classifier.hidden:
        raise ConfigError(f"{source}: classifier.hidden names no network")


def _array_keys(path: Path, kind: str, label: str) -> dict[str, str | int | float]:
    """Return the names of the arrays of rows and labels; none for those of usual names."""
    names = ARCHIVES[kind].list_names(path)
    if label and label not in names:
        label = f"obs/{label}"  # a column of AnnData
        if label not in names:
            raise InputError(f"--label-column {label[4:]}: {path} has {list_names(names)}")
    keys: dict[str, str | int | float] = {"labels_key": label} if label else {}
    try:
        ARCHIVES[kind].names(path, StatedNames(labels=label))
    except InputError:
        if kind == "mat":
            raise
        found = inspect_data(path).keys
        for name in ("features_key", "labels_key"):
            keys.setdefault(name, found[name])
    return keys


def _absolute(path: Path | None) -> str:
    """Return an absolute path, "" for None."""
    return "" if path is None else str(path.absolute())
