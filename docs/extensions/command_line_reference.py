"""Reference of the command line: all commands and options, from the parsers of the program."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

__all__ = ["command_lines"]

#: Width of usage lines.
WIDTH = "76"


def command_lines() -> str:
    """Return the reference of all commands as Markdown."""
    from hpcembed import cli

    parts = []
    for name, about, parser in _commands(cli._parser(), ""):
        parts.append(f"## {name}\n\n{_sentence(about)}\n\n```text\n{_usage(parser, name)}\n```\n")
        parts += [_entry(action, parser) for action in parser._actions if _shown(action)]
    return "\n".join(parts)


def _commands(
    parser: argparse.ArgumentParser, about: str
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield name, description and parser of each command that has no commands below it."""
    below = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    for group in below:
        texts = {one.dest: one.help or "" for one in group._choices_actions}
        for name, child in group.choices.items():
            yield from _commands(child, texts.get(name, ""))
    if not below:
        yield parser.prog, about, _own_parser(parser)


def _own_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Return the parser that a benchmark has in a module of its own."""
    harness = parser.get_default("harness")
    if harness is None:
        return parser
    import importlib

    return importlib.import_module(f"{harness}.command_line")._parser()


def _usage(parser: argparse.ArgumentParser, name: str) -> str:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    try:
        parser.prog = name
        lines = parser.format_usage().removeprefix("usage: ").splitlines()
        # argparse aligns the lines behind "usage: "
        return "\n".join([lines[0], *(f"    {line.strip()}" for line in lines[1:])])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _shown(action: argparse.Action) -> bool:
    return action.help is not argparse.SUPPRESS and action.dest != "help"


def _entry(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """Return one argument as an item of a definition list."""
    formatter = parser._get_formatter()
    if action.option_strings:
        term = ", ".join(action.option_strings)
        if action.nargs != 0:
            term += " " + formatter._format_args(action, action.dest.upper())
    else:
        term = formatter._format_args(action, action.dest)
    about = (action.help or "").replace("%(default)s", str(action.default))
    if action.required and action.option_strings:
        about = f"required; {about}" if about else "required"
    notes = []
    if action.choices and "{" not in term:
        notes.append("one of " + ", ".join(map(str, action.choices)))
    plain = action.default not in (None, "", [], False, argparse.SUPPRESS)
    if plain and "default:" not in about:
        notes.append(f"default: {action.default}")
    text = "; ".join([about, *notes]) if about else "; ".join(notes)
    return f"`{term}`\n: {_sentence(text) or 'An input of the command.'}\n"


def _sentence(text: str) -> str:
    """Return a text with a capital letter and a full stop, safe within Markdown."""
    if not text:
        return ""
    for mark in "*_<>[]":
        text = text.replace(mark, "\\" + mark)
    first = text if text.startswith((".", "-")) else text[0].upper() + text[1:]
    return first if first.endswith(".") else first + "."
