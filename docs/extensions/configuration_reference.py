"""Reference of the configuration: every key of a job and of a study, from the settings classes.

The meaning of a key is the comment ``#:`` above its field, or its entry in the Attributes of the
docstring. A key without either is an error of the build.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import types
import typing
from dataclasses import dataclass
from typing import Any

import msgspec

from hpcembed.jobs.configuration import JobConfig
from hpcembed.jobs.study.settings import StudyConfig

__all__ = ["Key", "configuration_keys", "keys_of", "sections"]

_NAMES = {bool: "true or false", int: "integer", float: "number", str: "string"}


@dataclass(frozen=True)
class Key:
    """One key of a section.

    Attributes
    ----------
    name, kind, default, meaning : str
        `kind` states type, choices and limits.
    """

    name: str
    kind: str
    default: str
    meaning: str


def sections() -> dict[str, type[msgspec.Struct]]:
    """Return the sections of jobs and studies with their classes; a job's class comes first."""
    found: dict[str, type[msgspec.Struct]] = {}
    for config in (JobConfig, StudyConfig):
        for field in msgspec.structs.fields(config):
            found.setdefault(field.name, field.type)
    return found


def keys_of(section: type[msgspec.Struct]) -> list[Key]:
    """Return the keys of a section, those of its base classes first.

    Raises
    ------
    ValueError
        A key has no meaning.
    """
    hints = typing.get_type_hints(section, include_extras=True)
    meanings: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            meanings.update(_meanings(base))
    keys = []
    for field in msgspec.structs.fields(section):
        if field.name not in meanings:
            raise ValueError(
                f"{section.__name__}.{field.name} has no meaning: add a comment #: above the field"
            )
        kind = _kind(hints[field.name])
        keys.append(Key(field.name, kind, _toml(field.default), meanings[field.name]))
    return keys


def _meanings(section: type) -> dict[str, str]:
    """Return the meaning of each described field of one class."""
    text = inspect.getsource(section)
    lines, tree = text.splitlines(), ast.parse(text).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = _attributes(inspect.getdoc(section) or "")
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            comment: list[str] = []
            for line in reversed(lines[: node.lineno - 1]):
                if not line.strip().startswith("#:"):
                    break
                comment.insert(0, line.strip().removeprefix("#:").strip())
            if comment:
                found[node.target.id] = " ".join(comment)
    return found


def _attributes(doc: str) -> dict[str, str]:
    """Return the entries of the section Attributes of a docstring that have a text."""
    body = re.search(
        r"^Attributes\n-+\n(.*?)(?=^\w[^\n]*\n-{3,}$|\Z)", doc, re.MULTILINE | re.DOTALL
    )
    entries = re.findall(r"^(\w+) : .*\n((?:[ ]{4}.*\n?)*)", body[1] if body else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries if text.strip()}


def _kind(hint: Any) -> str:
    """Return type, choices and limits of a value in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        kind = _kind(arguments[0])
        for meta in arguments[1:]:
            kind += _limits(meta, arguments[0])
        return kind
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of: {_kind(arguments[0])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(one) for one in arguments if one is not type(None))
    if origin is dict:
        return f"table of: {_kind(arguments[1])}"
    return _NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def _limits(meta: msgspec.Meta, kind: Any) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    # the largest integers of a machine are no limit that a reader needs
    parts = [
        f"{word} {value:g}"
        for name, word in words.items()
        if (value := getattr(meta, name)) is not None and abs(value) < 2**30
    ]
    return f", {' and '.join(parts)}" if parts else ""


@functools.singledispatch
def _toml(value: Any) -> str:
    return str(value)


@_toml.register
def _(value: bool) -> str:
    return str(value).lower()


@_toml.register
def _(value: str) -> str:
    return f'"{value}"'


@_toml.register
def _(value: tuple) -> str:
    return f"[{', '.join(map(_toml, value))}]"


def configuration_keys() -> str:
    """Return the reference of all sections as Markdown."""
    parts = []
    for name, section in sections().items():
        summary = " ".join((inspect.getdoc(section) or "").split("\n\n")[0].split())
        parts.append(f"## [{name}]\n\n{summary.replace('``', '`')}\n")
        for key in keys_of(section):
            meaning, value = _sentences(key.meaning), f"{key.kind}; default `{key.default}`"
            parts.append(f"`{name}.{key.name}`\n: {meaning}\n\n  {value}\n")
    return "\n".join(parts)


def _sentences(text: str) -> str:
    if not text:
        return ""
    for mark in "*_<>[]|":
        text = text.replace(mark, "\\" + mark)
    text = text.replace("``", "`")
    return text if text.endswith(".") else text + "."
