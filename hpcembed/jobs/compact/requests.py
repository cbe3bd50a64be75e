"""Arguments of a call from Python to the configuration of a job or study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from mpi4py import MPI

from hpcembed.data.in_memory import table_of
from hpcembed.data.table import Table
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.ranks import communicator
from hpcembed.runtime.settings import build

__all__ = ["configured", "ranks_of", "tables_of"]

Config = TypeVar("Config", bound=msgspec.Struct)
#: Keys of [data] that name files, which data in memory do not have.
_FILE_KEYS = ("train", "train_labels", "test", "test_labels", "format", "label_column")


def configured(
    kind: type[Config],
    sections: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any] | None,
) -> Config:
    """Build a configuration from sections, changed by further settings.

    Parameters
    ----------
    kind : type
        ``JobConfig`` or ``StudyConfig``.
    sections : mapping of str to mapping
        Keys of each section; keys whose value is None keep their defaults.
    settings : mapping of str to object, optional
        Further keys, ``"section.key"``, as in a TOML file.

    Raises
    ------
    ConfigError
        A key or value is wrong.

    Examples
    --------
    >>> from hpcembed.jobs.configuration import JobConfig
    >>> job = configured(JobConfig, {"solver": {"seed": 1}}, {"solver.tol": 1e-8})
    >>> job.solver.seed, job.solver.tol
    (1, 1e-08)
    """
    table: dict[str, dict[str, Any]] = {}
    for section, keys in sections.items():
        table[section] = {key: value for key, value in keys.items() if value is not None}
    if not isinstance(settings or {}, Mapping):
        raise ConfigError(f"settings: a mapping of section.key to values is needed: {settings!r}")
    for name, value in (settings or {}).items():
        section, dot, key = str(name).partition(".")
        if not dot or not key:
            raise ConfigError(f"settings: {name!r}: give section.key, for example training.epochs")
        if section == "data" and key in _FILE_KEYS:
            raise ConfigError(f"settings: {name}: the data are in memory, so no file is read")
        table.setdefault(section, {})[key] = value
    return build(kind, _plain(table), "settings")


def ranks_of(X: Any, comm: MPI.Comm | None) -> MPI.Intracomm:
    """Return `comm`; without it, the ranks that share the rows of `X`, or this rank alone."""
    return communicator(getattr(X, "comm", None) if comm is None else comm)


def _plain(value: Any) -> Any:
    """Return lists for tuples and text for paths, as in a TOML file."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def tables_of(X: Any, y: Any, test: tuple[Any, Any] | None, comm: MPI.Comm) -> tuple[Table, ...]:
    """Return the rows to split, or training and test rows, as tables. Collective."""
    tables = [table_of(X, y, comm)]
    if test is not None:
        if not isinstance(test, tuple | list) or len(test) != 2:
            raise ConfigError("test: a pair of rows and labels is needed")
        tables.append(table_of(*test, comm, names=("X of test", "y of test")))
    return tuple(tables)
