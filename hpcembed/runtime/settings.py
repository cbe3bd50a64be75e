"""Typed settings and the TOML files that they are read from and written to.

Settings are frozen :class:`msgspec.Struct` classes whose annotations state type, choices and range
of each value. :func:`build` converts a table of a TOML file key by key, so that every error names
the file, the key and the correct form.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import shlex
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from hpcembed.runtime.errors import ConfigError

__all__ = [
    "Count",
    "Fraction",
    "NotNegative",
    "Positive",
    "Seed",
    "Share",
    "Size",
    "build",
    "read_overrides",
    "read_table",
    "to_toml",
]

Section = TypeVar("Section", bound=msgspec.Struct)

#: Size of a job file, at most; reading a longer one takes seconds.
_MOST_BYTES = 2**20
#: Parts of a dotted key, at most; a job has keys of two.
_MOST_KEY_PARTS = 30
_KEY_PART = re.compile(r"""\s*([A-Za-z0-9_-]+|"[^"]*"|'[^']*')\s*""")

#: A count of at least 1.
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
#: A count of at least 0; for many keys the program chooses it if it is 0.
Size = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
#: Seed of a random sequence.
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
#: A share between 0 and 1, without both.
Fraction = Annotated[float, msgspec.Meta(gt=0, lt=1)]
#: A share of at least 0 and less than 1.
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
#: Numbers without an upper limit.
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


def build(kind: type[Section], table: Mapping[str, Any], source: str) -> Section:
    """Convert a table to a struct of settings.

    Integers are accepted where numbers are expected, and a single string or number where a list of
    them is expected; nothing else is converted.

    Parameters
    ----------
    kind : type
        A :class:`msgspec.Struct`, perhaps of structs (sections).
    table : mapping
        As a TOML file gives it.
    source : str
        Name of the file, for error messages.

    Raises
    ------
    ConfigError
        A key or value is wrong; the message names `source`, the key and the correct form.

    Examples
    --------
    >>> import msgspec
    >>> class Solver(msgspec.Struct, frozen=True):
    ...     tol: Fraction = 1e-10
    ...     max_it: Count = 500
    >>> build(Solver, {"tol": 1e-6}, "job.toml")
    Solver(tol=1e-06, max_it=500)
    >>> build(Solver, {"maxit": 3}, "job.toml")
    Traceback (most recent call last):
        ...
    hpcembed.runtime.errors.ConfigError: job.toml: unknown key maxit; did you mean max_it?
    """
    return typing.cast(Section, _convert(kind, table, source, "", kind))


def read_table(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file and apply ``section.key=value`` overrides, without checking any key.

    Raises
    ------
    ConfigError
        The file cannot be read or is not TOML; the message names it.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(
                f"{path}: is not a regular file; give the path of a job file{_init_hint(path)}"
            )
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ConfigError(
                f"{path}: larger than {_MOST_BYTES >> 20} MiB; a job is a short TOML file: list "
                f"many data files by their folder{_init_hint(path)}"
            )
        text = content.decode("utf-8")
        _check_dotted_keys(text, path)
        table = msgspec.toml.decode(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the path of a job file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 text; a job is a TOML file{_init_hint(path)}"
        ) from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}{_init_hint(path)}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not a job: its values are nested too deeply") from error
    except ConfigError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise ConfigError(f"{path}: not valid TOML: {' '.join(str(error).split())}") from error
    return read_overrides(overrides, table)


def _init_hint(path: Path) -> str:
    """Return the command that writes a job, for a path that is perhaps a data file or folder."""
    if path.suffix.lower() == ".toml":
        return ""
    return f"; for a data file or folder, `hpcembed init {shlex.quote(str(path))}` writes a job"


def _check_dotted_keys(text: str, path: Path) -> None:
    """Refuse keys of many parts: the time of the parser is quadratic in their number."""
    for number, line in enumerate(text.splitlines(), 1):
        length = 0
        for part in line.split("."):
            length = length + 1 if _KEY_PART.fullmatch(part) else 0
            if length > _MOST_KEY_PARTS:
                raise ConfigError(f"{path}: not a job: line {number} has a key of too many parts")


def read_overrides(overrides: Sequence[str], table: dict[str, Any] | None = None) -> dict[str, Any]:
    """Apply ``section.key=value`` overrides to a table, which is changed in place.

    A value that is not valid TOML is a string.

    Raises
    ------
    ConfigError
        An override does not have this form.

    Examples
    --------
    >>> read_overrides(["solver.tol=1e-9", "data.name=my data"])
    {'solver': {'tol': 1e-09}, 'data': {'name': 'my data'}}
    """
    table = {} if table is None else table
    for override in overrides:
        name, separator, text = override.partition("=")
        section, dot, key = name.strip().partition(".")
        if not separator or not dot or not section or not key:
            raise ConfigError(f"--set {override}: write --set section.key=value")
        try:
            value = msgspec.toml.decode(f"value = {text}")["value"]
        except (ValueError, RecursionError):  # not TOML, or an integer of thousands of digits
            value = text.strip()
        content = table.setdefault(section, {})
        if not isinstance(content, dict):
            raise ConfigError(f"--set {override}: {section} is not a section")
        content[key] = value
    return table


def to_toml(settings: msgspec.Struct) -> str:
    """Return sections as TOML text that :func:`build` converts to the same settings.

    Examples
    --------
    >>> class Solver(msgspec.Struct):
    ...     tol: float = 1e-10
    ...     nested: tuple[int, ...] = (20, 40)
    >>> class Job(msgspec.Struct):
    ...     solver: Solver
    >>> print(to_toml(Job(Solver())))
    [solver]
    tol = 1e-10
    nested = [20, 40]
    <BLANKLINE>
    """
    lines = []
    for section, content in msgspec.structs.asdict(settings).items():
        lines.append(f"[{section}]")
        for key, value in msgspec.structs.asdict(content).items():
            lines.append(f"{key} = {_toml_value(value)}")
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    """Return a value of JSON as TOML: strings, numbers and lists are alike, but for one character.

    Examples
    --------
    >>> _toml_value({"the age": "number"})
    '{ "the age" = "number" }'
    """
    if isinstance(value, Mapping):
        pairs = [f"{_toml_value(str(key))} = {_toml_value(item)}" for key, item in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _convert(expected: Any, value: Any, source: str, name: str, root: type) -> Any:
    """Convert the value of the key `name`; an empty name is the whole table, of type `root`."""
    where = f"{source}: {name}"
    if _is_struct(expected):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is a section: write [{name}]")
        fields, prefix = _fields(expected), f"{name}." if name else ""
        for key in value:
            if key not in fields:
                hint = _nearest(key, prefix, fields, root)
                raise ConfigError(f"{source}: unknown key {prefix}{key}{hint}")
        return expected(
            **{k: _convert(fields[k], item, source, prefix + k, root) for k, item in value.items()}
        )
    if typing.get_origin(expected) is tuple:
        element = typing.get_args(expected)[0]
        is_number = _is_number(value) and _split(element)[0] in (int, float)
        items = [value] if isinstance(value, str) or is_number else value
        if not isinstance(items, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        return tuple(_convert(element, item, source, name, root) for item in items)
    if typing.get_origin(expected) is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a table, {name} = {{ name = value }}")
        element = typing.get_args(expected)[1]
        return {k: _convert(element, v, source, f"{name}.{k}", root) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} must be a finite number")
    try:
        return msgspec.convert(value, expected)
    except msgspec.ValidationError as error:
        raise ConfigError(where + _fault(expected, value)) from error


def _is_struct(expected: Any) -> bool:
    return isinstance(expected, type) and issubclass(expected, msgspec.Struct)


def _fields(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {one.name: one.type for one in msgspec.structs.fields(kind)}


def _nearest(key: str, prefix: str, known: Mapping[str, Any], root: type) -> str:
    """Return the hint for an unknown key: a similar key, or the same key of another section."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    close = [prefix + name for name in close]
    for section, kind in _fields(root).items():
        if _is_struct(kind) and key in _fields(kind):
            close.append(f"{section}.{key}")
    return f"; did you mean {close[0]}?" if close else f"; known keys: {', '.join(known)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _split(expected: Any) -> tuple[Any, msgspec.Meta]:
    """Return a type without its range, and the range."""
    if typing.get_origin(expected) is Annotated:
        kind, limits = typing.get_args(expected)
        return kind, limits
    return expected, msgspec.Meta()


def _fault(expected: Any, value: Any) -> str:
    """Return the end of an error message: how `value` differs from the type `expected`."""
    kind, limits = _split(expected)
    if typing.get_origin(kind) is Literal:
        choices = [str(choice) for choice in typing.get_args(kind)]
        close = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f": {value!r} is not one of {', '.join(choices)}{hint}"
    if _is_number(value) and kind in (float, type(value)):
        if abs(value) > sys.float_info.max:
            return " must be a finite number"
        return f" must {_range(limits)}, got {value!r}"
    kinds = [typing.get_origin(one) or one for one in typing.get_args(kind) or (kind,)]
    names = ["list" if one is tuple else one.__name__ for one in kinds]
    return f": expected {' or '.join(names)}, got {value!r}"


def _range(limits: msgspec.Meta) -> str:
    """Return a range in words, as "lie between 1 and 2^31 - 1"."""
    low = limits.ge if limits.gt is None else limits.gt
    high = limits.le if limits.lt is None else limits.lt
    if high is None:
        if low == 0:
            return "be positive" if limits.ge is None else "not be negative"
        return f"be {'at least' if limits.gt is None else 'more than'} {_shown(low)}"
    if limits.ge is not None and limits.lt is not None:
        return f"lie in [{_shown(low)}, {_shown(high)})"
    return f"lie between {_shown(low)} and {_shown(high)}"


def _shown(number: float | None) -> str:
    """Format a number; a large one that is next to a power of two is written with the power."""
    assert number is not None
    for offset, text in ((0, ""), (1, " - 1")):
        power = int(number) + offset
        if number >= 2**15 and power & (power - 1) == 0:
            return f"2^{power.bit_length() - 1}{text}"
    return f"{number:g}"
